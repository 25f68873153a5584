package registry

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/davit-cli/davit/internal/registrytest"
)

func TestTLSFinding(t *testing.T) {
	const days = 24 * time.Hour
	certificate := func(life, left time.Duration) *x509.Certificate {
		end := time.Now().Add(left)
		return &x509.Certificate{Issuer: pkix.Name{CommonName: "Corp CA"}, NotBefore: end.Add(-life), NotAfter: end}
	}
	root := &x509.Certificate{Subject: pkix.Name{Organization: []string{"Corp"}}}
	far, near := certificate(90*days, 60*days), certificate(90*days, 5*days+time.Hour)
	short, shortNear := certificate(6*days, 5*days), certificate(6*days, days)
	state := func(leaf *x509.Certificate, chain ...*x509.Certificate) *tls.ConnectionState {
		s := &tls.ConnectionState{Version: tls.VersionTLS13, PeerCertificates: []*x509.Certificate{leaf}}
		if len(chain) > 0 {
			s.VerifiedChains = [][]*x509.Certificate{chain}
		}
		return s
	}
	for _, test := range []struct {
		url    string
		state  *tls.ConnectionState
		status Status
		text   string
	}{
		{"https://registry.test/", state(far, far, root), StatusOK, `TLS 1.3, signed by "Corp CA", good until ` + far.NotAfter.UTC().Format(time.DateOnly)},
		{"https://registry.test/", state(far, far, root, root), StatusOK, `TLS 1.3, signed by "Corp CA" under "Corp", good until `},
		{"https://registry.test/", state(near, near, root), StatusWarning, ", which is soon"},
		{"https://registry.test/", state(short, short, root), StatusOK, ", good until "},
		{"https://registry.test/", state(shortNear, shortNear, root), StatusWarning, ", which is soon"},
		{"https://registry.test/", state(far), StatusWarning, `signed by "Corp CA", which is not checked`},
		{"http://registry.test/", nil, StatusWarning, "none: plain HTTP, which anybody"},
		{"http://localhost:5000/", nil, StatusOK, "none: plain HTTP"},
		{"http://[::1]:5000/", nil, StatusOK, "none: plain HTTP"},
	} {
		f := leg{trip: &trip{url: mustParse(t, test.url), state: test.state}}.tls()
		if f.Status != test.status || !strings.Contains(f.Text, test.text) {
			t.Errorf("%s: %s: %q, want %s: %q", test.url, f.Status, f.Text, test.status, test.text)
		}
	}
}

