package registrytest

import (
	"bytes"
	"net/http"
	"strconv"

	"github.com/opencontainers/go-digest"
)

// serveManifest serves a manifest with the faults that manifests can have.
func (s *Server) serveManifest(w *response, r *http.Request, o Options) {
	answer := &bufferedAnswer{header: w.Header(), status: http.StatusOK}
	s.Content.ServeHTTP(answer, r)
	body := answer.body.Bytes()
	h := w.Header()
	if answer.status == http.StatusOK {
		d := digest.Digest(h.Get("Docker-Content-Digest"))
		if c := o.Corrupt[d]; c != nil && r.Method == http.MethodGet && s.take(c.Times, &c.used) {
			var claim int64
			body, claim = c.bytes(body)
			h.Set("Content-Length", strconv.FormatInt(claim, 10))
			body = body[:min(int64(len(body)), claim)]
		}
		switch o.ManifestType {
		case "":
		case "none":
			h["Content-Type"] = nil // net/http would guess one
		default:
			h.Set("Content-Type", o.ManifestType)
		}
		if o.NoContentLength {
			h.Del("Content-Length")
			w.flush = true
		}
	}
	if o.NoDigestHeader {
		h.Del("Docker-Content-Digest")
	}
	w.WriteHeader(answer.status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body)
	}
}

// bytes returns what is sent in place of original, and the size to pretend.
func (c *Corrupt) bytes(original []byte) (body []byte, claim int64) {
	if c.Data != nil {
		original = c.Data
	}
	body = bytes.Clone(original)
	for _, off := range c.Flip {
		if off < int64(len(body)) {
			body[off] ^= 0xff
		}
	}
	claim = c.ContentLength
	if claim == 0 {
		claim = int64(len(body))
	}
	return body, claim
}

// bufferedAnswer keeps an answer's body and status; its headers go to header.
type bufferedAnswer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *bufferedAnswer) Header() http.Header         { return a.header }
func (a *bufferedAnswer) WriteHeader(status int)      { a.status = status }
func (a *bufferedAnswer) Write(p []byte) (int, error) { return a.body.Write(p) }
