package davit

import (
	"context"
	"strings"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/davit-cli/davit/image"
)

// plan finds out what run would send and mount if nothing fails, and sends
// nothing. What it would bring counts as there for the batches behind it.
func (b *copyBatch) plan(ctx context.Context) {
	blobs := append(b.deliveries, b.configs()...)
	lacking := make([]bool, len(blobs))
	var group errgroup.Group
	group.SetLimit(resolveJobs)
	for i, d := range blobs {
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
	for i, d := range blobs {
		if d.payer() != nil {
			b.account(d, b.wouldBring(d, lacking[i]))
		}
	}
	for _, j := range b.jobs {
		j.done = j.err == nil
	}
}

// configs are those of the images, each once for each repository that is not
// known to have it.
func (b *copyBatch) configs() []*delivery {
	var configs []*delivery
	known := map[deliveryPlace]*delivery{}
	for _, j := range b.jobs {
		if j.err != nil || j.done {
			continue
		}
		for _, config := range configsOf(j.image) {
			at := deliveryPlace{j.target, idOf(config.Descriptor)}
			switch d := known[at]; {
			case b.has(j.target, config.Descriptor):
			case d != nil:
				d.jobs = append(d.jobs, j)
			default:
				known[at] = &delivery{blob: config.Descriptor, target: j.target, jobs: []*copyJob{j}}
				configs = append(configs, known[at])
			}
		}
	}
	return configs
}

// wouldBring tells how place would make a repository have a blob.
func (b *copyBatch) wouldBring(d *delivery, lacking bool) image.EventKind {
	from := d.payer().from
	switch {
	case !lacking:
		return image.EventBlobThere
	case b.holders[holding{d.target.registry, idOf(d.blob)}] != nil,
		from.Path == "" && strings.EqualFold(from.Reference.Host(), d.target.registry):
		return image.EventBlobMounted
	}
	return image.EventBlobSent
}

// planDisk finds out what images would bring onto the disk that is not there.
func (c *copying) planDisk(ctx context.Context, at Destination, jobs []*copyJob) {
	var group errgroup.Group
	group.SetLimit(resolveJobs)
	for _, j := range jobs {
		group.Go(func() error {
			if j.image.Source != nil || c.over(ctx) {
				return nil
			}
			if err := c.find(ctx, j); err != nil {
				c.fail(j, err)
			}
			return nil
		})
	}
	_ = group.Wait() // each has its own error
	there, err := openStore(ctx, at.Path, c.opts.Events)
	if err == nil {
		defer func() { _ = there.Close() }()
	}
	counted := map[digest.Digest]bool{}
	for _, j := range jobs {
		if j.err != nil || c.over(ctx) {
			continue
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
		j.done, j.same = true, false
	}
}

// holds says whether a store, which may be nil, has a blob.
func holds(ctx context.Context, store image.Store, d digest.Digest) bool {
	sizer, ok := store.(image.BlobSizer)
	if !ok {
		return false
	}
	_, err := sizer.BlobSize(ctx, d)
	return err == nil
}