// Which hop a failure is laid to, by what was seen of the trip and what the
// client made of its error.
func TestFailing(t *testing.T) {
	because := func(causes ...error) error { return &Error{Message: "why", causes: causes} }
	refused := []dial{{address: "192.0.2.1:443", err: errors.New("refused")}}
	connected := []dial{{address: "192.0.2.1:443"}}
	for _, test := range []struct {
		name string
		leg  leg
		want Hop
	}{
		{"nothing", leg{trip: &trip{dials: refused}}, ""},
		{"no proxy to be known", leg{trip: &trip{}, proxyErr: errors.New("x"), err: because()}, HopProxy},
		{"proxy", leg{trip: &trip{dials: refused}, err: because(ErrRefused, ErrProxy)}, HopProxy},
		{"name", leg{trip: &trip{lookups: []lookup{{err: errors.New("x")}}}, err: because(ErrUnreachable)}, HopName},
		{"unknown name", leg{trip: &trip{}, err: because(ErrUnknownHost)}, HopName},
		{"tcp", leg{trip: &trip{dials: refused}, err: because(ErrRefused)}, HopTCP},
		{"certificate", leg{trip: &trip{dials: connected}, err: because(ErrCertificate)}, HopTLS},
		{"client certificate", leg{trip: &trip{dials: connected}, err: because(ErrClientCertificate)}, HopTLS},
		{"cut in the handshake", leg{trip: &trip{dials: connected, handshake: new(handshake)}, err: because()}, HopTLS},
		{"cut behind it", leg{trip: &trip{dials: connected, handshake: &handshake{done: true}}, err: because()}, ""},
		{"cut", leg{trip: &trip{dials: connected}, err: because()}, ""},
	} {
		if got := test.leg.failing(); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

func TestTCPFinding(t *testing.T) {
	u := mustParse(t, "https://registry.test/")
	timeout := &net.OpError{Op: "dial", Err: &timeoutError{}}
	f := leg{trip: &trip{url: u, dials: []dial{
		{address: "[2001:db8::1]:443", err: timeout}, {address: "192.0.2.1:443", took: 12 * time.Millisecond},
	}}}.tcp()
	if f.Text != "192.0.2.1:443 in 12 ms, but not [2001:db8::1]:443: no answer" || f.Status != StatusOK {
		t.Errorf("%s: %s", f.Status, f.Text)
	}
	f = leg{trip: &trip{url: u, dials: []dial{
		{address: "[2001:db8::1]:443", err: timeout}, {address: "192.0.2.1:443", err: errors.New("on fire")},
	}}, err: &Error{Message: "why"}}.tcp()
	if f.Text != "[2001:db8::1]:443: no answer; 192.0.2.1:443: on fire" {
		t.Errorf("%s", f.Text)
	}
}

type timeoutError struct{}

func (*timeoutError) Error() string   { return "timeout" }
func (*timeoutError) Timeout() bool   { return true }
func (*timeoutError) Temporary() bool { return false }

// A Date is in whole seconds, and an answer may be long under way: neither makes
// a difference of clocks.
func TestClocks(t *testing.T) {
	started := time.Date(2026, 11, 21, 12, 0, 0, 700e6, time.UTC)
	for _, test := range []struct {
		date   string
		took   time.Duration
		status Status
		text   string
	}{
		{"Sat, 21 Nov 2026 12:00:00 GMT", time.Second / 10, StatusOK, "the same as ours"},
		{"Sat, 21 Nov 2026 12:00:01 GMT", time.Second / 2, StatusOK, "the same as ours"},
		{"Sat, 21 Nov 2026 12:01:30 GMT", 2 * time.Minute, StatusOK, "the same as ours"},
		{"Sat, 21 Nov 2026 12:00:01 GMT", 2 * time.Minute, StatusOK, "the same as ours"},
		{"Sat, 21 Nov 2026 12:00:31 GMT", time.Second / 10, StatusOK, "31s ahead of ours"},
		{"Sat, 21 Nov 2026 11:59:31 GMT", time.Second / 10, StatusOK, "29s behind ours"},
		{"Sat, 21 Nov 2026 11:59:00 GMT", time.Second / 10, StatusOK, "1m behind ours"},
		{"Sat, 21 Nov 2026 11:58:00 GMT", time.Second / 10, StatusWarning, "2m behind ours: tokens"},
		{"Sat, 21 Nov 2026 12:02:00 GMT", time.Second / 10, StatusWarning, "2m ahead of ours: tokens"},
		{"Sun, 22 Nov 2026 12:00:00 GMT", time.Second / 10, StatusWarning, "24h ahead of ours: tokens"},
	} {
		d := diagnosed{t: t}
		e := &examination{diagnosis: &diagnosis{report: func(f Finding) { d.findings = append(d.findings, f) }}, host: "registry.test"}
		e.met(&trip{url: &url.URL{Host: "registry.test"}, started: started, answered: started.Add(test.took), header: http.Header{"Date": {test.date}}})
		e.clocks()
		d.want(HopClock, test.status, test.text)
		if wrong := test.status == StatusWarning; wrong != errors.Is(d.findings[0].Err, ErrClock) || e.err != nil {
			t.Errorf("%s: errors %v, %v", test.date, d.findings[0].Err, e.err)
		}
	}
	// Without a date nothing is said.
	e := &examination{diagnosis: &diagnosis{report: func(f Finding) { t.Errorf("%+v", f) }}}
	e.met(&trip{url: new(url.URL), header: http.Header{"Date": {"yesterday"}}})
	e.clocks()
}

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 31 * time.Second: "31s", time.Minute: "1m", 90 * time.Second: "1m30s", 6 * time.Hour: "6h", 6*time.Hour + time.Second: "6h0m1s",
		10 * time.Minute: "10m", 20 * time.Hour: "20h",
	} {
		if got := span(d); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
	for d, want := range map[time.Duration]string{0: "less than 1 ms", 12345 * time.Microsecond: "12 ms", 2340 * time.Millisecond: "2.3 s"} {
		if got := short(d); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}

// Through proxies of each kind: the hops name and tcp are the proxy's.
func TestDiagnoseProxy(t *testing.T) {
	s := registrytest.Start(t, registrytest.Options{Redirect: &registrytest.Redirect{}})
	s.Push("team/app", "v1", registrytest.Image{})
	proxy := registrytest.StartProxy(t, registrytest.ProxyOptions{
		User: "proxyuser", Password: canary,
		Resolve: map[string]string{"registry.test": s.Host()},
	})
	for _, scheme := range []string{"http", "socks5"} {
		through, err := ProxyURL(proxy.URL(scheme).String(), "")
		if err != nil {
			t.Fatal(err)
		}
		d := diagnose(t, "http://registry.test/team/app:v1", Options{Proxy: through})
		if d.err != nil {
			t.Errorf("error %v\n%s", d.err, d)
		}
		if f := d.at(HopProxy, "registry.test", ""); f.Status != StatusOK || f.Text != scheme+"://"+proxy.Host() {
			t.Errorf("%s: %s", f.Status, f.Text)
		}
		if f := d.at(HopTCP, "", ""); f.Host != proxy.Host() || f.Details["address"] != proxy.Host() {
			t.Errorf("connected to %s at %s", f.Host, f.Text)
		}
		if f := d.at(HopProxy, s.HostOf(registrytest.CDN), ""); f.Status != StatusOK || f.Text != scheme+"://"+proxy.Host() {
			t.Errorf("%s: %s", f.Status, f.Text)
		}
		if strings.Contains(d.String(), "proxyuser") {
			t.Errorf("the proxy's user is shown:\n%s", d)
		}

		wrong := proxy.URL(scheme)
		wrong.User = url.UserPassword("proxyuser", "wrong-"+canary)
		if through, err = ProxyURL(wrong.String(), ""); err != nil {
			t.Fatal(err)
		}
		d = diagnose(t, "http://registry.test/team/app:v1", Options{Proxy: through})
		if f := d.at(HopProxy, "", ""); f.Status != StatusFault || !errors.Is(f.Err, ErrProxyAuth) ||
			f.Text != scheme+"://"+proxy.Host()+": refuses the user and the password" {
			t.Errorf("%s: %s (%v)", f.Status, f.Text, f.Err)
		}
		if strings.Contains(d.String(), "proxyuser") {
			t.Errorf("the proxy's user is shown:\n%s", d)
		}
	}
}

// The variable that names the proxy is told.
func TestProxyVariable(t *testing.T) {
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"} {
		t.Setenv(name, "")
	}
	t.Setenv("https_proxy", "user:"+canary+"@proxy.test:3128")
	t.Setenv("ALL_PROXY", "socks5://proxy.test:1080")
	for _, test := range []struct{ scheme, host, want string }{
		{"https", "proxy.test:3128", "https_proxy"},
		{"https", "proxy.test:1080", "ALL_PROXY"},
		{"http", "proxy.test:1080", "ALL_PROXY"},
		{"http", "proxy.test:3128", ""},
		{"https", "other.test:3128", ""},
		{"https", "", "https_proxy"},
	} {
		if got := proxyVariable(test.scheme, test.host); got != test.want {
			t.Errorf("%s by %q: %q, want %q", test.scheme, test.host, got, test.want)
		}
	}
}
