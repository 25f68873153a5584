package serve_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/registrytest"
	"github.com/davit-cli/davit/serve"
)

// memory is a store in memory.
type memory struct {
	images    []image.Stored
	manifests map[digest.Digest]image.Content
	blobs     map[digest.Digest][]byte
}

func newMemory() *memory {
	return &memory{manifests: map[digest.Digest]image.Content{}, blobs: map[digest.Digest][]byte{}}
}

func (m *memory) Images() []image.Stored { return m.images }

func (m *memory) Close() error { return nil }

func (m *memory) Manifest(_ context.Context, d string) (image.Content, error) {
	c, ok := m.manifests[digest.Digest(d)]
	if !ok {
		return c, fmt.Errorf("manifest %s: %w", d, image.ErrNotFound)
	}
	return c, image.CheckBytes(c.Descriptor, c.Bytes)
}

func (m *memory) Blob(_ context.Context, d image.Descriptor) ([]byte, error) {
	return nil, fmt.Errorf("blob %s is asked for whole", d.Digest)
}

func (m *memory) OpenRange(_ context.Context, d image.Descriptor, off, n int64) (*image.Range, error) {
	b, ok := m.blobs[d.Digest]
	if !ok {
		return nil, fmt.Errorf("open blob %s: %w", d.Digest, image.ErrNotFound)
	}
	part := b[off:min(off+n, int64(len(b)))]
	return &image.Range{Body: io.NopCloser(bytes.NewReader(part)), Start: off, Total: int64(len(b)), Len: int64(len(part))}, nil
}

func (m *memory) BlobSize(_ context.Context, d digest.Digest) (int64, error) {
	b, ok := m.blobs[d]
	if !ok {
		return 0, fmt.Errorf("blob %s: %w", d, image.ErrNotFound)
	}
	return int64(len(b)), nil
}

// document keeps a manifest or index.
func (m *memory) document(mediaType string, v any) image.Descriptor {
	raw, ok := v.([]byte)
	if !ok {
		var err error
		if raw, err = json.Marshal(v); err != nil {
			panic(err)
		}
	}
	d := image.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	m.manifests[d.Digest] = image.Content{Descriptor: d, Bytes: raw}
	return d
}

// add keeps an image, under a name where there is one.
func (m *memory) add(name string, img registrytest.Image) registrytest.Pushed {
	p := registrytest.Build(img)
	m.keep(p)
	m.name(name, p.Manifest)
	return p
}

func (m *memory) keep(p registrytest.Pushed) {
	m.manifests[p.Manifest.Digest] = image.Content{Descriptor: p.Manifest, Bytes: p.ManifestBytes}
	m.blobs[p.Config.Digest] = p.ConfigBytes
	for i, l := range p.Layers {
		m.blobs[l.Digest] = p.LayerBytes(i)
	}
}

// name puts what a descriptor names among the store's images. A name without a
// slash is only the store's own.
func (m *memory) name(name string, d image.Descriptor) {
	s := image.Stored{Descriptor: d, Name: name}
	if !strings.Contains(name, "/") {
		s.Name, s.RefName = "", name
	}
	m.images = append(m.images, s)
}

// refer keeps a referrer, and returns it as lists of referrers have it.
func (m *memory) refer(subject image.Descriptor, artifactType, note string) image.Descriptor {
	m.blobs[ocispec.DescriptorEmptyJSON.Digest] = ocispec.DescriptorEmptyJSON.Data
	d := m.document(ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		ArtifactType: artifactType, Config: ocispec.DescriptorEmptyJSON,
		Layers: []image.Descriptor{ocispec.DescriptorEmptyJSON}, Subject: &subject,
		Annotations: map[string]string{"note": note},
	})
	d.ArtifactType, d.Annotations = artifactType, map[string]string{"note": note}
	return d
}

// app is an image with one layer.
func app(seed uint64, size int64) registrytest.Image {
	return registrytest.Image{Layers: []registrytest.Layer{registrytest.RandomLayer(seed, size)}}
}

// told collects warnings.
type told struct {
	mu    sync.Mutex
	texts []string
}

func (t *told) event(e image.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e.Kind == image.EventWarning {
		t.texts = append(t.texts, e.Text)
	}
}

func (t *told) has(text string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.ContainsFunc(t.texts, func(s string) bool { return strings.Contains(s, text) })
}

func handler(t *testing.T, opts serve.Options, from ...serve.From) *serve.Handler {
	t.Helper()
	h, err := serve.New(t.Context(), from, opts)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// of serves one store.
func of(t *testing.T, m *memory) *serve.Handler {
	t.Helper()
	return handler(t, serve.Options{}, serve.From{Store: m, Path: "some/bundle.tar"})
}

func do(h http.Handler, method, target string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func get(h http.Handler, target string, header ...string) *httptest.ResponseRecorder {
	return do(h, http.MethodGet, target, header...)
}

// decode reads an answer that must be 200 as JSON.
func decode[T any](t *testing.T, w *httptest.ResponseRecorder) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil || w.Code != http.StatusOK {
		t.Fatalf("%d %q: %v", w.Code, w.Body, err)
	}
	return v
}

// refusedAs is the code in an error's body.
func refusedAs(t *testing.T, w *httptest.ResponseRecorder) string {
	t.Helper()
	var body struct {
		Errors []struct{ Code, Message string }
	}
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || len(body.Errors) != 1 || body.Errors[0].Message == "" {
		t.Fatalf("%d: the error's body is %q: %v", w.Code, w.Body, err)
	}
	return body.Errors[0].Code
}

// pages follows the links of a list.
func pages[T any](t *testing.T, h http.Handler, next string) (all []T) {
	t.Helper()
	for next != "" {
		w := get(h, next)
		all = append(all, decode[T](t, w))
		next, _, _ = strings.Cut(strings.TrimPrefix(w.Header().Get("Link"), "<"), ">")
	}
	return all
}
