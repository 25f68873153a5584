package registry

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/ref"
)

func TestManifestInOneRoundTrip(t *testing.T) {
	var requests atomic.Int32
	var asked *http.Request
	server := serve(t, func(w http.ResponseWriter, req *http.Request) {
		requests.Add(1)
		asked = req
		sendManifest(w)
	})
	content, err := open(t, server, Options{UserAgent: "test/1"}).Manifest(t.Context(), "v1")
	if err != nil {
		t.Fatal(err)
	}
	if string(content.Bytes) != manifest || content.Digest != digest.FromString(manifest) ||
		content.Size != int64(len(manifest)) || content.MediaType != ocispec.MediaTypeImageManifest {
		t.Errorf("got %+v", content.Descriptor)
	}
	if requests.Load() != 1 || asked.Method != http.MethodGet || asked.URL.Path != "/v2/team/app/manifests/v1" {
		t.Errorf("%d requests, the last is %s %s", requests.Load(), asked.Method, asked.URL)
	}
	accept := asked.Header.Get("Accept")
	for _, want := range []string{ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageManifest, image.MediaTypeDockerList, image.MediaTypeDockerManifest, image.MediaTypeDockerSchema1, image.MediaTypeDockerSchema1JWS} {
		if !strings.Contains(accept, want) {
			t.Errorf("Accept %q is without %s", accept, want)
		}
	}
	if agent := asked.Header.Get("User-Agent"); agent != "test/1" {
		t.Errorf("User-Agent %q", agent)
	}
	if _, sent := asked.Header["Authorization"]; sent {
		t.Error("an Authorization without a challenge")
	}
}

