package registry

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"
)

// Limits of a connection. There is none on the whole of a request: blobs take
// as long as they take.
const (
	dialTimeout      = 15 * time.Second
	handshakeTimeout = 15 * time.Second
	headerTimeout    = 30 * time.Second
	idleTimeout      = 90 * time.Second
	idlePerHost      = 64
)

// transports are the ways out. All speak HTTP/1.1, where a connection carries
// one answer at a time: many connections are what makes ranges fast.
type transports struct {
	host     string // the registry's
	secure   http.RoundTripper
	insecure http.RoundTripper // nil: every certificate is checked
	// The same for token realms: these check each address before they dial it,
	// and use no proxy. Nil with a Transport that was given.
	guarded, guardedInsecure http.RoundTripper
	proxy                    func(*http.Request) (*url.URL, error)
}

func newTransports(host string, opts Options, check func(address string) error) *transports {
	if opts.Transport != nil {
		return &transports{host: host, secure: opts.Transport, proxy: proxyOf(opts.Transport)}
	}
	t := &transports{host: host, proxy: proxyFromEnvironment}
	t.secure = newTransport(nil, false)
	t.guarded = newTransport(check, false)
	if opts.Insecure {
		t.insecure = newTransport(nil, true)
		t.guardedInsecure = newTransport(check, true)
	}
	return t
}

func newTransport(check func(address string) error, insecure bool) *http.Transport {
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}
	proxy := proxyFromEnvironment
	if check != nil {
		proxy = nil
	}
	dialer.ControlContext = func(ctx context.Context, _, address string, _ syscall.RawConn) error {
		switch {
		case ctx.Value(loopbackOnly{}) != nil && !isLoopbackAddress(address):
			return errors.New("plain HTTP was found on loopback, and the name leads elsewhere now")
		case check != nil:
			return check(address)
		}
		return nil
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		Proxy:                  proxy,
		DialContext:            dialer.DialContext,
		TLSClientConfig:        &tls.Config{InsecureSkipVerify: insecure}, //nolint:gosec // only where the user asked for it
		TLSHandshakeTimeout:    handshakeTimeout,
		ResponseHeaderTimeout:  headerTimeout,
		MaxResponseHeaderBytes: 256 << 10,
		MaxIdleConnsPerHost:    idlePerHost,
		IdleConnTimeout:        idleTimeout,
		DisableCompression:     true, // the bytes as they are, which digests name
		Protocols:              protocols,
	}
}

// to is the transport for u. Certificates go unchecked on the registry's host
// alone, whatever its port: a self-made certificate there is often shared with
// the realm beside it. What lies on other hosts was not what the user vouched
// for.
func (t *transports) to(u *url.URL) http.RoundTripper {
	if t.lax(u) {
		return t.insecure
	}
	return t.secure
}

func (t *transports) lax(u *url.URL) bool {
	registry := url.URL{Host: t.host}
	return t.insecure != nil && strings.EqualFold(u.Hostname(), registry.Hostname())
}

// toRealm is the transport for a token realm that is not the registry itself.
func (t *transports) toRealm(u *url.URL) http.RoundTripper {
	switch {
	case t.guarded == nil || !t.direct(u):
		return t.to(u)
	case t.lax(u):
		return t.guardedInsecure
	}
	return t.guarded
}

// direct tells whether no proxy stands between us and u.
func (t *transports) direct(u *url.URL) bool {
	if t.proxy == nil {
		return true
	}
	proxy, err := t.proxy(&http.Request{URL: u})
	return err == nil && proxy == nil
}

func (t *transports) closeIdle() {
	for _, transport := range []http.RoundTripper{t.secure, t.insecure, t.guarded, t.guardedInsecure} {
		if closer, ok := transport.(interface{ CloseIdleConnections() }); ok {
			closer.CloseIdleConnections()
		}
	}
}

// proxyFromEnvironment is http.ProxyFromEnvironment, but its errors do not
// repeat the proxy's URL, which may hold a password.
func proxyFromEnvironment(req *http.Request) (*url.URL, error) {
	proxy, err := http.ProxyFromEnvironment(req)
	if err != nil {
		return nil, errors.New("the proxy that the environment names is no valid URL")
	}
	return proxy, nil
}

func proxyOf(transport http.RoundTripper) func(*http.Request) (*url.URL, error) {
	if t, ok := transport.(*http.Transport); ok {
		return t.Proxy
	}
	return nil
}
