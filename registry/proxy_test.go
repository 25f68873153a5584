package registry

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/davit-cli/davit/credential"
	"github.com/davit-cli/davit/hosts"
	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/registrytest"
)

const proxyCanary = "pr0xy-c@nary/#%"

func TestProxyFromEnvironment(t *testing.T) {
	for _, test := range []struct {
		name string
		env  map[string]string
		url  string
		want string // nothing: none
		says string // an error
	}{
		{"nothing", nil, "https://a.test", "", ""},
		{"HTTPS", map[string]string{"HTTPS_PROXY": "http://p.test:1"}, "https://a.test", "http://p.test:1", ""},
		{"not for HTTP", map[string]string{"HTTPS_PROXY": "http://p.test:1"}, "http://a.test", "", ""},
		{"HTTP", map[string]string{"HTTP_PROXY": "http://p.test:1"}, "http://a.test", "http://p.test:1", ""},
		{"lower case first", map[string]string{"https_proxy": "http://p.test:1", "HTTPS_PROXY": "http://q.test:1"}, "https://a.test", "http://p.test:1", ""},
		{"all, HTTPS", map[string]string{"ALL_PROXY": "socks5h://p.test:1"}, "https://a.test", "socks5h://p.test:1", ""},
		{"all, HTTP", map[string]string{"all_proxy": "socks5://p.test"}, "http://a.test", "socks5://p.test", ""},
		{"all, but one", map[string]string{"ALL_PROXY": "http://p.test", "HTTP_PROXY": "http://q.test"}, "http://a.test", "http://q.test", ""},
		{"bare", map[string]string{"HTTPS_PROXY": "p.test:3128"}, "https://a.test", "http://p.test:3128", ""},
		{"bare with user", map[string]string{"HTTPS_PROXY": "me:pw@p.test:3128"}, "https://a.test", "http://me:pw@p.test:3128", ""},
		{"a slash, spaces", map[string]string{"HTTPS_PROXY": " https://p.test:3128/ "}, "https://a.test", "https://p.test:3128", ""},
		{"loopback", map[string]string{"ALL_PROXY": "p.test:3128"}, "https://localhost:5000", "", ""},
		{"loopback's address", map[string]string{"ALL_PROXY": "p.test:3128"}, "http://127.0.0.2:5000", "", ""},
		{"NO_PROXY domain", map[string]string{"ALL_PROXY": "p.test:3128", "NO_PROXY": "b.test, a.test"}, "https://x.a.test", "", ""},
		{"NO_PROXY another domain", map[string]string{"ALL_PROXY": "p.test:3128", "NO_PROXY": "b.test,.a.test"}, "https://a.test", "http://p.test:3128", ""},
		{"no_proxy CIDR", map[string]string{"ALL_PROXY": "p.test:3128", "no_proxy": "10.0.0.0/8"}, "https://10.1.2.3:5000", "", ""},
		{"no_proxy another CIDR", map[string]string{"ALL_PROXY": "p.test:3128", "no_proxy": "10.0.0.0/8"}, "https://11.1.2.3:5000", "http://p.test:3128", ""},
		{"NO_PROXY port", map[string]string{"ALL_PROXY": "p.test:3128", "NO_PROXY": "a.test:443"}, "https://a.test", "", ""},
		{"NO_PROXY another port", map[string]string{"ALL_PROXY": "p.test:3128", "NO_PROXY": "a.test:5000"}, "https://a.test", "http://p.test:3128", ""},
		{"NO_PROXY all", map[string]string{"ALL_PROXY": "p.test:3128", "NO_PROXY": "*"}, "https://a.test", "", ""},
		{"no URL", map[string]string{"HTTPS_PROXY": "http://me:s3cret-canary/#@p.test"}, "https://a.test", "", "HTTPS_PROXY: it is not host:port or a URL"},
		{"no URL, for another scheme", map[string]string{"HTTPS_PROXY": "http://me:s3cret-canary/#@p.test"}, "http://a.test", "", ""},
		{"no URL, for another host", map[string]string{"HTTPS_PROXY": "http://me:s3cret-canary/#@p.test", "NO_PROXY": "a.test"}, "https://a.test", "", ""},
		{"no scheme of ours", map[string]string{"all_proxy": "socks4://me:s3cret-canary@p.test"}, "https://a.test", "", "all_proxy: it is not"},
		{"CGI", map[string]string{"HTTP_PROXY": "p.test:3128", "REQUEST_METHOD": "GET"}, "http://a.test", "", "REQUEST_METHOD"},
		{"CGI, by another", map[string]string{"ALL_PROXY": "p.test:3128", "REQUEST_METHOD": "GET"}, "http://a.test", "http://p.test:3128", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"} {
				t.Setenv(strings.ToLower(name), "") // on Windows both are one
				t.Setenv(name, "")
			}
			t.Setenv("REQUEST_METHOD", "")
			for name, value := range test.env {
				t.Setenv(name, value)
			}
			got, err := ProxyFromEnvironment()(&http.Request{URL: mustParse(t, test.url)})
			checkProxy(t, got, err, test.want, test.says)
		})
	}
}