func TestManifestVerification(t *testing.T) {
	const (
		index    = `{"schemaVersion":2,"manifests":[]}`
		schema1  = `{"schemaVersion":1,"name":"x","fsLayers":[],"signatures":[]}`
		unsigned = `{"schemaVersion":1,"name":"x","fsLayers":[]}`
		bare     = `{"schemaVersion":2,"config":{},"layers":[]}`
		docker   = `{"schemaVersion":2,"mediaType":"` + image.MediaTypeDockerManifest + `","config":{},"layers":[]}`
	)
	sha256 := digest.FromString(manifest).String()
	sha512 := digest.SHA512.FromString(manifest).String()
	other := digest.FromString("other").String()
	for _, test := range []struct {
		name              string
		asked, body       string
		contentType, told string // headers; none where empty
		chunked           bool
		wantType, want    string // media type and digest; an error where wantType is empty
	}{
		{name: "all headers", asked: "v1", body: manifest, contentType: ocispec.MediaTypeImageManifest, told: sha256, wantType: ocispec.MediaTypeImageManifest, want: sha256},
		{name: "no headers", asked: "v1", body: manifest, chunked: true, wantType: ocispec.MediaTypeImageManifest, want: sha256},
		{name: "by digest", asked: sha256, body: manifest, wantType: ocispec.MediaTypeImageManifest, want: sha256},
		{name: "by sha512", asked: sha512, body: manifest, wantType: ocispec.MediaTypeImageManifest, want: sha512},
		{name: "by sha512, told sha256", asked: sha512, body: manifest, told: sha256, wantType: ocispec.MediaTypeImageManifest, want: sha512},
		{name: "told sha512", asked: "v1", body: manifest, told: sha512, wantType: ocispec.MediaTypeImageManifest, want: sha512},
		{name: "told nonsense", asked: "v1", body: manifest, told: "sha256:../x", wantType: ocispec.MediaTypeImageManifest, want: sha256},
		{name: "charset", asked: "v1", body: bare, contentType: image.MediaTypeDockerManifest + "; charset=utf-8", wantType: image.MediaTypeDockerManifest},
		{name: "only the header", asked: "v1", body: bare, contentType: image.MediaTypeDockerManifest, wantType: image.MediaTypeDockerManifest},
		{name: "a server of files", asked: "v1", body: docker, contentType: "application/octet-stream", wantType: image.MediaTypeDockerManifest},
		{name: "a server of files, neither", asked: "v1", body: bare, contentType: "text/plain; charset=utf-8", wantType: ocispec.MediaTypeImageManifest},
		{name: "an index by its fields", asked: "v1", body: index, contentType: "application/json", wantType: ocispec.MediaTypeImageIndex},
		{name: "schema 1", asked: "v1", body: schema1, contentType: image.MediaTypeDockerSchema1JWS, told: other, wantType: image.MediaTypeDockerSchema1JWS},
		{name: "schema 1 by its fields", asked: "v1", body: schema1, contentType: "application/json", told: other, wantType: image.MediaTypeDockerSchema1JWS},
		{name: "schema 1 without signature", asked: "v1", body: unsigned, contentType: "text/plain", wantType: image.MediaTypeDockerSchema1},
		{name: "unknown type", asked: "v1", body: `{"mediaType":"application/x"}`, contentType: "application/x", wantType: "application/x"},

		{name: "wrong asked digest", asked: other, body: manifest},
		{name: "wrong asked digest, told as asked", asked: other, body: manifest, told: other},
		{name: "wrong told digest", asked: "v1", body: manifest, told: other},
		{name: "wrong told digest, right asked", asked: sha256, body: manifest, told: other},
		{name: "wrong sha512", asked: "v1", body: manifest, told: digest.SHA512.FromString("other").String()},
		{name: "schema 1 of another digest", asked: other, body: schema1, contentType: image.MediaTypeDockerSchema1JWS},
		{name: "contradicting types", asked: "v1", body: manifest, contentType: ocispec.MediaTypeImageIndex},
		{name: "contradicting kinds", asked: "v1", body: docker, contentType: ocispec.MediaTypeImageManifest},
		{name: "index fields, manifest type", asked: "v1", body: index, contentType: ocispec.MediaTypeImageManifest},
		{name: "manifest fields, index type", asked: "v1", body: bare, contentType: image.MediaTypeDockerList},
		{name: "both at once", asked: "v1", body: `{"manifests":[],"layers":[]}`, contentType: ocispec.MediaTypeImageManifest},
		{name: "a page", asked: "v1", body: "<html>log in</html>", contentType: "text/html"},
		{name: "cut JSON", asked: "v1", body: manifest[:40]},
		{name: "null", asked: "v1", body: "null"},
		{name: "a strange mediaType", asked: "v1", body: `{"mediaType":7}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header()["Content-Type"] = nil
				if test.contentType != "" {
					w.Header().Set("Content-Type", test.contentType)
				}
				if test.told != "" {
					w.Header().Set("Docker-Content-Digest", test.told)
				}
				if test.chunked {
					w.(http.Flusher).Flush()
				}
				_, _ = io.WriteString(w, test.body)
			})
			content, err := open(t, server, Options{}).Manifest(t.Context(), test.asked)
			if test.wantType == "" {
				if !errors.Is(err, image.ErrVerification) || content.Bytes != nil {
					t.Fatalf("no refusal: %v", err)
				}
				if !strings.Contains(err.Error(), "get manifest team/app") || !strings.Contains(err.Error(), host(server)) {
					t.Errorf("step and host are missing in %q", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if test.want == "" {
				test.want = digest.FromString(test.body).String()
			}
			if content.MediaType != test.wantType || content.Digest.String() != test.want || string(content.Bytes) != test.body {
				t.Errorf("got %+v", content.Descriptor)
			}
		})
	}
}

// Whatever digest the registry tells: it leaves out the signatures.
func TestSchema1EndsClearly(t *testing.T) {
	server := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", image.MediaTypeDockerSchema1JWS)
		w.Header().Set("Docker-Content-Digest", digest.FromString("payload").String())
		_, _ = io.WriteString(w, `{"schemaVersion":1,"fsLayers":[],"signatures":[]}`)
	})
	asked := ref.Reference{Registry: host(server), Repository: "team/app", Tag: "v1"}
	if _, err := image.Resolve(t.Context(), open(t, server, Options{}), asked, image.Platforms{}, nil); !errors.Is(err, image.ErrSchema1) {
		t.Error(err)
	}
}

func TestManifestSize(t *testing.T) {
	for _, chunked := range []bool{false, true} {
		for _, size := range []int{maxMetadata, maxMetadata + 1} {
			body := `{"config":{},"layers":[],"x":"` + strings.Repeat("x", size-32) + `"}`
			server := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
				if chunked {
					w.(http.Flusher).Flush()
				}
				_, _ = io.WriteString(w, body)
			})
			_, err := open(t, server, Options{}).Manifest(t.Context(), "v1")
			if len(body) == maxMetadata && err != nil {
				t.Errorf("of %d bytes: %v", len(body), err)
			}
			if len(body) > maxMetadata && (err == nil || !strings.Contains(err.Error(), "larger than 4 MiB")) {
				t.Errorf("of %d bytes: %v", len(body), err)
			}
		}
	}
}

func TestManifestOfNoName(t *testing.T) {
	server := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("asked") })
	r := open(t, server, Options{})
	for _, bad := range []string{"", "../x", "a/b", "sha256:../x", "sha256:abc", "md5:00000000000000000000000000000000", "a\x1b[31m", "a?b"} {
		if _, err := r.Manifest(t.Context(), bad); err == nil || strings.Contains(err.Error(), "\x1b") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestManifestRedirects(t *testing.T) {
	elsewhere := serve(t, func(w http.ResponseWriter, req *http.Request) {
		if req.Header.Get("Authorization") != "" {
			t.Error("the credential went along")
		}
		sendManifest(w)
	})
	target := elsewhere.URL
	handler := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if _, _, ok := req.BasicAuth(); !ok {
			w.Header().Set("WWW-Authenticate", "Basic")
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		http.Redirect(w, req, target, http.StatusFound)
	})
	server := serve(t, handler)
	if _, err := open(t, server, Options{Credentials: given("u", canary)}).Manifest(t.Context(), "v1"); err != nil {
		t.Errorf("to another host: %v", err)
	}
	secure := httptest.NewTLSServer(handler)
	defer secure.Close()
	if _, err := open(t, secure, Options{Credentials: given("u", canary)}).Manifest(t.Context(), "v1"); err == nil || !strings.Contains(err.Error(), "from HTTPS to HTTP") {
		t.Errorf("from HTTPS to HTTP: %v", err)
	}
	target = "ftp://example.com/x?" + canary
	if _, err := open(t, server, Options{Credentials: given("u", canary)}).Manifest(t.Context(), "v1"); err == nil || strings.Contains(err.Error(), canary) {
		t.Errorf("to FTP: %v", err)
	}
	target = server.URL + "/loop"
	if _, err := open(t, server, Options{Credentials: given("u", canary)}).Manifest(t.Context(), "v1"); err == nil || !strings.Contains(err.Error(), "more than 10 redirects") {
		t.Errorf("for ever: %v", err)
	}
}
