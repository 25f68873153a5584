package memregistry

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Uploads say how pushes are taken. The zero value does as distribution 3.
type Uploads struct {
	// MinChunk is told as OCI-Chunk-Min-Length; smaller pieces are refused,
	// but the last. 0: none.
	MinChunk int64
	// Forgets gives an upload up that goes on elsewhere than its URL says, as
	// distribution 2 does where a connection was cut within a piece.
	Forgets bool
	// StaleRange tells of each piece the range of the first.
	StaleRange bool
	// NoMount opens an upload where a mount is asked for.
	NoMount bool
	// NoSubject does not tell that a manifest's subject is known.
	NoSubject bool
}

// upload is a blob that is being uploaded.
type upload struct {
	repository string
	data       []byte
	first      int // bytes of the first piece
	busy       bool
}

// AcceptPushes makes the registry take pushes. A blob that was not uploaded to a
// repository or mounted there is from now on only in those repositories that
// have a manifest which names it.
func (g *Registry) AcceptPushes(how Uploads) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.uploading = &how
	if g.uploads == nil {
		g.uploads = map[string]*upload{}
	}
}

// OpenUploads is how many uploads are neither complete nor given up.
func (g *Registry) OpenUploads() int {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return len(g.uploads)
}

// acceptsPushes tells how pushes are taken; nil: not at all.
func (g *Registry) acceptsPushes() *Uploads {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.uploading
}

// has tells whether a repository has a blob; g.mu is held.
func (g *Registry) has(name string, d digest.Digest) bool {
	b, ok := g.blobs[d]
	switch {
	case !ok:
		return false
	case g.uploading == nil || b.links[name]:
		return true
	}
	repo := g.repositories[name]
	if repo == nil || b.links != nil {
		return false
	}
	for _, m := range repo.manifests {
		if bytes.Contains(m.raw, []byte(d)) {
			return true
		}
	}
	return false
}

// link puts a blob into a repository; g.mu is held.
func (g *Registry) link(name string, d digest.Digest, data []byte) {
	g.repository(name)
	b, known := g.blobs[d]
	if !known {
		b = blob{content: bytes.NewReader(data), size: int64(len(data))}
	}
	if b.links == nil {
		links := map[string]bool{}
		for other := range g.repositories {
			if known && g.has(other, d) {
				links[other] = true
			}
		}
		b.links = links
	}
	b.links[name] = true
	g.blobs[d] = b
}

// serveUploads answers the distribution specification's endpoints end-4a to
// end-6, end-11, end-13 and end-14: uploads of blobs, and mounts.
func (g *Registry) serveUploads(w http.ResponseWriter, r *http.Request, name, id string, how Uploads) {
	if id == "" {
		if r.Method != http.MethodPost {
			writeError(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "POST begins an upload")
			return
		}
		g.beginUpload(w, r, name, how)
		return
	}
	g.mu.Lock()
	u := g.uploads[id]
	switch {
	case u == nil || u.repository != name:
		u = nil
		writeError(w, http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
	case u.busy:
		u = nil
		writeError(w, http.StatusInternalServerError, "UNKNOWN", "another request is at the upload")
	default:
		state := r.URL.Query().Get("_state")
		wrong := state != "" && state != stateOf(id, len(u.data))
		switch {
		case wrong && how.Forgets:
			delete(g.uploads, id)
			u = nil
			writeError(w, http.StatusNotFound, "BLOB_UPLOAD_INVALID", "blob upload invalid")
		case wrong && r.Method != http.MethodGet:
			u = nil
			writeError(w, http.StatusRequestedRangeNotSatisfiable, "RANGE_INVALID", "invalid content range")
		default:
			u.busy = true
		}
	}
	g.mu.Unlock()
	if u == nil {
		return
	}
	defer func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		u.busy = false
	}()
	switch r.Method {
	case http.MethodGet:
		tellUpload(w, r, name, id, u, how)
		w.WriteHeader(http.StatusNoContent)
	case http.MethodDelete:
		g.endUpload(id)
		w.WriteHeader(http.StatusNoContent)
	case http.MethodPatch:
		if !u.take(w, r, how, false) {
			return
		}
		tellUpload(w, r, name, id, u, how)
		w.WriteHeader(http.StatusAccepted)
	case http.MethodPut:
		g.completeUpload(w, r, name, id, u, how)
	default:
		writeError(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "no such method")
	}
}

func (g *Registry) beginUpload(w http.ResponseWriter, r *http.Request, name string, how Uploads) {
	query := r.URL.Query()
	d, from := digest.Digest(query.Get("mount")), query.Get("from")
	g.mu.Lock()
	if d.Validate() == nil && from != "" && !how.NoMount && g.has(from, d) {
		g.link(name, d, nil)
		g.mu.Unlock()
		tellBlob(w, name, d)
		return
	}
	g.begun++
	id := fmt.Sprintf("%08x-0000-4000-8000-000000000000", g.begun)
	u := &upload{repository: name}
	g.uploads[id] = u
	g.mu.Unlock()
	tellUpload(w, r, name, id, u, how)
	if how.MinChunk > 0 {
		w.Header().Set("OCI-Chunk-Min-Length", strconv.FormatInt(how.MinChunk, 10))
	}
	w.WriteHeader(http.StatusAccepted)
}

