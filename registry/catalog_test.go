package registry

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/davit-cli/davit/credential"
	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/registrytest"
	"github.com/davit-cli/davit/ref"
)

// catalogOf is what a registry lists, page by page.
func catalogOf(t *testing.T, registry string, opts Options) (pages [][]string, err error) {
	t.Helper()
	h, err := NewSession(opts).OpenHost(ref.Reference{Registry: registry})
	if err != nil {
		t.Fatal(err)
	}
	err = h.Catalog(t.Context(), func(page []string) error {
		pages = append(pages, page)
		return nil
	})
	return pages, err
}

// withRepositories is a server that has them.
func withRepositories(t *testing.T, o registrytest.Options) *registrytest.Server {
	t.Helper()
	s := registrytest.Start(t, o)
	for _, name := range []string{"app", "team/app", "team/web"} {
		s.Push(name, "v1", registrytest.Image{})
	}
	return s
}

func TestCatalog(t *testing.T) {
	for name, o := range map[string]registrytest.Options{
		"open":   {},
		"pages":  {CatalogPage: 2},
		"small":  {CatalogPage: 2, MaxPageSize: 100},
		"token":  {CatalogPage: 2, Auth: &registrytest.Auth{User: "me", Password: canary, OwnRealm: true}},
		"Basic":  {CatalogPage: 2, Auth: &registrytest.Auth{Scheme: registrytest.Basic, User: "me", Password: canary}},
		"anyone": {Auth: &registrytest.Auth{User: "you", Anonymous: true}},
	} {
		s := withRepositories(t, o)
		opts := Options{}
		if o.Auth != nil && !o.Auth.Anonymous {
			opts.Credentials = given("me", canary)
		}
		pages, err := catalogOf(t, s.Host(), opts)
		want := [][]string{{"app", "team/app"}, {"team/web"}}
		if o.CatalogPage == 0 {
			want = [][]string{slices.Concat(want...)}
		}
		if err != nil || cmp.Diff(want, pages) != "" {
			t.Errorf("%s: %q, %v", name, pages, err)
		}
		for _, q := range s.Requests() {
			if q.Path == "/token" && !strings.Contains(q.Query, "scope=registry%3Acatalog%3A%2A") {
				t.Errorf("%s: a token for %q", name, q.Query)
			}
		}
	}
}

// The first page is there before the second is asked for, and whoever has
// enough ends the list.
func TestCatalogEnds(t *testing.T) {
	s := withRepositories(t, registrytest.Options{CatalogPage: 1})
	h, err := NewSession(Options{PlainHTTP: true}).OpenHost(ref.Reference{Registry: s.Host()})
	if err != nil {
		t.Fatal(err)
	}
	enough := errors.New("enough")
	if err := h.Catalog(t.Context(), func([]string) error { return enough }); !errors.Is(err, enough) || len(s.Requests()) != 1 {
		t.Errorf("%v; asked %q", err, asked(s))
	}
}

func TestOpenHost(t *testing.T) {
	for _, bad := range []string{"", "example.com/x", "https://example.com", "a b"} {
		if _, err := NewSession(Options{}).OpenHost(ref.Reference{Registry: bad}); err == nil || !strings.Contains(err.Error(), "not a registry") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	// With a scheme and a name of a reference's.
	n := &internet{hosts: map[string]http.HandlerFunc{"https://registry-1.docker.io": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"repositories":["x"]}`) }}}
	h, err := NewSession(Options{Transport: n}).OpenHost(ref.Reference{Registry: "docker.io", Scheme: "https", Repository: "IGNORED"})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Catalog(t.Context(), func([]string) error { return nil }); err != nil {
		t.Error(err)
	}
}

func TestCatalogOfNoNames(t *testing.T) {
	server := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"repositories":["ok","\u001b[31mred","../x","","UPPER","a//b","team/app"]}`)
	})
	var sent events
	pages, err := catalogOf(t, host(server), Options{Events: sent.add})
	if err != nil || cmp.Diff([][]string{{"ok", "team/app"}}, pages) != "" {
		t.Errorf("%q, %v", pages, err)
	}
	notes := sent.of(image.EventNote)
	if len(notes) != 1 || notes[0].Text != host(server)+` lists what is no repository's name, 5 in all, left out: "[31mred"` {
		t.Errorf("notes %v", notes)
	}
}

