package davit

import (
	"context"
	"io"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/ref"
	"github.com/davit-cli/davit/registry"
)

// copyTarget is a repository that is copied into.
type copyTarget struct {
	*registry.Repository
	registry string
	has      map[blobID]bool // guarded by copying.mu
}

// blobID is a blob as manifests name it. Who lies about its size means another one.
type blobID struct {
	digest digest.Digest
	size   int64
}

func idOf(d image.Descriptor) blobID { return blobID{d.Digest, d.Size} }

// holding is a blob that a registry has.
type holding struct {
	registry string
	blob     blobID
}

// target opens the repository of a destination, once. It sends nothing.
func (c *copying) target(r ref.Reference) (*copyTarget, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := r.Scheme + "//" + r.Name()
	if known := c.targets[key]; known != nil {
		return known, nil
	}
	route, err := c.session.Route(r)
	if err != nil {
		return nil, err
	}
	repository, err := c.session.OpenEndpoint(route.Origin)
	if err != nil {
		return nil, err
	}
	t := &copyTarget{Repository: repository, registry: strings.ToLower(r.Host()), has: map[blobID]bool{}}
	c.targets[key] = t
	return t, nil
}

// place makes a repository have a blob, which comes from source as content, and
// tells how: an image.EventBlobThere, EventBlobMounted or EventBlobSent.
func (c *copying) place(ctx context.Context, t *copyTarget, d image.Descriptor, source image.Source, content io.Reader) (image.EventKind, error) {
	if had, err := t.HasBlob(ctx, d); had || err != nil {
		return image.EventBlobThere, err
	}
	for _, from := range []image.Source{c.holder(t, d), source} {
		if mounted, err := t.MountBlob(ctx, d, from); mounted || err != nil {
			return image.EventBlobMounted, err
		}
	}
	return image.EventBlobSent, t.PushBlob(ctx, d, content)
}

// holder is a repository of the same registry that is known to have a blob, or
// nil.
func (c *copying) holder(t *copyTarget, d image.Descriptor) image.Source {
	c.mu.Lock()
	defer c.mu.Unlock()
	if holder := c.holders[holding{t.registry, idOf(d)}]; holder != nil {
		return holder.Repository
	}
	return nil
}

// has says whether a repository is known to have a blob.
func (c *copying) has(t *copyTarget, d image.Descriptor) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return t.has[idOf(d)]
}

// holds notes that a repository has a blob. The caller holds the lock.
func (c *copying) holds(t *copyTarget, d image.Descriptor) {
	t.has[idOf(d)] = true
	c.holders[holding{t.registry, idOf(d)}] = t
}
