package registry

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
)

// scheme is what the registry speaks. Only on loopback is that found out, by
// the first request: HTTPS, and HTTP where the server does not speak TLS.
type scheme struct {
	name    atomic.Pointer[string]
	settled atomic.Bool
	asking  sync.Mutex // held while the first request is under way
}

func newScheme(host, written string, plainHTTP bool) *scheme {
	s := new(scheme)
	name := "https"
	if plainHTTP || written == "http" {
		name = "http"
	}
	s.name.Store(&name)
	s.settled.Store(name == "http" || written == "https" || !isLoopbackHost((&url.URL{Host: host}).Hostname()))
	return s
}

// now is the scheme as far as it is known.
func (s *scheme) now() string { return *s.name.Load() }

// settle sends req with the registry's scheme, finding that out where it is
// open. Requests that come meanwhile wait for the first.
func (s *scheme) settle(req *http.Request, send func(*http.Request) (*http.Response, error)) (*http.Response, error) {
	if !s.settled.Load() {
		s.asking.Lock()
		if !s.settled.Load() {
			defer s.asking.Unlock()
			return s.ask(req, send)
		}
		s.asking.Unlock()
	}
	return send(withScheme(req, s.now()))
}

func (s *scheme) ask(req *http.Request, send func(*http.Request) (*http.Response, error)) (*http.Response, error) {
	var connected, secured atomic.Bool
	ctx := httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		ConnectDone:      func(_, _ string, err error) { connected.Store(connected.Load() || err == nil) },
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
	name := "http"
	resp, err = send(withScheme(req, name))
	if err == nil {
		s.name.Store(&name)
		s.settled.Store(true)
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

// isLoopbackHost tells whether a host, without port, is this machine by its name.
func isLoopbackHost(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.Unmap().IsLoopback()
}
