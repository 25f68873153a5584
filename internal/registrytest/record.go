package registrytest

import (
	"context"
	"net"
	"net/http"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
)

// Request is what the server keeps of a request.
type Request struct {
	Listener Listener
	Conn     int // the connection's number, counted over all listeners
	Proto    string
	Method   string
	Host     string // the Host header
	Path     string
	Query    string // as it was sent
	Range    string // the Range header
	Piece    string // the Content-Range header
	Length   int64  // of the body, -1 where it is not told
	// ClientCert is the common name of the client certificate that was shown.
	ClientCert string
	Auth       string // the scheme of the Authorization header: "", "Basic", "Bearer", …
	Status     int    // 0 as long as no answer is sent
	Bytes      int64  // of the answer's body, as far as written
}

// Stats are the server's counts since it started, or since ResetRecords.
type Stats struct {
	Requests  int
	BlobBytes int64 // body bytes of blobs written, by registry and CDN
	Exchanges int   // tokens given out
	Uploaded  int64 // body bytes of blobs read, by registry and CDN
	Cuts      int   // bodies ended by Options.Cut
	Stalls    int   // bodies stopped by Options.Stall
	Accepted  int   // connections to registry and CDN
	Open      int   // connections open now
	MaxOpen   int   // connections open at most at once
	MaxBodies int   // bodies of blobs under way at most at once
	// CDNAuthorized counts the requests to the CDN that carried an
	// Authorization header; they were answered 400, as S3 does.
	CDNAuthorized int
}

type records struct {
	mu       *sync.Mutex // the server's
	changed  *sync.Cond
	stats    Stats
	byDigest map[digest.Digest]int64
	uploaded map[string]int64           // by upload
	uploads  map[digest.Digest][]string // that were to end with a digest
	requests []*Request
	bodies   int // of blobs under way
	conns    int // the last connection's number
}

func (rs *records) init(mu *sync.Mutex) {
	rs.mu = mu
	rs.changed = sync.NewCond(mu)
	rs.forget()
}

// forget drops what is counted by what.
func (rs *records) forget() {
	rs.byDigest = map[digest.Digest]int64{}
	rs.uploaded = map[string]int64{}
	rs.uploads = map[digest.Digest][]string{}
}

// update changes the records by f, and wakes who waits for them.
func (rs *records) update(f func()) {
	rs.mu.Lock()
	f()
	rs.mu.Unlock()
	rs.changed.Broadcast()
}

// begin records that a request arrived.
func (rs *records) begin(r *http.Request) *Request {
	scheme, _, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	record := &Request{
		Listener: listenerOf(r),
		Conn:     connOf(r).number,
		Proto:    r.Proto,
		Method:   r.Method,
		Host:     r.Host,
		Path:     r.URL.Path,
		Query:    r.URL.RawQuery,
		Range:    r.Header.Get("Range"),
		Piece:    r.Header.Get("Content-Range"),
		Length:   r.ContentLength,
		Auth:     scheme,
	}
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		record.ClientCert = r.TLS.PeerCertificates[0].Subject.CommonName
	}
	rs.update(func() {
		rs.requests = append(rs.requests, record)
		rs.stats.Requests++
		if record.Listener == CDN && scheme != "" {
			rs.stats.CDNAuthorized++
		}
	})
	return record
}

// connection is what is kept of a connection.
type connection struct {
	number int
	body   int64 // bytes of blobs' bodies written to it, under records.mu
}

type connectionKey struct{}

func connOf(r *http.Request) *connection {
	return r.Context().Value(connectionKey{}).(*connection)
}

func (rs *records) connContext(ctx context.Context, _ net.Conn) context.Context {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	rs.conns++
	return context.WithValue(ctx, connectionKey{}, &connection{number: rs.conns})
}

func (rs *records) connState(l Listener, _ net.Conn, state http.ConnState) {
	if l == Realm {
		return
	}
	switch state {
	case http.StateNew:
		rs.update(func() {
			rs.stats.Accepted++
			rs.stats.Open++
			rs.stats.MaxOpen = max(rs.stats.MaxOpen, rs.stats.Open)
		})
	case http.StateClosed, http.StateHijacked:
		rs.update(func() { rs.stats.Open-- })
	}
}

// Requests returns what was asked so far, in the order of arrival.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	requests := make([]Request, len(s.records.requests))
	for i, r := range s.records.requests {
		requests[i] = *r
	}
	return requests
}

// Count returns how many of the requests so far match.
func (s *Server) Count(match func(Request) bool) int {
	n := 0
	for _, r := range s.Requests() {
		if match(r) {
			n++
		}
	}
	return n
}

// Stats returns the counts.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.records.stats
}

// BlobBytes returns the body bytes of blobs that were written in all.
func (s *Server) BlobBytes() int64 { return s.Stats().BlobBytes }

// BlobBytesOf returns the body bytes of one blob that were written.
func (s *Server) BlobBytesOf(d digest.Digest) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.records.byDigest[d]
}

// ResetRecords forgets requests and counts; connections that are open stay
// counted as open.
func (s *Server) ResetRecords() {
	s.mu.Lock()
	defer s.mu.Unlock()
	rs := &s.records
	rs.requests = nil
	rs.stats = Stats{Open: rs.stats.Open, MaxOpen: rs.stats.Open, MaxBodies: rs.bodies}
	rs.forget()
}

// Await returns nil as soon as the counts are as wanted (at once where they
// are), or the error of ctx. It is how a test waits for a moment: so many bytes
// served, a body stalled, all connections closed. The server waits while
// reached runs: it must not call the server's methods.
func (s *Server) Await(ctx context.Context, reached func(Stats) bool) error {
	stop := context.AfterFunc(ctx, func() { s.records.update(func() {}) })
	defer stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	for !reached(s.records.stats) {
		if err := ctx.Err(); err != nil {
			return err
		}
		s.records.changed.Wait()
	}
	return nil
}
