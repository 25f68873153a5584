package registry

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/davit-cli/davit/hosts"
	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/registrytest"
)

// file writes a file of a test's own and gives its path.
func file(t *testing.T, name string, data ...[]byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, bytes.Join(data, nil), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// known is an Options.Hosts.
func known(m map[string]hosts.Host) func(string) (hosts.Host, error) {
	return func(host string) (hosts.Host, error) { return m[host], nil }
}

// opened is team/app on a test registry with one image, and how to read all of it.
type opened struct {
	*Repository
	pushed registrytest.Pushed
}

func push(s *registrytest.Server) registrytest.Pushed {
	return s.Push("team/app", "v1", registrytest.Image{Layers: []registrytest.Layer{registrytest.RandomLayer(1, 1000)}})
}

func openServer(t *testing.T, s *registrytest.Server, name string, opts Options) opened {
	t.Helper()
	reference := referenceTo(name)
	reference.Scheme, _, _ = strings.Cut(s.URL(), ":")
	r, err := Open(reference, opts)
	if err != nil {
		t.Fatal(err)
	}
	r.client.backoff = 1
	t.Cleanup(func() { _ = r.Close() })
	return opened{r, push(s)}
}

// read gets the manifest and a range of a layer.
func (o opened) read(t *testing.T) error {
	t.Helper()
	if _, err := o.Manifest(t.Context(), "v1"); err != nil {
		return err
	}
	layer := o.pushed.Layers[0]
	got, err := o.OpenRange(t.Context(), image.Descriptor{Digest: layer.Digest, Size: layer.Size}, 1, 10)
	if err != nil {
		return err
	}
	defer func() { _ = got.Body.Close() }()
	data, err := io.ReadAll(got.Body)
	if err == nil && len(data) != 10 {
		err = fmt.Errorf("got %d bytes", len(data))
	}
	return err
}

func TestCAFiles(t *testing.T) {
	server := registrytest.Start(t, registrytest.Options{
		TLS: true, Auth: &registrytest.Auth{OwnRealm: true}, Redirect: &registrytest.Redirect{Host: "localhost"},
	})
	name := server.Host()
	if err := openServer(t, server, name, Options{}).read(t); !errors.Is(err, ErrCertificate) || !strings.Contains(err.Error(), `unknown authority, "registrytest CA"`) {
		t.Errorf("without its CA: %v", err)
	}
	// The registry's CA holds for its realm and its CDN too.
	ca := file(t, "ca.pem", server.CAPEM())
	if err := openServer(t, server, name, Options{Hosts: known(map[string]hosts.Host{name: {CAFiles: []string{ca}}})}).read(t); err != nil {
		t.Errorf("with its CA: %v", err)
	}
	if server.Stats().Exchanges != 1 {
		t.Error("the realm was not asked")
	}

	// Another host's CA is its own affair.
	other := registrytest.Start(t, registrytest.Options{TLS: true})
	push(other)
	elsewhere := strings.Replace(other.Host(), "127.0.0.1", "localhost", 1)
	server.Configure(func(o *registrytest.Options) {
		o.Auth, o.Redirect = nil, nil
		o.Intercept = func(w http.ResponseWriter, req *http.Request) bool {
			if registrytest.Blobs(req) {
				http.Redirect(w, req, "https://"+elsewhere+req.URL.Path, http.StatusTemporaryRedirect)
				return true
			}
			return false
		}
	})
	hostsOf := map[string]hosts.Host{name: {CAFiles: []string{ca}}}
	if err := openServer(t, server, name, Options{Hosts: known(hostsOf)}).read(t); !errors.Is(err, ErrCertificate) || !strings.Contains(err.Error(), elsewhere) {
		t.Errorf("another CA behind a redirect: %v", err)
	}
	hostsOf[elsewhere] = hosts.Host{CAFiles: []string{file(t, "other.pem", other.CAPEM())}}
	if err := openServer(t, server, name, Options{Hosts: known(hostsOf)}).read(t); err != nil {
		t.Errorf("another CA that is configured: %v", err)
	}

	// Or any certificate of that host, which is warned of.
	hostsOf[elsewhere] = hosts.Host{Insecure: true, Source: "hosts.toml"}
	var sent events
	r := openServer(t, server, name, Options{Hosts: known(hostsOf), Events: sent.add})
	for range 2 {
		if err := r.read(t); err != nil {
			t.Errorf("a host that is not checked: %v", err)
		}
	}
	if warnings := sent.of(image.EventWarning); len(warnings) != 1 || warnings[0].Text != "the certificate of "+elsewhere+" is not checked (hosts.toml)" {
		t.Errorf("warned %v", warnings)
	}

	hostsOf[elsewhere] = hosts.Host{CAFiles: []string{filepath.Join(t.TempDir(), "nowhere.pem")}}
	if err := openServer(t, server, name, Options{Hosts: known(hostsOf)}).read(t); !errors.Is(err, ErrCertificateFile) || !strings.Contains(err.Error(), "nowhere.pem") {
		t.Errorf("a file that is missing: %v", err)
	}
	failing := func(host string) (hosts.Host, error) {
		if host == elsewhere {
			return hosts.Host{}, errors.New("hosts.toml makes no sense")
		}
		return hosts.Host{CAFiles: []string{ca}}, nil
	}
	if err := openServer(t, server, name, Options{Hosts: failing}).read(t); err == nil || !strings.Contains(err.Error(), "hosts.toml makes no sense") {
		t.Errorf("a host's configuration that makes no sense: %v", err)
	}
	if _, err := Open(referenceTo(elsewhere), Options{Hosts: failing}); err == nil || !strings.Contains(err.Error(), "hosts.toml makes no sense") {
		t.Errorf("the registry's configuration that makes no sense: %v", err)
	}
}

func TestInsecureByConfiguration(t *testing.T) {
	server := registrytest.Start(t, registrytest.Options{TLS: true, Auth: &registrytest.Auth{OwnRealm: true}})
	var sent events
	opts := Options{Hosts: known(map[string]hosts.Host{server.Host(): {Insecure: true}}), Events: sent.add}
	if err := openServer(t, server, server.Host(), opts).read(t); err != nil {
		t.Error(err) // the realm is on the same host, at another port
	}
	if warnings := sent.of(image.EventWarning); len(warnings) != 1 {
		t.Errorf("warned %v", warnings)
	}
}

const encryptedKey = `-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAg=
-----END ENCRYPTED PRIVATE KEY-----
`

const oldEncryptedKey = `-----BEGIN RSA PRIVATE KEY-----
Proc-Type: 4,ENCRYPTED
DEK-Info: AES-256-CBC,0123456789ABCDEF0123456789ABCDEF

MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAg=
-----END RSA PRIVATE KEY-----
`

func TestCertificateFiles(t *testing.T) {
	server := registrytest.Start(t, registrytest.Options{TLS: true})
	certificate, key := server.ClientPEM()
	_, otherKey := registrytest.Start(t, registrytest.Options{TLS: true}).ClientPEM()
	cert, missing := file(t, "client.cert", certificate), filepath.Join(t.TempDir(), "missing.pem")
	both := file(t, "both.pem", key, certificate)
	for _, test := range []struct {
		host hosts.Host
		says []string // nothing: it is taken
	}{
		{hosts.Host{CAFiles: []string{missing}}, []string{missing}},
		{hosts.Host{CAFiles: []string{t.TempDir()}}, []string{t.TempDir()[:8]}},
		{hosts.Host{CAFiles: []string{file(t, "empty.crt")}}, []string{"empty.crt holds no certificate"}},
		{hosts.Host{CAFiles: []string{file(t, "ca.crt", server.CAPEM()), file(t, "key.crt", key)}}, []string{"key.crt holds no certificate"}},
		{hosts.Host{KeyPairs: []hosts.KeyPair{{CertFile: missing, KeyFile: both}}}, []string{missing}},
		{hosts.Host{KeyPairs: []hosts.KeyPair{{CertFile: cert, KeyFile: missing}}}, []string{missing}},
		{hosts.Host{KeyPairs: []hosts.KeyPair{{CertFile: cert, KeyFile: cert}}}, []string{cert}},
		{hosts.Host{KeyPairs: []hosts.KeyPair{{CertFile: cert, KeyFile: file(t, "other.key", otherKey)}}}, []string{cert, "other.key", "does not match"}},
		{hosts.Host{KeyPairs: []hosts.KeyPair{{CertFile: cert, KeyFile: file(t, "a.key", []byte(encryptedKey))}}}, []string{"a.key is encrypted"}},
		{hosts.Host{KeyPairs: []hosts.KeyPair{{CertFile: cert, KeyFile: file(t, "b.key", certificate, []byte(oldEncryptedKey))}}}, []string{"b.key is encrypted"}},
		{hosts.Host{CAFiles: []string{file(t, "ca.crt", []byte("A comment.\n"), server.CAPEM())}}, nil},
		{hosts.Host{KeyPairs: []hosts.KeyPair{{CertFile: cert, KeyFile: file(t, "client.key", key)}, {CertFile: both, KeyFile: both}}}, nil},
	} {
		_, err := Open(referenceTo("registry.test"), Options{Hosts: known(map[string]hosts.Host{"registry.test": test.host})})
		if test.says == nil {
			if err != nil {
				t.Errorf("%+v: %v", test.host, err)
			}
			continue
		}
		if !errors.Is(err, ErrCertificateFile) {
			t.Errorf("%+v: %v", test.host, err)
			continue
		}
		for _, text := range test.says {
			if !strings.Contains(err.Error(), text) {
				t.Errorf("%v does not say %q", err, text)
			}
		}
		expectNoKey(t, err.Error(), key, otherKey)
	}
	_, err := Open(referenceTo("registry.test"), Options{Hosts: known(map[string]hosts.Host{"registry.test": {CAFiles: []string{missing}}})})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v hides its cause", err)
	}
}