func (g *Registry) endUpload(id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.uploads, id)
}

// take adds a request's body to the upload, as far as it comes. Where it is
// false it has answered.
func (u *upload) take(w http.ResponseWriter, r *http.Request, how Uploads, last bool) bool {
	if mediaType := r.Header.Get("Content-Type"); mediaType != "" && mediaType != octetStream {
		writeError(w, http.StatusInternalServerError, "UNKNOWN", "bad Content-Type")
		return false
	}
	if given := r.Header.Get("Content-Range"); given != "" {
		first, end, ok := strings.Cut(given, "-")
		start, err1 := strconv.ParseInt(first, 10, 64)
		stop, err2 := strconv.ParseInt(end, 10, 64)
		switch {
		case !ok || err1 != nil || err2 != nil:
			writeError(w, http.StatusInternalServerError, "UNKNOWN", "invalid content range format")
			return false
		case start > stop || start != int64(len(u.data)):
			w.Header().Set("Range", u.extent(Uploads{}))
			writeError(w, http.StatusRequestedRangeNotSatisfiable, "RANGE_INVALID", "invalid content range")
			return false
		case r.ContentLength >= 0 && r.ContentLength != stop-start+1:
			writeError(w, http.StatusBadRequest, "SIZE_INVALID", "provided length did not match content length")
			return false
		}
	}
	if !last && r.ContentLength >= 0 && r.ContentLength < how.MinChunk {
		writeError(w, http.StatusBadRequest, "BLOB_UPLOAD_INVALID", "the chunk is smaller than the minimum")
		return false
	}
	body := bytes.NewBuffer(u.data)
	_, err := io.Copy(body, r.Body)
	u.data = body.Bytes()
	if u.first == 0 {
		u.first = len(u.data)
	}
	if err != nil {
		writeError(w, http.StatusInternalServerError, "UNKNOWN", "client disconnected")
		return false
	}
	return true
}

func (g *Registry) completeUpload(w http.ResponseWriter, r *http.Request, name, id string, u *upload, how Uploads) {
	d := digest.Digest(r.URL.Query().Get("digest"))
	if d.Validate() != nil {
		writeError(w, http.StatusBadRequest, "DIGEST_INVALID", "provided digest did not match uploaded content")
		return
	}
	if !u.take(w, r, how, true) {
		return
	}
	g.endUpload(id)
	if d.Algorithm().FromBytes(u.data) != d {
		writeError(w, http.StatusBadRequest, "DIGEST_INVALID", "provided digest did not match uploaded content")
		return
	}
	g.mu.Lock()
	g.link(name, d, u.data)
	g.mu.Unlock()
	tellBlob(w, name, d)
}

// tellBlob answers that a repository has a blob now.
func tellBlob(w http.ResponseWriter, name string, d digest.Digest) {
	w.Header().Set("Location", "/v2/"+name+"/blobs/"+d.String())
	w.Header().Set("Docker-Content-Digest", d.String())
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusCreated)
}

// tellUpload sets the headers that tell where an upload is, and how far.
func tellUpload(w http.ResponseWriter, r *http.Request, name, id string, u *upload, how Uploads) {
	where := url.URL{
		Scheme: "http", Host: r.Host, Path: "/v2/" + name + "/blobs/uploads/" + id,
		RawQuery: url.Values{"_state": {stateOf(id, len(u.data))}}.Encode(),
	}
	if r.TLS != nil {
		where.Scheme = "https"
	}
	w.Header().Set("Location", where.String())
	w.Header().Set("Docker-Upload-UUID", id)
	w.Header().Set("Range", u.extent(how))
	w.Header().Set("Content-Length", "0")
}

// extent is what the upload has, as its Range tells it: of none as of one.
func (u *upload) extent(how Uploads) string {
	have := len(u.data)
	if how.StaleRange {
		have = u.first
	}
	return fmt.Sprintf("0-%d", max(have-1, 0))
}

func stateOf(id string, offset int) string { return fmt.Sprintf("%s.%d", id, offset) }

// uploadOf splits NAME/blobs/uploads/ID; the ID may be empty.
func uploadOf(path string) (name, id string, ok bool) {
	i := strings.LastIndex(path, "/blobs/uploads")
	if i <= 0 {
		return "", "", false
	}
	id, ok = strings.CutPrefix(path[i+len("/blobs/uploads"):], "/")
	return path[:i], id, (ok || path[i:] == "/blobs/uploads") && !strings.Contains(id, "/")
}
