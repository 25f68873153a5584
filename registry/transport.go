package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/davit-cli/davit/hosts"
)

// Limits of a connection. There is none on the whole of a request: blobs take
// as long as they take.
const (
	dialTimeout      = 15 * time.Second
	handshakeTimeout = 15 * time.Second
	headerTimeout    = 30 * time.Second
	continueTimeout  = 2 * time.Second // how long a body waits for leave
	idleTimeout      = 90 * time.Second
	idlePerHost      = 64
)

// transports are the ways out, for the requests that one registry is the cause
// of: to itself, to its realm, to where it redirects. All speak HTTP/1.1, where
// a connection carries one answer at a time: many connections are what makes
// ranges fast.
type transports struct {
	host    string     // the registry's
	reached hosts.Host // how the registry is
	opts    Options
	warn    func(text string)
	given   http.RoundTripper // nil: those made here
	proxy   func(*http.Request) (*url.URL, error)
	check   func(address string) error
	dial    dialFunc
	system  *x509.CertPool // stands for the system's CAs; nil: these

	mu     sync.Mutex
	known  map[string]hosts.Host // what Options.Hosts says, by host
	trusts map[string]*trust     // by what they hold
	made   map[kind]*http.Transport

	proxied  proxied
	requests sync.Map // host to certificateRequest
}

// kind tells transports apart: no connection serves requests of two kinds.
type kind struct {
	trust   *trust
	guarded bool   // addresses are checked before they are dialed
	patient bool   // answers may take as long as they take
	proxy   *trust // of a proxy on HTTPS
}

// newTransports reads the certificates of host, which is reached as told. check
// is asked before an address is dialed for a token realm or a foreign layer's
// URL, and warn is told of other hosts whose certificates are not checked. An
// error wraps ErrCertificateFile.
func newTransports(host string, reached hosts.Host, opts Options, check func(address string) error, warn func(text string)) (*transports, error) {
	t := &transports{
		host: host, reached: reached, opts: opts, check: check, warn: warn,
		given: opts.Transport, proxy: opts.Proxy, dial: dialer(nil),
		known: map[string]hosts.Host{}, trusts: map[string]*trust{}, made: map[kind]*http.Transport{},
	}
	switch {
	case t.given != nil:
		t.proxy = proxyOf(t.given)
		return t, nil
	case t.proxy == nil:
		t.proxy = ProxyFromEnvironment()
	}
	_, err := t.trustFor(&url.URL{Scheme: "https", Host: host}, false)
	return t, err
}

// to is the transport for u.
func (t *transports) to(u *url.URL) http.RoundTripper { return t.way(way{to: u}) }

// toRealm is the transport for a token realm that is not the registry itself:
// it checks each address before it dials it. A proxy's is the user's choice.
func (t *transports) toRealm(u *url.URL) http.RoundTripper {
	return t.way(way{to: u, guarded: true})
}

// toStranger is toRealm for what neither the user nor the registry named, such
// as a foreign layer's URL: no certificate of ours is shown there.
func (t *transports) toStranger(u *url.URL) http.RoundTripper {
	return t.way(way{to: u, guarded: true, bare: true})
}

// toPush is to for requests that carry content, or wait until the registry has
// checked some: whoever sends them gives up by himself.
func (t *transports) toPush(u *url.URL) http.RoundTripper { return t.way(way{to: u, patient: true}) }

// toPushElsewhere is toPush for where the registry has content sent beside itself.
func (t *transports) toPushElsewhere(u *url.URL) http.RoundTripper {
	return t.way(way{to: u, patient: true, guarded: true})
}

func (t *transports) way(w way) http.RoundTripper {
	if t.given != nil {
		return t.given
	}
	w.transports = t
	return w
}

// way is the way to one host.
type way struct {
	*transports
	to      *url.URL
	guarded bool // addresses are checked before they are dialed
	patient bool // answers may take as long as they take
	bare    bool // no certificate of ours is shown
}

// RoundTrip sends req by its proxy, if it has one. Errors are a *wayError.
func (w way) RoundTrip(req *http.Request) (*http.Response, error) {
	host := w.to.Host
	proxy, err := w.proxyFor(req.URL)
	if err != nil {
		return nil, &wayError{error: err}
	}
	k := kind{guarded: w.guarded && proxy == nil, patient: w.patient}
	if k.trust, err = w.trustFor(w.to, w.bare); err != nil {
		return nil, &wayError{error: err}
	}
	if proxy != nil {
		w.proxied.note(w.opts, proxy, host)
		if proxy.Scheme == "https" {
			if k.proxy, err = w.trustForProxy(proxy); err != nil {
				return nil, &wayError{error: err}
			}
		}
	}
	ctx := context.WithValue(req.Context(), leading{}, lead{host, proxy})
	resp, err := w.transport(k).RoundTrip(req.WithContext(ctx))
	if err == nil && forwards(proxy, req.URL) && wantsUser(proxy, resp) {
		discard(resp)
		resp, err = nil, newProxyRefusal(proxy, resp)
	}
	if err != nil {
		return nil, &wayError{error: err, proxy: proxy}
	}
	return resp, nil
}

// lead is where a connection leads to, for the context that it is made with.
type lead struct {
	host  string
	proxy *url.URL
}

type leading struct{}

// wayError is a round trip that failed.
type wayError struct {
	error
	proxy *url.URL // that it was to go through; nil: none
}

func (e *wayError) Unwrap() error { return e.error }

// transport makes the transport of a kind the first time that it is wanted.
func (t *transports) transport(k kind) *http.Transport {
	t.mu.Lock()
	defer t.mu.Unlock()
	made := t.made[k]
	if made == nil {
		made = t.newTransport(k)
		t.made[k] = made
	}
	return made
}