func checkProxy(t *testing.T, got *url.URL, err error, want, says string) {
	t.Helper()
	switch {
	case says != "":
		if !errors.Is(err, ErrProxy) || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), canary) || strings.Contains(err.Error(), "p.test") {
			t.Errorf("got %v, %v", got, err)
		}
	case err != nil, got == nil && want != "", got != nil && got.String() != want:
		t.Errorf("got %v, %v", got, err)
	}
}

func TestProxyURL(t *testing.T) {
	for _, test := range []struct{ raw, noProxy, url, want string }{
		{"p.test:3128", "", "https://a.test", "http://p.test:3128"},
		{"http://p.test", "", "http://a.test", "http://p.test"},
		{"HTTPS://me@p.test:1", "", "http://a.test", "https://me@p.test:1"},
		{"socks5://me:p%40w@p.test:1", "", "https://a.test", "socks5://me:p%40w@p.test:1"},
		{"socks5h://[::1]:1", "", "https://a.test", "socks5h://[::1]:1"},
		{"p.test:1", "b.test,a.test", "https://a.test", ""},
		{"p.test:1", "b.test", "https://a.test", "http://p.test:1"},
		{"p.test:1", "", "https://localhost:5000", "http://p.test:1"},
		{"p.test:1", "", "http://127.0.0.1:5000", "http://p.test:1"},
		{"p.test:1", "", "http://[::1]:5000", "http://p.test:1"},
		{"p.test:1", "", "http://x.localhost", "http://p.test:1"},
		{"p.test:1", "localhost", "https://localhost:5000", ""},
		{"p.test:1", "localhost", "https://x.localhost:5000", ""},
		{"p.test:1", "localhost:5000", "https://localhost:5000", ""},
		{"p.test:1", "localhost:5001", "https://localhost:5000", "http://p.test:1"},
		{"p.test:1", "127.0.0.1", "https://localhost:5000", "http://p.test:1"},
		{"p.test:1", " LocalHost ", "https://localhost", ""},
	} {
		proxy, err := ProxyURL(test.raw, test.noProxy)
		if err != nil {
			t.Errorf("%s: %v", test.raw, err)
			continue
		}
		got, err := proxy(&http.Request{URL: mustParse(t, test.url)})
		checkProxy(t, got, err, test.want, "")
	}
	for _, bad := range []string{
		"", " ", "http://", "http://:3128", "ftp://p.test", "socks4://p.test", "socks4a://me:s3cret-canary@p.test", "http://p.test:0", "http://p.test:65536",
		"http://me:s3cret-canary/x@p.test", "http://me:1?s3cret-canary@p.test", "http://me:1#s3cret-canary@p.test:1", "http://me:1/s3cret-canary@p.test",
		"http://me:%zz" + canary + "@p.test", "http://p.test/path", "file:///etc/passwd",
	} {
		_, err := ProxyURL(bad, "")
		checkProxy(t, nil, err, "", "it is not host:port or a URL")
	}
}

