package memregistry_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/memregistry"
)

func do(h http.Handler, method, target string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func errorCode(t *testing.T, w *httptest.ResponseRecorder) string {
	t.Helper()
	var body struct {
		Errors []struct{ Code, Message string }
	}
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || len(body.Errors) != 1 {
		t.Fatalf("error body %q: %v", w.Body, err)
	}
	return body.Errors[0].Code
}

func TestManifest(t *testing.T) {
	g := memregistry.New()
	raw := []byte(`{"schemaVersion":2}`)
	d := g.AddManifest("a/b", "v1", ocispec.MediaTypeImageManifest, raw)
	sha512 := digest.SHA512.FromBytes(raw)

	for _, tt := range []struct {
		reference string
		digest    digest.Digest
	}{{"v1", d.Digest}, {d.Digest.String(), d.Digest}, {sha512.String(), sha512}} {
		for _, method := range []string{"GET", "HEAD"} {
			w := do(g, method, "/v2/a/b/manifests/"+tt.reference)
			want := raw
			if method == "HEAD" {
				want = nil
			}
			if w.Code != 200 || !bytes.Equal(w.Body.Bytes(), want) {
				t.Errorf("%s %s: %d %q", method, tt.reference, w.Code, w.Body)
			}
			for k, v := range map[string]string{
				"Content-Type":          ocispec.MediaTypeImageManifest,
				"Content-Length":        "19",
				"Docker-Content-Digest": tt.digest.String(),
			} {
				if got := w.Header().Get(k); got != v {
					t.Errorf("%s %s: %s is %q, want %q", method, tt.reference, k, got, v)
				}
			}
		}
	}
}

func TestErrors(t *testing.T) {
	g := memregistry.New()
	g.AddManifest("a/b", "", ocispec.MediaTypeImageManifest, []byte("{}"))
	none := digest.FromString("none").String()
	for _, tt := range []struct {
		method, path, code string
		status             int
	}{
		{"GET", "/v2/a/b/manifests/v2", "MANIFEST_UNKNOWN", 404},
		{"GET", "/v2/a/b/manifests/" + none, "MANIFEST_UNKNOWN", 404},
		{"GET", "/v2/a/b/manifests/sha256:x", "DIGEST_INVALID", 400},
		{"GET", "/v2/a/c/manifests/v1", "NAME_UNKNOWN", 404},
		{"GET", "/v2/a/c/tags/list", "NAME_UNKNOWN", 404},
		{"GET", "/v2/a/b/tags/list?n=x", "PAGINATION_NUMBER_INVALID", 400},
		{"GET", "/v2/a/b/blobs/" + none, "BLOB_UNKNOWN", 404},
		{"GET", "/v2/a/b/blobs/sha256:../x", "DIGEST_INVALID", 400},
		{"GET", "/v2/a/b", "UNSUPPORTED", 404},
		{"GET", "/", "UNSUPPORTED", 404},
		{"PUT", "/v2/a/b/manifests/v2", "UNSUPPORTED", 405},
	} {
		w := do(g, tt.method, tt.path)
		if w.Code != tt.status {
			t.Errorf("%s %s: %d, want %d", tt.method, tt.path, w.Code, tt.status)
		}
		if got := errorCode(t, w); got != tt.code {
			t.Errorf("%s %s: %s, want %s", tt.method, tt.path, got, tt.code)
		}
	}
	if w := do(g, "GET", "/v2/"); w.Code != 200 {
		t.Errorf("/v2/: %d", w.Code)
	}
}

func TestBlobRanges(t *testing.T) {
	g := memregistry.New()
	data := []byte("0123456789")
	small := g.AddBlob(data)
	at := image.Descriptor{Digest: digest.SHA512.FromBytes(data), Size: 10}
	g.AddBlobAt(at, bytes.NewReader(data))

	for _, d := range []image.Descriptor{small, at} {
		for _, tt := range []struct {
			ask, body, contentRange string
			status                  int
		}{
			{"", "0123456789", "", 200},
			{"bytes=2-4", "234", "bytes 2-4/10", 206},
			{"bytes=9-9", "9", "bytes 9-9/10", 206},
			{"bytes=7-", "789", "bytes 7-9/10", 206},
			{"bytes=8-99", "89", "bytes 8-9/10", 206},
			{"bytes=10-11", "", "bytes */10", 416},
			{"bytes=0-1,4-5", "0123456789", "", 200},
		} {
			w := do(g, "GET", "/v2/x/blobs/"+d.Digest.String(), "Range", tt.ask)
			if w.Code != tt.status || w.Header().Get("Content-Range") != tt.contentRange {
				t.Errorf("%q: %d %q", tt.ask, w.Code, w.Header().Get("Content-Range"))
			}
			if tt.status < 400 && (w.Body.String() != tt.body || w.Header().Get("Content-Length") != fmt.Sprint(len(tt.body))) {
				t.Errorf("%q: %q, Content-Length %s", tt.ask, w.Body, w.Header().Get("Content-Length"))
			}
		}
		w := do(g, "HEAD", "/v2/x/blobs/"+d.Digest.String())
		if w.Code != 200 || w.Body.Len() != 0 || w.Header().Get("Content-Length") != "10" {
			t.Errorf("HEAD: %d %q %v", w.Code, w.Body, w.Header())
		}
	}
}

func TestTagPages(t *testing.T) {
	g := memregistry.New()
	want := []string{"1", "10", "2", "latest", "z"}
	for _, tag := range []string{"z", "2", "10", "latest", "1"} {
		g.AddManifest("a/b", tag, ocispec.MediaTypeImageManifest, []byte("{}"))
	}
	for n, pages := range map[string]int{"?n=2": 3, "?n=5": 1, "?n=1": 5, "": 1} {
		var got []string
		next := "/v2/a/b/tags/list" + n
		count := 0
		for next != "" {
			w := do(g, "GET", next)
			var list struct {
				Name string
				Tags []string
			}
			if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil || list.Name != "a/b" {
				t.Fatalf("%s: %q %v", next, w.Body, err)
			}
			got = append(got, list.Tags...)
			count++
			next = ""
			if link := w.Header().Get("Link"); link != "" {
				if _, err := fmt.Sscanf(link, `<%s rel="next"`, &next); err != nil {
					t.Fatalf("Link %q: %v", link, err)
				}
				next = next[:len(next)-2] // ">;"
			}
		}
		if !slices.Equal(got, want) || count != pages {
			t.Errorf("%q: %v in %d pages", n, got, count)
		}
	}
	if w := do(g, "GET", "/v2/a/b/tags/list?n=0"); w.Body.String() != `{"name":"a/b","tags":[]}` || w.Header().Get("Link") != "" {
		t.Errorf("n=0: %q %v", w.Body, w.Header())
	}
}

func TestWhileServing(t *testing.T) {
	g := memregistry.New()
	server := httptest.NewServer(g)
	defer server.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 100 {
			g.AddManifest("a/b", fmt.Sprint(i), ocispec.MediaTypeImageManifest, fmt.Append(nil, i))
		}
	}()
	for range 20 {
		resp, err := http.Get(server.URL + "/v2/a/b/tags/list")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	<-done
}
