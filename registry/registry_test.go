package registry

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/credential"
	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/ref"
)

const (
	canary   = "s3cret-canary"
	manifest = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{},"layers":[]}`
)

// host is the host:port of a test server.
func host(server *httptest.Server) string { return server.Listener.Addr().String() }

// open opens team/app on server, with quick retries and trust in its certificate.
func open(t *testing.T, server *httptest.Server, opts Options) *Repository {
	t.Helper()
	scheme, _, _ := strings.Cut(server.URL, ":")
	r, err := Open(ref.Reference{Registry: host(server), Repository: "team/app", Scheme: scheme}, opts)
	if err != nil {
		t.Fatal(err)
	}
	prepare(t, r, server)
	return r
}

func prepare(t *testing.T, r *Repository, servers ...*httptest.Server) {
	t.Helper()
	r.client.backoff = time.Millisecond
	pool := x509.NewCertPool()
	for _, server := range servers {
		if server.Certificate() != nil {
			pool.AddCert(server.Certificate())
		}
	}
	r.client.transports.system = pool
	clear(r.client.transports.trusts) // which Open has read
	t.Cleanup(func() { _ = r.Close() })
}

// serve starts a server of plain HTTP.
func serve(t *testing.T, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server
}

// sendManifest answers with the manifest.
func sendManifest(w http.ResponseWriter) {
	w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
	_, _ = io.WriteString(w, manifest)
}

// events collects what is sent.
type events struct {
	mu   sync.Mutex
	sent []image.Event
}

func (e *events) add(event image.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.sent = append(e.sent, event)
}

func (e *events) of(kind image.EventKind) []image.Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	var found []image.Event
	for _, event := range e.sent {
		if event.Kind == kind {
			found = append(found, event)
		}
	}
	return found
}

// lines collects a trace.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) add(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.WriteString(line + "\n")
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func given(username, password string) credential.Provider {
	return credential.Given(username, password, "--username", "")
}

func stored(c credential.Credential) credential.Provider {
	c.Source, c.Stored = "/home/me/config.json", true
	return func(context.Context, string, string) (credential.Credential, error) { return c, nil }
}

func credentialGiven(c credential.Credential) credential.Provider {
	return func(context.Context, string, string) (credential.Credential, error) { return c, nil }
}

// blob is a layer, and pieces of it.
type blob struct {
	image.Descriptor
	bytes []byte
}

func newBlob(size int) blob {
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(i * 7)
	}
	return blob{image.Descriptor{Digest: digest.FromBytes(data), Size: int64(size)}, data}
}

// send answers with the blob, ranges too.
func (b blob) send(w http.ResponseWriter, req *http.Request) {
	http.ServeContent(w, req, "", time.Time{}, strings.NewReader(string(b.bytes)))
}

// check reads a range of the blob.
func (b blob) check(r *Repository, off, n int64) error {
	got, err := r.OpenRange(context.Background(), b.Descriptor, off, n)
	if err != nil {
		return err
	}
	defer func() { _ = got.Body.Close() }()
	data, err := io.ReadAll(got.Body)
	switch {
	case err != nil:
		return err
	case got.Start != off || got.Len != n || got.Total != b.Size:
		return fmt.Errorf("got start %d, length %d, total %d", got.Start, got.Len, got.Total)
	case string(data) != string(b.bytes[off:off+n]):
		return fmt.Errorf("wrong bytes")
	}
	return nil
}

// tokens is a token server.
type tokens struct {
	*httptest.Server
	exchanges atomic.Int32
	// answer writes the nth answer, counted from 1. Nil: the token tokenN.
	answer func(w http.ResponseWriter, req *http.Request, n int)
}

func newTokens(t *testing.T, start func(http.Handler) *httptest.Server) *tokens {
	t.Helper()
	s := &tokens{}
	s.Server = start(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		n := int(s.exchanges.Add(1))
		if s.answer != nil {
			s.answer(w, req, n)
			return
		}
		_, _ = fmt.Fprintf(w, `{"token":"token%d","expires_in":300}`, n)
	}))
	t.Cleanup(s.Close)
	return s
}

// challenge is what a registry says that uses the token server.
func (s *tokens) challenge(w http.ResponseWriter) {
	w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token?keep=1",service="the service",scope="repository:team/app:pull"`, s.URL))
	w.WriteHeader(http.StatusUnauthorized)
	_, _ = io.WriteString(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`)
}

func mustParse(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestOpen(t *testing.T) {
	for _, bad := range []ref.Reference{
		{Registry: "", Repository: "app"},
		{Registry: "example.com/x", Repository: "app"},
		{Registry: "example.com", Repository: ""},
		{Registry: "example.com", Repository: "../app"},
		{Registry: "example.com", Repository: "a?b"},
	} {
		if _, err := Open(bad, Options{}); err == nil {
			t.Errorf("opened %+v", bad)
		}
	}
	if _, err := Open(ref.Reference{Registry: "example.com", Repository: "app", Scheme: "https"}, Options{PlainHTTP: true}); err == nil {
		t.Error("plain HTTP for an https:// URL")
	}
	for _, good := range []string{"docker.io", "localhost:5000", "[::1]:5000", "127.0.0.1", "Example.com"} {
		if _, err := Open(ref.Reference{Registry: good, Repository: "a/b-c/d"}, Options{}); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
}
