package registry

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/davit-cli/davit/hosts"
	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/registrytest"
	"github.com/davit-cli/davit/ref"
)

func hostIs(h hosts.Host) func(string) (hosts.Host, error) {
	return func(string) (hosts.Host, error) { return h, nil }
}

// openIn opens a repository of server in a session, by its address alone.
func openIn(t *testing.T, s *Session, server *httptest.Server, repository string) *Repository {
	t.Helper()
	r, err := s.Open(ref.Reference{Registry: host(server), Repository: repository})
	if err != nil {
		t.Fatal(err)
	}
	prepare(t, r, server)
	return r
}

func TestSessionSharesConnectionsAndScheme(t *testing.T) {
	var connections atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(manifestHandler))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	var trace lines
	s := NewSession(Options{Trace: trace.add})
	first, second := openIn(t, s, server, "team/app"), openIn(t, s, server, "team/other")
	for _, r := range []*Repository{first, second} {
		if _, err := r.Manifest(t.Context(), "v1"); err != nil {
			t.Fatal(err)
		}
	}
	if err := first.Close(); err != nil { // while the other is open
		t.Fatal(err)
	}
	if _, err := second.Manifest(t.Context(), "v1"); err != nil {
		t.Error(err)
	}
	// One that found out that there is no TLS, and one for all that followed.
	if n := connections.Load(); n != 2 || strings.Count(trace.String(), "GET https://") != 1 {
		t.Errorf("%d connections\n%s", n, trace.String())
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := second.Manifest(t.Context(), "v1"); err != nil || connections.Load() != 3 {
		t.Errorf("after Close: %d connections, %v", connections.Load(), err)
	}
}

func TestHowHostIsReached(t *testing.T) {
	const name = "registry.test:5000"
	for _, test := range []struct {
		what    string
		opts    Options
		at      hosts.Host
		written string
		scheme  string // that is spoken first
		settled bool
		lax     bool
		says    string // an error
	}{
		{"nothing", Options{}, hosts.Host{}, "", "https", true, false, ""},
		{"plain by option", Options{PlainHTTP: true}, hosts.Host{}, "", "http", true, false, ""},
		{"plain by configuration", Options{Hosts: hostIs(hosts.Host{Scheme: "http", Source: "hosts.toml"})}, hosts.Host{}, "", "http", true, false, ""},
		{"HTTPS by configuration", Options{Hosts: hostIs(hosts.Host{Scheme: "https", Insecure: true, Plain: true})}, hosts.Host{}, "", "https", true, true, ""},
		{"insecure by configuration", Options{Hosts: hostIs(hosts.Host{Insecure: true})}, hosts.Host{}, "", "https", true, true, ""},
		{"plain allowed by configuration", Options{Hosts: hostIs(hosts.Host{Insecure: true, Plain: true})}, hosts.Host{}, "", "https", false, true, ""},
		{"insecure by option", Options{Insecure: true}, hosts.Host{}, "", "https", true, true, ""},
		{"URL", Options{Hosts: hostIs(hosts.Host{Insecure: true})}, hosts.Host{}, "https", "https", true, true, ""},
		{"endpoint", Options{}, hosts.Host{Scheme: "http"}, "", "http", true, false, ""},
		{"endpoint before option", Options{PlainHTTP: true}, hosts.Host{Scheme: "https"}, "", "https", true, false, ""},
		{"endpoint before configuration", Options{Hosts: hostIs(hosts.Host{Scheme: "http"})}, hosts.Host{Scheme: "https"}, "", "https", true, false, ""},
		{"endpoint beside configuration", Options{Hosts: hostIs(hosts.Host{Scheme: "http"})}, hosts.Host{Insecure: true}, "", "http", true, true, ""},

		{"option against URL", Options{PlainHTTP: true}, hosts.Host{}, "https", "", false, false, "the reference is an https:// URL"},
		{"option against configuration", Options{PlainHTTP: true, Hosts: hostIs(hosts.Host{Scheme: "https", Source: "hosts.toml"})}, hosts.Host{}, "", "", false, false, "hosts.toml says https"},
		{"configuration against URL", Options{Hosts: hostIs(hosts.Host{Scheme: "http", Source: "hosts.toml"})}, hosts.Host{}, "https", "", false, false, "(hosts.toml), but the reference is"},
		{"URL against configuration", Options{Hosts: hostIs(hosts.Host{Scheme: "https", Source: "hosts.toml"})}, hosts.Host{}, "http", "", false, false, "hosts.toml says https"},
	} {
		t.Run(test.what, func(t *testing.T) {
			r, err := NewSession(test.opts).open(hosts.Endpoint{Registry: name, Repository: "app", Host: test.at}, test.written)
			if test.says != "" {
				if err == nil || !strings.Contains(err.Error(), test.says) || !strings.HasPrefix(err.Error(), "open repository registry.test:5000/app: ") {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			c := r.client
			lax := c.transports.reached.Insecure
			if c.scheme.now() != test.scheme || c.scheme.settled.Load() != test.settled || lax != test.lax {
				t.Errorf("%s, settled: %v, insecure: %v", c.scheme.now(), c.scheme.settled.Load(), lax)
			}
		})
	}
}

// What an endpoint says of its host stands beside what Options.Hosts says, and
// reaches whoever asks how the host is reached.
func TestEndpointBesideConfiguration(t *testing.T) {
	asked := ""
	own, theirs := caFile(t), caFile(t)
	s := NewSession(Options{Hosts: func(host string) (hosts.Host, error) {
		asked = host
		return hosts.Host{CAFiles: []string{theirs}, Source: "certs.d"}, nil
	}})
	r, err := s.OpenEndpoint(hosts.Endpoint{Registry: "Mirror.test", Repository: "app", Host: hosts.Host{Insecure: true, CAFiles: []string{own}, Source: "registries.conf"}})
	if err != nil {
		t.Fatal(err)
	}
	got, err := r.client.opts.Hosts("mirror.test")
	if err != nil || asked != "mirror.test" || !got.Insecure || got.Source != "registries.conf" || !slices.Equal(got.CAFiles, []string{own, theirs}) {
		t.Errorf("%+v, asked for %s, %v", got, asked, err)
	}
	if other, err := r.client.opts.Hosts("cdn.test"); err != nil || other.Source != "certs.d" || asked != "cdn.test" {
		t.Errorf("another host: %+v, %v", other, err)
	}
	// Docker Hub is asked for as its URLs have it.
	if _, err := s.Open(ref.Reference{Registry: "docker.io", Repository: "library/alpine"}); err != nil || asked != "registry-1.docker.io" {
		t.Errorf("asked for %s, %v", asked, err)
	}
}

func TestHostsThatCannotBeRead(t *testing.T) {
	broken := errors.New("hosts.toml: line 3")
	_, err := Open(referenceTo("registry.test"), Options{Hosts: func(string) (hosts.Host, error) { return hosts.Host{}, broken }})
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), "open repository registry.test/team/app: find how registry.test is reached: ") {
		t.Errorf("got %v", err)
	}
}

