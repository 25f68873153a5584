package registry

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpproxy"

	"github.com/davit-cli/davit/image"
)

// proxyTimeout is how long a SOCKS proxy may take to connect to a host. For
// CONNECT net/http has the same.
const proxyTimeout = time.Minute

// errProxyURL is all that is said of an URL that is none: it may hold a password.
var errProxyURL = errors.New("it is not host:port or a URL such as http://user:password@host:port, " +
	"of scheme http, https, socks5 or socks5h, with what is special in user and password percent-encoded")

// ProxyFromEnvironment is the proxy that the environment names, as it is now:
// https_proxy or HTTPS_PROXY for HTTPS, http_proxy or HTTP_PROXY for HTTP,
// all_proxy or ALL_PROXY where these are not set. no_proxy or NO_PROXY lists
// what goes without: host names (with those below them), addresses, CIDRs, each
// with a port or without. Loopback always does. So it is with most programs in Go
// (golang.org/x/net/http/httpproxy). The proxies are those of ProxyURL.
//
// A value that makes no sense is an error of the requests that it is for. It
// wraps ErrProxy, and does not repeat the value.
func ProxyFromEnvironment() func(*http.Request) (*url.URL, error) {
	everything := envProxy("all_proxy", "ALL_PROXY")
	secure := envProxy("https_proxy", "HTTPS_PROXY").or(everything)
	plain := envProxy("http_proxy", "HTTP_PROXY").or(everything)
	_, noProxy := getenv("no_proxy", "NO_PROXY")
	applies := appliesTo(noProxy)
	if os.Getenv("REQUEST_METHOD") != "" && plain.variable == "HTTP_PROXY" {
		// A web server's client can set that with a header: https://httpoxy.org
		plain = setting{variable: "HTTP_PROXY", err: errors.New("it is not used where REQUEST_METHOD is set, as in CGI")}
	}
	return func(req *http.Request) (*url.URL, error) {
		chosen := plain
		if req.URL.Scheme == "https" {
			chosen = secure
		}
		switch {
		case chosen.variable == "" || !applies(req.URL):
			return nil, nil
		case chosen.err != nil:
			return nil, fmt.Errorf("%w: %s: %w", ErrProxy, chosen.variable, chosen.err)
		}
		return chosen.proxy, nil
	}
}

// setting is what a variable of the environment says; the zero value: none.
type setting struct {
	variable string
	proxy    *url.URL
	err      error
}

func (s setting) or(other setting) setting {
	if s.variable == "" {
		return other
	}
	return s
}

func envProxy(names ...string) setting {
	name, value := getenv(names...)
	if name == "" {
		return setting{}
	}
	proxy, err := parseProxy(value)
	return setting{name, proxy, err}
}

// getenv is the first variable that is not empty.
func getenv(names ...string) (name, value string) {
	for _, name := range names {
		if value := os.Getenv(name); value != "" {
			return name, value
		}
	}
	return "", ""
}

// ProxyURL is one proxy for all requests, on loopback too, but for those to hosts
// that noProxy lists as NO_PROXY does. raw is host:port of an HTTP proxy or a URL:
//
//	http://host:port     HTTP proxy: CONNECT for HTTPS, full URLs for HTTP
//	https://host:port    the same, spoken to with TLS
//	socks5://host:port   SOCKS5 (RFC 1928)
//	socks5h://host:port  the same: with both the proxy resolves the names of hosts
//
// A user and a password in it are shown to the proxy: as Basic, with SOCKS5 as
// RFC 1929 has it. An error wraps ErrProxy, and does not repeat raw.
func ProxyURL(raw, noProxy string) (func(*http.Request) (*url.URL, error), error) {
	proxy, err := parseProxy(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProxy, err)
	}
	applies := appliesTo(noProxy)
	return func(req *http.Request) (*url.URL, error) {
		if isLocal(req.URL.Hostname()) {
			if listsLocal(noProxy, req.URL) {
				return nil, nil
			}
			return proxy, nil
		}
		if !applies(req.URL) {
			return nil, nil
		}
		return proxy, nil
	}, nil
}

// parseProxy reads host:port, or a URL. The errors do not repeat it.
func parseProxy(raw string) (*url.URL, error) {
	raw = strings.TrimSpace(raw)
	if !strings.Contains(raw, "://") {
		raw = "http://" + raw
	}
	u, err := url.Parse(raw)
	// With a path or so, it is most likely a password that is not escaped.
	if err != nil || !isProxy(u) || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return nil, errProxyURL
	}
	return &url.URL{Scheme: u.Scheme, User: u.User, Host: u.Host}, nil
}

