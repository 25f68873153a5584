package registry

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/davit-cli/davit/hosts"
	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/ref"
)

// openBare opens team/app on server by its address alone, as people write it.
func openBare(t *testing.T, address string, opts Options, trusted ...*httptest.Server) *Repository {
	t.Helper()
	r, err := Open(ref.Reference{Registry: address, Repository: "team/app"}, opts)
	if err != nil {
		t.Fatal(err)
	}
	prepare(t, r, trusted...)
	return r
}

func manifestHandler(w http.ResponseWriter, _ *http.Request) { sendManifest(w) }

func TestLoopbackSpeaksHTTPS(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(manifestHandler))
	defer server.Close()
	r := openBare(t, host(server), Options{}, server)
	if _, err := r.Manifest(t.Context(), "v1"); err != nil || r.client.scheme.now() != "https" {
		t.Errorf("%s: %v", r.client.scheme.now(), err)
	}
}

func TestLoopbackSpeaksHTTP(t *testing.T) {
	b := newBlob(1000)
	realm := newTokens(t, httptest.NewServer)
	server := serve(t, func(w http.ResponseWriter, req *http.Request) {
		switch {
		case req.Header.Get("Authorization") != "Bearer token1":
			realm.challenge(w)
		case strings.Contains(req.URL.Path, "/blobs/"):
			b.send(w, req)
		default:
			sendManifest(w)
		}
	})
	var trace lines
	r := openBare(t, host(server), Options{Trace: trace.add})
	var all sync.WaitGroup
	for range 8 { // all at once find it out once
		all.Go(func() {
			if _, err := r.Manifest(t.Context(), "v1"); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if err := b.check(r, 0, 10); err != nil {
		t.Error(err)
	}
	if n := strings.Count(trace.String(), "GET https://"); n != 1 {
		t.Errorf("HTTPS was tried %d times", n)
	}
}

func TestLoopbackRefusesTLS(t *testing.T) {
	// A server that hangs up on what is not HTTP, and says nothing.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &httptest.Server{Listener: hangsUp{listener}, Config: &http.Server{Handler: http.HandlerFunc(manifestHandler)}}
	server.Start()
	defer server.Close()
	if _, err := openBare(t, listener.Addr().String(), Options{}).Manifest(t.Context(), "v1"); err != nil {
		t.Error(err)
	}
}

// hangsUp closes connections that begin with a TLS handshake.
type hangsUp struct{ net.Listener }

func (l hangsUp) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		first := make([]byte, 1)
		if _, err := io.ReadFull(conn, first); err != nil || first[0] == 22 {
			_ = conn.Close()
			continue
		}
		return &prefixed{conn, first}, nil
	}
}

type prefixed struct {
	net.Conn
	first []byte
}

func (c *prefixed) Read(p []byte) (int, error) {
	if len(c.first) > 0 && len(p) > 0 {
		n := copy(p, c.first)
		c.first = c.first[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}

func TestCertificateErrorNeverFallsBack(t *testing.T) {
	var asked atomic.Int32
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		sendManifest(w)
	}))
	defer server.Close()
	server.Config.ErrorLog = discardLog
	var trace lines
	_, err := openBare(t, host(server), Options{Trace: trace.add, Credentials: given("me", canary)}).Manifest(t.Context(), "v1")
	if !errors.Is(err, ErrCertificate) || !strings.Contains(err.Error(), "unknown authority") || !strings.Contains(err.Error(), host(server)) {
		t.Errorf("got %v", err)
	}
	if asked.Load() != 0 || strings.Contains(trace.String(), "http://") {
		t.Errorf("went on:\n%s", trace.String())
	}
}