// Loopback is listed in NO_PROXY as other addresses are.
func TestNoProxyOfLoopback(t *testing.T) {
	local := strings.NewReplacer("10.1.2.3", "127.0.0.1", "10.0.0.0", "127.0.0.0", "10.1.2.4", "127.0.0.2", "fd00::1", "::1", "fd00::/8", "::/8")
	for _, list := range []string{
		"", ",", "*", "a, *", "10.1.2.3", "10.1.2.4", "10.1.2.3:5000", "10.1.2.3:5001", "10.0.0.0/8", "10.0.0.0/33", "x,10.1.2.3", "::ffff:10.1.2.3",
		"fd00::1", "[fd00::1]:5000", "[fd00::1]:5001", "[fd00::1]", "fd00::/8", ":5000", ".", "10.1.2.3,*", "-", "10.1.2.3:", "/",
	} {
		for _, at := range []string{"http://10.1.2.3:5000", "http://[fd00::1]:5000"} {
			want := !appliesTo(list)(mustParse(t, at))
			if got := listsLocal(local.Replace(list), mustParse(t, local.Replace(at))); got != want {
				t.Errorf("%s of %q: %v, but %s of %q: %v", local.Replace(at), local.Replace(list), got, at, list, want)
			}
		}
	}
}

// stage is a registry whose hosts are names that only a proxy can resolve: for
// itself, its realm and its CDN.
type stage struct {
	*registrytest.Server
	secure bool
	leaked atomic.Bool // a proxy's credential arrived
}

func newStage(t *testing.T, secure bool, o registrytest.Options) *stage {
	s := &stage{secure: secure}
	o.TLS, o.Names = secure, []string{"registry.test", "auth.test", "cdn.test"}
	o.Redirect = &registrytest.Redirect{Host: "cdn.test"}
	o.Auth = &registrytest.Auth{User: "me", Password: canary, OwnRealm: true, RealmURL: "http://auth.test/token"}
	if secure {
		o.Auth.RealmURL = "https://auth.test/token"
	}
	o.Intercept = func(_ http.ResponseWriter, req *http.Request) bool {
		if req.Header.Get("Proxy-Authorization") != "" {
			s.leaked.Store(true)
		}
		return false
	}
	s.Server = registrytest.Start(t, o)
	return s
}

func (s *stage) resolve() map[string]string {
	return map[string]string{
		"registry.test": s.Host(), "auth.test": s.HostOf(registrytest.Realm), "cdn.test": s.HostOf(registrytest.CDN),
	}
}

// through is a proxy for all.
func through(u *url.URL) func(*http.Request) (*url.URL, error) { return http.ProxyURL(u) }

func TestThroughProxy(t *testing.T) {
	for _, scheme := range []string{"http", "https", "socks5", "socks5h"} {
		for _, secure := range []bool{true, false} {
			for _, password := range []string{"", proxyCanary} {
				s := newStage(t, secure, registrytest.Options{})
				o := registrytest.ProxyOptions{Resolve: s.resolve(), TLS: scheme == "https", Password: password}
				if password != "" {
					o.User = "proxy user"
				}
				proxy := registrytest.StartProxy(t, o)
				choose, err := ProxyURL(proxy.URL(scheme).String(), "")
				if err != nil {
					t.Fatal(err)
				}
				reached := map[string]hosts.Host{}
				if secure {
					reached["registry.test"] = hosts.Host{CAFiles: []string{file(t, "ca.pem", s.CAPEM())}}
				}
				if o.TLS {
					reached[proxy.Host()] = hosts.Host{CAFiles: []string{file(t, "proxy.pem", proxy.CAPEM())}}
				}
				var trace lines
				var sent events
				r := openServer(t, s.Server, "registry.test", Options{
					Proxy: choose, Hosts: known(reached), Credentials: given("me", canary), Trace: trace.add, Events: sent.add,
				})
				if err := r.read(t); err != nil {
					t.Errorf("%s, %v: %v", scheme, secure, err)
				}
				way, port := "HTTP ", "80"
				switch {
				case isSOCKS(proxy.URL(scheme)):
					way = "SOCKS5 "
				case secure:
					way = "CONNECT "
				}
				if secure {
					port = "443"
				}
				_, cdnPort, _ := net.SplitHostPort(s.HostOf(registrytest.CDN))
				got := proxy.Through()
				for _, want := range []string{"registry.test:" + port, "auth.test:" + port, "cdn.test:" + cdnPort} {
					if !slices.Contains(got, way+want) {
						t.Errorf("%s, %v: %s did not go through, but %q", scheme, secure, want, got)
					}
				}
				if s.leaked.Load() {
					t.Errorf("%s, %v: the proxy's credential reached a server", scheme, secure)
				}
				said := trace.String()
				for _, event := range sent.of(image.EventStep) {
					said += event.Text + "\n"
				}
				if !strings.Contains(said, "registry.test is asked through the proxy "+proxy.Host()) {
					t.Errorf("no word of the proxy:\n%s", said)
				}
				expectNoProxyCredential(t, said)
			}
		}
	}
}

