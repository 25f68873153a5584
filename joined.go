package davit

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/transfer"
)

// joined is a store that lacks blobs which bases have, as a delta does. Its
// images are the store's own. What the store does not have is asked of the bases,
// in their order; where none has it, the error is the store's, which tells in
// which base a delta expects it. Whatever else is wrong with a base ends the
// search: its error names it. Close closes the store alone.
type joined struct {
	image.Store
	bases []image.Source

	mu     sync.Mutex
	opened map[digest.Digest]string // whose bytes were given of a blob, by its path
}

var _ image.Store = (*joined)(nil)

// join joins a store with its bases.
func join(store image.Store, bases ...image.Source) *joined {
	return &joined{Store: store, bases: bases, opened: map[digest.Digest]string{}}
}

// Manifest is part of image.Source.
func (j *joined) Manifest(ctx context.Context, tagOrDigest string) (image.Content, error) {
	return ofAny(j, func(s image.Source) (image.Content, error) { return s.Manifest(ctx, tagOrDigest) })
}

// Blob is part of image.Source.
func (j *joined) Blob(ctx context.Context, d image.Descriptor) ([]byte, error) {
	return ofAny(j, func(s image.Source) ([]byte, error) { return s.Blob(ctx, d) })
}

// OpenRange is part of image.Source.
func (j *joined) OpenRange(ctx context.Context, blob image.Descriptor, off, n int64) (*image.Range, error) {
	r, err := ofAny(j, func(s image.Source) (*image.Range, error) { return s.OpenRange(ctx, blob, off, n) })
	if err == nil {
		j.mu.Lock()
		j.opened[blob.Digest] = r.Host
		j.mu.Unlock()
	}
	return r, err
}

// blame names the file that a blob's wrong bytes came from.
func (j *joined) blame(err error) error {
	wrong, ok := errors.AsType[*transfer.ContentError](err)
	if !ok {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if host := j.opened[wrong.Digest]; host != "" {
		return fmt.Errorf("%s is damaged: %w", host, err)
	}
	return err
}

// BlobSize is part of image.BlobSizer.
func (j *joined) BlobSize(ctx context.Context, d digest.Digest) (int64, error) {
	return ofAny(j, func(s image.Source) (int64, error) {
		sizer, ok := s.(image.BlobSizer)
		if !ok {
			return 0, fmt.Errorf("get size of blob %s: %w: its source tells none", d, image.ErrNotFound)
		}
		return sizer.BlobSize(ctx, d)
	})
}

// holds says whether the store has a blob without the bases.
func (j *joined) holds(ctx context.Context, d digest.Digest) bool {
	sizer, ok := j.Store.(image.BlobSizer)
	if !ok {
		return false
	}
	_, err := sizer.BlobSize(ctx, d)
	return err == nil
}

// Expected is part of image.DeltaTeller.
func (j *joined) Expected(d digest.Digest) (base string, ok bool) {
	if teller, is := j.Store.(image.DeltaTeller); is {
		return teller.Expected(d)
	}
	return "", false
}

// ofAny asks the store, then its bases.
func ofAny[T any](j *joined, ask func(image.Source) (T, error)) (T, error) {
	found, err := ask(j.Store)
	if !errors.Is(err, image.ErrNotFound) {
		return found, err
	}
	for _, base := range j.bases {
		if found, baseErr := ask(base); !errors.Is(baseErr, image.ErrNotFound) {
			return found, baseErr
		}
	}
	return found, err
}