// expectNoKey looks for lines of keys in PEM.
func expectNoKey(t *testing.T, text string, keys ...[]byte) {
	t.Helper()
	for _, key := range keys {
		for line := range strings.SplitSeq(string(key), "\n") {
			if len(line) > 10 && !strings.HasPrefix(line, "-----") && strings.Contains(text, line) {
				t.Errorf("a private key in %q", text)
			}
		}
	}
}

func TestClientCertificate(t *testing.T) {
	server := registrytest.Start(t, registrytest.Options{
		TLS: true, ClientCerts: true, Auth: &registrytest.Auth{OwnRealm: true}, Redirect: &registrytest.Redirect{Host: "localhost"},
	})
	other := registrytest.Start(t, registrytest.Options{TLS: true})
	ca := []string{file(t, "ca.pem", server.CAPEM())}
	certificate, key := server.ClientPEM()
	right := hosts.KeyPair{CertFile: file(t, "client.cert", certificate), KeyFile: file(t, "client.key", key)}
	wrongCertificate, wrongKey := other.ClientPEM()
	wrong := hosts.KeyPair{CertFile: file(t, "wrong.cert", wrongCertificate), KeyFile: file(t, "wrong.key", wrongKey)}
	stranger := issue(t, x509.Certificate{Subject: pkix.Name{CommonName: "Stranger"}, IsCA: true}, nil)
	strangers := keyPair(t, issue(t, x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, &stranger))
	name := server.Host()
	cdn := strings.Replace(server.HostOf(registrytest.CDN), "127.0.0.1", "localhost", 1)
	shown := func() map[registrytest.Listener]string {
		found := map[registrytest.Listener]string{}
		for _, request := range server.Requests() {
			found[request.Listener] += request.ClientCert
		}
		return found
	}

	for range 20 { // the alert and the end of the connection come as they like
		for _, test := range []struct {
			pairs []hosts.KeyPair
			says  string
		}{
			{nil, `the server wants a client certificate signed by "registrytest CA"`},
			{[]hosts.KeyPair{strangers}, `the server wants a client certificate signed by "registrytest CA"; none that is configured fits`},
			{[]hosts.KeyPair{wrong}, "the client certificate " + wrong.CertFile}, // by a CA of the same name
		} {
			var trace lines
			opts := Options{Trace: trace.add, Hosts: known(map[string]hosts.Host{name: {CAFiles: ca, KeyPairs: test.pairs}})}
			err := openServer(t, server, name, opts).read(t)
			if !errors.Is(err, ErrClientCertificate) || errors.Is(err, ErrCertificate) || !strings.Contains(err.Error(), test.says) {
				t.Fatalf("with %d certificates: %v", len(test.pairs), err)
			}
			expectNoKey(t, err.Error()+trace.String(), wrongKey)
		}
	}

	var trace lines
	hostsOf := map[string]hosts.Host{name: {CAFiles: ca, KeyPairs: []hosts.KeyPair{strangers, right}}}
	if err := openServer(t, server, name, Options{Hosts: known(hostsOf), Trace: trace.add}).read(t); err != nil {
		t.Fatalf("with its certificate: %v", err)
	}
	expectNoKey(t, trace.String(), key)
	if got := shown(); !strings.HasPrefix(got[registrytest.Registry], registrytest.ClientName) || got[registrytest.CDN] != "" || got[registrytest.Realm] != "" {
		t.Errorf("shown to %v", got)
	}
	if server.Count(func(r registrytest.Request) bool { return r.Listener == registrytest.CDN }) == 0 || server.Stats().Exchanges == 0 {
		t.Error("CDN or realm were not asked")
	}

	// The CDN gets one that is its own.
	server.ResetRecords()
	hostsOf[cdn] = hosts.Host{KeyPairs: []hosts.KeyPair{right}}
	if err := openServer(t, server, name, Options{Hosts: known(hostsOf)}).read(t); err != nil {
		t.Error(err)
	}
	if got := shown(); got[registrytest.CDN] != registrytest.ClientName || got[registrytest.Realm] != "" {
		t.Errorf("shown to %v", got)
	}
}

