package registry

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/davit-cli/davit/credential"
	"github.com/davit-cli/davit/internal/oneline"
)

// maxRedirects is how many redirects of one request are followed.
const maxRedirects = 10

// client sends requests for the repositories of one host: to the registry, to
// where that redirects, and to the realm that gives tokens.
type client struct {
	opts       Options // as they are for this host
	session    *Session
	host       string // the registry's, as its URLs have it: host or host:port
	scheme     *scheme
	transports *transports
	backoff    time.Duration // before the first retry
	silence    silence

	contacted sync.Map                   // hosts that have answered
	address   atomic.Pointer[netip.Addr] // where the registry was last reached without a proxy

	uploads uploadHabits
	room    int64 // what is kept of a blob that is uploaded; 0: windowSize

	mu       sync.Mutex
	open     []*authorizer // of the repositories that are open
	accounts map[credential.Credential]*account
}

// join adds a repository to those that are open.
func (c *client) join(a *authorizer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open = append(c.open, a)
}

// leave takes a repository from those that are open.
func (c *client) leave(a *authorizer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open = slices.DeleteFunc(slices.Clone(c.open), func(other *authorizer) bool { return other == a })
	if len(c.open) == 0 {
		c.transports.closeIdle()
	}
}

// location is where an answer came from: its URL, which may be a secret, whose
// credential may be shown there (nil: nobody's), and whether it was a foreign
// layer's URL that led there, or content is pushed there.
type location struct {
	url     *url.URL
	auth    *authorizer
	foreign bool
	push    bool
}

// registryURL is a URL on the registry. Its scheme holds once the first answer
// has come.
func (c *client) registryURL(path string, auth *authorizer) location {
	return location{url: &url.URL{Scheme: c.scheme.now(), Host: c.host, Path: path}, auth: auth}
}

// atRegistry tells whether u has the registry's scheme, host and port.
func (c *client) atRegistry(u *url.URL) bool {
	return sameOrigin(u, &url.URL{Scheme: c.scheme.now(), Host: c.host})
}

// get sends a GET; see follow.
func (c *client) get(ctx context.Context, step string, at location, header http.Header, strict bool) (*http.Response, location, error) {
	return c.follow(ctx, step, http.MethodGet, at, header, strict, nil)
}

// follow sends a request and follows its redirects with the same method and
// body, answering the registry's challenge on the way. The answer may have any status but a
// redirect's; the caller closes its body. The credential is shown to the
// registry alone, and no more once a redirect has led away from it.
//
// With strict, a redirect from HTTPS to HTTP is refused: for what no digest
// vouches for.
func (c *client) follow(ctx context.Context, step, method string, at location, header http.Header, strict bool, body *payload) (*http.Response, location, error) {
	for range maxRedirects + 1 {
		resp, err := c.hop(ctx, step, method, at, header, body)
		if err != nil {
			return nil, at, err
		}
		at.url = resp.Request.URL
		if !isRedirect(resp) {
			return resp, at, nil
		}
		discard(resp)
		next, err := redirectTarget(resp)
		if err != nil {
			return nil, at, c.failure(step, resp.Request, err)
		}
		if strict && at.url.Scheme == "https" && next.Scheme == "http" {
			return nil, at, c.failure(step, resp.Request, fmt.Errorf("it redirects from HTTPS to HTTP, on %s", next.Host))
		}
		if at.push {
			if at, err = c.pushedTo(step, resp, at, next); err != nil {
				return nil, at, err
			}
			continue
		}
		if at.foreign {
			if err := c.checkURL(next); err != nil {
				return nil, at, c.refuseURL(step, at.url.Host, fmt.Errorf("it redirects to %s: %w", next.Host, err))
			}
		}
		at.url = next
		if !c.atRegistry(next) {
			at.auth = nil
		}
	}
	return nil, at, &Error{Step: step, Method: method, Host: at.url.Host, Path: at.url.Path,
		Message: fmt.Sprintf("more than %d redirects", maxRedirects)}
}

