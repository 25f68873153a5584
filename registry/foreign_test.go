package registry

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/ref"
)

// foreign is the blob with URLs.
func (b blob) foreign(urls ...string) blob {
	b.URLs = urls
	return b
}

// network is a transport that leads to handlers by scheme and host, and keeps
// who was asked, and who was shown what.
type network struct {
	t        *testing.T
	handlers map[string]http.HandlerFunc // by scheme://host

	mu    sync.Mutex
	asked []string // URLs
	shown []string // those that got a secret, with its header
}

func (n *network) RoundTrip(req *http.Request) (*http.Response, error) {
	at := req.URL.Scheme + "://" + req.URL.Host
	n.mu.Lock()
	n.asked = append(n.asked, req.URL.String())
	for name, values := range req.Header {
		secret := slices.ContainsFunc(values, func(v string) bool {
			return strings.Contains(v, canary) || strings.Contains(v, "granted") || strings.Contains(v, basic("me", canary))
		})
		if secret || name == "Authorization" || name == "Cookie" || name == "Referer" {
			n.shown = append(n.shown, req.URL.String()+" "+name)
		}
	}
	if strings.Contains(req.URL.String(), canary) || req.URL.User != nil {
		n.shown = append(n.shown, req.URL.String())
	}
	n.mu.Unlock()
	handler := n.handlers[at]
	if handler == nil {
		n.t.Errorf("asked for %s", req.URL)
		handler = http.NotFound
	}
	w := httptest.NewRecorder()
	handler(w, req)
	return w.Result(), nil
}

// ask forgets what was asked and shown before, and reads the blob whole.
func (n *network) ask(r *Repository, b blob) (asked []string, shown []string, err error) {
	n.asked, n.shown = nil, nil
	err = b.check(r, 0, b.Size)
	return n.asked, n.shown, err
}

