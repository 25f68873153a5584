package serve_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/registrytest"
	"github.com/davit-cli/davit/serve"
)

const nobody = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// Manifests by tag and digest, under the short and the long name, whatever the
// client says that it accepts.
func TestManifest(t *testing.T) {
	m := newMemory()
	x := registrytest.BuildIndex(registrytest.Index{Images: []registrytest.Image{app(1, 100), app(2, 100)}, Attestations: true})
	for _, p := range append(x.Images, x.Attestations...) {
		m.keep(p)
	}
	m.name("docker.io/library/app:v1", m.document(x.Index.MediaType, x.Bytes))
	delete(m.manifests, x.Images[1].Manifest.Digest) // a platform that is not there
	h := of(t, m)

	one := x.Images[0]
	for _, repository := range []string{"library/app", "docker.io/library/app"} {
		for reference, want := range map[string]image.Content{
			"v1":                         {Descriptor: x.Index, Bytes: x.Bytes},
			x.Index.Digest.String():      {Descriptor: x.Index, Bytes: x.Bytes},
			one.Manifest.Digest.String(): {Descriptor: one.Manifest, Bytes: one.ManifestBytes},
			x.Attestations[0].Manifest.Digest.String(): {Descriptor: x.Attestations[0].Manifest, Bytes: x.Attestations[0].ManifestBytes},
		} {
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				w := do(h, method, "/v2/"+repository+"/manifests/"+reference, "Accept", "text/plain", "Range", "bytes=0-1")
				body := string(want.Bytes)
				if method == http.MethodHead {
					body = ""
				}
				if w.Code != http.StatusOK || w.Body.String() != body {
					t.Errorf("%s %s %s: %d %q", method, repository, reference, w.Code, w.Body)
				}
				for key, value := range map[string]string{
					"Content-Type":                    want.MediaType,
					"Content-Length":                  fmt.Sprint(want.Size),
					"Docker-Content-Digest":           want.Digest.String(),
					"Etag":                            `"` + want.Digest.String() + `"`,
					"Docker-Distribution-Api-Version": "registry/2.0",
				} {
					if got := w.Header().Get(key); got != value {
						t.Errorf("%s %s: %s is %q, want %q", method, reference, key, got, value)
					}
				}
			}
		}
		if w := get(h, "/v2/"+repository+"/manifests/v1", "If-None-Match", `"`+x.Index.Digest.String()+`"`); w.Code != http.StatusNotModified {
			t.Errorf("the client has it already: %d", w.Code)
		}
	}
	if w := get(h, "/v2/library/app/manifests/"+x.Images[1].Manifest.Digest.String()); w.Code != http.StatusNotFound {
		t.Errorf("what is not there: %d", w.Code)
	}
}