// isProxy tells whether u may be a proxy's URL.
func isProxy(u *url.URL) bool {
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return false
		}
	}
	switch u.Scheme {
	case "http", "https", "socks5", "socks5h":
		return u.Hostname() != ""
	}
	return false
}

// appliesTo tells whether a host is one that noProxy does not list, nor on loopback.
func appliesTo(noProxy string) func(*url.URL) bool {
	config := httpproxy.Config{HTTPProxy: "http://proxy.invalid", HTTPSProxy: "http://proxy.invalid", NoProxy: noProxy}
	choose := config.ProxyFunc()
	return func(u *url.URL) bool {
		proxy, err := choose(u)
		return proxy != nil && err == nil
	}
}

// isLocal tells whether httpproxy keeps a host from any proxy.
func isLocal(host string) bool {
	address, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && address.Unmap().IsLoopback()
}

// listsLocal tells whether noProxy lists u, which isLocal, so that httpproxy does
// not look.
func listsLocal(noProxy string, u *url.URL) bool {
	address, _ := netip.ParseAddr(u.Hostname())
	address = address.Unmap()
	for entry := range strings.SplitSeq(noProxy, ",") {
		entry = strings.ToLower(strings.TrimSpace(entry))
		if entry == "*" {
			return true
		}
		if prefix, err := netip.ParsePrefix(entry); err == nil {
			if address.IsValid() && prefix.Contains(address) {
				return true
			}
			continue
		}
		host, port, err := net.SplitHostPort(entry)
		if err != nil {
			host, port = entry, ""
		}
		if port != "" && port != portOf(u) {
			continue
		}
		listed, err := netip.ParseAddr(host)
		if err == nil && listed.Unmap() == address || err != nil && host == u.Hostname() {
			return true
		}
	}
	return false
}

func isSOCKS(proxy *url.URL) bool { return proxy.Scheme == "socks5" || proxy.Scheme == "socks5h" }

// forwards tells whether proxy reads requests for u, and may answer them itself.
func forwards(proxy, u *url.URL) bool {
	return proxy != nil && !isSOCKS(proxy) && u.Scheme == "http"
}

// wantsUser tells whether an answer is the proxy's own, which asks for a user and
// a password: 407, or what tinyproxy answers to wrong ones, 401. That is not to
// be taken for the registry's.
func wantsUser(proxy *url.URL, resp *http.Response) bool {
	switch resp.StatusCode {
	case http.StatusProxyAuthRequired:
		return true
	case http.StatusUnauthorized:
		return proxy.User != nil && strings.HasPrefix(resp.Header.Get("Server"), "tinyproxy/") && resp.Header.Get("Via") == ""
	}
	return false
}

// proxyRefusal is a proxy's own answer where it was to connect us to a host.
type proxyRefusal struct {
	status  int
	detail  string   // Squid's reason
	schemes []string // in which it wants to be convinced, for 407
	shown   bool     // it was shown a user
}

func newProxyRefusal(proxy *url.URL, resp *http.Response) *proxyRefusal {
	e := &proxyRefusal{status: resp.StatusCode, detail: resp.Header.Get("X-Squid-Error"), shown: proxy.User != nil}
	for _, c := range parseChallenges(http.Header{"Www-Authenticate": resp.Header.Values("Proxy-Authenticate")}) {
		e.schemes = append(e.schemes, c.scheme)
	}
	return e
}

func (e *proxyRefusal) Error() string { return "the proxy answers " + statusText(e.status) }