// What a foreign layer's URL names is shown no certificate, even where one is
// configured for it.
func TestStrangersSeeNoCertificate(t *testing.T) {
	server := registrytest.Start(t, registrytest.Options{TLS: true, ClientCerts: true})
	certificate, key := server.ClientPEM()
	pair := hosts.KeyPair{CertFile: file(t, "client.cert", certificate), KeyFile: file(t, "client.key", key)}
	realm := server.HostOf(registrytest.Realm)
	r := openServer(t, server, server.Host(), Options{Hosts: known(map[string]hosts.Host{
		server.Host(): {CAFiles: []string{file(t, "ca.pem", server.CAPEM())}, KeyPairs: []hosts.KeyPair{pair}},
		realm:         {KeyPairs: []hosts.KeyPair{pair}},
	})})
	for _, to := range []func(*url.URL) http.RoundTripper{r.client.transports.toRealm, r.client.transports.toStranger} {
		u := mustParse(t, "https://"+realm+"/")
		req := (&http.Request{Method: http.MethodGet, URL: u, Header: http.Header{}}).WithContext(t.Context())
		resp, err := to(u).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		discard(resp)
	}
	if got := server.Requests(); len(got) != 2 || got[0].ClientCert == "" || got[1].ClientCert != "" {
		t.Errorf("got %+v", got)
	}
}

