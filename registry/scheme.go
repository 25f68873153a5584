package registry

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/davit-cli/davit/hosts"
)

// scheme is what the registry speaks. It is found out, by the first request,
// only on loopback and where the configuration allows plain HTTP: HTTPS, and HTTP
// where the server does not speak TLS. On loopback a name is not enough for
// HTTP: the address has to be loopback's as well.
type scheme struct {
	name    atomic.Pointer[string]
	settled atomic.Bool
	fell    atomic.Bool // back to HTTP
	plain   bool        // HTTP is allowed, wherever the host is
	fallen  func()      // is told of a fall back to HTTP; may be nil

	asking     chan struct{} // full while the first request is under way
	vain       atomic.Int64  // first requests that got no answer
	unanswered error         // of the last one; guarded by asking
}

func newScheme(host string, reached hosts.Host) *scheme {
	s := &scheme{plain: reached.Plain, asking: make(chan struct{}, 1)}
	name := reached.Scheme
	s.settled.Store(name != "" || !reached.Plain && !isLoopbackHost((&url.URL{Host: host}).Hostname()))
	if name == "" {
		name = "https"
	}
	s.name.Store(&name)
	return s
}

// now is the scheme as far as it is known.
func (s *scheme) now() string { return *s.name.Load() }

// settle sends req with the registry's scheme, finding that out where it is
// open. Requests that come meanwhile wait for the first, and fail with it where
// there is no answer. direct: no proxy stands between.
func (s *scheme) settle(req *http.Request, direct bool, send func(*http.Request) (*http.Response, error)) (*http.Response, error) {
	if !s.settled.Load() {
		if resp, settled, err := s.askFirst(req, direct, send); !settled {
			return resp, err
		}
	}
	if s.fell.Load() && !s.plain {
		req = onLoopback(req)
	}
	return send(withScheme(req, s.now()))
}

// askFirst sends the first request, unless another one has settled the scheme
// meanwhile.
func (s *scheme) askFirst(req *http.Request, direct bool, send func(*http.Request) (*http.Response, error)) (resp *http.Response, settled bool, err error) {
	before := s.vain.Load()
	select {
	case s.asking <- struct{}{}:
		defer func() { <-s.asking }()
	case <-req.Context().Done():
		return nil, false, context.Cause(req.Context())
	}
	switch {
	case s.settled.Load():
		return nil, true, nil
	case s.vain.Load() > before:
		return nil, false, s.unanswered
	}
	resp, err = s.ask(req, direct, send)
	if err != nil && req.Context().Err() == nil {
		s.unanswered = err
		s.vain.Add(1)
	}
	return resp, false, err
}

func (s *scheme) ask(req *http.Request, direct bool, send func(*http.Request) (*http.Response, error)) (*http.Response, error) {
	var connected, elsewhere, secured atomic.Bool
	ctx := httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		ConnectDone: func(_, address string, err error) {
			if err == nil {
				connected.Store(true)
				elsewhere.Store(elsewhere.Load() || !isLoopbackAddress(address))
			}
		},
		TLSHandshakeDone: func(_ tls.ConnectionState, err error) { secured.Store(secured.Load() || err == nil) },
	})
	resp, err := send(withScheme(req.WithContext(ctx), "https"))
	if err == nil {
		s.settled.Store(true)
		return resp, nil
	}
	if req.Context().Err() != nil || !connected.Load() || secured.Load() || !refusesTLS(err) {
		return nil, err
	}
	if !s.plain {
		if !direct || elsewhere.Load() {
			return nil, err
		}
		req = onLoopback(req)
	}
	name := "http"
	if req.GetBody != nil {
		req = req.WithContext(req.Context())
		if req.Body, err = req.GetBody(); err != nil {
			return nil, err
		}
	}
	resp, err = send(withScheme(req, name))
	if err == nil {
		s.name.Store(&name)
		s.fell.Store(true)
		s.settled.Store(true)
		if s.fallen != nil {
			s.fallen()
		}
	}
	return resp, err
}

// refusesTLS tells whether a failed handshake shows a server that speaks no
// TLS. A certificate that is not trusted, or an alert, shows one that does.
func refusesTLS(err error) bool {
	var record tls.RecordHeaderError
	var network net.Error
	return errors.Is(err, http.ErrSchemeMismatch) || errors.As(err, &record) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) ||
		errors.As(err, &network) && network.Timeout()
}

// withScheme is req, or a copy of it with another scheme.
func withScheme(req *http.Request, name string) *http.Request {
	if req.URL.Scheme == name {
		return req
	}
	u := *req.URL
	u.Scheme = name
	req = req.WithContext(req.Context())
	req.URL = &u
	return req
}

// loopbackOnly, in a context, keeps newTransport's transports from dialing any
// other address than loopback's.
type loopbackOnly struct{}

func onLoopback(req *http.Request) *http.Request {
	return req.WithContext(context.WithValue(req.Context(), loopbackOnly{}, true))
}

// isLoopbackAddress tells whether an IP address with port is loopback's.
func isLoopbackAddress(address string) bool {
	parsed, err := netip.ParseAddrPort(address)
	return err == nil && parsed.Addr().Unmap().IsLoopback()
}

// isLoopbackHost tells whether a host, without port, is this machine by its name.
func isLoopbackHost(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.Unmap().IsLoopback()
}
