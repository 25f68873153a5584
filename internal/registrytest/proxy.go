package registrytest

import (
	"bufio"
	"context"
	"crypto/subtle"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"sync"
)

// ProxyOptions say how a Proxy behaves. The zero value takes everybody anywhere.
type ProxyOptions struct {
	// User and Password are asked for where there is a User: as Basic, with
	// SOCKS5 as RFC 1929 has it.
	User, Password string
	// Resolve leads hosts (host:port, or host for all ports) to other
	// addresses (host:port).
	Resolve map[string]string
	// Refuse answers CONNECT with this status, and SOCKS5 with "connection not
	// allowed"; 0: nobody is refused.
	Refuse int
	// TLS serves the proxy over TLS, with a certificate for 127.0.0.1, ::1 and
	// localhost by a CA of its own (Proxy.CAPEM).
	TLS bool
}

// Proxy is a forward proxy on 127.0.0.1: for plain HTTP, CONNECT and SOCKS5, all
// at one port.
type Proxy struct {
	options  ProxyOptions
	listener net.Listener
	server   http.Server
	http     *handover // connections of HTTP
	forward  *http.Transport
	ca       *authority
	serving  sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	open     map[net.Conn]bool
	through  []string
	refusals int
	certs    int
}

// NewProxy starts a proxy. The caller closes it.
func NewProxy(o ProxyOptions) (*Proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen as proxy: %w", err)
	}
	p := &Proxy{options: o, listener: listener, open: map[net.Conn]bool{}}
	if o.TLS {
		if p.ca, err = newAuthority("registrytest proxy CA", nil); err != nil {
			return nil, errors.Join(err, listener.Close())
		}
		config := p.ca.serverConfig()
		config.ClientAuth = tls.RequestClientCert
		config.VerifyConnection = func(state tls.ConnectionState) error {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.certs += len(state.PeerCertificates)
			return nil
		}
		p.listener = tls.NewListener(listener, config)
	}
	p.http = &handover{Listener: p.listener, conns: make(chan net.Conn), done: make(chan struct{})}
	p.forward = &http.Transport{DialContext: p.dial, DisableCompression: true}
	forward := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.Out.Host = r.In.Host },
		Transport: p.forward,
		ErrorLog:  log.New(io.Discard, "", 0),
	}
	p.server.ErrorLog = forward.ErrorLog
	p.server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.serveHTTP(w, r, forward) })
	p.serving.Go(p.accept)
	p.serving.Go(func() { _ = p.server.Serve(p.http) }) // ends by Close
	return p, nil
}

// StartProxy is NewProxy for a test, as Start is New.
func StartProxy(t TB, o ProxyOptions) *Proxy {
	t.Helper()
	p, err := NewProxy(o)
	if err != nil {
		t.Fatalf("start the test proxy: %v", err)
	}
	t.Cleanup(func() { _ = p.Close() }) // Close has no error to give
	return p
}

// Host is the proxy's host:port.
func (p *Proxy) Host() string { return p.listener.Addr().String() }

// URL is the proxy's URL with a scheme (http, https, socks5, socks5h), and with
// the user and the password that it asks for.
func (p *Proxy) URL(scheme string) *url.URL {
	u := &url.URL{Scheme: scheme, Host: p.Host()}
	if p.options.User != "" {
		u.User = url.UserPassword(p.options.User, p.options.Password)
	}
	return u
}

// CAPEM returns the certificate of the proxy's CA, in PEM; nil without TLS.
func (p *Proxy) CAPEM() []byte {
	if p.ca == nil {
		return nil
	}
	return p.ca.pem
}

// Through lists what went through, in order: "CONNECT registry.test:443",
// "HTTP registry.test:80" (for each request), "SOCKS5 registry.test:443".
func (p *Proxy) Through() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.through)
}

// Refusals counts the requests without the right user and password.
func (p *Proxy) Refusals() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.refusals
}

