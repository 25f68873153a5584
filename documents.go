package davit

import (
	"context"
	"fmt"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
)

// documents is a source whose manifests are fetched once, however often they
// are asked for, as long as they fit into maxKept: registries count them.
type documents struct {
	image.Source

	mu    sync.Mutex
	known map[string]image.Content // by tag or digest
	kept  int                      // bytes

	searching sync.Once
	search    *image.ReferrerSearch // of a store
}

// maxKept bounds the bytes of the manifests that are kept of one source.
const maxKept = 32 << 20

var (
	_ image.TagLister      = (*documents)(nil)
	_ image.Describer      = (*documents)(nil)
	_ image.ReferrerLister = (*documents)(nil)
	_ image.BlobSizer      = (*documents)(nil)
)

func newDocuments(source image.Source) *documents {
	return &documents{Source: source, known: map[string]image.Content{}}
}

// Manifest implements image.Source.
func (d *documents) Manifest(ctx context.Context, tagOrDigest string) (image.Content, error) {
	d.mu.Lock()
	c, met := d.known[tagOrDigest]
	d.mu.Unlock()
	if met {
		return c, nil
	}
	c, err := d.Source.Manifest(ctx, tagOrDigest)
	if err == nil {
		d.keep(tagOrDigest, c)
	}
	return c, err
}

func (d *documents) keep(tagOrDigest string, c image.Content) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.kept+len(c.Bytes) <= maxKept {
		d.kept += len(c.Bytes)
		d.known[tagOrDigest], d.known[c.Digest.String()] = c, c
	}
}

// Tags implements image.TagLister.
func (d *documents) Tags(ctx context.Context, fn func(page []string) error) error {
	lister, ok := d.Source.(image.TagLister)
	if !ok {
		return fmt.Errorf("list tags: %w: there are none but those of its images", image.ErrNotFound)
	}
	return lister.Tags(ctx, fn)
}

// Describe implements image.Describer.
func (d *documents) Describe(ctx context.Context, tagOrDigest string) (image.Descriptor, error) {
	describer, ok := d.Source.(image.Describer)
	if !ok {
		c, err := d.Manifest(ctx, tagOrDigest)
		return c.Descriptor, err
	}
	return describer.Describe(ctx, tagOrDigest)
}

// Referrers implements image.ReferrerLister. Those of an image on disk are what
// the store holds of them. Any other source that lists none has none.
func (d *documents) Referrers(ctx context.Context, subject digest.Digest) ([]image.Descriptor, error) {
	if store, ok := d.Source.(image.Store); ok {
		d.searching.Do(func() { d.search = image.NewReferrerSearch(d, store.Images()) })
		return d.search.Of(ctx, subject)
	}
	lister, ok := d.Source.(image.ReferrerLister)
	if !ok {
		return nil, nil
	}
	return lister.Referrers(ctx, subject)
}

// BlobSize implements image.BlobSizer.
func (d *documents) BlobSize(ctx context.Context, blob digest.Digest) (int64, error) {
	sizer, ok := d.Source.(image.BlobSizer)
	if !ok {
		return 0, fmt.Errorf("get size of blob %s: its source tells none", blob)
	}
	return sizer.BlobSize(ctx, blob)
}
