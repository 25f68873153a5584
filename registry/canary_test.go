package registry

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/credential"
	"github.com/davit-cli/davit/ref"
)

// internet is a transport to hosts that exist nowhere else. It notes which
// origins are shown a secret, in whatever part of a request.
type internet struct {
	hosts map[string]http.HandlerFunc // by origin: https://registry.test
	// other answers for every origin else.
	other http.HandlerFunc

	mu     sync.Mutex
	asked  []string // origins
	shown  []string // origins that were shown a secret
	leaked []string // what they were shown
}

const grantedToken = "granted-token-canary"

// secretForms are what must not be seen elsewhere.
var secretForms = slices.Concat(formsOf(canary), base64Of("me:"+canary), base64Of("token:"+canary), formsOf(grantedToken))

func (n *internet) RoundTrip(req *http.Request) (*http.Response, error) {
	seen := req.URL.String() + "\n" + req.Host + "\n"
	for name, values := range req.Header {
		seen += name + ": " + strings.Join(values, ", ") + "\n"
	}
	if req.Body != nil {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return nil, err
		}
		seen += string(body)
		req.Body = io.NopCloser(strings.NewReader(string(body)))
	}
	origin := req.URL.Scheme + "://" + req.URL.Host
	n.mu.Lock()
	n.asked = append(n.asked, origin)
	if slices.ContainsFunc(secretForms, func(form string) bool { return strings.Contains(seen, form) }) || req.Header.Get("Authorization") != "" {
		n.shown = append(n.shown, origin)
		n.leaked = append(n.leaked, seen)
	}
	n.mu.Unlock()
	handler := n.hosts[origin]
	if handler == nil {
		handler = n.other
	}
	recorder := httptest.NewRecorder()
	handler(recorder, req)
	resp := recorder.Result()
	resp.ContentLength = int64(recorder.Body.Len())
	return resp, nil
}

// tempting asks for a credential, in every way.
func tempting(w http.ResponseWriter, req *http.Request) {
	w.Header()["Www-Authenticate"] = []string{
		`Basic realm="x"`, fmt.Sprintf(`Bearer realm="%s://%s/token",service="s",scope="repository:team/app:pull"`, req.URL.Scheme, req.URL.Host),
	}
	w.WriteHeader(http.StatusUnauthorized)
}

const registryOrigin, realmOrigin = "https://registry.test", "https://auth.test"