// Servers that do not say whose certificates they take are shown the first, and
// may refuse it.
func TestClientCertificateRefused(t *testing.T) {
	certificate, key := registrytest.Start(t, registrytest.Options{TLS: true}).ClientPEM()
	pair := hosts.KeyPair{CertFile: file(t, "client.cert", certificate), KeyFile: file(t, "client.key", key)}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, refuses := range []bool{true, false} {
			server := httptest.NewUnstartedServer(http.HandlerFunc(manifestHandler))
			server.TLS = &tls.Config{MaxVersion: version, ClientAuth: tls.RequireAnyClientCert, VerifyPeerCertificate: func([][]byte, [][]*x509.Certificate) error {
				if refuses {
					return errors.New("no")
				}
				return nil
			}}
			server.Config.ErrorLog = discardLog
			server.StartTLS()
			for range 10 {
				r := open(t, server, Options{Hosts: known(map[string]hosts.Host{host(server): {KeyPairs: []hosts.KeyPair{pair}}})})
				_, err := r.Manifest(t.Context(), "v1")
				switch {
				case !refuses && err != nil:
					t.Errorf("TLS %x: %v", version, err)
				case refuses && (!errors.Is(err, ErrClientCertificate) || !strings.Contains(err.Error(), "the client certificate "+pair.CertFile)):
					t.Errorf("TLS %x: %v", version, err)
				}
			}
			server.Close()
		}
	}
}

