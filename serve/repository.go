package serve

import (
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
)

// repository is what one name of the API has.
type repository struct {
	name      string
	tags      map[string]tagged
	manifests map[digest.Digest]*document
	blobs     map[digest.Digest]*blob

	sorted    []string // the tags
	referrers map[digest.Digest][]image.Descriptor
}

// tagged is what a tag names, and whose it is.
type tagged struct {
	digest digest.Digest
	path   string
}

func newRepository(name string) *repository {
	return &repository{name: name, tags: map[string]tagged{}, manifests: map[digest.Digest]*document{}, blobs: map[digest.Digest]*blob{}}
}

// finish sorts what lists show, once everything is there.
func (r *repository) finish() {
	r.sorted = slices.Sorted(maps.Keys(r.tags))
	r.referrers = map[digest.Digest][]image.Descriptor{}
	for _, d := range slices.Sorted(maps.Keys(r.manifests)) {
		if doc := r.manifests[d]; doc.subject != "" {
			r.referrers[doc.subject] = append(r.referrers[doc.subject], doc.Descriptor)
		}
	}
}

// find is the manifest or index that a tag or digest names, or nil.
func (r *repository) find(tagOrDigest string) *document {
	if t, ok := r.tags[tagOrDigest]; ok {
		return r.manifests[t.digest]
	}
	return r.manifests[digest.Digest(tagOrDigest)]
}
