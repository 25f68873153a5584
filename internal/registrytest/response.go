package registrytest

import (
	"context"
	"net/http"
	"slices"

	"github.com/opencontainers/go-digest"
	"golang.org/x/time/rate"
)

// response records an answer while it is written, and carries out the faults
// that happen within a blob's body.
type response struct {
	http.ResponseWriter
	records *records
	record  *Request
	conn    *connection
	ctx     context.Context // ends when the client goes or the server closes
	total   *rate.Limiter   // of all bodies of blobs together, nil for no limit

	edit   func(status int, h http.Header) // changes the headers before they are sent
	flush  bool                            // send the headers at once, so that no Content-Length is added
	blob   digest.Digest                   // the blob whose body this is
	limits []*limit

	wroteHeader bool
	body        bool // what is written is a blob's content
}

// limit is a fault that happens within a body.
type limit struct {
	room  int64 // bytes until then
	atEnd bool  // also where no byte would follow
	hit   func()
}

// Unwrap lets http.ResponseController find the connection.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *response) WriteHeader(status int) {
	if w.wroteHeader {
		return
	}
	w.wroteHeader = true
	if w.edit != nil {
		w.edit(status, w.Header())
	}
	w.body = w.blob != "" && (status == http.StatusOK || status == http.StatusPartialContent)
	w.records.update(func() {
		w.record.Status = status
		if w.body {
			w.records.bodies++
			w.records.stats.MaxBodies = max(w.records.stats.MaxBodies, w.records.bodies)
		}
	})
	w.ResponseWriter.WriteHeader(status)
	if w.flush {
		_ = http.NewResponseController(w.ResponseWriter).Flush() // a client that went is seen by Write
	}
}

func (w *response) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	written := 0
	for w.body {
		l := w.next(int64(len(p)))
		if l == nil {
			break
		}
		n, err := w.write(p[:l.room])
		written += n
		if err != nil {
			return written, err
		}
		p = p[n:]
		w.drop(l)
		l.hit()
	}
	if len(p) == 0 {
		return written, nil
	}
	n, err := w.write(p)
	return written + n, err
}

// next returns the first fault that happens within the next n bytes, or nil.
func (w *response) next(n int64) *limit {
	var first *limit
	for _, l := range w.limits {
		if (l.room < n || l.atEnd && l.room == n) && (first == nil || l.room < first.room) {
			first = l
		}
	}
	return first
}

func (w *response) drop(gone *limit) {
	var kept []*limit
	for _, l := range w.limits {
		if l != gone {
			kept = append(kept, l)
		}
	}
	w.limits = kept
}

// maxBurst is the most that a server with Options.TotalRate writes at once.
const maxBurst = 64 << 10

// write writes as the server's rate allows.
func (w *response) write(p []byte) (int, error) {
	if w.total == nil || !w.body {
		return w.writeNow(p)
	}
	written := 0
	for piece := range slices.Chunk(p, w.total.Burst()) {
		if err := w.total.WaitN(w.ctx, len(piece)); err != nil {
			return written, err
		}
		n, err := w.writeNow(piece)
		written += n
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

// writeNow counts first and writes then, so that the counts are never behind
// what a client has got.
func (w *response) writeNow(p []byte) (int, error) {
	w.count(int64(len(p)))
	n, err := w.ResponseWriter.Write(p)
	if n < len(p) {
		w.count(int64(n - len(p)))
	}
	for _, l := range w.limits {
		l.room -= int64(n)
	}
	return n, err
}

func (w *response) count(n int64) {
	w.records.update(func() {
		w.record.Bytes += n
		if w.body {
			w.conn.body += n
			w.records.stats.BlobBytes += n
			w.records.byDigest[w.blob] += n
		}
	})
}

// finish ends the record, also of an answer that was aborted.
func (w *response) finish() {
	if w.body {
		w.records.update(func() { w.records.bodies-- })
	}
}
