package e2e

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	"golang.org/x/time/rate"
)

// counted is distribution's registry behind a proxy that counts the bytes it
// serves of blobs, and can keep some of them back, slow them down or spoil them.
type counted struct {
	*registry
	host string // the proxy's, as davit is to name it

	pace    *rate.Limiter // of all blobs' bytes together; nil for none
	spoiled bool          // whether the bytes of ranges of blobs are wrong

	mu     sync.Mutex
	served map[digest.Digest]int64
	lost   map[digest.Digest]bool
}

func startCounted(t testing.TB) *counted {
	t.Helper()
	return startRegistry(t).counted(t)
}

// counted puts a proxy before r that counts.
func (r *registry) counted(t testing.TB) *counted {
	t.Helper()
	c := &counted{registry: r, served: map[digest.Digest]int64{}, lost: map[digest.Digest]bool{}}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: c.registry.host})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, name, isBlob := strings.Cut(r.URL.Path, "/blobs/")
		d := digest.Digest(name)
		switch {
		case !isBlob:
			proxy.ServeHTTP(w, r)
		case c.isLost(d):
			http.Error(w, `{"errors":[{"code":"BLOB_UNKNOWN"}]}`, http.StatusNotFound)
		default:
			proxy.ServeHTTP(&countedAnswer{w, r.Context(), c, d, r.Header.Get("Range") != ""}, r)
		}
	}))
	t.Cleanup(server.Close)
	c.host = strings.TrimPrefix(server.URL, "http://")
	return c
}

// lose keeps a blob back from now on, or gives it again.
func (c *counted) lose(d digest.Digest, lost bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lost[d] = lost
}

func (c *counted) isLost(d digest.Digest) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lost[d]
}

// forget begins to count anew.
func (c *counted) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.served)
}

// bytes is how many were served of a blob.
func (c *counted) bytes(d digest.Digest) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.served[d]
}

// slowed lets at most so many bytes of blobs through in a second.
func (c *counted) slowed(perSecond int) *counted {
	c.pace = rate.NewLimiter(rate.Limit(perSecond), pieceOfAnswer)
	return c
}

// total is how many bytes were served of an image's layers.
func (c *counted) total(x *index) int64 {
	var n int64
	for _, m := range x.images {
		for _, l := range m.layers {
			n += c.bytes(l.descriptor.Digest)
		}
	}
	return n
}

// countedAnswer is an answer with a blob, or a part of it.
type countedAnswer struct {
	http.ResponseWriter
	asked   context.Context
	counted *counted
	blob    digest.Digest
	ranged  bool // as of layers that are not small
}

// pieceOfAnswer is more than the proxy writes at once.
const pieceOfAnswer = 64 << 10

func (a *countedAnswer) Write(p []byte) (int, error) {
	if a.counted.pace != nil {
		if err := a.counted.pace.WaitN(a.asked, len(p)); err != nil {
			return 0, err
		}
	}
	if a.counted.spoiled && a.ranged {
		p = bytes.Clone(p)
		for i := range p {
			p[i] ^= 0xff
		}
	}
	n, err := a.ResponseWriter.Write(p)
	a.counted.mu.Lock()
	defer a.counted.mu.Unlock()
	a.counted.served[a.blob] += int64(n)
	return n, err
}

// Unwrap is for http.ResponseController.
func (a *countedAnswer) Unwrap() http.ResponseWriter { return a.ResponseWriter }
