package registrytest

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/internal/memregistry"
)

// UploadLocation tells what URLs of uploads look like.
type UploadLocation int

// The forms of an upload's URL.
const (
	UploadAbsolute  UploadLocation = iota // http://HOST/v2/…?_state=…, as distribution has it
	UploadRelative                        // /v2/…?_state=…
	UploadBare                            // http://HOST/v2/…, without a query
	UploadElsewhere                       // on the CDN, by the name of localhost, signed
)

// Uploads say how pushes are taken, and their faults.
type Uploads struct {
	memregistry.Uploads
	Location UploadLocation
	// MaxBody refuses larger bodies with 413; MaxPatch refuses larger pieces
	// with 416, as GitHub's does. 0: no limit.
	MaxBody, MaxPatch int64
	// NoPatch refuses pieces, NoPut bodies of the last request, NoStatus to tell
	// how far an upload is.
	NoPatch, NoPut, NoStatus bool
	// Cut ends connections within bodies: what came before is kept.
	Cut *UploadCut
	// Lose takes requests as they are, and ends the connection in place of an
	// answer.
	Lose *UploadLoss
	// Revoke lets all tokens end, once, after so many bytes. 0: never.
	Revoke int64
	// Told is the digest to tell of what was taken, "" for the true one.
	Told digest.Digest

	revoked int
}

// UploadCut closes the connection after so many bytes of a body. Bodies that
// are no longer than that are left alone, and not counted by Times.
type UploadCut struct {
	Match Match // nil: every body
	Times int
	After int64

	used int
}

// UploadLoss loses answers.
type UploadLoss struct {
	Match Match // nil: to every body
	Times int

	used int
}

func (u *Uploads) clone() *Uploads {
	u = clone(u)
	if u != nil {
		u.Cut, u.Lose = clone(u.Cut), clone(u.Lose)
	}
	return u
}

// accept tells the content of pushes.
func (s *Server) accept(o Options) {
	if o.Uploads != nil {
		o.Content.AcceptPushes(o.Uploads.Uploads)
	}
}

// serveUpload serves an upload, with its faults.
func (s *Server) serveUpload(w *response, r *http.Request, o Options) {
	u := o.Uploads
	if u == nil {
		s.Content.ServeHTTP(w, r)
		return
	}
	id := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	if d := digest.Digest(r.URL.Query().Get("digest")); d != "" {
		s.records.update(func() { s.records.uploads[d] = append(s.records.uploads[d], id) })
	}
	switch {
	case u.MaxBody > 0 && r.ContentLength > u.MaxBody:
		// As nginx does: in HTML, and what comes is read for a while.
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		_, _ = io.WriteString(w, "<html><head><title>413 Request Entity Too Large</title></head></html>")
		return
	case u.MaxPatch > 0 && r.Method == http.MethodPatch && r.ContentLength > u.MaxPatch:
		writeError(w, http.StatusRequestedRangeNotSatisfiable, "RANGE_INVALID", "the request body is too large")
		return
	case u.NoPatch && r.Method == http.MethodPatch, u.NoStatus && r.Method == http.MethodGet,
		u.NoPut && r.Method == http.MethodPut && r.ContentLength != 0:
		writeError(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "the operation is unsupported")
		return
	}
	body := &uploadBody{ReadCloser: r.Body, server: s, id: id, options: u, room: -1}
	if c := u.Cut; c != nil && (c.Match == nil || c.Match(r)) {
		body.room = c.After
	}
	r.Body = body
	answer := &bufferedAnswer{header: http.Header{}, status: http.StatusOK}
	s.Content.ServeHTTP(answer, r)
	if l := u.Lose; body.cut || l != nil && Pieces(r) && (l.Match == nil || l.Match(r)) && s.take(l.Times, &l.used) {
		s.records.update(func() { s.records.stats.Cuts++ })
		panic(http.ErrAbortHandler)
	}
	if at := answer.header.Get("Location"); at != "" && answer.status != http.StatusCreated {
		answer.header.Set("Location", s.uploadURL(at, u.Location))
	}
	if u.Told != "" && answer.header.Get("Docker-Content-Digest") != "" {
		answer.header.Set("Docker-Content-Digest", u.Told.String())
	}
	for name, values := range answer.header {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.status)
	_, _ = w.Write(answer.body.Bytes())
}

// uploadURL is the URL of an upload in another form.
func (s *Server) uploadURL(at string, form UploadLocation) string {
	u, err := url.Parse(at)
	if err != nil {
		panic(err) // it is memregistry's
	}
	switch form {
	case UploadRelative:
		u.Scheme, u.Host = "", ""
	case UploadBare:
		u.RawQuery = ""
	case UploadElsewhere:
		u.Scheme, u.Host = "http", net.JoinHostPort("localhost", portOf(s.hosts[CDN]))
		if s.secure[CDN] {
			u.Scheme = "https"
		}
		u.RawQuery += "&sig=" + uploadSignature
	}
	return u.String()
}

const uploadSignature = "signed%2Ffor%2Bupload"

// serveUploadOnCDN serves an upload whose URL is signed.
func (s *Server) serveUploadOnCDN(w *response, r *http.Request, o Options) {
	switch {
	case r.Header.Get("Authorization") != "":
		cdnError(w, http.StatusBadRequest, "InvalidArgument", "Only one auth mechanism allowed")
	case !strings.Contains(r.URL.RawQuery, "sig="+uploadSignature):
		cdnError(w, http.StatusForbidden, "SignatureDoesNotMatch", "The URL is not signed")
	case !s.busy(w, r, o):
		s.serveUpload(w, r, o)
	}
}

// uploadBody counts what is read of a body, and carries out its faults.
type uploadBody struct {
	io.ReadCloser
	server  *Server
	id      string
	options *Uploads
	room    int64 // bytes until it is cut; -1: it is not
	cut     bool
}

func (b *uploadBody) Read(p []byte) (int, error) {
	if b.room == 0 {
		// Whether there is more is seen by one byte.
		if n, err := b.ReadCloser.Read(p[:1]); n == 0 {
			return 0, err
		}
		if c := b.options.Cut; b.server.take(c.Times, &c.used) {
			b.cut = true
			return 0, errors.New("cut")
		}
		b.room = -1
		b.count(1)
		return 1, nil
	}
	if b.room > 0 {
		p = p[:min(int64(len(p)), b.room)]
	}
	n, err := b.ReadCloser.Read(p)
	if b.room > 0 {
		b.room -= int64(n)
	}
	b.count(int64(n))
	return n, err
}

func (b *uploadBody) count(n int64) {
	var total int64
	b.server.records.update(func() {
		b.server.records.stats.Uploaded += n
		b.server.records.uploaded[b.id] += n
		total = b.server.records.stats.Uploaded
	})
	if after := b.options.Revoke; after > 0 && total >= after && b.server.take(1, &b.options.revoked) {
		b.server.RevokeTokens()
	}
}

// Uploaded returns the body bytes that were read of uploads which were to end
// with a digest.
func (s *Server) Uploaded(d digest.Digest) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	var total int64
	seen := map[string]bool{}
	for _, id := range s.records.uploads[d] {
		if !seen[id] {
			total += s.records.uploaded[id]
		}
		seen[id] = true
	}
	return total
}
