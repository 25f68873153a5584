package registrytest_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/davit-cli/davit/internal/registrytest"
)

// statusOf asks for a URL by a proxy, or by none, and gives the answer's status.
func statusOf(t *testing.T, target string, proxy *url.URL, config *tls.Config) (status int, err error) {
	t.Helper()
	transport := &http.Transport{Proxy: http.ProxyURL(proxy), TLSClientConfig: config}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Get(target)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

func trust(pems ...[]byte) *tls.Config {
	pool := x509.NewCertPool()
	for _, data := range pems {
		pool.AppendCertsFromPEM(data)
	}
	return &tls.Config{RootCAs: pool}
}

func TestProxy(t *testing.T) {
	plain := registrytest.Start(t, registrytest.Options{})
	secure := registrytest.Start(t, registrytest.Options{TLS: true, Names: []string{"secure.test"}})
	for _, o := range []registrytest.ProxyOptions{{}, {User: "me", Password: "secret"}, {TLS: true}} {
		o.Resolve = map[string]string{"plain.test:80": plain.Host(), "secure.test": secure.Host()}
		p := registrytest.StartProxy(t, o)
		schemes := []string{"http", "socks5"}
		if o.TLS {
			schemes = []string{"https"}
		}
		for _, scheme := range schemes {
			config := trust(secure.CAPEM(), p.CAPEM())
			for _, target := range []string{"http://plain.test/v2/", "https://secure.test:5000/v2/", plain.URL() + "/v2/"} {
				if status, err := statusOf(t, target, p.URL(scheme), config); status != http.StatusOK {
					t.Errorf("%s by %s: %d, %v", target, scheme, status, err)
				}
			}
			if o.User == "" {
				continue
			}
			if status, err := statusOf(t, "http://plain.test/v2/", &url.URL{Scheme: scheme, Host: p.Host()}, config); status == http.StatusOK {
				t.Errorf("admitted without a password: %v", err)
			}
		}
		want := []string{"HTTP plain.test:80", "CONNECT secure.test:5000", "HTTP " + plain.Host()}
		if !o.TLS {
			want = append(want, "SOCKS5 plain.test:80", "SOCKS5 secure.test:5000", "SOCKS5 "+plain.Host())
		}
		if got := p.Through(); !slices.Equal(got, want) {
			t.Errorf("through went %q", got)
		}
		if refusals := p.Refusals(); (refusals == 2) != (o.User != "") {
			t.Errorf("%d refusals", refusals)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		if _, err := statusOf(t, "http://plain.test/v2/", p.URL(schemes[0]), trust(p.CAPEM())); err == nil {
			t.Error("it goes on after Close")
		}
	}
}

func TestProxyThatRefuses(t *testing.T) {
	p := registrytest.StartProxy(t, registrytest.ProxyOptions{Refuse: http.StatusForbidden})
	for scheme, says := range map[string]string{"http": "Forbidden", "socks5": "not allowed"} {
		if _, err := statusOf(t, "https://secure.test/", p.URL(scheme), nil); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", scheme, err)
		}
	}
}

func TestClientCerts(t *testing.T) {
	s := registrytest.Start(t, registrytest.Options{TLS: true, ClientCerts: true})
	config := trust(s.CAPEM())
	if _, err := statusOf(t, s.URL()+"/v2/", nil, config); err == nil {
		t.Error("no certificate was demanded")
	}
	realm := "https://" + s.HostOf(registrytest.Realm) + "/"
	if _, err := statusOf(t, realm, nil, config); err != nil {
		t.Errorf("the realm demands a certificate: %v", err)
	}
	pair, err := tls.X509KeyPair(s.ClientPEM())
	if err != nil {
		t.Fatal(err)
	}
	config.Certificates = []tls.Certificate{pair}
	if status, err := statusOf(t, s.URL()+"/v2/", nil, config); status != http.StatusOK {
		t.Errorf("with a certificate: %d, %v", status, err)
	}
	if _, err := statusOf(t, realm, nil, config); err != nil {
		t.Error(err)
	}
	var shown []string
	for _, request := range s.Requests() {
		shown = append(shown, string(request.Listener)+" "+request.ClientCert)
	}
	if want := []string{"realm ", "registry " + registrytest.ClientName, "realm " + registrytest.ClientName}; !slices.Equal(shown, want) {
		t.Errorf("shown %q", shown)
	}
}