// hop sends one request, and again as long as a challenge is answered with
// something else.
func (c *client) hop(ctx context.Context, step, method string, at location, header http.Header, body *payload) (*http.Response, error) {
	send := func(authorization string) (*http.Response, error) {
		req := (&http.Request{Method: method, URL: at.url, Host: at.url.Host, Header: header.Clone()}).WithContext(ctx)
		if authorization != "" {
			req.Header.Set("Authorization", authorization)
		}
		if err := body.addTo(req); err != nil {
			return nil, err
		}
		switch {
		case at.auth != nil && at.push:
			return c.sendToRegistry(step, req, c.transports.toPush)
		case at.auth != nil:
			return c.sendToRegistry(step, req, c.transports.to)
		case at.push:
			return c.sendGuarded(step, req, c.transports.toPushElsewhere(req.URL), ErrUploadURL)
		case at.foreign:
			return c.sendGuarded(step, req, c.transports.toStranger(req.URL), ErrForeignURL)
		}
		return c.send(step, req, c.transports.to(at.url))
	}
	if at.auth == nil {
		return send("")
	}
	shown, err := at.auth.inAdvance(ctx)
	if err != nil {
		return nil, err
	}
	for bare := false; ; {
		bare = bare || shown.value == ""
		resp, err := send(shown.value)
		if err != nil {
			return nil, err
		}
		next, err := at.auth.answer(ctx, resp, shown)
		if err != nil {
			discard(resp)
			return nil, err
		}
		if next == nil || next.value == "" && bare {
			return resp, nil // nothing more to show: a refusal stands
		}
		discard(resp)
		shown = *next
	}
}

// send makes one round trip. An error is an *Error, or ctx's own.
func (c *client) send(step string, req *http.Request, transport http.RoundTripper) (*http.Response, error) {
	req.Header.Set("User-Agent", c.opts.UserAgent)
	c.traceRequest(req)
	resp, err := roundTrip(transport, req)
	if err != nil {
		c.traceFailure(req, err)
		return nil, c.failure(step, req, err)
	}
	resp.Request = req
	c.contacted.Store(req.URL.Host, true)
	c.traceAnswer(resp)
	return resp, nil
}

// sendToRegistry is send by a way, for URLs on the registry: it finds out which
// scheme the registry speaks where that is open, and notes where it was reached.
func (c *client) sendToRegistry(step string, req *http.Request, way func(*url.URL) http.RoundTripper) (*http.Response, error) {
	direct := c.transports.direct(withScheme(req, "https").URL) && c.transports.direct(withScheme(req, "http").URL)
	return c.scheme.settle(req, direct, func(req *http.Request) (*http.Response, error) {
		if c.transports.direct(req.URL) {
			req = c.noteAddress(req)
		}
		return c.send(step, req, way(req.URL))
	})
}

// noteAddress is req, which notes where it reaches the registry.
func (c *client) noteAddress(req *http.Request) *http.Request {
	return req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) {
			if tcp, ok := info.Conn.RemoteAddr().(*net.TCPAddr); ok {
				address := tcp.AddrPort().Addr().Unmap()
				c.address.Store(&address)
			}
		},
	}))
}

func isRedirect(resp *http.Response) bool {
	switch resp.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther,
		http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}

// redirectTarget is the URL that resp redirects to, without user and fragment.
// Errors do not repeat it: it may be signed.
func redirectTarget(resp *http.Response) (*url.URL, error) {
	where := resp.Header.Get("Location")
	if where == "" {
		return nil, fmt.Errorf("it answers %s without a Location", statusText(resp.StatusCode))
	}
	next, err := resp.Request.URL.Parse(where)
	if err != nil || next.Hostname() == "" {
		return nil, fmt.Errorf("it redirects to what is no URL")
	}
	if next.Scheme != "http" && next.Scheme != "https" {
		return nil, fmt.Errorf("it redirects to a URL of scheme %q", oneline.Clean(next.Scheme, 20))
	}
	next.User, next.Fragment, next.RawFragment = nil, "", ""
	return next, nil
}

// sameOrigin tells whether scheme, host and port are equal.
func sameOrigin(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && strings.EqualFold(a.Hostname(), b.Hostname()) && portOf(a) == portOf(b)
}

func portOf(u *url.URL) string {
	switch port := u.Port(); {
	case port != "":
		return port
	case u.Scheme == "http":
		return "80"
	default:
		return "443"
	}
}

const (
	maxDrained   = 4096 // bytes
	drainTimeout = time.Second
)

// discard closes the body of an answer that is not wanted. One that says that
// it is short is read first, so that the connection can be used again, unless
// that takes longer than drainTimeout.
func discard(resp *http.Response) {
	defer func() { _ = resp.Body.Close() }()
	if resp.ContentLength < 0 || resp.ContentLength > maxDrained {
		return
	}
	timer := time.AfterFunc(drainTimeout, func() { _ = resp.Body.Close() })
	defer timer.Stop()
	_, _ = io.CopyN(io.Discard, resp.Body, maxDrained)
}
