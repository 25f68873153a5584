package serve_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/registrytest"
	"github.com/davit-cli/davit/serve"
)

func TestBlobRanges(t *testing.T) {
	m := newMemory()
	p := m.add("docker.io/a/b:v1", registrytest.Image{Layers: []registrytest.Layer{registrytest.RandomLayer(1, 300_000)}})
	h := of(t, m)
	layer, d := p.LayerBytes(0), p.Layers[0]
	size := len(layer)
	path := "/v2/a/b/blobs/" + d.Digest.String()
	tag := `"` + d.Digest.String() + `"`
	for _, tt := range []struct {
		header   []string
		from, to int
		status   int
	}{
		{nil, 0, size, 200}, // which is hashed
		{nil, 0, size, 200}, // which is not
		{[]string{"Range", "bytes=2-4"}, 2, 5, 206},
		{[]string{"Range", "bytes=9-9"}, 9, 10, 206},
		{[]string{"Range", "bytes=200000-"}, 200_000, size, 206},
		{[]string{"Range", "bytes=-7"}, size - 7, size, 206},
		{[]string{"Range", fmt.Sprintf("bytes=10-%d", size+9)}, 10, size, 206},
		{[]string{"Range", fmt.Sprintf("bytes=%d-", size)}, 0, 0, 416},
		{[]string{"Range", "bytes=0-1,4-5"}, 0, size, 200},
		{[]string{"Range", "bytes=2-4", "If-Range", tag}, 2, 5, 206},
		{[]string{"Range", "bytes=2-4", "If-Range", `"other"`}, 0, size, 200},
	} {
		w := get(h, path, tt.header...)
		want := ""
		switch tt.status {
		case 206:
			want = fmt.Sprintf("bytes %d-%d/%d", tt.from, tt.to-1, size)
		case 416:
			want = fmt.Sprintf("bytes */%d", size)
		}
		if w.Code != tt.status || w.Header().Get("Content-Range") != want {
			t.Errorf("%q: %d %q, want %d %q", tt.header, w.Code, w.Header().Get("Content-Range"), tt.status, want)
		}
		if w.Code < 400 && (!bytes.Equal(w.Body.Bytes(), layer[tt.from:tt.to]) || w.Header().Get("Content-Length") != fmt.Sprint(tt.to-tt.from)) {
			t.Errorf("%q: %d bytes, Content-Length %s", tt.header, w.Body.Len(), w.Header().Get("Content-Length"))
		}
	}
	w := do(h, http.MethodHead, path)
	for key, value := range map[string]string{
		"Content-Length": fmt.Sprint(size), "Content-Type": "application/octet-stream",
		"Docker-Content-Digest": d.Digest.String(), "Etag": tag, "Accept-Ranges": "bytes",
	} {
		if got := w.Header().Get(key); w.Code != http.StatusOK || got != value || w.Body.Len() > 0 {
			t.Errorf("HEAD: %d, %s is %q, want %q", w.Code, key, got, value)
		}
	}
}

// cutShort gets a blob that ends early: its bytes.
func cutShort(t *testing.T, url string) []byte {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		return nil // before a byte of the body
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if !errors.Is(err, io.ErrUnexpectedEOF) || resp.StatusCode != http.StatusOK {
		t.Fatalf("%d, %d bytes, %v", resp.StatusCode, len(b), err)
	}
	return b
}

// A blob that has not got its digest never reaches a client as a whole, and
// after that not at all.
func TestWrongBlob(t *testing.T) {
	for _, size := range []int64{10, 64 << 10, 300_000} {
		m := newMemory()
		p := m.add("docker.io/a/b:v1", app(1, size))
		d := p.Layers[0]
		wrong := bytes.Clone(m.blobs[d.Digest])
		wrong[len(wrong)-1] ^= 1
		m.blobs[d.Digest] = wrong
		var warned told
		server := httptest.NewServer(handler(t, serve.Options{Events: warned.event}, serve.From{Store: m, Path: "x"}))
		url := server.URL + "/v2/a/b/blobs/" + d.Digest.String()
		if got := cutShort(t, url); len(got) > max(0, len(wrong)-64<<10) {
			t.Errorf("%d of %d bytes were served", len(got), len(wrong))
		}
		resp, err := http.Get(url)
		if err != nil || resp.StatusCode != http.StatusInternalServerError {
			t.Errorf("asked again: %v %v", resp.StatusCode, err)
		}
		server.Close()
		if !warned.has("verification failed") {
			t.Errorf("warned of %q", warned.texts)
		}
	}
}