func expectNoProxyCredential(t *testing.T, text string) {
	t.Helper()
	for _, secret := range append(formsOf(proxyCanary), base64Of("proxy user:"+proxyCanary)...) {
		if strings.Contains(text, secret) {
			t.Errorf("the proxy's password in %q", text)
		}
	}
}

// A redirect from a host behind the proxy to one that is reached without it.
func TestRedirectAwayFromProxy(t *testing.T) {
	for _, secure := range []bool{true, false} {
		s := newStage(t, secure, registrytest.Options{})
		s.Configure(func(o *registrytest.Options) { o.Redirect = &registrytest.Redirect{Host: "localhost"} })
		proxy := registrytest.StartProxy(t, registrytest.ProxyOptions{Resolve: s.resolve(), User: "proxy user", Password: proxyCanary})
		choose, err := ProxyURL(proxy.URL("http").String(), "localhost")
		if err != nil {
			t.Fatal(err)
		}
		reached := map[string]hosts.Host{}
		if secure {
			reached["registry.test"] = hosts.Host{CAFiles: []string{file(t, "ca.pem", s.CAPEM())}}
		}
		r := openServer(t, s.Server, "registry.test", Options{Proxy: choose, Hosts: known(reached), Credentials: given("me", canary)})
		if err := r.read(t); err != nil {
			t.Error(err)
		}
		if s.leaked.Load() {
			t.Error("the proxy's credential reached the CDN")
		}
		for _, way := range proxy.Through() {
			if strings.Contains(way, "localhost") {
				t.Errorf("went through: %s", way)
			}
		}
		if s.Stats().BlobBytes == 0 {
			t.Error("the CDN was not asked")
		}
	}
}

func TestProxyAuth(t *testing.T) {
	for _, scheme := range []string{"http", "socks5"} {
		for _, secure := range []bool{true, false} {
			s := newStage(t, secure, registrytest.Options{})
			proxy := registrytest.StartProxy(t, registrytest.ProxyOptions{Resolve: s.resolve(), User: "other", Password: "one"})
			for _, user := range []*url.Userinfo{nil, url.UserPassword("proxy user", proxyCanary)} {
				var asked atomic.Bool
				var trace lines
				var sent events
				address := &url.URL{Scheme: scheme, Host: proxy.Host(), User: user}
				r := openServer(t, s.Server, "registry.test", Options{
					Proxy: through(address), Trace: trace.add, Events: sent.add, Retries: 2,
					Credentials: func(context.Context, string, string) (credential.Credential, error) {
						asked.Store(true)
						return credential.Credential{}, nil
					},
				})
				err := r.read(t)
				says := "the proxy " + proxy.Host() + " wants a user and a password"
				if user != nil {
					says = "the proxy " + proxy.Host() + " refuses the user and the password"
				}
				var e *Error
				if !errors.As(err, &e) || !errors.Is(err, ErrProxy) || !errors.Is(err, ErrProxyAuth) || errors.Is(err, image.ErrUnauthorized) || !strings.HasSuffix(err.Error(), says) {
					t.Errorf("%s, %v: %v", scheme, secure, err)
					continue
				}
				if asked.Load() {
					t.Error("the registry's credential was looked for")
				}
				if len(sent.of(image.EventRetry)) > 0 {
					t.Error("tried again")
				}
				expectNoProxyCredential(t, err.Error()+trace.String())
			}
			if len(s.Requests()) > 0 || proxy.Refusals() == 0 {
				t.Errorf("%d requests, %d refusals", len(s.Requests()), proxy.Refusals())
			}
		}
	}
}

