package memregistry

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/image"
)

// refer adds a manifest to its subject's referrers, if it has one.
func (r *repository) refer(d image.Descriptor, raw []byte) {
	var m struct {
		ArtifactType string                         `json:"artifactType"`
		Config       struct{ MediaType string }     `json:"config"`
		Subject      struct{ Digest digest.Digest } `json:"subject"`
		Annotations  map[string]string              `json:"annotations"`
	}
	if json.Unmarshal(raw, &m) != nil || m.Subject.Digest == "" {
		return
	}
	d.ArtifactType, d.Annotations = m.ArtifactType, m.Annotations
	if d.ArtifactType == "" {
		d.ArtifactType = m.Config.MediaType
	}
	r.referrers[m.Subject.Digest] = append(r.referrers[m.Subject.Digest], d)
}

// Referrers returns the descriptors of the manifests of a repository that have
// that subject, in the order in which they were added.
func (g *Registry) Referrers(repositoryName string, subject digest.Digest) []image.Descriptor {
	g.mu.RLock()
	defer g.mu.RUnlock()
	repo := g.repositories[repositoryName]
	if repo == nil {
		return nil
	}
	return slices.Clone(repo.referrers[subject])
}

// serveReferrers answers with the index of a manifest's referrers (distribution
// spec, end-12a), in pages as the other lists have them; it knows no filter.
func (g *Registry) serveReferrers(w http.ResponseWriter, r *http.Request, name, subject string) {
	if digest.Digest(subject).Validate() != nil {
		writeError(w, http.StatusBadRequest, "DIGEST_INVALID", "provided digest is not valid")
		return
	}
	referrers := g.Referrers(name, digest.Digest(subject))
	if last := r.URL.Query().Get("last"); last != "" {
		i := slices.IndexFunc(referrers, func(d image.Descriptor) bool { return d.Digest.String() == last })
		referrers = referrers[i+1:]
	}
	n, ok := pageSize(w, r, len(referrers))
	if !ok {
		return
	}
	if n > 0 && n < len(referrers) {
		linkNext(w, r, n, referrers[n-1].Digest.String())
	}
	index := ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageIndex,
		Manifests: append([]image.Descriptor{}, referrers[:n]...),
	}
	writeAs(w, http.StatusOK, ocispec.MediaTypeImageIndex, index)
}

// referrersOf splits NAME/referrers/DIGEST.
func referrersOf(path string) (name, subject string, ok bool) {
	i := strings.LastIndex(path, "/referrers/")
	if i <= 0 {
		return "", "", false
	}
	return path[:i], path[i+len("/referrers/"):], true
}