// world is an internet with a registry, which wants a token of its realm or
// Basic, and a realm that knows the canary in all its forms. inside answers what
// is asked with authorization.
func world(basic bool, realm string, inside http.HandlerFunc) *internet {
	n := &internet{other: tempting}
	n.hosts = map[string]http.HandlerFunc{
		registryOrigin: func(w http.ResponseWriter, req *http.Request) {
			switch authorization := req.Header.Get("Authorization"); {
			case authorization == "Bearer "+grantedToken, authorization == "Bearer "+canary, strings.HasPrefix(authorization, "Basic "):
				inside(w, req)
			case basic:
				wantsBasic(w)
				w.WriteHeader(http.StatusUnauthorized)
			default:
				w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm=%q,service="s",scope="repository:team/app:pull"`, realm))
				w.WriteHeader(http.StatusUnauthorized)
			}
		},
		realmOrigin:                   grants,
		"https://cdn.test":            serves,
		"https://auth.test:8443":      grants,
		"https://registry.test:8443":  grants,
		"https://auth.registry.test":  grants,
		"https://xn--bcher-kva.test":  grants,
		"https://198.51.100.7":        grants,
		"https://[2001:db8::7]:12345": grants,
	}
	return n
}

// grants is a realm that gives a token to whoever shows the canary.
func grants(w http.ResponseWriter, req *http.Request) {
	_, password, _ := req.BasicAuth()
	if password != canary && req.PostFormValue("refresh_token") != canary {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	_, _ = io.WriteString(w, `{"token":"`+grantedToken+`"}`)
}

var canaryBlob = newBlob(100)

// serves has every manifest, blob and list.
func serves(w http.ResponseWriter, req *http.Request) {
	switch {
	case strings.Contains(req.URL.Path, "/blobs/"):
		canaryBlob.send(w, req)
	case strings.Contains(req.URL.Path, "/tags/"):
		_, _ = io.WriteString(w, `{"tags":["v1"]}`)
	case strings.HasSuffix(req.URL.Path, "/_catalog"):
		_, _ = io.WriteString(w, `{"repositories":["team/app"]}`)
	case strings.Contains(req.URL.Path, "/referrers/"):
		w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
		_, _ = io.WriteString(w, indexOf())
	default:
		sendManifest(w)
	}
}

// everything asks for all that there is to ask, and gives the errors.
func everything(t *testing.T, n *internet, c credential.Credential) (failed map[string]error) {
	t.Helper()
	failed = map[string]error{}
	c.Source = "--username"
	s := NewSession(Options{Transport: n, Retries: -1, Credentials: credentialGiven(c)})
	for name, ask := range map[string]func(r *Repository) error{
		"manifest": func(r *Repository) error { _, err := r.Manifest(t.Context(), "v1"); return err },
		"range":    func(r *Repository) error { return canaryBlob.check(r, 10, 20) },
		"config":   func(r *Repository) error { _, err := r.Blob(t.Context(), canaryBlob.Descriptor); return err },
		"tags":     func(r *Repository) error { return r.Tags(t.Context(), func([]string) error { return nil }) },
		"token":    func(r *Repository) error { _, err := r.Token(t.Context()); return err },
		"describe": func(r *Repository) error { _, err := r.Describe(t.Context(), "v1"); return err },
		"size":     func(r *Repository) error { _, err := r.BlobSize(t.Context(), canaryBlob.Digest); return err },
		"referrers": func(r *Repository) error {
			_, err := r.Referrers(t.Context(), canaryBlob.Digest)
			return err
		},
		"catalog": func(*Repository) error {
			h, err := s.OpenHost(ref.Reference{Registry: "registry.test"})
			if err != nil {
				t.Fatal(err)
			}
			return h.Catalog(t.Context(), func([]string) error { return nil })
		},
		"check": func(*Repository) error { _, err := s.Check(t.Context(), "registry.test"); return err },
	} {
		r, err := s.Open(ref.Reference{Registry: "registry.test", Repository: "team/app"})
		if err != nil {
			t.Fatal(err)
		}
		failed[name] = ask(r)
		if err := failed[name]; err != nil && slices.ContainsFunc(secretForms, func(form string) bool { return strings.Contains(err.Error(), form) }) {
			t.Errorf("%s: a secret in %v", name, err)
		}
	}
	return failed
}

// shownTo fails where an origin was shown a secret that is none of approved.
func (n *internet) shownTo(t *testing.T, approved ...string) {
	t.Helper()
	for i, origin := range n.shown {
		if !slices.Contains(approved, origin) {
			t.Errorf("%s was shown %s", origin, n.leaked[i])
		}
	}
}

var canaries = map[string]credential.Credential{
	"password":       {Username: "me", Password: canary},
	"identity token": {Username: "<token>", IdentityToken: canary},
	"registry token": {RegistryToken: canary},
	"token":          {Token: canary},
}

// forEachCanary runs a test with each kind of credential, and with Basic.
func forEachCanary(t *testing.T, test func(t *testing.T, c credential.Credential, basic bool)) {
	t.Helper()
	for name, c := range canaries {
		t.Run(name, func(t *testing.T) { test(t, c, false) })
	}
	t.Run("Basic", func(t *testing.T) { test(t, canaries["password"], true) })
}

func TestCanaryAtRealms(t *testing.T) {
	for _, realm := range []string{
		"http://auth.test/token", "http://auth.test:443/token", "//auth.test/token", "ftp://auth.test/token", "https:auth.test/token",
		"https://127.0.0.1/token", "https://localhost/token", "https://registry.localhost/token", "https://[::1]/token",
		"https://[::ffff:127.0.0.1]/token", "https://[64:ff9b::7f00:1]/token", "https://[fe80::1%25eth0]/token",
		"https://0/token", "https://0.0.0.0/token", "https://2130706433/token", "https://0x7f.1/token", "https://017700000001/token", "https://127.1/token",
		"https://169.254.1.1/token", "https://169.254.169.254/token", "https://metadata.google.internal/token", "https://[fd00:ec2::254]/token",
		"https://127。0。0。1/token", "https://169.254.169.２５４/token", "https://%EF%BD%8Cocalhost/token", "https://ⓛocalhost/token", "https://127.0.0.%31/token",
		"https://me:pw@evil.test/token", "https://registry.test@evil.test/token", "https://registry.test:443@127.0.0.1/token", `https://evil.test\@auth.test/token`,
		"https://auth.test:443:80/token", "https:///token", "https://:443/token",
	} {
		for name, c := range canaries {
			n := world(false, realm, serves)
			for what, err := range everything(t, n, c) {
				// What may be a token for the registry itself, it takes as it is.
				if direct := c.RegistryToken+c.Token != ""; direct && err != nil || !direct && !errors.Is(err, ErrRealm) {
					t.Errorf("%s at %s: %s: %v", name, realm, what, err)
				}
			}
			n.shownTo(t, registryOrigin)
			if slices.ContainsFunc(n.asked, func(origin string) bool { return origin != registryOrigin }) {
				t.Errorf("%s at %s: asked %q", name, realm, n.asked)
			}
		}
	}
	for _, origin := range []string{
		realmOrigin, "https://auth.test:8443", "https://registry.test:8443", "https://auth.registry.test",
		"https://xn--bcher-kva.test", "https://198.51.100.7", "https://[2001:db8::7]:12345",
	} {
		for name, c := range canaries {
			n := world(false, origin+"/token?x=1", serves)
			for what, err := range everything(t, n, c) {
				if err != nil {
					t.Errorf("%s at %s: %s: %v", name, origin, what, err)
				}
			}
			n.shownTo(t, registryOrigin, origin)
			if exchanges := slices.Contains(n.shown, origin); exchanges == (name == "registry token") {
				t.Errorf("%s at %s: shown to %q", name, origin, n.shown)
			}
		}
	}
}

func TestCanaryAtRealmsThatRedirect(t *testing.T) {
	redirect := func(to string, status int) http.HandlerFunc {
		return func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("Location", to)
			w.WriteHeader(status)
		}
	}
	for _, to := range []string{
		"https://evil.test/token", "//evil.test/token", "http://auth.test/token", "http://auth.test:443/token", "https://auth.test:8443/token", "https://auth.registry.test/token",
		"https://auth.test@evil.test/token", "https://me:" + canary + "@evil.test/", `https://evil.test\@auth.test/`, "https://127.0.0.1/token", "https://registry.test/token",
		"https://auth.test/token", "/token", "//", "https://auth.test./token",
	} {
		for _, status := range []int{http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect} {
			for name, c := range canaries {
				if name == "registry token" {
					continue
				}
				n := world(false, realmOrigin+"/token", func(w http.ResponseWriter, _ *http.Request) {
					tempting(w, httptest.NewRequest("GET", "https://auth.test/", nil))
				})
				n.hosts[realmOrigin] = redirect(to, status)
				// There and back again.
				n.hosts["https://evil.test"] = redirect(realmOrigin+"/back", status)
				for what, err := range everything(t, n, c) {
					if err == nil {
						t.Errorf("%s to %s: no error of %s", name, to, what)
					}
				}
				n.shownTo(t, registryOrigin, realmOrigin)
			}
		}
	}
	// On its own origin it may redirect.
	n := world(false, realmOrigin+"/token", serves)
	n.hosts[realmOrigin] = func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/token" {
			redirect("https://auth.test:443/moved", http.StatusTemporaryRedirect)(w, req)
			return
		}
		grants(w, req)
	}
	n.hosts["https://auth.test:443"] = n.hosts[realmOrigin]
	for what, err := range everything(t, n, canaries["password"]) {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	n.shownTo(t, registryOrigin, realmOrigin, "https://auth.test:443")
}

