package memregistry

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
)

// putManifest takes a manifest or index (distribution spec, end-7a), if the
// repository has all that it names.
func (g *Registry) putManifest(w http.ResponseWriter, r *http.Request, name, reference string, how Uploads) {
	raw, err := io.ReadAll(io.LimitReader(r.Body, image.MaxManifestSize+1))
	switch {
	case err != nil:
		writeError(w, http.StatusBadRequest, "MANIFEST_INVALID", "client disconnected")
		return
	case len(raw) > image.MaxManifestSize:
		writeError(w, http.StatusRequestEntityTooLarge, "MANIFEST_INVALID", "manifest too large")
		return
	}
	asked := digest.Digest(reference)
	byDigest := strings.Contains(reference, ":")
	if byDigest && (asked.Validate() != nil || asked.Algorithm().FromBytes(raw) != asked) {
		writeError(w, http.StatusBadRequest, "DIGEST_INVALID", "provided digest did not match uploaded content")
		return
	}
	var m struct {
		MediaType string             `json:"mediaType"`
		Config    *image.Descriptor  `json:"config"`
		Layers    []image.Descriptor `json:"layers"`
		Manifests []image.Descriptor `json:"manifests"`
		Subject   *image.Descriptor  `json:"subject"`
	}
	mediaType := r.Header.Get("Content-Type")
	if json.Unmarshal(raw, &m) != nil || !image.IsIndex(mediaType) && !image.IsManifest(mediaType) || m.MediaType != "" && m.MediaType != mediaType {
		writeError(w, http.StatusBadRequest, "MANIFEST_INVALID", "manifest invalid")
		return
	}
	if missing := g.missing(name, m.Config, m.Layers, m.Manifests); missing != "" {
		writeJSON(w, http.StatusBadRequest, map[string]any{"errors": []map[string]string{{
			"code": "MANIFEST_BLOB_UNKNOWN", "message": "blob unknown to registry", "detail": missing.String(),
		}}})
		return
	}
	tag := reference
	if byDigest {
		tag = ""
	}
	d := g.AddManifest(name, tag, mediaType, raw).Digest
	if byDigest {
		d = asked
	}
	if m.Subject != nil && !how.NoSubject {
		w.Header().Set("OCI-Subject", m.Subject.Digest.String())
	}
	w.Header().Set("Location", "/v2/"+name+"/manifests/"+d.String())
	w.Header().Set("Docker-Content-Digest", d.String())
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusCreated)
}

// missing is the first of what a manifest names that a repository does not have;
// empty where it has all.
func (g *Registry) missing(name string, config *image.Descriptor, layers, manifests []image.Descriptor) digest.Digest {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if config != nil {
		layers = append([]image.Descriptor{*config}, layers...)
	}
	for _, d := range layers {
		if len(d.URLs) == 0 && !g.has(name, d.Digest) {
			return d.Digest
		}
	}
	for _, d := range manifests {
		repo := g.repositories[name]
		if repo == nil {
			return d.Digest
		}
		if _, ok := repo.manifests[d.Digest]; !ok {
			return d.Digest
		}
	}
	return ""
}