func TestNoCatalog(t *testing.T) {
	answer := func(status int, contentType, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	away := func(w http.ResponseWriter, req *http.Request) {
		http.Redirect(w, req, "https://login.test/", http.StatusSeeOther)
	}
	unsupported := registrytest.ErrorBody("UNSUPPORTED", "The operation is unsupported.")
	for _, test := range []struct {
		name, registry string
		answer         http.HandlerFunc
		none           bool
		says           string
	}{
		{"404", "registry.test", answer(404, "text/plain", "404 page not found"), true, "list repositories of registry.test from registry.test: 404 Not Found: 404 page not found (it offers no list of its repositories)"},
		{"405", "registry.test", answer(405, "", ""), true, "405 Method Not Allowed (it offers"},
		{"501", "registry.test", answer(501, "", ""), true, "501 Not Implemented (it offers"},
		{"UNSUPPORTED", "registry.test", answer(403, "application/json", unsupported), true, "403 Forbidden: The operation is unsupported. (it offers"},
		{"HTML", "registry.test", answer(200, "text/html", "<html>"), true, "its answer is a page of HTML: no list of repositories"},
		{"a login page", "registry.test", away, true, "from login.test: 403 Forbidden (it offers"},
		{"Docker Hub", "docker.io", answer(401, "application/json", registrytest.ErrorBody("UNAUTHORIZED", "authentication required")), true, "from registry-1.docker.io: 401 Unauthorized: authentication required (it offers"},
		{"GHCR", "ghcr.io", answer(403, "", ""), true, "from ghcr.io: 403 Forbidden (it offers"},
		{"denied", "registry.test", answer(403, "", ""), false, "from registry.test: 403 Forbidden; no credential was used"},
		{"unauthorized", "registry.test", answer(401, "", ""), false, "from registry.test: 401 Unauthorized; no credential was used"},
		{"in trouble", "ghcr.io", answer(503, "", ""), false, "503 Service Unavailable"},
		{"other JSON", "registry.test", answer(200, "application/json", `{"repositories":7}`), false, "its answer is no list of repositories"},
		{"a bad request", "registry.test", answer(400, "", ""), false, "400 Bad Request"},
	} {
		n := &internet{other: func(w http.ResponseWriter, req *http.Request) {
			if req.URL.Host == "login.test" {
				w.WriteHeader(http.StatusForbidden)
				return
			}
			test.answer(w, req)
		}}
		_, err := catalogOf(t, test.registry, Options{Transport: n, Retries: -1})
		if errors.Is(err, ErrNoCatalog) != test.none || !strings.Contains(fmt.Sprint(err), test.says) || test.none && errors.Is(err, image.ErrUnauthorized) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

// A realm that gives nobody a token for it is GHCR's way to say so, and nobody
// else's.
func TestNoCatalogByTheRealm(t *testing.T) {
	for registry, none := range map[string]bool{"ghcr.io": true, "registry.test": false} {
		n := &internet{other: func(w http.ResponseWriter, req *http.Request) {
			if req.URL.Path == "/token" {
				w.WriteHeader(http.StatusForbidden)
				return
			}
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="https://%s/token",service="s",scope="registry:catalog:*"`, req.URL.Host))
			w.WriteHeader(http.StatusUnauthorized)
		}}
		_, err := catalogOf(t, registry, Options{Transport: n, Retries: -1, Credentials: credentialGiven(credential.Credential{Username: "me", Password: canary})})
		if errors.Is(err, ErrNoCatalog) != none || errors.Is(err, image.ErrUnauthorized) == none || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: %v", registry, err)
		}
	}
}

// Where a page was given, the list is there, whatever becomes of it.
func TestCatalogThatBreaksOff(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Query().Get("last") != "" {
			http.NotFound(w, req)
			return
		}
		w.Header().Set("Link", `</v2/_catalog?last=app>; rel="next"`)
		_, _ = io.WriteString(w, `{"repositories":["app"]}`)
	}))
	defer server.Close()
	pages, err := catalogOf(t, host(server), Options{})
	if !errors.Is(err, image.ErrNotFound) || errors.Is(err, ErrNoCatalog) || len(pages) != 1 {
		t.Errorf("%q, %v", pages, err)
	}
}
