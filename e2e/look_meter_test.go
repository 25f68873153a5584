package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
)

// metered is distribution's registry behind a proxy that notes each request
// and counts the bytes of each answer's body.
type metered struct {
	*registry
	host string // the proxy's, as davit is to name it

	mu    sync.Mutex
	asked []*asked
	hold  func(*http.Request) // called before a request is passed on; may be nil
}

// asked is a request that the registry got.
type asked struct {
	method, path, query, ranges string
	status                      int
	served                      int64 // bytes of the answer's body
	taken                       int64 // bytes of the request's body
}

func (a asked) String() string {
	return fmt.Sprintf("%s %s?%s [%s]: %d, %d bytes", a.method, a.path, a.query, a.ranges, a.status, a.served)
}

// metered puts a proxy before r.
func (r *registry) metered(t testing.TB) *metered {
	t.Helper()
	m := &metered{registry: r}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: r.host})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a := &asked{method: r.Method, path: r.URL.Path, query: r.URL.RawQuery, ranges: r.Header.Get("Range")}
		m.mu.Lock()
		m.asked = append(m.asked, a)
		hold := m.hold
		m.mu.Unlock()
		if hold != nil {
			hold(r)
		}
		if r.Body != nil && r.Body != http.NoBody {
			r.Body = &meteredBody{r.Body, m, a}
		}
		proxy.ServeHTTP(&meteredAnswer{w, m, a}, r)
	}))
	t.Cleanup(server.Close)
	m.host = strings.TrimPrefix(server.URL, "http://")
	return m
}

// forget begins to note anew.
func (m *metered) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked = nil
}

// requests are those noted so far.
func (m *metered) requests() (all []asked) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, a := range m.asked {
		all = append(all, *a)
	}
	return all
}

// served is how many bytes all answers had together.
func (m *metered) served() (n int64) {
	for _, a := range m.requests() {
		n += a.served
	}
	return n
}

// methods are the methods of the requests for manifests and blobs, each once.
func (m *metered) methods() (methods []string) {
	for _, a := range m.requests() {
		if strings.Contains(a.path, "/manifests/") || strings.Contains(a.path, "/blobs/") {
			methods = append(methods, a.method)
		}
	}
	slices.Sort(methods)
	return slices.Compact(methods)
}

// log tells the requests, for a test that fails.
func (m *metered) log(t testing.TB) {
	t.Helper()
	for _, a := range m.requests() {
		t.Log(a)
	}
}

type meteredBody struct {
	io.ReadCloser
	meter *metered
	asked *asked
}

func (b *meteredBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.meter.mu.Lock()
	defer b.meter.mu.Unlock()
	b.asked.taken += int64(n)
	return n, err
}

type meteredAnswer struct {
	http.ResponseWriter
	meter *metered
	asked *asked
}

func (a *meteredAnswer) WriteHeader(status int) {
	a.meter.mu.Lock()
	a.asked.status = status
	a.meter.mu.Unlock()
	a.ResponseWriter.WriteHeader(status)
}

func (a *meteredAnswer) Write(p []byte) (int, error) {
	n, err := a.ResponseWriter.Write(p)
	a.meter.mu.Lock()
	defer a.meter.mu.Unlock()
	a.asked.served += int64(n)
	return n, err
}

// Unwrap is for http.ResponseController.
func (a *meteredAnswer) Unwrap() http.ResponseWriter { return a.ResponseWriter }
