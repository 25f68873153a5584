package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/davit-cli/davit/hosts"
	"github.com/davit-cli/davit/internal/registrytest"
	"github.com/davit-cli/davit/ref"
)

var discardLog = log.New(io.Discard, "", 0)

// dialTo leads every connection of r's to server, but makes it look as if it
// were one to address.
func dialTo(r *Repository, server *httptest.Server, address string) {
	r.client.transports.dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, host(server))
		if err != nil {
			return nil, err
		}
		return posing{conn, netip.AddrPortFrom(netip.MustParseAddr(address), 443)}, nil
	}
}

type posing struct {
	net.Conn
	address netip.AddrPort
}

func (c posing) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.address) }

func TestRealmPolicy(t *testing.T) {
	for _, test := range []struct {
		registry, scheme, address, realm string
		allowed                          bool
	}{
		// Other hosts, as Docker Hub and GitLab have them.
		{"docker.io", "", "52.1.2.3", "https://auth.docker.io/token", true},
		{"registry.gitlab.example", "", "10.0.0.5", "https://gitlab.example/jwt/auth", true},
		{"registry.example", "", "10.0.0.5", "https://10.0.0.6/token", true},
		{"registry.example", "", "52.1.2.3", "https://10.0.0.6/token", true},
		{"registry.example:5000", "", "52.1.2.3", "https://registry.example:8443/token", true},
		{"registry.example", "http", "10.0.0.5", "http://auth.example/token", true},
		{"registry.example", "http", "10.0.0.5", "https://auth.example/token", true},
		{"localhost:5000", "", "127.0.0.1", "https://localhost:5001/token", true},
		{"localhost:5000", "", "::1", "https://127.0.0.1:5001/token", true},
		{"127.0.0.1:5000", "http", "127.0.0.1", "http://localhost/token", true},
		{"myhost:5000", "http", "127.0.1.1", "http://127.0.0.1:5001/token", true},
		{"[fe80::1]:5000", "http", "fe80::1", "http://[fe80::2]/token", true},
		{"[fe80::1]:5000", "http", "", "http://[fe80::2]/token", true},

		{"registry.example", "", "52.1.2.3", "http://auth.example/token", false},
		{"registry.example", "", "52.1.2.3", "ftp://auth.example/token", false},
		{"registry.example", "", "52.1.2.3", "/token", false},
		{"registry.example", "", "52.1.2.3", "", false},
		{"registry.example", "", "52.1.2.3", "https://%zz/", false},
		{"registry.example", "", "52.1.2.3", "https://user:pass@auth.example/token", false},
		{"registry.example", "", "52.1.2.3", "https://localhost/token", false},
		{"registry.example", "", "52.1.2.3", "https://localhost./token", false},
		{"registry.example", "", "52.1.2.3", "https://x.localhost/token", false},
		{"registry.example", "", "52.1.2.3", "https://127.0.0.1/token", false},
		{"registry.example", "", "52.1.2.3", "https://127.9.9.9/token", false},
		{"registry.example", "", "52.1.2.3", "https://[::1]/token", false},
		{"registry.example", "", "52.1.2.3", "https://[::ffff:127.0.0.1]/token", false},
		{"registry.example", "", "52.1.2.3", "https://[64:ff9b::7f00:1]/token", false},
		{"registry.example", "", "52.1.2.3", "https://0.0.0.0/token", false},
		{"registry.example", "", "52.1.2.3", "https://[::]/token", false},
		{"registry.example", "", "52.1.2.3", "https://2130706433/token", false},
		{"registry.example", "", "52.1.2.3", "https://0x7f000001/token", false},
		{"registry.example", "", "52.1.2.3", "https://127.1/token", false},
		{"registry.example", "", "52.1.2.3", "https://169.254.1.1/token", false},
		{"registry.example", "", "52.1.2.3", "https://[fe80::1]/token", false},
		{"registry.example", "", "52.1.2.3", "https://169.254.169.254/token", false},
		{"registry.example", "", "52.1.2.3", "https://[fd00:ec2::254]/token", false},
		{"registry.example", "", "52.1.2.3", "https://metadata.google.internal/token", false},
		{"registry.example", "", "52.1.2.3", "https://224.0.0.1/token", false},
		{"registry.example", "", "169.254.1.1", "https://169.254.169.254/token", false},
		{"registry.example", "", "127.0.0.1", "https://169.254.1.1/token", false},
		{"registry.example", "", "", "https://127.0.0.1/token", false},
		{"localhost:5000", "http", "", "http://169.254.169.254/token", false},
	} {
		r, err := Open(ref.Reference{Registry: test.registry, Repository: "app", Scheme: test.scheme}, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if test.address != "" {
			address := netip.MustParseAddr(test.address)
			r.client.address.Store(&address)
		}
		_, err = r.client.realm(challenge{"bearer", map[string]string{"realm": test.realm}})
		if (err == nil) != test.allowed {
			t.Errorf("registry %s on %s, realm %s: %v", test.registry, test.address, test.realm, err)
		}
		if err != nil && (!errors.Is(err, ErrRealm) || strings.Contains(err.Error(), "user:pass")) {
			t.Errorf("realm %s: %v", test.realm, err)
		}
	}
}

// A name may resolve to what it must not: the address is checked when it is
// dialed.
func TestRealmIsCheckedWhenDialed(t *testing.T) {
	realm := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"token":"x"}`) })
	r := openBare(t, "registry.test", Options{})
	address := netip.MustParseAddr("203.0.113.5")
	r.client.address.Store(&address)
	get := func() error {
		// The address itself stands for a name here: RoundTrip knows no policy
		// but the dialer's.
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, realm.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := r.client.sendToRealm("get token", req)
		if err == nil {
			discard(resp)
		}
		return err
	}
	if err := get(); !errors.Is(err, ErrRealm) || !strings.Contains(err.Error(), "loopback") || strings.Contains(err.Error(), "\n") {
		t.Errorf("from elsewhere: %v", err)
	}
	address = netip.MustParseAddr("127.0.0.2")
	r.client.address.Store(&address)
	if err := get(); err != nil {
		t.Errorf("from loopback: %v", err)
	}
}

// The whole way: a registry out there that names a realm here.
func TestCredentialStaysAwayFromHostileRealms(t *testing.T) {
	inner := serve(t, func(_ http.ResponseWriter, req *http.Request) { t.Errorf("asked for %s", req.URL) })
	innerTLS := httptest.NewTLSServer(inner.Config.Handler)
	defer innerTLS.Close()
	for _, realm := range []string{inner.URL, innerTLS.URL, strings.Replace(innerTLS.URL, "127.0.0.1", "localhost", 1), "https://169.254.169.254/latest"} {
		server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if auth := req.Header.Get("Authorization"); auth != "" {
				t.Errorf("shown %q", auth)
			}
			w.Header().Set("WWW-Authenticate", fmt.Sprintf("Bearer realm=%q", realm))
			w.WriteHeader(http.StatusUnauthorized)
		}))
		r := openBare(t, "example.com", Options{Credentials: given("me", canary)}, server, innerTLS)
		dialTo(r, server, "203.0.113.5")
		if _, err := r.Manifest(t.Context(), "v1"); !errors.Is(err, ErrRealm) || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: %v", realm, err)
		}
		server.Close()
	}
}

// A proxy on loopback is the user's own choice; the realm behind it is told by
// its name.
func TestRealmThroughProxyOnLoopback(t *testing.T) {
	var mu sync.Mutex
	var seen []string
	proxy := serve(t, func(w http.ResponseWriter, req *http.Request) {
		mu.Lock()
		seen = append(seen, req.URL.Host)
		mu.Unlock()
		switch {
		case req.URL.Host == "auth.test":
			if _, password, _ := req.BasicAuth(); password != canary {
				t.Error("no credential at the realm")
			}
			_, _ = io.WriteString(w, `{"token":"granted"}`)
		case req.Header.Get("Authorization") == "Bearer granted":
			sendManifest(w)
		default:
			w.Header().Set("WWW-Authenticate", `Bearer realm="http://auth.test/token"`)
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	r, err := Open(ref.Reference{Registry: "registry.test", Repository: "team/app", Scheme: "http"}, Options{
		Credentials: given("me", canary), Proxy: http.ProxyURL(mustParse(t, proxy.URL)),
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Manifest(t.Context(), "v1"); err != nil {
		t.Error(err)
	}
	if got := strings.Join(seen, " "); got != "registry.test auth.test registry.test" {
		t.Errorf("the proxy was asked for %s", got)
	}
	if r.client.address.Load() != nil {
		t.Error("the proxy's address was taken for the registry's")
	}
}

// Where only plain HTTP goes through a proxy, the proxy's address is not taken
// for the registry's, which was first asked by HTTPS.
func TestRealmWhereOnlyHTTPHasAProxy(t *testing.T) {
	inner := serve(t, func(_ http.ResponseWriter, req *http.Request) { t.Errorf("asked for %s", req.URL) })
	server := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WWW-Authenticate", fmt.Sprintf("Bearer realm=%q", inner.URL))
		w.WriteHeader(http.StatusUnauthorized)
	})
	proxy := registrytest.StartProxy(t, registrytest.ProxyOptions{Resolve: map[string]string{"registry.test": host(server)}})
	r := openBare(t, "registry.test", Options{
		Credentials: given("me", canary), Hosts: hostIs(hosts.Host{Plain: true}),
		Proxy: func(req *http.Request) (*url.URL, error) {
			if req.URL.Host == "registry.test" && req.URL.Scheme == "http" {
				return proxy.URL("http"), nil
			}
			return nil, nil
		},
	})
	r.client.transports.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		if address == "registry.test:443" {
			address = host(server)
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	if _, err := r.Manifest(t.Context(), "v1"); !errors.Is(err, ErrRealm) || !strings.Contains(err.Error(), "loopback") {
		t.Errorf("got %v", err)
	}
}

// A registry found on loopback in plain HTTP is its own realm. The credential goes
// there only where the name still leads to loopback.
func TestRealmOfNameOfLoopbackElsewhere(t *testing.T) {
	for _, moves := range []bool{true, false} {
		server := serve(t, func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("Connection", "close")
			switch {
			case req.URL.Path == "/token":
				_, _ = io.WriteString(w, `{"token":"granted"}`)
			case req.Header.Get("Authorization") == "Bearer granted":
				sendManifest(w)
			default:
				w.Header().Set("WWW-Authenticate", `Bearer realm="http://x.localhost:5000/token"`)
				w.WriteHeader(http.StatusUnauthorized)
			}
		})
		r := openBare(t, "x.localhost:5000", Options{Credentials: given("me", canary), Retries: -1})
		var dials atomic.Int32
		r.client.transports.dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			if dials.Add(1) > 2 && moves { // HTTPS, HTTP
				return dialer(nil)(ctx, network, "192.0.2.1:80")
			}
			return dialer(nil)(ctx, network, host(server))
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		_, err := r.Manifest(ctx, "v1")
		cancel()
		if moved := err != nil && strings.Contains(err.Error(), "leads elsewhere now"); moved != moves || !moves && err != nil {
			t.Errorf("moves: %v; got %v", moves, err)
		}
	}
}