// A host that is reached in two ways has a client for each.
func TestSessionKeepsSettingsApart(t *testing.T) {
	s := NewSession(Options{})
	open := func(at hosts.Endpoint) *client {
		r, err := s.OpenEndpoint(at)
		if err != nil {
			t.Fatal(err)
		}
		return r.client
	}
	first := open(hosts.Endpoint{Registry: "registry.test", Repository: "a"})
	if first != open(hosts.Endpoint{Registry: "Registry.test", Repository: "b"}) {
		t.Error("the same host, reached in the same way, has two clients")
	}
	for _, h := range []hosts.Host{{Scheme: "http"}, {Insecure: true}, {CAFiles: []string{caFile(t)}}, {Plain: true}} {
		if first == open(hosts.Endpoint{Registry: "registry.test", Repository: "c", Host: h}) {
			t.Errorf("%+v makes no difference", h)
		}
	}
	if first == open(hosts.Endpoint{Registry: "registry.test:5000", Repository: "a"}) {
		t.Error("the port makes no difference")
	}
}

func TestInsecureByConfigurationSpeaksHTTP(t *testing.T) {
	server := serve(t, manifestHandler)
	var sent events
	var trace lines
	s := NewSession(Options{Hosts: hostIs(hosts.Host{Insecure: true, Plain: true, Source: "daemon.json"}), Events: sent.add, Trace: trace.add})
	for _, name := range []string{"app", "other"} {
		r, err := s.Open(ref.Reference{Registry: "registry.test:5000", Repository: name})
		if err != nil {
			t.Fatal(err)
		}
		dialTo(r, server, "203.0.113.5")
		if _, err := r.Manifest(t.Context(), "v1"); err != nil {
			t.Fatal(err)
		}
	}
	warnings := sent.of(image.EventWarning)
	if len(warnings) != 2 || !strings.Contains(warnings[0].Text, "certificate of registry.test:5000 is not checked (daemon.json)") ||
		!strings.Contains(warnings[1].Text, "registry.test:5000 does not speak TLS; going on in plain HTTP (daemon.json)") {
		t.Errorf("warnings %v", warnings)
	}
	if strings.Count(trace.String(), "GET https://") != 1 {
		t.Errorf("HTTPS was not found out once:\n%s", trace.String())
	}
}