func TestErrors(t *testing.T) {
	m := newMemory()
	p := m.add("docker.io/a/b:v1", app(1, 100))
	m.add("docker.io/other/app:v1", app(2, 100))
	h := of(t, m)
	for _, tt := range []struct {
		method, path, code string
		status             int
	}{
		{"GET", "/v2/a/b/manifests/v2", "MANIFEST_UNKNOWN", 404},
		{"GET", "/v2/a/b/manifests/.NOT_A_TAG", "MANIFEST_UNKNOWN", 404},
		{"GET", "/v2/a/b/manifests/" + nobody, "MANIFEST_UNKNOWN", 404},
		{"GET", "/v2/a/b/manifests/sha256:x", "DIGEST_INVALID", 400},
		{"PUT", "/v2/a/b/manifests/sha256:x", "DIGEST_INVALID", 400},
		{"GET", "/v2/a/b/manifests/md5:0123456789abcdef0123456789abcdef", "DIGEST_INVALID", 400},
		{"GET", "/v2/a/c/manifests/v1", "NAME_UNKNOWN", 404},
		{"GET", "/v2/A/manifests/v1", "NAME_INVALID", 400},
		{"GET", "/v2/a/../b/manifests/v1", "NAME_INVALID", 400},
		{"GET", "/v2/%2e%2e/%2e%2e/etc/manifests/v1", "NAME_INVALID", 400},
		{"GET", "/v2/a//b/tags/list", "NAME_INVALID", 400},
		{"GET", "/v2/" + strings.Repeat("a/", 200) + "a/tags/list", "NAME_INVALID", 400},
		{"GET", "/v2/a/c/tags/list", "NAME_UNKNOWN", 404},
		{"GET", "/v2/a/b/tags/list?n=x", "PAGINATION_NUMBER_INVALID", 400},
		{"GET", "/v2/a/b/tags/list?n=-1", "PAGINATION_NUMBER_INVALID", 400},
		{"GET", "/v2/a/b/blobs/" + nobody, "BLOB_UNKNOWN", 404},
		{"GET", "/v2/other/app/blobs/" + p.Layers[0].Digest.String(), "BLOB_UNKNOWN", 404}, // another repository's
		{"GET", "/v2/a/b/blobs/sha256:../x", "DIGEST_INVALID", 400},
		{"GET", "/v2/a/b/blobs/x", "DIGEST_INVALID", 400},
		{"GET", "/v2/a/b/referrers/sha256:x", "DIGEST_INVALID", 400},
		{"GET", "/v2/a/b", "UNSUPPORTED", 404},
		{"GET", "/v2/a/b/blobs/uploads/x", "UNSUPPORTED", 404},
		{"GET", "/_catalog", "UNSUPPORTED", 404},
		{"GET", "/v2x/_catalog", "UNSUPPORTED", 404},
		{"GET", "/", "UNSUPPORTED", 404},
		{"PUT", "/v2/a/b/manifests/v2", "UNSUPPORTED", 405},
		{"DELETE", "/v2/a/b/manifests/v1", "UNSUPPORTED", 405},
		{"POST", "/v2/a/b/blobs/uploads/", "UNSUPPORTED", 405},
		{"POST", "/v2/", "UNSUPPORTED", 405},
	} {
		w := do(h, tt.method, tt.path)
		if code := refusedAs(t, w); w.Code != tt.status || code != tt.code {
			t.Errorf("%s %s: %d %s, want %d %s", tt.method, tt.path, w.Code, code, tt.status, tt.code)
		}
		if allow := w.Header().Get("Allow"); (w.Code == 405) != (allow == "GET, HEAD") {
			t.Errorf("%s %s: Allow is %q", tt.method, tt.path, allow)
		}
	}
	for _, path := range []string{"/v2/", "/v2"} {
		if w := get(h, path); w.Code != 200 || w.Header().Get("Docker-Distribution-Api-Version") != "registry/2.0" {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
}

func TestBasic(t *testing.T) {
	m := newMemory()
	m.add("docker.io/a/b:v1", app(1, 100))
	h := handler(t, serve.Options{Username: "me", Password: "secret"}, serve.From{Store: m, Path: "x"})
	ask := func(user, password string) int {
		r, _ := http.NewRequest(http.MethodGet, "/", nil)
		r.SetBasicAuth(user, password)
		return get(h, "/v2/", "Authorization", r.Header.Get("Authorization")).Code
	}
	for _, wrong := range [][2]string{{"me", ""}, {"", "secret"}, {"me", "secret2"}, {"you", "secret"}, {"", ""}} {
		if got := ask(wrong[0], wrong[1]); got != http.StatusUnauthorized {
			t.Errorf("%q: %d", wrong, got)
		}
	}
	if got := ask("me", "secret"); got != http.StatusOK {
		t.Errorf("the right one: %d", got)
	}
	for _, path := range []string{"/v2/", "/v2/a/b/manifests/v1", "/v2/_catalog", "/nothing"} {
		w := get(h, path)
		if w.Code != http.StatusUnauthorized || refusedAs(t, w) != "UNAUTHORIZED" || !strings.HasPrefix(w.Header().Get("WWW-Authenticate"), "Basic realm=") {
			t.Errorf("%s: %d %v", path, w.Code, w.Header())
		}
	}
}

func TestLists(t *testing.T) {
	m := newMemory()
	for i, name := range []string{"docker.io/a/b:z", "docker.io/a/b:2", "docker.io/a/b:10", "quay.io/a/c:1", "docker.io/library/z:1"} {
		m.add(name, app(uint64(i), 10))
	}
	h := of(t, m)
	type list struct {
		Name         string
		Tags         []string
		Repositories []string
	}
	for target, want := range map[string][]list{
		"/v2/a/b/tags/list":                  {{Name: "a/b", Tags: []string{"10", "2", "z"}}},
		"/v2/docker.io/a/b/tags/list?n=3":    {{Name: "docker.io/a/b", Tags: []string{"10", "2", "z"}}},
		"/v2/a/b/tags/list?n=2":              {{Name: "a/b", Tags: []string{"10", "2"}}, {Name: "a/b", Tags: []string{"z"}}},
		"/v2/a/b/tags/list?n=2&ns=docker.io": {{Name: "a/b", Tags: []string{"10", "2"}}, {Name: "a/b", Tags: []string{"z"}}},
		"/v2/a/b/tags/list?last=15":          {{Name: "a/b", Tags: []string{"2", "z"}}},
		"/v2/a/b/tags/list?n=0":              {{Name: "a/b", Tags: []string{}}},
		"/v2/a/b/tags/list?last=zz":          {{Name: "a/b", Tags: []string{}}},
		"/v2/_catalog":                       {{Repositories: []string{"a/b", "a/c", "library/z"}}},
		"/v2/_catalog?n=2":                   {{Repositories: []string{"a/b", "a/c"}}, {Repositories: []string{"library/z"}}},
		"/v2/_catalog?last=a/b&n=1":          {{Repositories: []string{"a/c"}}, {Repositories: []string{"library/z"}}},
	} {
		if diff := cmp.Diff(want, pages[list](t, h, target)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", target, diff)
		}
	}
}

func TestReferrers(t *testing.T) {
	m := newMemory()
	p := m.add("docker.io/a/b:v1", app(1, 100))
	sbom, signature := m.refer(p.Manifest, "type/sbom", "1"), m.refer(p.Manifest, "type/signature", "2")
	ofSBOM := m.refer(sbom, "type/signature", "3")
	gone := image.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: nobody, Size: 7}
	orphan := m.refer(gone, "type/sbom", "4")
	for _, d := range []image.Descriptor{ofSBOM, sbom, signature, orphan} {
		m.name("", d)
	}
	// Signatures as cosign tags them, which tell no subject.
	tag := strings.Replace(p.Manifest.Digest.String(), ":", "-", 1)
	cosign := m.add(tag+".sig", app(9, 10))
	// The list that stands for the API where a registry has none.
	fallback := m.document(ocispec.MediaTypeImageIndex, ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []image.Descriptor{sbom, signature}})
	m.name(tag, fallback)
	h := of(t, m)

	ask := func(target string) (all []image.Descriptor) {
		t.Helper()
		for _, index := range pages[ocispec.Index](t, h, target) {
			if index.MediaType != ocispec.MediaTypeImageIndex || index.SchemaVersion != 2 || index.Manifests == nil {
				t.Errorf("%s: %+v", target, index)
			}
			all = append(all, index.Manifests...)
		}
		return all
	}
	both := []image.Descriptor{sbom, signature}
	if sbom.Digest > signature.Digest {
		both = []image.Descriptor{signature, sbom}
	}
	for target, want := range map[string][]image.Descriptor{
		"/v2/a/b/referrers/" + p.Manifest.Digest.String():                             both,
		"/v2/docker.io/a/b/referrers/" + p.Manifest.Digest.String():                   both,
		"/v2/a/b/referrers/" + sbom.Digest.String():                                   {ofSBOM},
		"/v2/a/b/referrers/" + nobody:                                                 nil,
		"/v2/bundle/referrers/" + nobody:                                              {orphan},
		"/v2/a/b/referrers/" + p.Manifest.Digest.String() + "?artifactType=type/sbom": {sbom},
		"/v2/a/b/referrers/" + p.Manifest.Digest.String() + "?artifactType=none":      nil,
	} {
		if diff := cmp.Diff(want, ask(target)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", target, diff)
		}
		w := get(h, target)
		if got := w.Header().Get("OCI-Filters-Applied"); (got == "artifactType") != strings.Contains(target, "?") {
			t.Errorf("%s: OCI-Filters-Applied is %q", target, got)
		}
		if got := w.Header().Get("Content-Type"); got != ocispec.MediaTypeImageIndex {
			t.Errorf("%s: Content-Type is %q", target, got)
		}
	}
	// They are pulled from there, with their blobs; and by their tags.
	for _, target := range []string{
		"manifests/" + ofSBOM.Digest.String(), "blobs/" + ocispec.DescriptorEmptyJSON.Digest.String(),
		"manifests/" + tag, "manifests/" + tag + ".sig", "blobs/" + cosign.Layers[0].Digest.String(),
	} {
		if w := get(h, "/v2/a/b/"+target); w.Code != http.StatusOK {
			t.Errorf("%s: %d", target, w.Code)
		}
	}
	// An image that is nobody's referrer is none of the images' names.
	if diff := cmp.Diff([]serve.Image{
		{Repository: "a/b", Tag: "v1", Digest: p.Manifest.Digest, Path: "some/bundle.tar"},
		{Repository: "bundle", Digest: orphan.Digest, Path: "some/bundle.tar"},
	}, h.Images()); diff != "" {
		t.Errorf("images (-want +got):\n%s", diff)
	}
}

