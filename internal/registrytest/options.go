package registrytest

import (
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/internal/memregistry"
)

// Options say how the server behaves. The zero value is a healthy registry on
// plain HTTP, without authentication and redirects. Server.Configure changes
// them while the server runs; those of the first group are fixed by New.
//
// Faults have a field Times: 0 lets the fault happen every time, n the first n
// times. Setting the fault again with Configure counts from the start.
type Options struct {
	// Content is what the server serves, nil for a new, empty registry. Two
	// servers may share one.
	Content *memregistry.Registry
	// Addr is the registry's address, "" for 127.0.0.1 and a free port.
	Addr string
	// TLS serves HTTPS with a certificate for 127.0.0.1, ::1 and localhost by
	// a CA made for this server (Server.CAPEM).
	TLS bool
	// Names are further host names that the certificate is for, such as a Proxy
	// can make up.
	Names []string
	// ClientCerts demands, where TLS is on, a client certificate by the
	// server's CA for the registry: Server.ClientPEM. CDN and realm ask for one,
	// but go on without, so that Request.ClientCert tells who shows them one.
	ClientCerts bool
	// HTTP2 offers HTTP/2 beside HTTP/1.1 where TLS is on.
	HTTP2 bool
	// PlainCDN keeps the CDN on plain HTTP where TLS is on.
	PlainCDN bool
	// Rate holds each connection of registry and CDN to so many bytes a
	// second (SO_MAX_PACING_RATE), 0 for no limit. Linux only.
	Rate int
	// TotalRate holds the bodies of blobs, of all connections to registry and
	// CDN together, to so many bytes a second; 0 for no limit. What a pause
	// saves up is an eighth of a second's bytes, 64 KiB at most.
	TotalRate int
	// SendBuffer is SO_SNDBUF of each connection of registry and CDN, which
	// the kernel doubles; 0 for the kernel's default. Linux only.
	SendBuffer int

	// Auth asks for credentials, nil for none.
	Auth *Auth
	// Redirect sends GETs of blobs to the CDN, nil for blobs from the registry.
	Redirect *Redirect
	// Uploads accepts pushes, nil for a registry that is only read. A registry
	// that has accepted them once goes on doing so.
	Uploads *Uploads

	// Latency is slept before each request is answered, on all listeners.
	Latency time.Duration
	// Intercept sees every request first (after the latency). Where it
	// returns true it has answered, and nothing else happens. To hijack the
	// connection, use http.NewResponseController(w).
	Intercept func(w http.ResponseWriter, r *http.Request) (handled bool)
	// Answers are given instead of the registry's own, even before
	// authentication; the first that matches wins.
	Answers []Answer
	// Busy refuses requests for a while.
	Busy *Busy

	// Ranges tells how ranges of blobs are answered.
	Ranges RangeMode
	// AcceptRanges sends "Accept-Ranges: bytes", which most registries omit.
	AcceptRanges bool
	// Cut ends bodies of blobs early.
	Cut *Cut
	// Stall lets bodies of blobs stop without an end.
	Stall *Stall
	// Corrupt serves other bytes than those of a blob or manifest.
	Corrupt map[digest.Digest]*Corrupt
	// ChunkedBlobs sends blobs without Content-Length.
	ChunkedBlobs bool

	// NoDigestHeader omits Docker-Content-Digest everywhere.
	NoDigestHeader bool
	// NoContentLength sends manifests without Content-Length.
	NoContentLength bool
	// ManifestType is sent as the Content-Type of every manifest; "" for the
	// true one, "none" for no Content-Type at all.
	ManifestType string
	// TagPage, CatalogPage and ReferrerPage are the most entries that one page
	// of these lists has, 0 for no limit.
	TagPage, CatalogPage, ReferrerPage int
	// MaxPageSize lets tags and catalog refuse, with 400, to be asked for pages
	// of more entries; 0 for no limit.
	MaxPageSize int

	// NoReferrers answers 404 where it is asked for referrers.
	NoReferrers bool
	// NoCatalog answers 404 where it is asked for repositories.
	NoCatalog bool
	// NoHead answers 405 to the HEADs of manifests and blobs.
	NoHead bool
}

// Match chooses requests; a nil Match takes those that its fault's comment says.
type Match func(*http.Request) bool

// RangeMode tells how a server answers a Range header on a blob.
type RangeMode int

// The ways to answer a Range header.
const (
	// RangesOK answers one range with 206 (RFC 9110).
	RangesOK RangeMode = iota
	// RangesIgnored answers 200 with the whole body.
	RangesIgnored
	// RangesBadRequest answers 400.
	RangesBadRequest
	// RangesUnsatisfiable answers 416.
	RangesUnsatisfiable
	// RangesStrict answers 416 where a range is open or ends past the blob,
	// as go-containerregistry's test registry does.
	RangesStrict
	// RangesWrong answers 206 with the bytes asked for, labelled by a
	// Content-Range one byte further on.
	RangesWrong
	// RangesShifted answers 206 truthfully labelled, but with a range that
	// starts one byte later than asked for, where it has two bytes or more.
	RangesShifted
	// RangesUnlabelled answers 206 without a Content-Range.
	RangesUnlabelled
)

// Answer is a fixed answer.
type Answer struct {
	Match  Match // nil: every request, on all listeners
	Times  int
	Status int // 0: 500
	Header http.Header
	Body   string // as it is; may hold control characters. See ErrorBody.

	used int
}

// Busy refuses requests with 429 or 503.
type Busy struct {
	Match      Match // nil: Blobs and Manifests, on registry and CDN
	Times      int
	Status     int           // 0: 429
	RetryAfter time.Duration // rounded up to seconds; 0: no Retry-After
	Date       bool          // Retry-After is an HTTP date instead of seconds

	used int
}

// Cut closes the connection after so many bytes of a blob's body: the client
// gets these bytes, and then an unexpected end. Bodies that are no longer than
// that are left alone, and not counted by Times.
type Cut struct {
	Match Match // nil: every blob
	Times int
	After int64
	// PerConnection counts the bytes of all bodies on a connection instead
	// of one body's, and cuts also where After is reached at a body's end.
	PerConnection bool

	used int
}

// Stall stops a blob's body after so many bytes and holds the connection open
// until the client goes or the server closes. Bodies that are no longer than
// that are left alone, and not counted by Times.
type Stall struct {
	Match Match // nil: every blob
	Times int
	After int64

	used int
}

// Corrupt is what GETs are answered with in place of a blob's (or manifest's)
// bytes. HEAD tells the truth.
type Corrupt struct {
	Times int
	// Data replaces the bytes; nil leaves them, for Flip to change.
	Data []byte
	// Flip lists offsets whose byte is inverted, after Data was put in place.
	Flip []int64
	// ContentLength is the size to pretend, in Content-Length and
	// Content-Range; 0 for the true size of what is sent. Where it promises
	// more than there is, the body ends early and the connection closes.
	ContentLength int64

	used int
}

// clone copies o so deep that changing the one does not change the other.
func (o Options) clone() Options {
	o.Auth = clone(o.Auth)
	o.Redirect = clone(o.Redirect)
	o.Uploads = o.Uploads.clone()
	o.Answers = slices.Clone(o.Answers)
	o.Busy = clone(o.Busy)
	o.Cut = clone(o.Cut)
	o.Stall = clone(o.Stall)
	o.Corrupt = maps.Clone(o.Corrupt)
	for d, c := range o.Corrupt {
		o.Corrupt[d] = clone(c)
	}
	return o
}

func clone[T any](p *T) *T {
	if p == nil {
		return nil
	}
	c := *p
	return &c
}