// foreignNetwork has a registry that wants a token of its realm and has not got
// b, and hosts of all kinds beside it.
func foreignNetwork(t *testing.T, b blob) *network {
	own := "/v2/team/app/blobs/" + b.Digest.String()
	redirect := func(to string) http.HandlerFunc {
		return func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("Set-Cookie", "session="+canary)
			http.Redirect(w, req, to, http.StatusTemporaryRedirect)
		}
	}
	paths := func(handlers map[string]http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, req *http.Request) {
			if handler := handlers[req.URL.Path]; handler != nil {
				handler(w, req)
				return
			}
			http.NotFound(w, req)
		}
	}
	return &network{t: t, handlers: map[string]http.HandlerFunc{
		"https://registry.test": func(w http.ResponseWriter, req *http.Request) {
			if req.Header.Get("Authorization") != "Bearer granted" {
				w.Header().Set("WWW-Authenticate", `Bearer realm="https://auth.test/token",scope="repository:team/app:pull"`)
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			if req.URL.Path != own {
				b.send(w, req)
				return
			}
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `{"errors":[{"code":"BLOB_UNKNOWN","message":"blob unknown to registry"}]}`)
		},
		"https://auth.test":          func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"token":"granted"}`) },
		"https://registry.test:8443": b.send,
		"https://cdn.test":           b.send,
		"https://files.test": paths(map[string]http.HandlerFunc{
			"/layer":       b.send,
			"/moved":       redirect("https://cdn.test/layer"),
			"/to-registry": redirect("https://registry.test" + own),
			"/elsewhere":   redirect("https://registry.test/whatever"),
			"/to-metadata": redirect("https://169.254.169.254/latest"),
			"/to-loopback": redirect("https://localhost/layer"),
			"/to-http":     redirect("http://files.test/layer"),
			"/basic": func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
				w.WriteHeader(http.StatusUnauthorized)
			},
			"/bearer": func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("WWW-Authenticate", `Bearer realm="https://files.test/token"`)
				w.WriteHeader(http.StatusUnauthorized)
			},
			"/page": func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Length", "15")
				_, _ = io.WriteString(w, "<p>It is gone.</p>"[:15])
			},
		}),
	}}
}

// The whole way, with all that a manifest can name: what the credential and the
// token are shown to.
func TestForeignURLsGetNoCredential(t *testing.T) {
	b := newBlob(1000)
	own := "https://registry.test/v2/team/app/blobs/" + b.Digest.String()
	for _, test := range []struct {
		name  string
		urls  []string
		works bool
		asked string // who was, after the registry
		says  string // the error
	}{
		{"another host", []string{"https://files.test/layer"}, true, "https://files.test/layer", ""},
		{"with a fragment", []string{"https://files.test/layer#part"}, true, "https://files.test/layer", ""},
		{"a CDN behind it", []string{"https://files.test/moved"}, true, "https://files.test/moved https://cdn.test/layer", ""},
		{"the second", []string{"https://files.test/gone", "https://files.test/layer"}, true, "https://files.test/gone https://files.test/layer", ""},
		{"after one that is refused", []string{"ftp://files.test/layer", "https://127.0.0.1/layer", "https://files.test/layer"}, true, "https://files.test/layer", ""},
		{"after a page", []string{"https://files.test/page", "https://files.test/layer"}, true, "https://files.test/page https://files.test/layer", ""},
		{"another port of the registry", []string{"https://registry.test:8443/layer"}, true, "https://registry.test:8443/layer", ""},

		{"gone", []string{"https://files.test/gone"}, false, "https://files.test/gone", "404 Not Found"},
		{"a page", []string{"https://files.test/page"}, false, "https://files.test/page", "something of 15 bytes, not of 1000"},
		{"wants Basic", []string{"https://files.test/basic"}, false, "https://files.test/basic", "401 Unauthorized"},
		{"wants Bearer", []string{"https://files.test/bearer"}, false, "https://files.test/bearer", "401 Unauthorized"},
		{"the registry's own", []string{own}, false, own, "401 Unauthorized"},
		{"back to the registry", []string{"https://files.test/to-registry"}, false, "https://files.test/to-registry " + own, "401 Unauthorized"},
		{"elsewhere on the registry", []string{"https://files.test/elsewhere"}, false, "https://files.test/elsewhere https://registry.test/whatever", "401 Unauthorized"},
	} {
		n := foreignNetwork(t, b)
		r, err := Open(referenceTo("registry.test"), Options{Credentials: given("me", canary), Transport: n})
		if err != nil {
			t.Fatal(err)
		}
		asked, shown, err := n.ask(r, b.foreign(test.urls...))
		if (err == nil) != test.works {
			t.Errorf("%s: %v", test.name, err)
		}
		if want := strings.Fields(own + " https://auth.test/token?account=me&scope=repository%3Ateam%2Fapp%3Apull " + own + " " + test.asked); !slices.Equal(asked, want) {
			t.Errorf("%s: asked %q", test.name, asked)
		}
		if want := []string{asked[1] + " Authorization", own + " Authorization"}; !slices.Equal(shown, want) {
			t.Errorf("%s: %q were shown a secret", test.name, shown)
		}
		if test.works {
			continue
		}
		var failed *ForeignError
		for _, want := range []string{"get blob team/app@" + b.Digest.String() + " from registry.test: 404 Not Found: blob unknown to registry; get it by its URL from ", test.says} {
			if !errors.As(err, &failed) || !errors.Is(err, image.ErrNotFound) || errors.Is(err, ErrForeignURL) || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v does not say %q", test.name, err, want)
			}
		}
	}
}

func TestForeignURLPolicy(t *testing.T) {
	b := newBlob(1000)
	for _, test := range []struct{ url, says string }{
		{"http://files.test/layer", "plain HTTP is refused"},
		{"https://me:" + canary + "@files.test/layer", "it carries a user"},
		{"https://me@files.test/layer", "it carries a user"},
		{"ftp://files.test/layer", `the scheme "ftp" is refused`},
		{"file:///etc/passwd", "no URL with a host"},
		{"//files.test/layer", `the scheme "" is refused`},
		{"/layer", "no URL with a host"},
		{"", "no URL with a host"},
		{"https://files.test/\x1b[31m", "no URL with a host"},
		{"https://localhost/layer", "loopback"},
		{"https://127.0.0.1/layer", "loopback"},
		{"https://[::1]:8443/layer", "loopback"},
		{"https://2130706433/layer", "malformed address"},
		{"https://[64:ff9b::7f00:1]/layer", "loopback"},
		{"https://0.0.0.0/layer", "loopback"},
		{"https://169.254.1.1/layer", "link-local"},
		{"https://169.254.169.254/latest", "metadata"},
		{"https://metadata.google.internal/", "metadata"},
		{"https://files.test/to-metadata", "it redirects to 169.254.169.254: a metadata"},
		{"https://files.test/to-loopback", "it redirects to localhost: a loopback"},
		{"https://files.test/to-http", "it redirects to files.test: plain HTTP"},
	} {
		n := foreignNetwork(t, b)
		var trace lines
		r, err := Open(referenceTo("registry.test"), Options{Credentials: given("me", canary), Transport: n, Trace: trace.add})
		if err != nil {
			t.Fatal(err)
		}
		asked, _, err := n.ask(r, b.foreign(test.url))
		if !errors.Is(err, ErrForeignURL) || !errors.Is(err, image.ErrNotFound) || !strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), "404") {
			t.Errorf("%q: %v", test.url, err)
		}
		if err != nil && strings.ContainsAny(err.Error(), "\x1b\n") || strings.Contains(fmt.Sprint(err)+trace.String(), canary) {
			t.Errorf("%q: unfit: %q", test.url, err)
		}
		if len(asked) > 3 && !strings.Contains(test.url, "files.test/to-") || len(asked) > 4 {
			t.Errorf("%q: asked %q", test.url, asked)
		}
	}
}

// Where the registry itself is on loopback, or on plain HTTP, the URLs may be
// too; and where only a name's address tells, it is checked when it is dialed.
func TestForeignURLOnLoopback(t *testing.T) {
	b := newBlob(1000)
	store := serve(t, b.send)
	server := serve(t, http.NotFound)
	if err := b.foreign(store.URL+"/layer").check(open(t, server, Options{}), 0, 1000); err != nil {
		t.Errorf("beside a registry on loopback: %v", err)
	}
	r := open(t, server, Options{})
	address := netip.MustParseAddr("203.0.113.5")
	r.client.address.Store(&address)
	// The address itself stands for a name here: get knows no policy but the
	// dialer's.
	_, _, err := r.client.get(t.Context(), foreignStep, location{url: mustParse(t, store.URL), foreign: true}, http.Header{}, false)
	if !errors.Is(err, ErrForeignURL) || errors.Is(err, ErrRealm) || !strings.Contains(err.Error(), "loopback") {
		t.Errorf("of a registry elsewhere: %v", err)
	}
	plain := &network{t: t, handlers: map[string]http.HandlerFunc{"http://registry.test": http.NotFound, "http://files.test": b.send}}
	r, err = Open(ref.Reference{Registry: "registry.test", Repository: "team/app", Scheme: "http"}, Options{Transport: plain})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := plain.ask(r, b.foreign("http://files.test/layer")); err != nil {
		t.Errorf("of a registry on plain HTTP: %v", err)
	}
}

// The registry is asked once for the blob, ranges go straight to the URL; where
// that refuses them, it is searched again.
func TestForeignURLIsFoundOnce(t *testing.T) {
	b := newBlob(64_000)
	var lacked, moved, served atomic.Int32
	var gone atomic.Bool
	store := serve(t, func(w http.ResponseWriter, req *http.Request) {
		switch {
		case req.URL.Path == "/layer":
			moved.Add(1)
			http.Redirect(w, req, "/data", http.StatusFound)
		case gone.Swap(false):
			w.WriteHeader(http.StatusForbidden)
		default:
			served.Add(1)
			b.send(w, req)
		}
	})
	server := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		lacked.Add(1)
		w.WriteHeader(http.StatusNotFound)
	})
	var sent events
	r := open(t, server, Options{Events: sent.add})
	foreign := b.foreign(store.URL + "/layer")
	fetch := func() {
		var all sync.WaitGroup
		for i := range int64(16) {
			all.Go(func() {
				if err := foreign.check(r, i*4000, 4000); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
	}
	fetch()
	if lacked.Load() != 1 || moved.Load() != 1 || served.Load() != 16 {
		t.Errorf("registry asked %d times, moved %d, served %d", lacked.Load(), moved.Load(), served.Load())
	}
	if steps := sent.of(image.EventStep); len(steps) != 1 || !strings.Contains(steps[0].Text, "is served by "+host(store)+", where its URL leads") {
		t.Errorf("told %v", steps)
	}
	gone.Store(true)
	fetch()
	if lacked.Load() != 2 || moved.Load() != 2 || served.Load() != 32 {
		t.Errorf("after it expired: registry asked %d times, moved %d, served %d", lacked.Load(), moved.Load(), served.Load())
	}
}

// Only what may mean that the registry has not got the blob leads on.
func TestWhenURLsAreAsked(t *testing.T) {
	b := newBlob(1000)
	for status, asks := range map[int]bool{200: false, 404: true, 410: true, 403: true, 401: false, 429: false, 500: false, 503: false} {
		var asked atomic.Int32
		store := serve(t, func(w http.ResponseWriter, req *http.Request) {
			asked.Add(1)
			b.send(w, req)
		})
		server := serve(t, func(w http.ResponseWriter, req *http.Request) {
			if status == http.StatusOK {
				b.send(w, req)
				return
			}
			w.WriteHeader(status)
		})
		err := b.foreign(store.URL).check(open(t, server, Options{}), 0, 100)
		if asked.Load() > 0 != asks || (err == nil) != (asks || status == http.StatusOK) {
			t.Errorf("%d: asked %d times, %v", status, asked.Load(), err)
		}
	}
}

// What may pass is no "not found", so that it is tried again.
func TestForeignURLInTrouble(t *testing.T) {
	b := newBlob(1000)
	server := serve(t, http.NotFound)
	busy := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	gone := serve(t, http.NotFound)
	nobody := httptest.NewServer(nil)
	nobody.Close()
	for _, test := range []struct {
		urls  []string
		again bool
	}{
		{[]string{busy.URL}, true},
		{[]string{gone.URL, "ftp://x/", busy.URL}, true},
		{[]string{gone.URL}, false},
		{[]string{nobody.URL}, false},
	} {
		err := b.foreign(test.urls...).check(open(t, server, Options{}), 0, 100)
		var retry *image.RetryError
		if errors.As(err, &retry) != test.again || errors.Is(err, image.ErrNotFound) == test.again || !strings.Contains(err.Error(), "404") {
			t.Errorf("%q: %v", test.urls, err)
		}
	}
	many := slices.Repeat([]string{gone.URL}, 16)
	if err := b.foreign(many...).check(open(t, server, Options{}), 0, 100); !strings.HasSuffix(err.Error(), "; and 13 URLs more") {
		t.Errorf("of many: %v", err)
	}
}

func TestForeignURLWithoutRanges(t *testing.T) {
	b := newBlob(1000)
	server := serve(t, http.NotFound)
	for _, status := range []int{http.StatusBadRequest, http.StatusRequestedRangeNotSatisfiable} {
		store := serve(t, func(w http.ResponseWriter, req *http.Request) {
			if req.Header.Get("Range") != "" {
				w.WriteHeader(status)
				return
			}
			b.send(w, req)
		})
		r := open(t, server, Options{})
		foreign := b.foreign(store.URL)
		var none *image.NoRangeError
		if err := foreign.check(r, 0, 100); !errors.As(err, &none) || none.Host != host(store) {
			t.Errorf("%d: %v", status, err)
		}
		if err := foreign.check(r, 0, 1000); err != nil {
			t.Errorf("%d: then the whole: %v", status, err)
		}
	}
}
