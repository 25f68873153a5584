package serve_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/registrytest"
	"github.com/davit-cli/davit/serve"
)

// A delta has layers that stand in another store.
func TestLayersOfAnotherStore(t *testing.T) {
	may, june := newMemory(), newMemory()
	p := june.add("docker.io/a/b:june", app(1, 10))
	d := p.Layers[0].Digest
	may.add("docker.io/a/b:may", app(2, 10))
	may.blobs[d] = june.blobs[d]
	delete(june.blobs, d)
	var warned told
	h := handler(t, serve.Options{Events: warned.event}, serve.From{Store: may, Path: "may"}, serve.From{Store: june, Path: "june"})
	if w := get(h, "/v2/a/b/blobs/"+d.String()); w.Code != http.StatusOK || len(warned.texts) > 0 {
		t.Errorf("%d, warned of %q", w.Code, warned.texts)
	}
	h = handler(t, serve.Options{Events: warned.event}, serve.From{Store: june, Path: "june"})
	if w := get(h, "/v2/a/b/blobs/"+d.String()); w.Code != http.StatusNotFound || !warned.has("june lacks 1 of the blobs") || len(warned.texts) != 1 {
		t.Errorf("%d, warned of %q", w.Code, warned.texts)
	}
}

// A layer that has URLs need not be there.
func TestForeignLayerIsMissing(t *testing.T) {
	m := newMemory()
	p := registrytest.Build(app(1, 10))
	m.blobs[p.Config.Digest] = p.ConfigBytes
	layer := p.Layers[0]
	layer.URLs = []string{"https://files.example/layer"}
	m.name("docker.io/a/b:1", m.document(ocispec.MediaTypeImageManifest, ocispec.Manifest{
		MediaType: ocispec.MediaTypeImageManifest, Config: p.Config, Layers: []image.Descriptor{layer},
	}))
	var warned told
	handler(t, serve.Options{Events: warned.event}, serve.From{Store: m, Path: "x"})
	if len(warned.texts) > 0 {
		t.Errorf("warned of %q", warned.texts)
	}
}

// Documents that davit does not read are served as they are, by themselves; and
// layers in an index, as buildkit's caches have them.
func TestUnreadDocuments(t *testing.T) {
	m := newMemory()
	schema1 := m.document(image.MediaTypeDockerSchema1JWS, []byte(`{"schemaVersion":1,"signatures":[]}`))
	m.name("docker.io/a/old:1", schema1)
	vague := m.document("application/json", []byte(`{"schemaVersion":2,"mediaType":"application/vnd.example; charset=utf-8"}`))
	m.name("docker.io/a/vague:1", vague)
	bad := m.document("bad\r\nX-Evil: 1/x", []byte(`{"schemaVersion":2}`))
	m.name("docker.io/a/bad:1", bad)
	p := registrytest.Build(app(1, 10))
	m.blobs[p.Layers[0].Digest] = p.LayerBytes(0)
	m.name("docker.io/a/cache:1", m.document(ocispec.MediaTypeImageIndex, ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: p.Layers}))
	h := of(t, m)
	for path, want := range map[string]string{
		"/v2/a/old/manifests/1":                            image.MediaTypeDockerSchema1JWS,
		"/v2/a/vague/manifests/1":                          "application/vnd.example",
		"/v2/a/bad/manifests/1":                            "application/octet-stream",
		"/v2/a/cache/manifests/1":                          ocispec.MediaTypeImageIndex,
		"/v2/a/cache/blobs/" + p.Layers[0].Digest.String(): "application/octet-stream",
	} {
		w := get(h, path)
		if got := w.Header().Get("Content-Type"); w.Code != http.StatusOK || got != want || w.Header().Get("X-Evil") != "" {
			t.Errorf("%s: %d %q, want %q", path, w.Code, got, want)
		}
	}
}

// What is wrong with documents is told before anything is served.
func TestDamagedStores(t *testing.T) {
	damage := map[string]func(m *memory, p registrytest.Pushed){
		"verification failed": func(m *memory, p registrytest.Pushed) {
			c := m.manifests[p.Manifest.Digest]
			c.Bytes = bytes.Replace(c.Bytes, []byte("2"), []byte("3"), 1)
			m.manifests[p.Manifest.Digest] = c
		},
		"not found": func(m *memory, p registrytest.Pushed) { delete(m.manifests, p.Manifest.Digest) },
		"contradicts itself": func(m *memory, _ registrytest.Pushed) {
			d := m.document(ocispec.MediaTypeImageManifest, []byte(`{"mediaType":"application/vnd.oci.image.manifest.v1+json","manifests":[]}`))
			m.name("docker.io/a/c:1", d)
		},
		"annotations": func(m *memory, p registrytest.Pushed) {
			for i := range 5 {
				m.name("", m.refer(p.Manifest, "x", fmt.Sprint(i)+strings.Repeat("x", 7<<19)))
			}
		},
	}
	for want, do := range damage {
		m := newMemory()
		do(m, m.add("docker.io/a/b:1", app(1, 10)))
		_, err := serve.New(t.Context(), []serve.From{{Store: m, Path: "x.tar"}}, serve.Options{})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "x.tar") {
			t.Errorf("%s: %v", want, err)
		}
	}
	m := newMemory()
	m.add("docker.io/a/b:1", app(1, 10))
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	cancel(why)
	if _, err := serve.New(ctx, []serve.From{{Store: m, Path: "x.tar"}}, serve.Options{}); !errors.Is(err, why) {
		t.Errorf("a context that has ended: %v", err)
	}
}

// Indexes within indexes, however deep, and a manifest that many name.
func TestDeepIndexes(t *testing.T) {
	m := newMemory()
	p := m.add("", app(1, 10))
	m.images = nil
	d := p.Manifest
	var all []digest.Digest
	for range 2000 {
		d = m.document(ocispec.MediaTypeImageIndex, ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []image.Descriptor{d, p.Manifest}})
		all = append(all, d.Digest)
	}
	m.name("docker.io/a/b:1", d)
	h := of(t, m)
	for _, d := range []digest.Digest{all[0], all[len(all)-1], p.Manifest.Digest} {
		if w := get(h, "/v2/a/b/manifests/"+d.String()); w.Code != http.StatusOK {
			t.Errorf("%d", w.Code)
		}
	}
}
