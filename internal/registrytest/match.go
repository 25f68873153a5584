package registrytest

import (
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Blobs matches the requests for blobs, on the registry and on the CDN.
func Blobs(r *http.Request) bool {
	_, ok := blobOf(r)
	return ok
}

// Manifests matches the requests for manifests and indexes.
func Manifests(r *http.Request) bool {
	return strings.HasPrefix(r.URL.Path, "/v2/") && strings.Contains(r.URL.Path, "/manifests/")
}

// Tags matches the requests for lists of tags.
func Tags(r *http.Request) bool {
	return strings.HasPrefix(r.URL.Path, "/v2/") && strings.HasSuffix(r.URL.Path, "/tags/list")
}

// Referrers matches the requests for lists of referrers.
func Referrers(r *http.Request) bool {
	return strings.HasPrefix(r.URL.Path, "/v2/") && strings.Contains(r.URL.Path, "/referrers/")
}

// Catalog matches the requests for lists of repositories.
func Catalog(r *http.Request) bool { return r.URL.Path == "/v2/_catalog" }

// Heads matches the HEADs of manifests and blobs.
func Heads(r *http.Request) bool {
	return r.Method == http.MethodHead && (Manifests(r) || Blobs(r))
}

// UploadRequests matches the requests that begin an upload, or are for one.
func UploadRequests(r *http.Request) bool {
	return strings.HasPrefix(r.URL.Path, "/v2/") && strings.Contains(r.URL.Path, "/blobs/uploads/")
}

// Pieces matches the requests that carry a piece of a blob, or all of it.
func Pieces(r *http.Request) bool {
	return UploadRequests(r) && (r.Method == http.MethodPatch || r.Method == http.MethodPut)
}

// By matches the requests of a method.
func By(method string) Match {
	return func(r *http.Request) bool { return r.Method == method }
}

// Of matches the requests for a blob, or for a manifest by its digest.
func Of(d digest.Digest) Match {
	return func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/"+d.String()) }
}

// On matches the requests that a listener received.
func On(l Listener) Match {
	return func(r *http.Request) bool { return listenerOf(r) == l }
}

// All matches what every one of the matches does.
func All(matches ...Match) Match {
	return func(r *http.Request) bool {
		for _, m := range matches {
			if !m(r) {
				return false
			}
		}
		return true
	}
}

// blobOf returns the digest of the blob that r asks for.
func blobOf(r *http.Request) (digest.Digest, bool) {
	i := strings.LastIndex(r.URL.Path, "/blobs/")
	if i < 0 || strings.HasPrefix(r.URL.Path[i:], "/blobs/uploads") {
		return "", false
	}
	return digest.Digest(r.URL.Path[i+len("/blobs/"):]), true
}

// repositoryOf returns the repository that r is about, "" where there is none,
// and catalogName where it is about all.
func repositoryOf(r *http.Request) string {
	if Catalog(r) {
		return catalogName
	}
	path, ok := strings.CutPrefix(r.URL.Path, "/v2/")
	if !ok {
		return ""
	}
	if name, ok := strings.CutSuffix(path, "/tags/list"); ok {
		return name
	}
	for _, part := range []string{"/manifests/", "/blobs/", "/referrers/"} {
		if i := strings.LastIndex(path, part); i > 0 {
			return path[:i]
		}
	}
	return ""
}
