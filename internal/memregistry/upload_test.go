package memregistry_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/internal/memregistry"
)

// send makes a request with a body and headers ("Name: value").
func send(h http.Handler, method, target, body string, headers ...string) *httptest.ResponseRecorder {
	req := httptest.NewRequest(method, target, strings.NewReader(body))
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		req.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	return w
}

func writable(how memregistry.Uploads) *memregistry.Registry {
	g := memregistry.New()
	g.AcceptPushes(how)
	return g
}

// begin opens an upload and returns where it is.
func begin(t *testing.T, g *memregistry.Registry) string {
	t.Helper()
	w := send(g, "POST", "/v2/a/b/blobs/uploads/", "")
	if w.Code != 202 || w.Header().Get("Range") != "0-0" || w.Header().Get("Docker-Upload-UUID") == "" {
		t.Fatalf("%d %v", w.Code, w.Header())
	}
	return w.Header().Get("Location")
}

func TestReadOnly(t *testing.T) {
	g := memregistry.New()
	for _, r := range []string{"POST /v2/a/b/blobs/uploads/", "PUT /v2/a/b/manifests/v1", "DELETE /v2/a/b/manifests/v1"} {
		method, path, _ := strings.Cut(r, " ")
		if w := send(g, method, path, "{}"); w.Code != 405 {
			t.Errorf("%s: %d", r, w.Code)
		}
	}
}

