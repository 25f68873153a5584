package registrytest

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"

	"golang.org/x/time/rate"

	"github.com/davit-cli/davit/internal/memregistry"
)

// Listener names one of the server's three sockets.
type Listener string

// The listeners. The CDN is used where Options.Redirect is set, the realm where
// Auth.OwnRealm is.
const (
	Registry Listener = "registry"
	CDN      Listener = "cdn"
	Realm    Listener = "realm"
)

// Server is a running registry with faults. Its methods may be called from many
// goroutines at once.
type Server struct {
	// Content is what the server serves.
	Content *memregistry.Registry

	servers map[Listener]*http.Server
	hosts   map[Listener]string
	secure  map[Listener]bool
	ca      *authority
	total   *rate.Limiter // of Options.TotalRate, nil for no limit
	done    chan struct{} // closed by Close
	closing sync.Once
	serving sync.WaitGroup

	mu      sync.Mutex
	options Options
	tokens  tokens
	urls    signedURLs
	records records
}

// New starts a server on 127.0.0.1. The caller closes it.
func New(o Options) (*Server, error) {
	o = o.clone()
	if o.Content == nil {
		o.Content = memregistry.New()
	}
	if o.Addr == "" {
		o.Addr = "127.0.0.1:0"
	}
	s := &Server{
		Content: o.Content,
		servers: map[Listener]*http.Server{},
		hosts:   map[Listener]string{},
		secure:  map[Listener]bool{Registry: o.TLS, CDN: o.TLS && !o.PlainCDN, Realm: o.TLS},
		done:    make(chan struct{}),
		options: o,
	}
	if r := o.TotalRate; r > 0 {
		s.total = rate.NewLimiter(rate.Limit(r), min(max(r/8, 1), maxBurst))
	}
	s.records.init(&s.mu)
	s.accept(o)
	if o.TLS {
		ca, err := newAuthority("registrytest CA", o.Names)
		if err != nil {
			return nil, err
		}
		s.ca = ca
	}
	// All listen before one serves: a handler may ask for any host.
	var serve []func()
	for _, l := range []Listener{Registry, CDN, Realm} {
		f, err := s.listen(l, o)
		if err != nil {
			err = errors.Join(err, s.Close())
			for _, f := range serve {
				f() // closes its listener
			}
			return nil, err
		}
		serve = append(serve, f)
	}
	for _, f := range serve {
		s.serving.Go(f)
	}
	return s, nil
}

// listen opens a listener and returns what serves it until Close.
func (s *Server) listen(name Listener, o Options) (serve func(), err error) {
	addr := "127.0.0.1:0"
	if name == Registry {
		addr = o.Addr
	}
	inner, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen as %s: %w", name, err)
	}
	l := inner
	if name != Realm && (o.Rate != 0 || o.SendBuffer != 0) {
		l = tunedListener{Listener: inner, rate: o.Rate, sendBuffer: o.SendBuffer}
		if err := tuningSupported(); err != nil {
			return nil, errors.Join(fmt.Errorf("hold connections to a rate: %w", err), inner.Close())
		}
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(o.HTTP2)
	server := &http.Server{
		Handler:   http.HandlerFunc(s.serve),
		Protocols: protocols,
		ErrorLog:  log.New(io.Discard, "", 0),
		BaseContext: func(net.Listener) context.Context {
			return context.WithValue(context.Background(), listenerKey{}, name)
		},
		ConnContext: s.records.connContext,
		ConnState:   func(c net.Conn, state http.ConnState) { s.records.connState(name, c, state) },
	}
	if s.secure[name] {
		server.TLSConfig = s.ca.serverConfig()
		if o.ClientCerts {
			s.ca.askClients(server.TLSConfig, name == Registry)
		}
	}
	s.servers[name] = server
	s.hosts[name] = inner.Addr().String()
	return func() {
		if s.secure[name] {
			_ = server.ServeTLS(l, "", "") // ends by Close
		} else {
			_ = server.Serve(l)
		}
	}, nil
}

// Close ends all connections and listeners, and stalled bodies with them. It
// may be repeated.
func (s *Server) Close() error {
	s.closing.Do(func() {
		close(s.done)
		for _, server := range s.servers {
			_ = server.Close() // the listeners are local: nothing is lost
		}
		s.serving.Wait()
	})
	return nil
}

// Configure changes the options for all requests that begin after it returned.
// A fault that change sets anew counts its Times from the start; the others go
// on counting. Content, Addr, TLS, Names, ClientCerts, HTTP2, PlainCDN, Rate,
// TotalRate and SendBuffer stay as they are.
func (s *Server) Configure(change func(*Options)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.options
	o := old.clone()
	change(&o)
	o = o.clone()
	o.Content, o.Addr, o.TLS, o.HTTP2, o.PlainCDN = old.Content, old.Addr, old.TLS, old.HTTP2, old.PlainCDN
	o.Names, o.ClientCerts = old.Names, old.ClientCerts
	o.Rate, o.TotalRate, o.SendBuffer = old.Rate, old.TotalRate, old.SendBuffer
	s.options = o
	s.accept(o)
}

// snapshot returns the options for one request. What they point to is shared,
// and only the counters in it change: with s.mu held, by take.
func (s *Server) snapshot() Options {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.options
}

// take tells whether a fault happens once more, and counts it.
func (s *Server) take(times int, used *int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if times > 0 && *used >= times {
		return false
	}
	*used++
	return true
}

// Host returns the registry's host:port, as references are written with.
func (s *Server) Host() string { return s.hosts[Registry] }

// HostOf returns a listener's host:port.
func (s *Server) HostOf(l Listener) string { return s.hosts[l] }

// URL returns the registry's URL, such as http://127.0.0.1:41234.
func (s *Server) URL() string { return s.urlOf(Registry) }

func (s *Server) urlOf(l Listener) string {
	if s.secure[l] {
		return "https://" + s.hosts[l]
	}
	return "http://" + s.hosts[l]
}

// CAPEM returns the certificate of the CA that signed the server's, in PEM; nil
// without TLS.
func (s *Server) CAPEM() []byte {
	if s.ca == nil {
		return nil
	}
	return s.ca.pem
}

// CertPool returns a pool with the server's CA in it; nil without TLS.
func (s *Server) CertPool() *x509.CertPool {
	if s.ca == nil {
		return nil
	}
	return s.ca.pool
}

// ClientPEM returns a certificate for clients by the server's CA, and its
// private key, both in PEM; nil without TLS. Its common name is ClientName.
func (s *Server) ClientPEM() (certificate, key []byte) {
	if s.ca == nil {
		return nil, nil
	}
	return s.ca.clientPEM()
}

// TB is what Start needs of a *testing.T or *testing.B.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Cleanup(func())
}

// Start is New for a test: it fails the test on an error, and closes the server
// when the test is over.
func Start(t TB, o Options) *Server {
	t.Helper()
	s, err := New(o)
	if err != nil {
		t.Fatalf("start the test registry: %v", err)
	}
	t.Cleanup(func() { _ = s.Close() }) // Close has no error to give
	return s
}

type listenerKey struct{}

func listenerOf(r *http.Request) Listener {
	l, _ := r.Context().Value(listenerKey{}).(Listener)
	return l
}
