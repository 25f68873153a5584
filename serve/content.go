package serve

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
)

// serveManifest answers with a manifest or index as it is, whatever the client
// would accept. It is verified each time.
func (h *Handler) serveManifest(r *request, tagOrDigest string) {
	doc := r.repo.find(tagOrDigest)
	if doc == nil {
		r.w.refuse(http.StatusNotFound, "MANIFEST_UNKNOWN", "there is no such manifest in this repository")
		return
	}
	content, err := doc.store.Manifest(r.Context(), doc.Digest.String())
	if err != nil {
		h.fail(r, "MANIFEST_UNKNOWN", err)
		return
	}
	r.Header.Del("Range")
	serveContent(r, doc.Descriptor, bytes.NewReader(content.Bytes))
}

// serveBlob answers with a blob, or with one range of it (RFC 9110, section
// 14); where several are asked for, with the whole.
func (h *Handler) serveBlob(r *request, d string) {
	b := r.repo.blobs[digest.Digest(d)]
	if b == nil {
		r.w.refuse(http.StatusNotFound, "BLOB_UNKNOWN", "no image of this repository has such a blob")
		return
	}
	if err := h.verdicts.known(b.Digest); err != nil {
		h.fail(r, "BLOB_UNKNOWN", err)
		return
	}
	if strings.Contains(r.Header.Get("Range"), ",") {
		r.Header.Del("Range")
	}
	content := &reader{ctx: r.Context(), blob: b}
	defer content.close()
	// What cannot be read at all is told before the answer begins.
	if err := content.open(); err != nil {
		h.fail(r, "BLOB_UNKNOWN", err)
		return
	}
	var body io.ReadSeeker = content
	checked := h.verdicts.check(r, content)
	if checked != nil {
		body = checked
	}
	serveContent(r, b.Descriptor, body)
	if content.err != nil && r.Context().Err() == nil {
		h.tell(r, content.err)
		panic(http.ErrAbortHandler) // so that no client takes it for whole
	}
}

// serveContent answers with content, of which the client may have the whole or
// a range, or know already that it has it.
func serveContent(r *request, d image.Descriptor, content io.ReadSeeker) {
	header := r.w.Header()
	header.Set("Content-Type", d.MediaType)
	header.Set("Docker-Content-Digest", d.Digest.String())
	header.Set("ETag", `"`+d.Digest.String()+`"`)
	http.ServeContent(r.w, r.Request, "", time.Time{}, content)
}

// fail answers that something is not to be had that was there at first.
func (h *Handler) fail(r *request, code string, err error) {
	if r.Context().Err() != nil {
		return // the client has gone
	}
	h.tell(r, err)
	if errors.Is(err, image.ErrNotFound) {
		r.w.refuse(http.StatusNotFound, code, "it is not there any more")
		return
	}
	r.w.refuse(http.StatusInternalServerError, "UNKNOWN", "it cannot be read here")
}

// tell warns of what goes wrong on our own side.
func (h *Handler) tell(r *request, err error) {
	h.opts.Events.Send(image.Event{Kind: image.EventWarning, Text: fmt.Sprintf("not served to %s: %v", r.RemoteAddr, err)})
}