// tinyproxy answers 401 to a wrong password, which is not the registry's.
func TestTinyproxyAuth(t *testing.T) {
	for _, secure := range []bool{true, false} {
		for _, own := range []bool{true, false} {
			proxy := serve(t, func(w http.ResponseWriter, req *http.Request) {
				if own || req.Method == http.MethodConnect {
					w.Header().Set("Server", "tinyproxy/1.11.1")
				} else {
					w.Header().Set("Via", "1.1 tinyproxy (tinyproxy/1.11.1)")
				}
				w.Header().Set("WWW-Authenticate", `Basic realm="tinyproxy"`)
				w.WriteHeader(http.StatusUnauthorized)
			})
			u := mustParse(t, proxy.URL)
			u.User = url.UserPassword("proxy user", proxyCanary)
			reference := referenceTo("registry.test")
			reference.Scheme = map[bool]string{true: "https", false: "http"}[secure]
			r, err := Open(reference, Options{Proxy: through(u)})
			if err != nil {
				t.Fatal(err)
			}
			_, err = r.Manifest(t.Context(), "v1")
			if want := secure || own; errors.Is(err, ErrProxyAuth) != want || errors.Is(err, image.ErrUnauthorized) == want {
				t.Errorf("HTTPS: %v, its own: %v: %v", secure, own, err)
			}
		}
	}
}

// What the registry refuses is not the proxy's refusal.
func TestRegistryRefusesThroughProxy(t *testing.T) {
	s := newStage(t, false, registrytest.Options{})
	proxy := registrytest.StartProxy(t, registrytest.ProxyOptions{Resolve: s.resolve()})
	r := openServer(t, s.Server, "registry.test", Options{Proxy: through(proxy.URL("http")), Credentials: given("me", "wrong")})
	if err := r.read(t); !errors.Is(err, image.ErrUnauthorized) || errors.Is(err, ErrProxy) {
		t.Errorf("got %v", err)
	}
	// Nor is a 407 that comes out of a tunnel, or of a connection without a proxy.
	s.Configure(func(o *registrytest.Options) {
		o.Answers = []registrytest.Answer{{Status: http.StatusProxyAuthRequired}}
	})
	for _, opts := range []Options{{Proxy: through(proxy.URL("socks5"))}, {}} {
		name := s.Host()
		if opts.Proxy != nil {
			name = "registry.test"
		}
		var e *Error
		if err := openServer(t, s.Server, name, opts).read(t); !errors.As(err, &e) || e.Status != http.StatusProxyAuthRequired || errors.Is(err, ErrProxy) {
			t.Errorf("got %v", err)
		}
	}
}

func TestProxyRefuses(t *testing.T) {
	s := newStage(t, true, registrytest.Options{})
	for _, test := range []struct {
		scheme string
		refuse int
		says   string
	}{
		{"http", 403, "does not connect to registry.test: 403 Forbidden"},
		{"http", 502, "does not connect to registry.test: 502 Bad Gateway"},
		{"http", 503, "does not connect to registry.test: 503 Service Unavailable"},
		{"http", 0, "does not connect to registry.test: 503 Service Unavailable (ERR_CONNECT_FAIL 111)"},
		{"socks5", 403, "does not connect to registry.test: connection not allowed by ruleset"},
		{"socks5h", 0, "does not connect to registry.test: connection refused"},
	} {
		proxy := registrytest.StartProxy(t, registrytest.ProxyOptions{
			Resolve: map[string]string{"registry.test": closedPort(t)}, Refuse: test.refuse, User: "proxy user", Password: proxyCanary,
		})
		var trace lines
		err := openServer(t, s.Server, "registry.test", Options{Proxy: through(proxy.URL(test.scheme)), Trace: trace.add}).read(t)
		if !errors.Is(err, ErrProxy) || errors.Is(err, ErrProxyAuth) || !strings.HasSuffix(err.Error(), "the proxy "+proxy.Host()+" "+test.says) {
			t.Errorf("%s, %d: %v", test.scheme, test.refuse, err)
			continue
		}
		expectNoProxyCredential(t, err.Error()+trace.String())
	}
}

// closedPort is an address where nothing listens.
func closedPort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// refusing is the address of a server that answers everything as one of HTTP.
func refusing(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 100))
			_, _ = io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\n\r\n")
			_ = conn.Close()
		}
	}()
	return listener.Addr().String()
}

func TestProxyWantsOtherSchemes(t *testing.T) {
	for _, secure := range []bool{true, false} {
		proxy := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Proxy-Authenticate"] = []string{"Negotiate", "NTLM"}
			w.WriteHeader(http.StatusProxyAuthRequired)
		})
		reference := referenceTo("registry.test")
		reference.Scheme = map[bool]string{true: "https", false: "http"}[secure]
		r, err := Open(reference, Options{Proxy: through(mustParse(t, proxy.URL))})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Manifest(t.Context(), "v1"); !errors.Is(err, ErrProxyAuth) || !strings.Contains(err.Error(), "wants to be shown negotiate or ntlm") {
			t.Errorf("got %v", err)
		}
	}
}

