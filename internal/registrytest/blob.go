package registrytest

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/davit-cli/davit/internal/memregistry"
)

// serveBlob serves a blob, from the registry or the CDN, with the faults that
// blobs can have.
func (s *Server) serveBlob(w *response, r *http.Request, o Options) {
	d, _ := blobOf(r)
	content, size, ok := s.Content.Blob(d)
	if !ok {
		s.Content.ServeHTTP(w, r) // which says what is wrong
		return
	}
	var corrupt *Corrupt
	if c := o.Corrupt[d]; c != nil && r.Method == http.MethodGet && s.take(c.Times, &c.used) {
		corrupt = c
		content, size = c.content(content, size)
	}
	if r = s.serveRange(w, r, o, size); r == nil {
		return
	}
	if r.Method == http.MethodGet {
		w.blob = d
	}
	w.limits = s.limits(r, w, o)
	w.flush = o.ChunkedBlobs
	edit := w.edit
	w.edit = func(status int, h http.Header) {
		if edit != nil {
			edit(status, h)
		}
		if !o.AcceptRanges {
			h.Del("Accept-Ranges")
		}
		if o.ChunkedBlobs {
			h.Del("Content-Length")
		}
		if o.NoDigestHeader || listenerOf(r) == CDN {
			h.Del("Docker-Content-Digest")
		}
	}
	if corrupt == nil {
		if listenerOf(r) == CDN {
			r = r.Clone(r.Context())
			r.URL.Path = "/v2/" + memregistry.AnyRepository + "/blobs/" + d.String()
		}
		s.Content.ServeHTTP(w, r)
		return
	}
	// Where size promises more than content has, ServeContent ends early
	// and net/http closes the connection.
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Docker-Content-Digest", d.String())
	http.ServeContent(w, r, "", time.Time{}, io.NewSectionReader(content, 0, size))
}

// serveRange treats the Range header as Options.Ranges says. It returns the
// request to go on with, or nil where it has answered.
func (s *Server) serveRange(w *response, r *http.Request, o Options, size int64) *http.Request {
	asked := r.Header.Get("Range")
	if asked == "" || r.Method != http.MethodGet || o.Ranges == RangesOK {
		return r
	}
	var first, last int64
	_, err := fmt.Sscanf(asked, "bytes=%d-%d", &first, &last)
	closed := err == nil
	unsatisfiable := func() {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes */%d", size))
		writeError(w, http.StatusRequestedRangeNotSatisfiable, "RANGE_INVALID", "invalid content range")
	}
	replace := func(value string) *http.Request {
		c := r.Clone(r.Context())
		c.Header.Del("Range")
		if value != "" {
			c.Header.Set("Range", value)
		}
		return c
	}
	switch o.Ranges {
	case RangesIgnored:
		return replace("")
	case RangesBadRequest:
		writeError(w, http.StatusBadRequest, "UNSUPPORTED", "ranges are not supported")
		return nil
	case RangesUnsatisfiable:
		unsatisfiable()
		return nil
	case RangesStrict:
		if !closed || last >= size {
			unsatisfiable()
			return nil
		}
	case RangesShifted:
		if closed && first < min(last, size-1) {
			return replace(fmt.Sprintf("bytes=%d-%d", first+1, last))
		}
	case RangesWrong:
		w.edit = func(status int, h http.Header) {
			var a, b, total int64
			if _, err := fmt.Sscanf(h.Get("Content-Range"), "bytes %d-%d/%d", &a, &b, &total); err == nil {
				h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", a+1, b+1, total))
			}
		}
	case RangesUnlabelled:
		w.edit = func(status int, h http.Header) {
			if status == http.StatusPartialContent {
				h.Del("Content-Range")
			}
		}
	}
	return r
}

// limits returns the faults that may happen within the body.
func (s *Server) limits(r *http.Request, w *response, o Options) []*limit {
	var limits []*limit
	if c := o.Cut; c != nil && (c.Match == nil || c.Match(r)) {
		room := c.After
		if c.PerConnection {
			s.mu.Lock()
			room = max(0, c.After-w.conn.body)
			s.mu.Unlock()
		}
		limits = append(limits, &limit{room: room, atEnd: c.PerConnection, hit: func() {
			if !s.take(c.Times, &c.used) {
				return
			}
			s.records.update(func() { s.records.stats.Cuts++ })
			w.abort()
		}})
	}
	if t := o.Stall; t != nil && (t.Match == nil || t.Match(r)) {
		limits = append(limits, &limit{room: t.After, hit: func() {
			if !s.take(t.Times, &t.used) {
				return
			}
			_ = http.NewResponseController(w).Flush() // a client that went ends the wait below
			s.records.update(func() { s.records.stats.Stalls++ })
			select {
			case <-r.Context().Done():
			case <-s.done:
			}
			w.abort()
		}})
	}
	return limits
}

// abort sends what is written so far and closes the connection; it does not return.
func (w *response) abort() {
	_ = http.NewResponseController(w).Flush() // nobody is left to tell
	panic(http.ErrAbortHandler)
}

// content returns what is served in place of a blob, and the size to pretend.
func (c *Corrupt) content(original io.ReaderAt, size int64) (io.ReaderAt, int64) {
	if c.Data != nil {
		original, size = bytes.NewReader(c.Data), int64(len(c.Data))
	}
	if len(c.Flip) > 0 {
		original = flipped{original, c.Flip}
	}
	if c.ContentLength > 0 {
		size = c.ContentLength
	}
	return original, size
}

// flipped inverts the bytes at some offsets of its content.
type flipped struct {
	io.ReaderAt
	offsets []int64
}

func (f flipped) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.ReaderAt.ReadAt(p, off)
	for _, o := range f.offsets {
		if o >= off && o < off+int64(n) {
			p[o-off] ^= 0xff
		}
	}
	return n, err
}