func TestUploadInPieces(t *testing.T) {
	g := writable(memregistry.Uploads{})
	d := digest.FromString("0123456789")
	at := begin(t, g)
	w := send(g, "PATCH", at, "01234", "Content-Range: 0-4")
	if w.Code != 202 || w.Header().Get("Range") != "0-4" {
		t.Fatalf("%d %v", w.Code, w.Header())
	}
	old, at := at, w.Header().Get("Location")
	for name, test := range map[string]struct {
		method, at, body, piece string
		status                  int
		code                    string
	}{
		"an old URL":        {"PATCH", old, "5", "5-5", 416, "RANGE_INVALID"},
		"a wrong offset":    {"PATCH", at, "5", "6-6", 416, "RANGE_INVALID"},
		"a wrong length":    {"PATCH", at, "56", "5-5", 400, "SIZE_INVALID"},
		"no range":          {"PATCH", at, "5", "bytes 5-5", 500, "UNKNOWN"},
		"no digest":         {"PUT", at, "", "", 400, "DIGEST_INVALID"},
		"another upload":    {"PATCH", strings.Replace(at, "/uploads/0", "/uploads/f", 1), "5", "5-5", 404, "BLOB_UPLOAD_UNKNOWN"},
		"another's":         {"PATCH", strings.Replace(at, "/a/b/", "/a/c/", 1), "5", "5-5", 404, "BLOB_UPLOAD_UNKNOWN"},
		"no such method":    {"POST", at, "", "", 405, "UNSUPPORTED"},
		"a method for none": {"PATCH", "/v2/a/b/blobs/uploads/", "", "", 405, "UNSUPPORTED"},
	} {
		headers := []string{"Content-Type: application/octet-stream"}
		if test.piece != "" {
			headers = append(headers, "Content-Range: "+test.piece)
		}
		if w := send(g, test.method, test.at, test.body, headers...); w.Code != test.status || errorCode(t, w) != test.code {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
	if w := send(g, "GET", old, ""); w.Code != 204 || w.Header().Get("Range") != "0-4" || w.Header().Get("Location") != at {
		t.Errorf("asked how far it is: %d %v", w.Code, w.Header())
	}
	if w := do(g, "HEAD", "/v2/a/b/blobs/"+d.String()); w.Code != 404 {
		t.Errorf("there before it is complete: %d", w.Code)
	}
	w = send(g, "PUT", at+"&digest="+d.String(), "56789", "Content-Range: 5-9")
	if w.Code != 201 || w.Header().Get("Docker-Content-Digest") != d.String() || g.OpenUploads() != 0 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if w := do(g, "GET", "/v2/a/b/blobs/"+d.String()); w.Body.String() != "0123456789" {
		t.Errorf("%d %q", w.Code, w.Body)
	}
	if w := do(g, "GET", "/v2/a/c/blobs/"+d.String()); w.Code != 404 {
		t.Errorf("another repository has it: %d", w.Code)
	}
	at = begin(t, g)
	if w := send(g, "PUT", at+"&digest="+d.String(), "other"); w.Code != 400 || errorCode(t, w) != "DIGEST_INVALID" || g.OpenUploads() != 0 {
		t.Errorf("wrong bytes: %d", w.Code)
	}
	at = begin(t, g)
	if w := send(g, "DELETE", at, ""); w.Code != 204 || g.OpenUploads() != 0 {
		t.Errorf("given up: %d", w.Code)
	}
}

func TestUploadManners(t *testing.T) {
	g := writable(memregistry.Uploads{MinChunk: 5, StaleRange: true})
	w := send(g, "POST", "/v2/a/b/blobs/uploads/", "")
	at := w.Header().Get("Location")
	if w.Header().Get("OCI-Chunk-Min-Length") != "5" {
		t.Errorf("%v", w.Header())
	}
	if w := send(g, "PATCH", at, "0123"); w.Code != 400 {
		t.Errorf("too small: %d", w.Code)
	}
	at = send(g, "PATCH", at, "01234").Header().Get("Location")
	if w := send(g, "PATCH", at, "56789"); w.Code != 202 || w.Header().Get("Range") != "0-4" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	g = writable(memregistry.Uploads{Forgets: true})
	at = begin(t, g)
	send(g, "PATCH", at, "01234")
	if w := send(g, "GET", at, ""); w.Code != 404 || errorCode(t, w) != "BLOB_UPLOAD_INVALID" || g.OpenUploads() != 0 {
		t.Errorf("an old URL: %d", w.Code)
	}
}

func TestMount(t *testing.T) {
	g := writable(memregistry.Uploads{})
	d := g.AddBlob([]byte("layer")).Digest
	g.AddManifest("a/b", "v1", ocispec.MediaTypeImageManifest, fmt.Appendf(nil, `{"layers":[{"digest":%q}]}`, d))
	has := func(repository string) bool { return do(g, "HEAD", "/v2/"+repository+"/blobs/"+d.String()).Code == 200 }
	mount := func(from string) int {
		return send(g, "POST", "/v2/a/c/blobs/uploads/?mount="+d.String()+"&from="+from, "").Code
	}
	if !has("a/b") || has("a/c") {
		t.Errorf("there before: %v, %v", has("a/b"), has("a/c"))
	}
	if status := mount("a/d"); status != 202 || has("a/c") {
		t.Errorf("from where it is not: %d", status)
	}
	g.AcceptPushes(memregistry.Uploads{NoMount: true})
	if status := mount("a/b"); status != 202 || has("a/c") {
		t.Errorf("not done: %d", status)
	}
	g.AcceptPushes(memregistry.Uploads{})
	if status := mount("a/b"); status != 201 || !has("a/c") || !has("a/b") {
		t.Errorf("%d", status)
	}
}

func TestPutManifest(t *testing.T) {
	g := writable(memregistry.Uploads{})
	index := []byte(`{"schemaVersion":2,"manifests":[]}`)
	d := digest.FromBytes(index)
	put := func(reference, mediaType string, raw []byte) *httptest.ResponseRecorder {
		return send(g, "PUT", "/v2/a/b/manifests/"+reference, string(raw), "Content-Type: "+mediaType)
	}
	for _, reference := range []string{"v1", d.String(), digest.SHA512.FromBytes(index).String()} {
		w := put(reference, ocispec.MediaTypeImageIndex, index)
		if w.Code != 201 || w.Header().Get("OCI-Subject") != "" {
			t.Errorf("%s: %d %s", reference, w.Code, w.Body)
		}
		if told := digest.Digest(w.Header().Get("Docker-Content-Digest")); told.Algorithm().FromBytes(index) != told {
			t.Errorf("%s: told %s", reference, told)
		}
		if got := do(g, "GET", "/v2/a/b/manifests/"+reference); !bytes.Equal(got.Body.Bytes(), index) {
			t.Errorf("%s: %d %s", reference, got.Code, got.Body)
		}
	}
	missing := digest.FromString("missing")
	for name, test := range map[string]struct {
		reference, mediaType, raw, code string
	}{
		"another digest":   {missing.String(), ocispec.MediaTypeImageIndex, "{}", "DIGEST_INVALID"},
		"no JSON":          {"v1", ocispec.MediaTypeImageIndex, "{", "MANIFEST_INVALID"},
		"another type":     {"v1", ocispec.MediaTypeImageIndex, `{"mediaType":"x"}`, "MANIFEST_INVALID"},
		"no type":          {"v1", "text/plain", "{}", "MANIFEST_INVALID"},
		"no config":        {"v1", ocispec.MediaTypeImageManifest, fmt.Sprintf(`{"config":{"digest":%q}}`, missing), "MANIFEST_BLOB_UNKNOWN"},
		"no layer":         {"v1", ocispec.MediaTypeImageManifest, fmt.Sprintf(`{"layers":[{"digest":%q}]}`, missing), "MANIFEST_BLOB_UNKNOWN"},
		"no such manifest": {"v1", ocispec.MediaTypeImageIndex, fmt.Sprintf(`{"manifests":[{"digest":%q}]}`, missing), "MANIFEST_BLOB_UNKNOWN"},
	} {
		if w := put(test.reference, test.mediaType, []byte(test.raw)); w.Code != 400 || !strings.Contains(w.Body.String(), test.code) {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
	foreign := fmt.Sprintf(`{"layers":[{"digest":%q,"urls":["https://x.test/"]}],"subject":{"digest":%q}}`, missing, d)
	if w := put("v2", ocispec.MediaTypeImageManifest, []byte(foreign)); w.Code != 201 || w.Header().Get("OCI-Subject") != d.String() {
		t.Errorf("with a subject: %d %v", w.Code, w.Header())
	}
	if len(g.Referrers("a/b", d)) != 1 {
		t.Error("it is no referrer")
	}
}