func (t *transports) newTransport(k kind) *http.Transport {
	dial := t.dial
	if k.guarded {
		dial = dialer(t.check)
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	made := &http.Transport{
		Proxy: func(req *http.Request) (*url.URL, error) {
			to, _ := req.Context().Value(leading{}).(lead)
			return to.proxy, nil
		},
		OnProxyConnectResponse: func(_ context.Context, proxy *url.URL, _ *http.Request, resp *http.Response) error {
			if resp.StatusCode == http.StatusOK {
				return nil
			}
			return newProxyRefusal(proxy, resp)
		},
		DialContext:            dial.patient,
		TLSClientConfig:        k.trust.config(&t.requests),
		TLSHandshakeTimeout:    handshakeTimeout,
		ResponseHeaderTimeout:  headerTimeout,
		MaxResponseHeaderBytes: 256 << 10,
		MaxIdleConnsPerHost:    idlePerHost,
		IdleConnTimeout:        idleTimeout,
		DisableCompression:     true, // the bytes as they are, which digests name
		Protocols:              protocols,
	}
	if k.patient {
		made.ResponseHeaderTimeout = 0
		made.ExpectContinueTimeout = continueTimeout
	}
	if k.proxy != nil {
		// Only the proxy is dialed: the host is spoken to within that connection,
		// with TLSClientConfig.
		made.DialTLSContext = dial.withTLS(k.proxy.config(nil))
	}
	return made
}

type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// dialer dials addresses that check has nothing against; nil: all.
func dialer(check func(address string) error) dialFunc {
	d := &net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}
	d.ControlContext = func(ctx context.Context, _, address string, _ syscall.RawConn) error {
		switch {
		case ctx.Value(loopbackOnly{}) != nil && !isLoopbackAddress(address):
			return errors.New("plain HTTP was found on loopback, and the name leads elsewhere now")
		case check != nil:
			return check(address)
		}
		return nil
	}
	return d.DialContext
}

// patient is dial, which however does not wait for ever for a SOCKS proxy.
func (dial dialFunc) patient(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := dial(ctx, network, address)
	if to, _ := ctx.Value(leading{}).(lead); err == nil && to.proxy != nil && isSOCKS(to.proxy) {
		return newSOCKSConn(conn), nil
	}
	return conn, err
}

// withTLS is dial, with TLS for the name that is dialed.
func (dial dialFunc) withTLS(config *tls.Config) dialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		own := config.Clone()
		own.ServerName = (&url.URL{Host: address}).Hostname()
		secured := tls.Client(conn, own)
		ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
		defer cancel()
		if err := secured.HandshakeContext(ctx); err != nil {
			_ = conn.Close()
			return nil, err
		}
		return secured, nil
	}
}

// hostFor is how u's host is reached. What the registry's Host trusts holds on
// all hosts that the registry leads to. Its certificates are shown to the
// registry alone. Certificates go unchecked on the registry's host name,
// whatever the port: a self-made certificate there is often shared with the
// realm beside it. What lies on other hosts is not what the user vouched for.
func (t *transports) hostFor(u *url.URL) (hosts.Host, error) {
	registry := &url.URL{Scheme: u.Scheme, Host: t.host}
	if sameOrigin(u, registry) {
		return t.reached, nil
	}
	found, err := t.ask(u)
	if err != nil {
		return found, err
	}
	if strings.EqualFold(u.Hostname(), registry.Hostname()) {
		found.Insecure = found.Insecure || t.reached.Insecure
	}
	found.CAFiles = append(append([]string{}, t.reached.CAFiles...), found.CAFiles...)
	return found, nil
}

// ask is what Options.Hosts says of a host other than the registry. It warns of
// one whose certificate is not checked.
func (t *transports) ask(u *url.URL) (hosts.Host, error) {
	if t.opts.Hosts == nil {
		return hosts.Host{}, nil
	}
	name := strings.ToLower(u.Host)
	t.mu.Lock()
	found, ok := t.known[name]
	t.mu.Unlock()
	if ok {
		return found, nil
	}
	found, err := t.opts.Hosts(name)
	if err != nil {
		return found, fmt.Errorf("find how %s is reached: %w", name, err)
	}
	t.mu.Lock()
	_, ok = t.known[name]
	t.known[name] = found
	t.mu.Unlock()
	if found.Insecure && !ok {
		t.warn("the certificate of " + name + " is not checked" + bySource(found))
	}
	return found, nil
}

// proxyFor is the proxy for u; nil for none. Its user and password are secrets.
func (t *transports) proxyFor(u *url.URL) (*url.URL, error) {
	if t.proxy == nil {
		return nil, nil
	}
	proxy, err := t.proxy(&http.Request{URL: u, Host: u.Host, Header: http.Header{}})
	switch {
	case errors.Is(err, ErrProxy):
		return nil, err
	case err != nil: // its text may hold the proxy's URL
		return nil, fmt.Errorf("%w: it is not known which one to use", ErrProxy)
	case proxy != nil && !isProxy(proxy):
		return nil, fmt.Errorf("%w: %w", ErrProxy, errProxyURL)
	}
	return proxy, nil
}

// direct tells whether no proxy stands between us and u.
func (t *transports) direct(u *url.URL) bool {
	proxy, err := t.proxyFor(u)
	return err == nil && proxy == nil
}

func (t *transports) closeIdle() {
	if closer, ok := t.given.(interface{ CloseIdleConnections() }); ok {
		closer.CloseIdleConnections()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, made := range t.made {
		made.CloseIdleConnections()
	}
}

func proxyOf(transport http.RoundTripper) func(*http.Request) (*url.URL, error) {
	if t, ok := transport.(*http.Transport); ok {
		return t.Proxy
	}
	return nil
}