func TestSchemeThatWasAskedFor(t *testing.T) {
	plain := serve(t, manifestHandler)
	for _, opts := range []Options{{PlainHTTP: true}, {}} {
		reference := ref.Reference{Registry: host(plain), Repository: "team/app"}
		if !opts.PlainHTTP {
			reference.Scheme = "http"
		}
		var trace lines
		opts.Trace = trace.add
		r, err := Open(reference, opts)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Manifest(t.Context(), "v1"); err != nil || strings.Contains(trace.String(), "https://") {
			t.Errorf("%v\n%s", err, trace.String())
		}
	}
	r, err := Open(ref.Reference{Registry: host(plain), Repository: "team/app", Scheme: "https"}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Manifest(t.Context(), "v1"); !errors.Is(err, ErrPlainHTTP) {
		t.Errorf("https:// on a server of HTTP: %v", err)
	}
}

func TestNoFallbackBeyondLoopback(t *testing.T) {
	plain := serve(t, manifestHandler)
	r := openBare(t, "registry.test:5000", Options{})
	dialTo(r, plain, "203.0.113.5")
	if _, err := r.Manifest(t.Context(), "v1"); !errors.Is(err, ErrPlainHTTP) || !strings.Contains(err.Error(), "registry.test:5000") {
		t.Errorf("got %v", err)
	}
}

func TestInsecure(t *testing.T) {
	elsewhere := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("an unchecked host was asked") }))
	defer elsewhere.Close()
	elsewhere.Config.ErrorLog = discardLog
	realm := newTokens(t, httptest.NewTLSServer) // the same host, another port
	b := newBlob(10)
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		switch {
		case req.Header.Get("Authorization") != "Bearer token1":
			realm.challenge(w)
		case strings.Contains(req.URL.Path, "/blobs/"):
			http.Redirect(w, req, strings.Replace(elsewhere.URL, "127.0.0.1", "localhost", 1), http.StatusFound)
		default:
			sendManifest(w)
		}
	}))
	defer server.Close()
	var sent events
	r := openBare(t, host(server), Options{Insecure: true, Events: sent.add})
	if _, err := r.Manifest(t.Context(), "v1"); err != nil {
		t.Error(err)
	}
	if err := b.check(r, 0, 10); !errors.Is(err, ErrCertificate) {
		t.Errorf("another host's certificate: %v", err)
	}
	if warnings := sent.of(image.EventWarning); len(warnings) != 1 || !strings.Contains(warnings[0].Text, host(server)) {
		t.Errorf("warnings %v", warnings)
	}
}

// A server that speaks TLS and then hangs up is in trouble; nothing is said to
// it in the clear.
func TestCutAfterHandshakeNeverFallsBack(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if conn, _, err := w.(http.Hijacker).Hijack(); err == nil {
			_ = conn.Close()
		}
	}))
	defer server.Close()
	var trace lines
	_, err := openBare(t, host(server), Options{Trace: trace.add, Retries: 2}, server).Manifest(t.Context(), "v1")
	if err == nil || !strings.Contains(err.Error(), "the connection was cut") || strings.Contains(trace.String(), "http://") {
		t.Errorf("%v\n%s", err, trace.String())
	}
	if n := strings.Count(trace.String(), "GET https://"); n != 3 {
		t.Errorf("asked %d times", n)
	}
}

// Requests that wait for the first one of a registry that does not answer do not
// wait for one after the other.
func TestSchemeIsAskedForOnceAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScheme("localhost:5000", hosts.Host{})
		silent := errors.New("no answer")
		var asked atomic.Int32
		send := func(*http.Request) (*http.Response, error) {
			asked.Add(1)
			time.Sleep(45 * time.Second) // of the bubble's clock
			return nil, silent
		}
		begun := time.Now()
		var group sync.WaitGroup
		for range 8 {
			group.Go(func() {
				req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "https://localhost:5000/v2/", nil)
				if _, err := s.settle(req, true, send); !errors.Is(err, silent) {
					t.Error(err)
				}
			})
		}
		group.Wait()
		if took := time.Since(begun); took != 45*time.Second || asked.Load() != 1 {
			t.Errorf("it took %v, and %d requests", took, asked.Load())
		}
		ctx, cancel := context.WithCancel(t.Context())
		group.Go(func() {
			_, _ = s.settle(httptest.NewRequestWithContext(t.Context(), http.MethodGet, "https://localhost:5000/v2/", nil), true, send)
		})
		synctest.Wait()
		cancel()
		if _, err := s.settle(httptest.NewRequestWithContext(ctx, http.MethodGet, "https://localhost:5000/v2/", nil), true, send); !errors.Is(err, context.Canceled) {
			t.Error("a request whose context has ended waits:", err)
		}
		group.Wait()
		if asked.Load() != 2 {
			t.Errorf("%d requests", asked.Load())
		}
	})
}