// proxyFault is what a proxy failed of; nil where the failure is not its own.
func (c *client) proxyFault(u, proxy *url.URL, err error) *fault {
	var (
		refusal   *proxyRefusal
		operation *net.OpError
	)
	name := "the proxy"
	if proxy != nil {
		name += " " + c.public(proxy.Host, 200)
	}
	found := func(message string, dial, transient bool, also ...error) *fault {
		return &fault{message, append(also, ErrProxy, err), dial, transient}
	}
	errors.As(err, &operation)
	switch {
	case errors.Is(err, ErrProxy):
		return found(strings.TrimPrefix(c.publicFrom(u, err.Error(), 400), ErrProxy.Error()+": "), true, false)
	case errors.As(err, &refusal) && (refusal.status == http.StatusProxyAuthRequired || refusal.status == http.StatusUnauthorized):
		return found(name+" "+c.wishes(refusal), true, false, ErrProxyAuth)
	case errors.As(err, &refusal):
		answer := statusText(refusal.status)
		if refusal.detail != "" {
			answer += " (" + c.public(refusal.detail, 100) + ")"
		}
		return found(name+" does not connect to "+u.Host+": "+answer, true, mayPass(refusal.status), ErrProxyRefusal)
	case err == context.DeadlineExceeded, errors.Is(err, errProxySilent): //nolint:errorlint // other timeouts say that they are this one
		return found(fmt.Sprintf("%s does not connect to %s within %v", name, u.Host, proxyTimeout), true, true)
	case operation != nil && operation.Op == "proxyconnect":
		inner := c.hostFault(u, operation.Err)
		inner.message, inner.causes, inner.dial = name+": "+inner.message, append(inner.causes, ErrProxy), true
		return &inner
	case operation != nil && strings.HasPrefix(operation.Op, "socks "):
		// What SOCKS says is only to be had as text.
		switch text := operation.Err.Error(); {
		case strings.Contains(text, "username/password"):
			return found(name+" refuses the user and the password", true, false, ErrProxyAuth)
		case strings.Contains(text, "no acceptable authentication methods"):
			return found(name+" "+c.wishes(&proxyRefusal{shown: proxy != nil && proxy.User != nil}), true, false, ErrProxyAuth)
		default:
			return found(name+" does not connect to "+u.Host+": "+c.publicFrom(u, strings.TrimPrefix(text, "unknown error "), 200), true, true, ErrProxyRefusal)
		}
	}
	return nil
}

// wishes is what a proxy wants that asks for a user.
func (c *client) wishes(refusal *proxyRefusal) string {
	basic := len(refusal.schemes) == 0
	for _, scheme := range refusal.schemes {
		basic = basic || scheme == "basic"
	}
	switch {
	case !basic:
		return "wants to be shown " + c.public(strings.Join(refusal.schemes, " or "), 100) + "; davit has only Basic"
	case refusal.shown:
		return "refuses the user and the password"
	}
	return "wants a user and a password"
}

// proxied is what is known of the proxies that were used.
type proxied struct {
	mu      sync.Mutex
	told    map[string]bool // hosts of which an event has told
	users   map[string]bool
	secrets []string
	shown   atomic.Pointer[redactor]
}

// note tells of a proxy the first time that it is used for host, and keeps what
// is secret of it.
func (p *proxied) note(opts Options, proxy *url.URL, host string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.told == nil {
		p.told, p.users = map[string]bool{}, map[string]bool{}
	}
	if user := proxy.User.String(); user != "" && !p.users[user] {
		p.users[user] = true
		password, _ := proxy.User.Password()
		if len(password) >= 4 { // or messages would be mutilated by chance
			p.secrets = append(p.secrets, formsOf(password)...)
			p.secrets = append(p.secrets, base64Of(proxy.User.Username()+":"+password)...)
		}
		p.shown.Store(newRedactor(p.secrets))
	}
	if !p.told[host] {
		p.told[host] = true
		opts.Events.Send(image.Event{Kind: image.EventStep, Text: host + " is asked through the proxy " + proxy.Host})
	}
}

// redactor finds the proxies' passwords in texts.
func (p *proxied) redactor() *redactor {
	if r := p.shown.Load(); r != nil {
		return r
	}
	return newRedactor(nil)
}

var errProxySilent = errors.New("the proxy is silent")

// socksConn is a connection to a SOCKS proxy: it ends where that is not done with
// its part within proxyTimeout, of which net/http takes no care.
type socksConn struct {
	net.Conn
	timer  *time.Timer
	silent atomic.Bool
}

func newSOCKSConn(conn net.Conn) *socksConn {
	c := &socksConn{Conn: conn}
	c.timer = time.AfterFunc(proxyTimeout, func() {
		c.silent.Store(true)
		_ = conn.Close()
	})
	return c
}

// Write sees the end of the proxy's part: messages to it begin with a version of
// SOCKS or of its authentication, 5 or 1; neither TLS nor HTTP does.
func (c *socksConn) Write(p []byte) (int, error) {
	if len(p) > 0 && p[0] != 5 && p[0] != 1 {
		c.timer.Stop()
	}
	return c.Conn.Write(p)
}

func (c *socksConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil && c.silent.Load() {
		err = errProxySilent
	}
	return n, err
}

func (c *socksConn) Close() error {
	c.timer.Stop()
	return c.Conn.Close()
}