func TestClientCertificateWantedByNginx(t *testing.T) {
	certificate, key := registrytest.Start(t, registrytest.Options{TLS: true}).ClientPEM()
	pair := hosts.KeyPair{CertFile: file(t, "client.cert", certificate), KeyFile: file(t, "client.key", key)}
	for _, test := range []struct {
		body, says string
		pairs      []hosts.KeyPair
		is         bool
	}{
		{"<html>\r\n<head><title>400 No required SSL certificate was sent</title></head>\r\n", "the server wants a client certificate", nil, true},
		{"<html>\r\n<head><title>400 The SSL certificate error</title></head>\r\n", "refuses the client certificate " + pair.CertFile, []hosts.KeyPair{pair}, true},
		{"<html>\r\n<head><title>400 Bad Request</title></head>\r\n", "400 Bad Request", []hosts.KeyPair{pair}, false},
	} {
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, test.body)
		}))
		server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
		server.StartTLS()
		r := open(t, server, Options{Hosts: known(map[string]hosts.Host{host(server): {KeyPairs: test.pairs}})})
		_, err := r.Manifest(t.Context(), "v1")
		var e *Error
		if !errors.As(err, &e) || e.Status != http.StatusBadRequest || errors.Is(err, ErrClientCertificate) != test.is || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v", test.body, err)
		}
		server.Close()
	}
}

// A server that hangs up on us without an alert may be one that wants a
// certificate, if it asked for one.
func TestCutAfterCertificateRequest(t *testing.T) {
	for _, asks := range []tls.ClientAuthType{tls.RequestClientCert, tls.NoClientCert} {
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if conn, _, err := w.(http.Hijacker).Hijack(); err == nil {
				_ = conn.Close()
			}
		}))
		server.TLS = &tls.Config{ClientAuth: asks}
		server.StartTLS()
		_, err := open(t, server, Options{Retries: -1}).Manifest(t.Context(), "v1")
		if want := asks == tls.RequestClientCert; err == nil || errors.Is(err, ErrClientCertificate) != want || !strings.Contains(err.Error(), "the connection was cut") || strings.Contains(err.Error(), "asked for a client certificate") != want {
			t.Errorf("got %v", err)
		}
		server.Close()
	}
}

// issue makes a certificate; by itself where parent is nil.
func issue(t *testing.T, template x509.Certificate, parent *tls.Certificate) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(1)
	if template.NotAfter.IsZero() {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	}
	template.BasicConstraintsValid = true
	by, signer := &template, any(key)
	if parent != nil {
		by, signer = parent.Leaf, parent.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, by, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: made}
}

func keyPair(t *testing.T, made tls.Certificate) hosts.KeyPair {
	t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(made.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return hosts.KeyPair{
		CertFile: file(t, "made.cert", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: made.Certificate[0]})),
		KeyFile:  file(t, "made.key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})),
	}
}