// ClientCerts counts the certificates that clients showed to the proxy itself,
// which asks for one where it serves TLS.
func (p *Proxy) ClientCerts() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.certs
}

// Close ends the proxy and all connections. It may be repeated.
func (p *Proxy) Close() error {
	p.mu.Lock()
	closed := p.closed
	p.closed = true
	for conn := range p.open {
		_ = conn.Close()
	}
	p.mu.Unlock()
	if !closed {
		close(p.http.done)
		_ = p.server.Close() // the listener too
		p.forward.CloseIdleConnections()
	}
	p.serving.Wait()
	return nil
}

// accept takes connections, and hands those over that do not begin as SOCKS5 does.
func (p *Proxy) accept() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return // by Close
		}
		p.serving.Go(func() {
			if !p.hold(conn) {
				return
			}
			reader := bufio.NewReader(conn)
			switch first, err := reader.Peek(1); {
			case err != nil:
				p.drop(conn)
			case first[0] == 5:
				defer p.drop(conn)
				p.serveSOCKS(conn, reader)
			default:
				p.http.give(&buffered{conn, reader, func() { p.drop(conn) }})
			}
		})
	}
}

// hold keeps a connection for Close; false where that is over, and it is closed.
func (p *Proxy) hold(conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		_ = conn.Close()
		return false
	}
	p.open[conn] = true
	return true
}

func (p *Proxy) drop(conn net.Conn) {
	_ = conn.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, conn)
}

func (p *Proxy) record(way, host string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.through = append(p.through, way+" "+host)
}

// admits tells whether user and password are those that are asked for.
func (p *Proxy) admits(user, password string) bool {
	if p.options.User == "" || subtle.ConstantTimeCompare([]byte(user+"\n"+password), []byte(p.options.User+"\n"+p.options.Password)) == 1 {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refusals++
	return false
}

// dial connects to a host (host:port), where Resolve leads it.
func (p *Proxy) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, _ := net.SplitHostPort(address)
	for _, name := range []string{address, host} {
		if to := p.options.Resolve[name]; to != "" {
			address = to
			break
		}
	}
	return new(net.Dialer).DialContext(ctx, network, address)
}

func (p *Proxy) serveHTTP(w http.ResponseWriter, r *http.Request, forward http.Handler) {
	request := http.Request{Header: http.Header{"Authorization": r.Header["Proxy-Authorization"]}}
	user, password, _ := request.BasicAuth()
	if !p.admits(user, password) {
		w.Header().Set("Proxy-Authenticate", `Basic realm="proxy"`)
		w.WriteHeader(http.StatusProxyAuthRequired)
		return
	}
	switch {
	case r.Method == http.MethodConnect:
		p.connect(w, r)
	case r.URL.IsAbs():
		p.record("HTTP", withPort(r.URL))
		forward.ServeHTTP(w, r)
	default:
		http.Error(w, "this is a proxy", http.StatusBadRequest)
	}
}