// What was there when davit started may be gone, or damaged, when it is asked for.
func TestGone(t *testing.T) {
	m := newMemory()
	p := m.add("docker.io/a/b:v1", app(1, 10))
	var warned told
	h := handler(t, serve.Options{Events: warned.event}, serve.From{Store: m, Path: "x"})
	delete(m.blobs, p.Layers[0].Digest)
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		if w := do(h, method, "/v2/a/b/blobs/"+p.Layers[0].Digest.String()); w.Code != http.StatusNotFound {
			t.Errorf("a layer: %d", w.Code)
		}
	}
	c := m.manifests[p.Manifest.Digest]
	c.Bytes = append(bytes.Clone(c.Bytes), ' ')
	m.manifests[p.Manifest.Digest] = c
	if w := get(h, "/v2/a/b/manifests/v1"); w.Code != http.StatusInternalServerError {
		t.Errorf("a damaged manifest: %d", w.Code)
	}
	delete(m.manifests, p.Manifest.Digest)
	if w := get(h, "/v2/a/b/manifests/v1"); w.Code != http.StatusNotFound || refusedAs(t, w) != "MANIFEST_UNKNOWN" {
		t.Errorf("a manifest: %d", w.Code)
	}
	if !warned.has("not found") || !warned.has("verification failed") {
		t.Errorf("warned of %q", warned.texts)
	}
}

// failing gives half of what is asked for, and then an error.
type failing struct{ *memory }

func (f failing) OpenRange(ctx context.Context, d image.Descriptor, off, n int64) (*image.Range, error) {
	r, err := f.memory.OpenRange(ctx, d, off, n)
	if err == nil {
		r.Body = io.NopCloser(io.MultiReader(io.LimitReader(r.Body, n/2), broken{}))
	}
	return r, err
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("the disk is broken") }

func TestDiskFails(t *testing.T) {
	m := newMemory()
	p := m.add("docker.io/a/b:v1", app(1, 300_000))
	var warned told
	server := httptest.NewServer(handler(t, serve.Options{Events: warned.event}, serve.From{Store: failing{m}, Path: "x"}))
	defer server.Close()
	got := cutShort(t, server.URL+"/v2/a/b/blobs/"+p.Layers[0].Digest.String())
	if len(got) > len(p.LayerBytes(0))/2 || !warned.has("the disk is broken") {
		t.Errorf("%d bytes, warned of %q", len(got), warned.texts)
	}
}

// Fifty clients at once take everything.
func TestManyClients(t *testing.T) {
	m := newMemory()
	img := registrytest.Image{}
	for i := range 4 {
		img.Layers = append(img.Layers, registrytest.RandomLayer(uint64(i), 200_000))
	}
	p := m.add("docker.io/a/b:v1", img)
	server := httptest.NewServer(of(t, m))
	defer server.Close()
	fetch := func(what string) (digest.Digest, error) {
		resp, err := http.Get(server.URL + "/v2/a/b/" + what)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		d, err := digest.FromReader(resp.Body)
		if err == nil && resp.StatusCode != http.StatusOK {
			err = errors.New(resp.Status)
		}
		return d, err
	}
	var clients sync.WaitGroup
	for range 50 {
		clients.Go(func() {
			if d, err := fetch("manifests/v1"); err != nil || d != p.Manifest.Digest {
				t.Errorf("manifest: %s, %v", d, err)
			}
			for _, b := range append([]image.Descriptor{p.Config}, p.Layers...) {
				if d, err := fetch("blobs/" + b.Digest.String()); err != nil || d != b.Digest {
					t.Errorf("blob: %s, %v", d, err)
				}
			}
		})
	}
	clients.Wait()
}