func TestProxyCannotBeReached(t *testing.T) {
	user := url.UserPassword("proxy user", proxyCanary)
	tlsServer := httptest.NewTLSServer(http.HandlerFunc(manifestHandler))
	defer tlsServer.Close()
	tlsServer.Config.ErrorLog = discardLog
	plain := serve(t, manifestHandler)
	closed, blunt := closedPort(t), refusing(t)
	for _, test := range []struct {
		proxy url.URL
		is    error
		says  string
	}{
		{url.URL{Scheme: "http", Host: closed}, ErrRefused, "the proxy " + closed + ": connection refused"},
		{url.URL{Scheme: "https", Host: closed}, ErrRefused, "the proxy " + closed + ": connection refused"},
		{url.URL{Scheme: "socks5", Host: closed}, ErrRefused, "the proxy " + closed + ": connection refused"},
		{url.URL{Scheme: "https", Host: host(tlsServer)}, ErrCertificate, "the proxy " + host(tlsServer) + ": the certificate is not trusted: it is self-signed"},
		{url.URL{Scheme: "https", Host: host(plain)}, ErrPlainHTTP, "the proxy " + host(plain) + ": the server speaks HTTP, not HTTPS"},
		{url.URL{Scheme: "socks5", Host: blunt}, ErrProxy, "the proxy " + blunt + " does not connect to registry.test: unexpected protocol version"},
		{url.URL{Scheme: "gopher", Host: "p.test"}, ErrProxy, "it is not host:port or a URL"},
		{url.URL{Scheme: "http"}, ErrProxy, "it is not host:port or a URL"},
	} {
		test.proxy.User = user
		var trace lines
		_, err := openBare(t, "registry.test", Options{
			Proxy: through(&test.proxy), Trace: trace.add, Retries: 3,
			// The registry's word does not hold for the proxy.
			Hosts: known(map[string]hosts.Host{"registry.test": {Insecure: true}}),
		}).Manifest(t.Context(), "v1")
		if !errors.Is(err, ErrProxy) || !errors.Is(err, test.is) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s on %s: %v", test.proxy.Scheme, test.proxy.Host, err)
			continue
		}
		expectNoProxyCredential(t, err.Error()+trace.String())
	}
	// Whatever a chooser says in its errors may be a secret.
	_, err := openBare(t, "registry.test", Options{
		Proxy: func(*http.Request) (*url.URL, error) { return nil, errors.New("no proxy " + canary) },
	}).Manifest(t.Context(), "v1")
	if !errors.Is(err, ErrProxy) || strings.Contains(err.Error(), canary) {
		t.Errorf("got %v", err)
	}
}

// Where a proxy on plain HTTP repeats what it was shown, that is not passed on.
func TestProxyEchoesPassword(t *testing.T) {
	proxy := serve(t, func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, "no "+req.Header.Get("Proxy-Authorization")+" "+proxyCanary)
	})
	u := mustParse(t, proxy.URL)
	u.User = url.UserPassword("proxy user", proxyCanary)
	reference := referenceTo("registry.test")
	reference.Scheme = "http"
	var trace lines
	r, err := Open(reference, Options{Proxy: through(u), Trace: trace.add})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = r.Manifest(t.Context(), "v1"); err == nil || !strings.Contains(err.Error(), "no Basic *** ***") {
		t.Errorf("got %v", err)
	}
	expectNoProxyCredential(t, err.Error()+trace.String())
}

// A proxy that reads along shows certificates of its own.
func TestInterceptingProxy(t *testing.T) {
	s := newStage(t, true, registrytest.Options{})
	proxy := registrytest.StartProxy(t, registrytest.ProxyOptions{Resolve: s.resolve()})
	opts := Options{Proxy: through(proxy.URL("http")), Credentials: given("me", canary)}
	err := openServer(t, s.Server, "registry.test", opts).read(t)
	if !errors.Is(err, ErrCertificate) || errors.Is(err, ErrProxy) || !strings.HasSuffix(err.Error(), `signed by an unknown authority, "registrytest CA" (through the proxy `+proxy.Host()+")") {
		t.Errorf("got %v", err)
	}
	ca := file(t, "ca.pem", s.CAPEM())
	opts.Hosts = func(string) (hosts.Host, error) { return hosts.Host{CAFiles: []string{ca}}, nil }
	if err := openServer(t, s.Server, "registry.test", opts).read(t); err != nil {
		t.Error(err)
	}
}