func TestCertificateFaults(t *testing.T) {
	loopback := []net.IP{net.IPv4(127, 0, 0, 1)}
	ca := issue(t, x509.Certificate{Subject: pkix.Name{CommonName: "Corp Root"}, IsCA: true, KeyUsage: x509.KeyUsageCertSign}, nil)
	stranger := issue(t, x509.Certificate{Subject: pkix.Name{CommonName: "\x1b[31mStranger\n", Organization: []string{"Strangers"}}, IsCA: true}, nil)
	nameless := issue(t, x509.Certificate{Subject: pkix.Name{Organization: []string{"Strangers"}}, IsCA: true}, nil)
	intermediate := issue(t, x509.Certificate{Subject: pkix.Name{CommonName: "Old Branch"}, IsCA: true, NotBefore: time.Unix(1e9, 0), NotAfter: time.Unix(1e9+3600, 0)}, &ca)
	byOld := issue(t, x509.Certificate{IPAddresses: loopback}, &intermediate)
	byOld.Certificate = append(byOld.Certificate, intermediate.Certificate...)
	for _, test := range []struct {
		name string
		leaf tls.Certificate
		says []string // nothing: it is trusted
	}{
		{"good", issue(t, x509.Certificate{IPAddresses: loopback}, &ca), nil},
		{"a stranger's", issue(t, x509.Certificate{IPAddresses: loopback}, &stranger), []string{`signed by an unknown authority, "[31mStranger"`}},
		{"a nameless stranger's", issue(t, x509.Certificate{IPAddresses: loopback}, &nameless), []string{`signed by an unknown authority, "O=Strangers"`}},
		{"self-signed", issue(t, x509.Certificate{Subject: pkix.Name{CommonName: "me"}, IPAddresses: loopback}, nil), []string{`self-signed, by an unknown authority, "me"`}},
		{"expired", issue(t, x509.Certificate{IPAddresses: loopback, NotBefore: time.Unix(1e9, 0), NotAfter: time.Unix(1e9+3600, 0)}, &ca), []string{"has expired at 2001-09-09 02:46 UTC", "the clock here says " + time.Now().UTC().Format("2006-")}},
		{"not yet valid", issue(t, x509.Certificate{IPAddresses: loopback, NotBefore: time.Unix(1e10, 0), NotAfter: time.Unix(1e10+3600, 0)}, &ca), []string{"is not valid before 2286-11-20 17:46 UTC", "the clock here says", "may be wrong"}},
		{"by an expired CA", byOld, []string{`that of its CA, "Old Branch", has expired at 2001-09-09 02:46 UTC`}},
		{"others'", issue(t, x509.Certificate{DNSNames: []string{"a.test", "*.b.test"}, IPAddresses: []net.IP{net.IPv4(10, 0, 0, 1)}}, &ca), []string{"for another host: for a.test, *.b.test, 10.0.0.1"}},
		{"many others'", issue(t, x509.Certificate{DNSNames: []string{"a", "b", "c", "d", "e", "f", "g"}}, &ca), []string{"for a, b, c, d, e and 2 more"}},
		{"legacy", issue(t, x509.Certificate{Subject: pkix.Name{CommonName: "registry.test"}}, &ca), []string{`as common name alone ("registry.test")`, "subject alternative name"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := httptest.NewUnstartedServer(http.HandlerFunc(manifestHandler))
			server.TLS = &tls.Config{Certificates: []tls.Certificate{test.leaf}}
			server.Config.ErrorLog = discardLog
			server.StartTLS()
			defer server.Close()
			caFile := file(t, "ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Certificate[0]}))
			r := openBare(t, host(server), Options{Hosts: known(map[string]hosts.Host{host(server): {CAFiles: []string{caFile}}})})
			_, err := r.Manifest(t.Context(), "v1")
			if test.says == nil {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, ErrCertificate) || strings.ContainsFunc(err.Error(), unicode.IsControl) {
				t.Fatalf("got %q", err)
			}
			for _, text := range test.says {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("%q does not say %q", err, text)
				}
			}
		})
	}
}