// A list of referrers that is too long for one answer comes in pages.
func TestReferrerPages(t *testing.T) {
	m := newMemory()
	p := m.add("docker.io/a/b:v1", app(1, 100))
	want := map[digest.Digest]bool{}
	for i := range 5 {
		d := m.refer(p.Manifest, "type/sbom", fmt.Sprint(i)+strings.Repeat("x", 1<<20))
		want[d.Digest] = true
		m.name("", d)
	}
	got := pages[ocispec.Index](t, of(t, m), "/v2/a/b/referrers/"+p.Manifest.Digest.String()+"?artifactType=type/sbom")
	if len(got) < 3 {
		t.Errorf("%d pages", len(got))
	}
	for _, index := range got {
		for _, d := range index.Manifests {
			if !want[d.Digest] {
				t.Errorf("%s is there again, or is none", d.Digest)
			}
			delete(want, d.Digest)
		}
	}
	if len(want) > 0 {
		t.Errorf("%d are missing", len(want))
	}
}

// A referrer's type is its own, or its config's; an index may be one too (OCI
// distribution-spec, "Listing Referrers").
func TestReferrerTypes(t *testing.T) {
	m := newMemory()
	p := m.add("docker.io/a/b:v1", app(1, 100))
	m.blobs[ocispec.DescriptorEmptyJSON.Digest] = ocispec.DescriptorEmptyJSON.Data
	config := ocispec.DescriptorEmptyJSON
	config.MediaType = "type/config"
	want := map[digest.Digest]string{}
	for artifactType, doc := range map[string]any{
		"type/config": ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: []image.Descriptor{}, Subject: &p.Manifest},
		"type/own":    ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: []image.Descriptor{}, Subject: &p.Manifest, ArtifactType: "type/own"},
		"type/index":  ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []image.Descriptor{}, Subject: &p.Manifest, ArtifactType: "type/index"},
		"":            ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []image.Descriptor{p.Manifest}, Subject: &p.Manifest},
	} {
		mediaType := ocispec.MediaTypeImageManifest
		if _, ok := doc.(ocispec.Index); ok {
			mediaType = ocispec.MediaTypeImageIndex
		}
		d := m.document(mediaType, doc)
		m.name("", d)
		want[d.Digest] = mediaType + " " + artifactType
	}
	got := map[digest.Digest]string{}
	for _, d := range decode[ocispec.Index](t, get(of(t, m), "/v2/a/b/referrers/"+p.Manifest.Digest.String())).Manifests {
		got[d.Digest] = d.MediaType + " " + d.ArtifactType
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
