package memregistry

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

const octetStream = "application/octet-stream"

// ServeHTTP answers the GET and HEAD requests of the distribution
// specification's endpoints end-1, end-2, end-3, end-8a/8b and end-12a: the
// API's root, blobs, manifests, the list of tags and that of referrers; and of
// the catalog. Where it accepts pushes, these too.
func (g *Registry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	pushes := g.acceptsPushes()
	if pushes == nil && r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		writeError(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "this registry is read-only")
		return
	}
	if r.URL.Path == "/v2/" || r.URL.Path == "/v2" {
		writeJSON(w, http.StatusOK, struct{}{})
		return
	}
	path, ok := strings.CutPrefix(r.URL.Path, "/v2/")
	if !ok {
		writeError(w, http.StatusNotFound, "UNSUPPORTED", "no such endpoint")
		return
	}
	if name, id, ok := uploadOf(path); ok && pushes != nil {
		g.serveUploads(w, r, name, id, *pushes)
		return
	}
	if i := strings.LastIndex(path, "/manifests/"); i > 0 && r.Method == http.MethodPut {
		g.putManifest(w, r, path[:i], path[i+len("/manifests/"):], *pushes)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		writeError(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "no such method here")
		return
	}
	if path == "_catalog" {
		g.serveCatalog(w, r)
		return
	}
	if name, ok := strings.CutSuffix(path, "/tags/list"); ok {
		g.serveTags(w, r, name)
		return
	}
	if name, subject, ok := referrersOf(path); ok {
		g.serveReferrers(w, r, name, subject)
		return
	}
	if i := strings.LastIndex(path, "/manifests/"); i > 0 {
		g.serveManifest(w, r, path[:i], path[i+len("/manifests/"):])
		return
	}
	if i := strings.LastIndex(path, "/blobs/"); i > 0 {
		g.serveBlob(w, r, path[:i], path[i+len("/blobs/"):])
		return
	}
	writeError(w, http.StatusNotFound, "UNSUPPORTED", "no such endpoint")
}

func (g *Registry) serveManifest(w http.ResponseWriter, r *http.Request, name, reference string) {
	if strings.Contains(reference, ":") && digest.Digest(reference).Validate() != nil {
		writeError(w, http.StatusBadRequest, "DIGEST_INVALID", "provided digest is not valid")
		return
	}
	m, d, hasRepository, ok := g.lookup(name, reference)
	if !hasRepository {
		writeError(w, http.StatusNotFound, "NAME_UNKNOWN", "repository name not known to registry")
		return
	}
	if !ok {
		writeError(w, http.StatusNotFound, "MANIFEST_UNKNOWN", "manifest unknown")
		return
	}
	w.Header().Set("Content-Type", m.mediaType)
	w.Header().Set("Content-Length", strconv.Itoa(len(m.raw)))
	w.Header().Set("Docker-Content-Digest", d.String())
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodGet {
		_, _ = w.Write(m.raw) // the client went: nobody is left to tell
	}
}

// serveBlob answers with the blob, or with one range of it (RFC 9110 section
// 14); where several ranges are asked for, with the whole.
func (g *Registry) serveBlob(w http.ResponseWriter, r *http.Request, name, reference string) {
	d := digest.Digest(reference)
	if d.Validate() != nil {
		writeError(w, http.StatusBadRequest, "DIGEST_INVALID", "provided digest is not valid")
		return
	}
	content, size, ok := g.blobIn(name, d)
	if !ok {
		writeError(w, http.StatusNotFound, "BLOB_UNKNOWN", "blob unknown to registry")
		return
	}
	if strings.Contains(r.Header.Get("Range"), ",") {
		r = r.Clone(r.Context())
		r.Header.Del("Range")
	}
	w.Header().Set("Content-Type", octetStream)
	w.Header().Set("Docker-Content-Digest", d.String())
	http.ServeContent(w, r, "", time.Time{}, io.NewSectionReader(content, 0, size))
}
