package davit

import (
	"context"
	"errors"
	"strings"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/davit-cli/davit/image"
)

// plan finds out what a batch would send, and sends nothing.
func (b *copyBatch) plan(ctx context.Context) {
	lacking := make([]bool, len(b.deliveries))
	var group errgroup.Group
	group.SetLimit(resolveJobs)
	for i, d := range b.deliveries {
		group.Go(func() error {
			if b.over(ctx) {
				return nil
			}
			has, err := d.target.HasBlob(ctx, d.blob)
			if lacking[i] = !has; err != nil {
				b.lose(d, nil, err)
			}
			return nil
		})
	}
	_ = group.Wait() // each has its own error
	sent := map[holding]bool{}
	for i, d := range b.deliveries {
		at := holding{d.target.registry, idOf(d.blob)}
		switch j := d.jobs[0]; {
		case !lacking[i]:
		case sent[at] || j.from.Path == "" && strings.EqualFold(j.from.Reference.Host(), d.target.registry):
			j.mounted += d.blob.Size
		default:
			sent[at] = true
			j.sent += d.blob.Size
		}
	}
	for _, j := range b.jobs {
		j.done = j.err == nil
	}
}

// planDisk finds out what images would bring onto the disk that is not there.
func (c *copying) planDisk(ctx context.Context, at Destination, jobs []*copyJob) {
	there, err := openStore(ctx, at.Path, c.opts.Events)
	if err == nil {
		defer func() { _ = there.Close() }()
	}
	counted := map[digest.Digest]bool{}
	for _, j := range jobs {
		if j.done || c.over(ctx) {
			continue
		}
		if j.image.Source == nil {
			if err := c.find(ctx, j); err != nil {
				c.fail(j, err)
				continue
			}
		}
		blobs, err := c.planReferrers(ctx, j)
		if err != nil {
			c.fail(j, err)
			continue
		}
		for _, d := range blobs {
			if !counted[d.Digest] && (at.Format != OCI || !holds(ctx, there, d.Digest)) {
				j.sent += d.Size
			}
			counted[d.Digest] = true
		}
		j.done = true
	}
}

// holds says whether a store, which may be nil, has a blob.
func holds(ctx context.Context, store image.Store, d digest.Digest) bool {
	sizer, ok := store.(image.BlobSizer)
	if !ok {
		return false
	}
	_, err := sizer.BlobSize(ctx, d)
	return !errors.Is(err, image.ErrNotFound) && err == nil
}