// Certificates of ours are for the registry, not for a proxy before it.
func TestClientCertificateThroughProxy(t *testing.T) {
	s := newStage(t, true, registrytest.Options{ClientCerts: true})
	proxy := registrytest.StartProxy(t, registrytest.ProxyOptions{Resolve: s.resolve(), TLS: true})
	certificate, key := s.ClientPEM()
	pair := hosts.KeyPair{CertFile: file(t, "client.cert", certificate), KeyFile: file(t, "client.key", key)}
	opts := Options{Proxy: through(proxy.URL("https")), Credentials: given("me", canary), Hosts: known(map[string]hosts.Host{
		"registry.test": {CAFiles: []string{file(t, "ca.pem", s.CAPEM())}, KeyPairs: []hosts.KeyPair{pair}},
		proxy.Host():    {CAFiles: []string{file(t, "proxy.pem", proxy.CAPEM())}},
	})}
	r := openServer(t, s.Server, "registry.test", opts)
	if err := r.read(t); err != nil {
		t.Fatal(err)
	}
	if s.Count(func(r registrytest.Request) bool { return r.Listener == registrytest.Registry && r.ClientCert == "" }) > 0 ||
		s.Count(func(r registrytest.Request) bool { return r.Listener != registrytest.Registry && r.ClientCert != "" }) > 0 {
		t.Error("the certificate was shown to others than the registry")
	}
	if n := proxy.ClientCerts(); n != 0 {
		t.Errorf("the proxy was shown %d certificates", n)
	}
	opts.Hosts = known(map[string]hosts.Host{
		"registry.test": {CAFiles: []string{file(t, "ca.pem", s.CAPEM())}},
		proxy.Host():    {CAFiles: []string{file(t, "proxy.pem", proxy.CAPEM())}},
	})
	if err := openServer(t, s.Server, "registry.test", opts).read(t); !errors.Is(err, ErrClientCertificate) || !strings.Contains(err.Error(), "through the proxy") {
		t.Errorf("without: %v", err)
	}
}

func TestSOCKSProxyIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, said := range []string{"\x05\x01\x00", "\x16\x03\x01"} { // to the proxy; to the host behind it
			ours, theirs := net.Pipe()
			conn := newSOCKSConn(ours)
			go func() {
				_, _ = bufio.NewReader(theirs).ReadString(said[len(said)-1])
				time.Sleep(2 * proxyTimeout)
				_ = theirs.Close()
			}()
			begin := time.Now()
			if _, err := conn.Write([]byte(said)); err != nil {
				t.Fatal(err)
			}
			_, err := conn.Read(make([]byte, 1))
			took := time.Since(begin)
			if said[0] == 5 && (!errors.Is(err, errProxySilent) || took != proxyTimeout) || said[0] != 5 && (!errors.Is(err, io.EOF) || took != 2*proxyTimeout) {
				t.Errorf("%q: %v after %v", said, err, took)
			}
			_ = conn.Close()
			synctest.Wait()
		}
	})
	c := knowing(t, nil, nil)
	proxy := mustParse(t, "socks5://me:"+canary+"@p.test:1080")
	for _, err := range []error{&net.OpError{Op: "socks connect", Err: errProxySilent}, context.DeadlineExceeded} {
		f := c.diagnose(mustParse(t, "https://registry.test"), &wayError{err, proxy})
		if f.message != "the proxy p.test:1080 does not connect to registry.test within 1m0s" || !slices.Contains(f.causes, ErrProxy) {
			t.Errorf("%v: %+v", err, f)
		}
	}
	if f := c.diagnose(mustParse(t, "https://registry.test"), &wayError{lateHeader{}, proxy}); slices.Contains(f.causes, ErrProxy) || !strings.Contains(f.message, "no answer within 30s (through") {
		t.Errorf("%+v", f)
	}
}

// lateHeader is like net/http's.
type lateHeader struct{}

func (lateHeader) Error() string        { return "net/http: timeout awaiting response headers" }
func (lateHeader) Timeout() bool        { return true }
func (lateHeader) Temporary() bool      { return true }
func (lateHeader) Is(target error) bool { return target == context.DeadlineExceeded }