// A host that speaks TLS is not asked in plain HTTP, insecure or not.
func TestInsecureKeepsTLS(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if conn, _, err := w.(http.Hijacker).Hijack(); err == nil {
			_ = conn.Close()
		}
	}))
	defer server.Close()
	server.Config.ErrorLog = discardLog
	var trace lines
	r := openBare(t, host(server), Options{Hosts: hostIs(hosts.Host{Insecure: true, Plain: true}), Trace: trace.add, Retries: -1})
	if _, err := r.Manifest(t.Context(), "v1"); err == nil || !strings.Contains(err.Error(), "the connection was cut") || strings.Contains(trace.String(), "http://") {
		t.Errorf("%v\n%s", err, trace.String())
	}
}

func TestHTTPSByConfigurationNeverFalls(t *testing.T) {
	server := serve(t, manifestHandler)
	for _, h := range []hosts.Host{{Scheme: "https"}, {Scheme: "https", Insecure: true}} {
		var trace lines
		r := openIn(t, NewSession(Options{Hosts: hostIs(h), Trace: trace.add}), server, "team/app")
		if _, err := r.Manifest(t.Context(), "v1"); !errors.Is(err, ErrPlainHTTP) || strings.Contains(trace.String(), "http://") {
			t.Errorf("%+v: %v\n%s", h, err, trace.String())
		}
	}
	// Insecure as an option is of certificates alone.
	r := openBare(t, "registry.test:5000", Options{Insecure: true})
	if !r.client.scheme.settled.Load() {
		t.Error("the option lets a host be asked in plain HTTP")
	}
}

func TestRoute(t *testing.T) {
	reference := ref.Reference{Registry: "registry.test", Repository: "team/app", Scheme: "http"}
	route, err := NewSession(Options{}).Route(reference)
	if err != nil || route.Origin.Registry != "registry.test" || route.Origin.Repository != "team/app" || route.Origin.Host.Scheme != "http" || len(route.Mirrors) != 0 {
		t.Errorf("no routes: %+v, %v", route, err)
	}
	var answer hosts.Route
	var broken error
	s := NewSession(Options{Routes: func(registry, repository string) (hosts.Route, error) {
		if registry != "registry.test" || repository != "team/app" {
			t.Errorf("asked for %s/%s", registry, repository)
		}
		return answer, broken
	}})
	answer.Mirrors = []hosts.Endpoint{{Registry: "mirror.test", Repository: "x/team/app"}}
	if route, err = s.Route(reference); err != nil || len(route.Mirrors) != 1 || route.Origin.Registry != "registry.test" || route.Mirrors[0].Host.Scheme != "" {
		t.Errorf("a mirror: %+v, %v", route, err)
	}
	answer.Origin = hosts.Endpoint{Registry: "elsewhere.test", Repository: "app"}
	if route, err = s.Route(reference); err != nil || route.Origin.Registry != "elsewhere.test" || route.Origin.Host.Scheme != "" {
		t.Errorf("another origin: %+v, %v", route, err)
	}
	answer.Origin = hosts.Endpoint{Registry: "registry.test", Repository: "team/app", Host: hosts.Host{Scheme: "https", Source: "registries.conf"}}
	if _, err = s.Route(reference); err == nil || !strings.Contains(err.Error(), "registries.conf says https") {
		t.Errorf("another scheme: %v", err)
	}
	answer = hosts.Route{Blocked: "/etc/containers/registries.conf"}
	if _, err = s.Route(reference); !errors.Is(err, ErrBlocked) || !strings.Contains(err.Error(), "/etc/containers/registries.conf") || !strings.Contains(err.Error(), "registry.test/team/app") {
		t.Errorf("blocked: %v", err)
	}
	broken = errors.New("registries.conf: line 3")
	if _, err = s.Route(reference); !errors.Is(err, broken) || !strings.Contains(err.Error(), "registry.test/team/app") {
		t.Errorf("broken: %v", err)
	}
}

// caFile is a file with a CA in it.
func caFile(t *testing.T) string {
	t.Helper()
	server := registrytest.Start(t, registrytest.Options{TLS: true})
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, server.CAPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