func TestCanaryAtRedirects(t *testing.T) {
	for _, to := range []string{
		"https://evil.test/x", "//evil.test/x", "http://registry.test/x", "http://registry.test:443/x", "https://registry.test:8443/x", "https://cdn.registry.test/x",
		"https://registry.test@evil.test/x", "https://registry.test:443@evil.test/x", "https://me:" + canary + "@evil.test/x", `https://evil.test\@registry.test/x`,
		"https://registry.test.evil.test/x", "https://evil.test/?https://registry.test/x", "ftp://registry.test/x", "https://registry.test.:443/x",
	} {
		// To evil at once, by way of the registry itself, and there and back again.
		for _, way := range []string{"at once", "on a detour", "and back"} {
			forEachCanary(t, func(t *testing.T, c credential.Credential, basic bool) {
				n := world(basic, realmOrigin+"/token", func(w http.ResponseWriter, req *http.Request) {
					w.Header().Set("Location", to)
					if way == "on a detour" && req.URL.Path != "/detour" {
						w.Header().Set("Location", "/detour")
					}
					w.WriteHeader(http.StatusTemporaryRedirect)
				})
				if way == "and back" {
					n.other = func(w http.ResponseWriter, req *http.Request) {
						http.Redirect(w, req, registryOrigin+req.URL.Path, http.StatusTemporaryRedirect)
					}
				}
				for what, err := range everything(t, n, c) {
					if err == nil && what != "token" {
						t.Errorf("%s: no error of %s", to, what)
					}
				}
				n.shownTo(t, registryOrigin, realmOrigin)
			})
		}
	}
	// To a CDN, which gets nothing, and on the registry itself.
	for _, to := range []string{"https://cdn.test", "", registryOrigin} {
		forEachCanary(t, func(t *testing.T, c credential.Credential, basic bool) {
			n := world(basic, realmOrigin+"/token", func(w http.ResponseWriter, req *http.Request) {
				if strings.HasPrefix(req.URL.Path, "/moved/") || req.URL.Path == "/v2/" {
					serves(w, req)
					return
				}
				http.Redirect(w, req, to+"/moved"+req.URL.Path, http.StatusTemporaryRedirect)
			})
			for what, err := range everything(t, n, c) {
				if err != nil && !(basic && what == "token" && errors.Is(err, ErrBasic)) {
					t.Errorf("%q: %s: %v", to, what, err)
				}
			}
			n.shownTo(t, registryOrigin, realmOrigin)
			if strings.Contains(to, "cdn") != slices.Contains(n.asked, "https://cdn.test") {
				t.Errorf("%q: asked %q", to, n.asked)
			}
		})
	}
}

