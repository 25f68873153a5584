package serve

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
)

const octetStream = "application/octet-stream"

// request is one that is answered.
type request struct {
	*http.Request
	w    *answer
	name string // of the repository
	repo *repository
}

// ServeHTTP answers the requests of the OCI distribution specification's pull
// and content discovery (end-1 to end-3, end-8a, end-8b, end-12a, end-12b) and
// of the catalog.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a := &answer{ResponseWriter: w, controller: http.NewResponseController(w), stall: h.opts.Stall}
	if h.opts.Access != nil {
		begun := time.Now()
		defer func() {
			h.opts.Access(Access{
				Remote: r.RemoteAddr, Method: r.Method, URI: r.RequestURI, Agent: r.UserAgent(),
				Status: a.status, Bytes: a.sent, Took: time.Since(begun),
			})
		}()
	}
	a.patient()
	if r.ContentLength != 0 {
		a.impatient()
	}
	a.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	a.Header().Set("X-Content-Type-Options", "nosniff")
	if !h.allowed(r) {
		a.Header().Set("WWW-Authenticate", `Basic realm="davit", charset="UTF-8"`)
		a.refuse(http.StatusUnauthorized, "UNAUTHORIZED", "a user name and a password are wanted")
		return
	}
	h.route(&request{Request: r, w: a})
}

// allowed says whether a request comes with the password that is wanted.
func (h *Handler) allowed(r *http.Request) bool {
	if h.open() {
		return true
	}
	user, secret, _ := r.BasicAuth()
	gotUser, gotSecret := sha256.Sum256([]byte(user)), sha256.Sum256([]byte(secret))
	return subtle.ConstantTimeCompare(gotUser[:], h.user[:])&subtle.ConstantTimeCompare(gotSecret[:], h.secret[:]) == 1
}

// route finds the endpoint. What is malformed is told so whatever the method.
func (h *Handler) route(r *request) {
	path, ok := strings.CutPrefix(r.URL.Path, "/v2")
	path, below := strings.CutPrefix(path, "/")
	switch {
	case !ok || !below && path != "":
		r.w.refuse(http.StatusNotFound, "UNSUPPORTED", "there is no such endpoint: the registry is below /v2/")
		return
	case path == "":
		h.read(r, func() { r.w.json(http.StatusOK, struct{}{}) })
		return
	case path == "_catalog":
		h.read(r, func() { h.serveCatalog(r) })
		return
	}
	if name, ok := strings.CutSuffix(path, "/tags/list"); ok {
		h.within(r, name, func() { h.serveTags(r) })
		return
	}
	for _, endpoint := range []struct {
		part  string
		serve func(r *request, what string)
	}{{"/manifests/", h.serveManifest}, {"/blobs/", h.serveBlob}, {"/referrers/", h.serveReferrers}} {
		if i := strings.LastIndex(path, endpoint.part); i > 0 {
			what := path[i+len(endpoint.part):]
			if strings.HasPrefix(what, "uploads") && endpoint.part == "/blobs/" {
				break
			}
			if (strings.Contains(what, ":") || endpoint.part != "/manifests/") && image.CheckDigest(digest.Digest(what)) != nil {
				r.w.refuse(http.StatusBadRequest, "DIGEST_INVALID", "what is asked for is no digest of sha256 or sha512")
				return
			}
			h.within(r, path[:i], func() { endpoint.serve(r, what) })
			return
		}
	}
	h.read(r, func() { r.w.refuse(http.StatusNotFound, "UNSUPPORTED", "there is no such endpoint") })
}

// read is for what changes nothing. All else is refused.
func (h *Handler) read(r *request, serve func()) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		r.w.Header().Set("Allow", "GET, HEAD")
		r.w.refuse(http.StatusMethodNotAllowed, "UNSUPPORTED", "this registry is read-only")
		return
	}
	serve()
}

// within is read for what a repository has.
func (h *Handler) within(r *request, name string, serve func()) {
	if !ValidRepository(name) {
		r.w.refuse(http.StatusBadRequest, "NAME_INVALID", "the repository's name is malformed")
		return
	}
	h.read(r, func() {
		r.name, r.repo = name, h.find(r, name)
		if r.repo == nil {
			r.w.refuse(http.StatusNotFound, "NAME_UNKNOWN", "there is no such repository here")
			return
		}
		serve()
	})
}

// find is the repository of that name. A mirror's client may say of which
// registry it means the one that it asks for, as containerd does.
func (h *Handler) find(r *request, name string) *repository {
	if registry := r.URL.Query().Get("ns"); registry != "" {
		if exact := h.byName[registry+"/"+name]; exact != nil {
			return exact
		}
	}
	return h.repositories[name]
}
