// Package memregistry is a registry in memory: the pull side of the OCI
// distribution specification (manifests, blobs with ranges, tags, referrers) and
// the catalog of Docker's API as an http.Handler, and where it is told to accept
// pushes (AcceptPushes) uploads, mounts and manifests too. The tests' registry
// (internal/registrytest) is one with faults around it.
package memregistry

import (
	"bytes"
	_ "crypto/sha256" // go-digest takes the hashes that are linked in
	_ "crypto/sha512"
	"io"
	"maps"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
)

// Registry holds manifests by repository, and blobs that all repositories
// share. Its methods may be called from many goroutines at once, also while it
// serves. The zero value is not usable: New makes one.
type Registry struct {
	mu           sync.RWMutex
	blobs        map[digest.Digest]blob
	repositories map[string]*repository

	uploading *Uploads // nil: pushes are refused
	uploads   map[string]*upload
	begun     int // uploads
}

type blob struct {
	content io.ReaderAt
	size    int64
	links   map[string]bool // the repositories that it was pushed to; nil: it was added
}

type repository struct {
	manifests map[digest.Digest]manifest
	tags      map[string]digest.Digest
	sorted    []string // the tags; nil: to be sorted anew
	referrers map[digest.Digest][]image.Descriptor
}

type manifest struct {
	mediaType string
	raw       []byte
}

// AnyRepository stands in a blob's path for whatever repository has it.
const AnyRepository = "any"

// New returns an empty registry.
func New() *Registry {
	return &Registry{
		blobs:        map[digest.Digest]blob{},
		repositories: map[string]*repository{},
	}
}

// AddBlob adds a blob under its sha256 digest. The registry keeps data, which
// must not change any more. The descriptor's media type is
// application/octet-stream; what a blob is, a manifest says.
func (g *Registry) AddBlob(data []byte) image.Descriptor {
	d := image.Descriptor{
		MediaType: octetStream,
		Digest:    digest.SHA256.FromBytes(data),
		Size:      int64(len(data)),
	}
	g.AddBlobAt(d, bytes.NewReader(data))
	return d
}

// AddBlobAt adds a blob whose bytes are read from content whenever they are
// asked for: what is too big for memory, or has a digest of another algorithm
// than sha256. The digest is not checked. The content must stay readable, by
// many goroutines at once, as long as the registry serves.
func (g *Registry) AddBlobAt(d image.Descriptor, content io.ReaderAt) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.blobs[d.Digest] = blob{content: content, size: d.Size}
}

// AddManifest adds a manifest or index to a repository and points the tag to
// it, or no tag where tag is empty. It is found by its sha256 and by its sha512
// digest; the descriptor has the sha256. Where it says that it has a subject, it
// is listed with the subject's referrers. The registry keeps raw, which must not
// change any more, and does not look at what else it says.
func (g *Registry) AddManifest(repositoryName, tag, mediaType string, raw []byte) image.Descriptor {
	d := image.Descriptor{
		MediaType: mediaType,
		Digest:    digest.SHA256.FromBytes(raw),
		Size:      int64(len(raw)),
	}
	m := manifest{mediaType: mediaType, raw: raw}

	g.mu.Lock()
	defer g.mu.Unlock()
	repo := g.repository(repositoryName)
	if _, known := repo.manifests[d.Digest]; !known {
		repo.refer(d, raw)
	}
	repo.manifests[d.Digest] = m
	repo.manifests[digest.SHA512.FromBytes(raw)] = m
	if tag != "" {
		repo.tags[tag], repo.sorted = d.Digest, nil
	}
	return d
}

// repository is the one of that name, which is made where there is none. It
// needs g.mu.
func (g *Registry) repository(name string) *repository {
	repo := g.repositories[name]
	if repo == nil {
		repo = &repository{
			manifests: map[digest.Digest]manifest{},
			tags:      map[string]digest.Digest{},
			referrers: map[digest.Digest][]image.Descriptor{},
		}
		g.repositories[name] = repo
	}
	return repo
}

// AddTags points further tags to a manifest or index, which need not be there.
func (g *Registry) AddTags(repositoryName string, d digest.Digest, tags ...string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	repo := g.repository(repositoryName)
	for _, tag := range tags {
		repo.tags[tag] = d
	}
	repo.sorted = nil
}

// Describe returns the descriptor of what a tag or digest names; ok is false
// where there is no such thing.
func (g *Registry) Describe(repositoryName, tagOrDigest string) (d image.Descriptor, ok bool) {
	m, found, _, ok := g.lookup(repositoryName, tagOrDigest)
	return image.Descriptor{MediaType: m.mediaType, Digest: found, Size: int64(len(m.raw))}, ok
}

// Blob returns a blob's content and size; ok is false where there is no such
// blob.
func (g *Registry) Blob(d digest.Digest) (content io.ReaderAt, size int64, ok bool) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	b, ok := g.blobs[d]
	return b.content, b.size, ok
}

// blobIn is Blob, of what a repository has.
func (g *Registry) blobIn(name string, d digest.Digest) (content io.ReaderAt, size int64, ok bool) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	b, ok := g.blobs[d]
	return b.content, b.size, ok && name == AnyRepository || g.has(name, d)
}

// lookup finds the manifest that a tag or digest names, and the digest to call
// it by. The repository's own absence is told apart.
func (g *Registry) lookup(repositoryName, reference string) (m manifest, d digest.Digest, hasRepository, ok bool) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	repo := g.repositories[repositoryName]
	if repo == nil {
		return manifest{}, "", false, false
	}
	d, ok = repo.tags[reference]
	if !ok {
		d = digest.Digest(reference)
	}
	m, ok = repo.manifests[d]
	return m, d, true, ok
}

// tags returns the repository's tags, sorted, for reading; ok is false where
// there is no such repository.
func (g *Registry) tags(repositoryName string) (tags []string, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	repo := g.repositories[repositoryName]
	if repo == nil {
		return nil, false
	}
	if repo.sorted == nil {
		repo.sorted = slices.Sorted(maps.Keys(repo.tags))
	}
	return repo.sorted, true
}

// names returns the repositories' names, sorted.
func (g *Registry) names() []string {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return slices.Sorted(maps.Keys(g.repositories))
}