func TestCanaryAtLinks(t *testing.T) {
	const page = "/v2/PAGE?last=v1"
	list := func(link string) http.HandlerFunc {
		return func(w http.ResponseWriter, req *http.Request) {
			if req.URL.Query().Get("last") == "" && req.Method == http.MethodGet {
				w.Header().Set("Link", strings.ReplaceAll(link, page, req.URL.Path+"?last=v1"))
			}
			serves(w, req)
		}
	}
	lists := []string{"tags", "catalog", "referrers"}
	for _, to := range []string{
		"https://evil.test" + page, "//evil.test" + page, "https://registry.test:8443" + page, "http://registry.test:8080" + page, "https://cdn.registry.test" + page,
		"https://registry.test@evil.test" + page, "https://registry.test:443@evil.test" + page, `https://evil.test\@registry.test` + page, "https:evil.test" + page,
		"https://registry.test//evil.test" + page, "https://registry.test.evil.test" + page, "ftp://registry.test" + page, "javascript:x", "https://%zz/",
	} {
		forEachCanary(t, func(t *testing.T, c credential.Credential, basic bool) {
			n := world(basic, realmOrigin+"/token", list("<"+to+`>; rel="next"`))
			failed := everything(t, n, c)
			for _, what := range lists {
				if err := failed[what]; err == nil || !strings.Contains(err.Error(), "its link to the next page") {
					t.Errorf("%s: %s: %v", to, what, err)
				}
			}
			n.shownTo(t, registryOrigin, realmOrigin)
			if slices.ContainsFunc(n.asked, func(origin string) bool { return origin != registryOrigin && origin != realmOrigin }) {
				t.Errorf("%s: asked %q", to, n.asked)
			}
		})
	}
	// With a scheme or a user that is none of its own, only path and query count.
	for _, to := range []string{page, "?last=v1", "https://registry.test" + page, "http://registry.test" + page, "https://evil.test:pw@registry.test" + page} {
		forEachCanary(t, func(t *testing.T, c credential.Credential, basic bool) {
			n := world(basic, realmOrigin+"/token", list("<"+to+`>; rel="next"`))
			failed := everything(t, n, c)
			for _, what := range lists {
				if err := failed[what]; err != nil {
					t.Errorf("%s: %s: %v", to, what, err)
				}
			}
			n.shownTo(t, registryOrigin, realmOrigin)
		})
	}
}

// A host that was redirected to may challenge as it likes, and so may a mirror
// what the origin's credential is not for.
func TestCanaryStaysWithItsRegistry(t *testing.T) {
	n := world(false, realmOrigin+"/token", serves)
	s := NewSession(Options{Transport: n, Retries: -1, Credentials: credential.Given("me", canary, "--username", "registry.test")})
	for _, registry := range []string{"mirror.test", "registry.test", "registry.test:8443", "evil.registry.test"} {
		r, err := s.Open(ref.Reference{Registry: registry, Repository: "team/app"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Manifest(t.Context(), "v1"); (err == nil) != (registry == "registry.test") {
			t.Errorf("%s: %v", registry, err)
		}
	}
	n.shownTo(t, registryOrigin, realmOrigin)
	if len(n.shown) == 0 {
		t.Error("shown to nobody")
	}
}

func TestCanariesAreFound(t *testing.T) {
	for _, req := range []*http.Request{
		{URL: mustParse(t, "https://evil.test/?x="+url.QueryEscape(canary)), Header: http.Header{}},
		{URL: mustParse(t, "https://evil.test/"), Header: http.Header{"X": {base64.StdEncoding.EncodeToString([]byte("me:" + canary))}}},
		{URL: mustParse(t, "https://evil.test/"), Header: http.Header{}, Body: io.NopCloser(strings.NewReader(grantedToken))},
	} {
		n := &internet{other: tempting}
		if _, err := n.RoundTrip(req); err != nil || len(n.shown) != 1 {
			t.Errorf("not found in %+v, %v", req, err)
		}
	}
}