func (p *Proxy) connect(w http.ResponseWriter, r *http.Request) {
	if p.options.Refuse != 0 {
		w.WriteHeader(p.options.Refuse)
		return
	}
	to, err := p.dial(r.Context(), "tcp", r.Host)
	if err != nil {
		w.Header().Set("X-Squid-Error", "ERR_CONNECT_FAIL 111")
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	if !p.hold(to) {
		return
	}
	defer p.drop(to)
	p.record("CONNECT", r.Host)
	from, buffer, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer func() { _ = from.Close() }()
	if _, err := io.WriteString(from, "HTTP/1.1 200 Connection established\r\n\r\n"); err == nil {
		join(from, buffer, to)
	}
}

// join passes bytes on until either side ends.
func join(from net.Conn, read io.Reader, to net.Conn) {
	var both sync.WaitGroup
	pass := func(w net.Conn, r io.Reader) {
		_, _ = io.Copy(w, r) // either side may go at any time
		_ = from.Close()
		_ = to.Close()
	}
	both.Go(func() { pass(to, read) })
	both.Go(func() { pass(from, to) })
	both.Wait()
}

// Messages of SOCKS5 (RFC 1928, RFC 1929).
const (
	socksNone, socksPassword, socksNoMethod = 0, 2, 255
	socksSucceeded, socksNotAllowed         = 0, 2
	socksRefused                            = 5
)

func (p *Proxy) serveSOCKS(conn net.Conn, r *bufio.Reader) {
	methods, err := prefixed(r, 1)
	if err != nil {
		return
	}
	method := byte(socksNone)
	if p.options.User != "" {
		method = socksPassword
	}
	if !slices.Contains(methods, method) {
		p.admits("", "")
		method = socksNoMethod
	}
	if _, err := conn.Write([]byte{5, method}); err != nil || method == socksNoMethod {
		return
	}
	if method == socksPassword {
		user, err1 := prefixed(r, 1)
		password, err2 := prefixed(r, 0)
		if errors.Join(err1, err2) != nil {
			return
		}
		if !p.admits(string(user), string(password)) {
			_, _ = conn.Write([]byte{1, 1})
			return
		}
		if _, err := conn.Write([]byte{1, 0}); err != nil {
			return
		}
	}
	host, err := socksAddress(r)
	if err != nil {
		return
	}
	answer := []byte{5, socksSucceeded, 0, 1, 0, 0, 0, 0, 0, 0}
	if p.options.Refuse != 0 {
		answer[1] = socksNotAllowed
		_, _ = conn.Write(answer)
		return
	}
	to, err := p.dial(context.Background(), "tcp", host)
	if err != nil {
		answer[1] = socksRefused
		_, _ = conn.Write(answer)
		return
	}
	if !p.hold(to) {
		return
	}
	defer p.drop(to)
	p.record("SOCKS5", host)
	if _, err := conn.Write(answer); err == nil {
		join(conn, r, to)
	}
}

// prefixed reads bytes that follow their number, which follows skip bytes.
func prefixed(r *bufio.Reader, skip int) ([]byte, error) {
	head := make([]byte, skip+1)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	data := make([]byte, head[skip])
	_, err := io.ReadFull(r, data)
	return data, err
}

// socksAddress reads the request to connect to a host.
func socksAddress(r *bufio.Reader) (string, error) {
	head := make([]byte, 4)
	if _, err := io.ReadFull(r, head); err != nil {
		return "", err
	}
	var host string
	switch head[3] {
	case 1, 4:
		address := make([]byte, map[byte]int{1: 4, 4: 16}[head[3]])
		if _, err := io.ReadFull(r, address); err != nil {
			return "", err
		}
		parsed, _ := netip.AddrFromSlice(address)
		host = parsed.String()
	case 3:
		name, err := prefixed(r, 0)
		if err != nil {
			return "", err
		}
		host = string(name)
	default:
		return "", errors.New("an address of an unknown type")
	}
	var port uint16
	if err := binary.Read(r, binary.BigEndian, &port); err != nil {
		return "", err
	}
	return net.JoinHostPort(host, strconv.Itoa(int(port))), nil
}

func withPort(u *url.URL) string {
	if u.Port() != "" {
		return u.Host
	}
	return net.JoinHostPort(u.Hostname(), "80")
}

// handover is a listener of the connections that are given to it.
type handover struct {
	net.Listener
	conns chan net.Conn
	done  chan struct{}
}

func (h *handover) give(conn net.Conn) {
	select {
	case h.conns <- conn:
	case <-h.done:
		_ = conn.Close()
	}
}

func (h *handover) Accept() (net.Conn, error) {
	select {
	case conn := <-h.conns:
		return conn, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

// buffered is a connection of which something was read.
type buffered struct {
	net.Conn
	reader *bufio.Reader
	drop   func()
}

func (c *buffered) Read(p []byte) (int, error) { return c.reader.Read(p) }

func (c *buffered) Close() error {
	c.drop()
	return nil
}
