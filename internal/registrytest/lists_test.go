package registrytest_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"testing"

	"github.com/davit-cli/davit/internal/registrytest"
)

// answerTo is the status and the Link that a request gets.
func answerTo(t *testing.T, s *registrytest.Server, method, path string) (status int, link string) {
	t.Helper()
	req, err := http.NewRequest(method, s.URL()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode, resp.Header.Get("Link")
}

func TestListsAndHeadsSwitchedOff(t *testing.T) {
	s := registrytest.Start(t, registrytest.Options{})
	p := s.Push("app", "v1", registrytest.Image{})
	s.Push("web", "v1", registrytest.Image{})
	for _, what := range []string{"one", "two"} {
		s.PushReferrer("app", registrytest.Referrer{Subject: p.Manifest.Digest, ArtifactType: what})
	}
	s.PushTags("app", "v1", "v2")
	referrers, head := "/v2/app/referrers/"+p.Manifest.Digest.String(), "/v2/app/manifests/v2"
	blob := "/v2/app/blobs/" + p.Config.Digest.String()
	off := registrytest.Options{NoReferrers: true, NoCatalog: true, NoHead: true, MaxPageSize: 10}
	small := registrytest.Options{TagPage: 1, CatalogPage: 1, ReferrerPage: 1}
	for _, test := range []struct {
		name, method, path string
		options            registrytest.Options
		status             int
		more               bool
	}{
		{"referrers", "GET", referrers, registrytest.Options{}, 200, false},
		{"catalog", "GET", "/v2/_catalog?n=11", registrytest.Options{}, 200, false},
		{"tags", "GET", "/v2/app/tags/list?n=11", registrytest.Options{}, 200, false},
		{"manifest", "HEAD", head, registrytest.Options{}, 200, false},
		{"blob", "HEAD", blob, registrytest.Options{}, 200, false},
		{"referrers in pages", "GET", referrers, small, 200, true},
		{"catalog in pages", "GET", "/v2/_catalog", small, 200, true},
		{"tags in pages", "GET", "/v2/app/tags/list?n=11", small, 200, true},
		{"no referrers", "GET", referrers, off, 404, false},
		{"no catalog", "GET", "/v2/_catalog", off, 404, false},
		{"no HEAD of a manifest", "HEAD", head, off, 405, false},
		{"no HEAD of a blob", "HEAD", blob, off, 405, false},
		{"a manifest all the same", "GET", head, off, 200, false},
		{"too many tags", "GET", "/v2/app/tags/list?n=11", off, 400, false},
		{"tags", "GET", "/v2/app/tags/list?n=10", off, 200, false},
	} {
		s.Configure(func(o *registrytest.Options) { *o = test.options })
		if status, link := answerTo(t, s, test.method, test.path); status != test.status || (link != "") != test.more {
			t.Errorf("%s: %d, Link %q", test.name, status, link)
		}
	}
}

func TestReferrersTag(t *testing.T) {
	s := registrytest.Start(t, registrytest.Options{})
	p := s.Push("app", "v1", registrytest.Image{})
	s.PushReferrer("app", registrytest.Referrer{Subject: p.Manifest.Digest, ArtifactType: "told"})
	s.PushReferrer("app", registrytest.Referrer{Subject: p.Manifest.Digest, ArtifactType: "untold", Untold: true, Tag: "by-tag"})
	index := s.PushReferrersTag("app", p.Manifest.Digest)
	found, ok := s.Content.Describe("app", "sha256-"+p.Manifest.Digest.Encoded())
	listed := s.Content.Referrers("app", p.Manifest.Digest)
	if !ok || found.Digest != index.Digest || len(listed) != 1 || listed[0].ArtifactType != "told" {
		t.Errorf("%+v, %v; %+v", found, ok, listed)
	}
	if _, ok := s.Content.Describe("app", "by-tag"); !ok {
		t.Error("no tag")
	}
}

// A token for the catalog is one of its own.
func TestCatalogScope(t *testing.T) {
	s := registrytest.Start(t, registrytest.Options{Auth: &registrytest.Auth{
		User: "me", Password: "pw", Access: func(_, repository string) bool { return repository == "_catalog" },
	}})
	s.Push("app", "v1", registrytest.Image{})
	get := func(path, authorization string, answer any) *http.Response {
		t.Helper()
		req, err := http.NewRequest(http.MethodGet, s.URL()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", authorization)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		if err := json.NewDecoder(resp.Body).Decode(answer); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		return resp
	}
	var ignored any
	want := `Bearer realm="` + s.URL() + `/token",service="registrytest",scope="registry:catalog:*"`
	if got := get("/v2/_catalog", "", &ignored).Header.Get("WWW-Authenticate"); got != want {
		t.Errorf("got %s", got)
	}
	for scope, status := range map[string]int{"registry:catalog:*": 200, "repository:app:pull": 401, "repository:_catalog:push": 401} {
		var token struct{ Token string }
		get("/token?service=registrytest&scope="+url.QueryEscape(scope), basic("me", "pw"), &token)
		if got := get("/v2/_catalog", "Bearer "+token.Token, &ignored).StatusCode; got != status {
			t.Errorf("%s: %d", scope, got)
		}
		if got := get("/v2/app/tags/list", "Bearer "+token.Token, &ignored).StatusCode; got != 401 {
			t.Errorf("%s: %d for tags", scope, got)
		}
	}
}
