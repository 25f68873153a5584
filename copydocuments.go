package davit

import (
	"bytes"
	"context"
	"slices"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/davit-cli/davit/image"
)

// finish completes an image whose blobs are there.
func (c *copying) finish(ctx context.Context, j *copyJob) {
	if c.over(ctx) {
		return
	}
	if err := c.documents(ctx, j); err != nil {
		c.fail(j, j.failure(err))
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	j.done = true
}

// documents sends an image's configs, then its manifests, then the indexes that
// name them, and last what gets the tag.
func (c *copying) documents(ctx context.Context, j *copyJob) error {
	entry := j.image.Entry()
	var configs, manifests []image.Content
	met := map[digest.Digest]bool{entry.Digest: true}
	for _, m := range j.image.Manifests {
		if !met[m.Config.Digest] {
			configs = append(configs, m.Config)
		}
		if !met[m.Digest] {
			manifests = append(manifests, m.Content)
		}
		met[m.Config.Digest], met[m.Digest] = true, true
	}
	if err := each(ctx, configs, func(ctx context.Context, config image.Content) error { return c.config(ctx, j, config) }); err != nil {
		return err
	}
	if err := each(ctx, manifests, func(ctx context.Context, m image.Content) error { return c.manifest(ctx, j, m, "") }); err != nil {
		return err
	}
	if j.image.KeepIndexes {
		for _, index := range slices.Backward(j.image.Indexes[1:]) {
			if err := c.manifest(ctx, j, index, ""); err != nil {
				return err
			}
		}
	}
	return c.manifest(ctx, j, entry, j.to.Reference.Tag)
}

// each calls send for all documents, several at a time. The first error ends the
// others.
func each(ctx context.Context, documents []image.Content, send func(context.Context, image.Content) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(resolveJobs)
	for _, d := range documents {
		group.Go(func() error { return send(ctx, d) })
	}
	return group.Wait()
}

// config sends a config once, however many of the images have it.
func (c *copying) config(ctx context.Context, j *copyJob, config image.Content) error {
	_, err := j.target.configs.Do(ctx, config.Digest.String(), func(ctx context.Context) (struct{}, error) {
		return struct{}{}, c.pushConfig(ctx, j, config)
	})
	return err
}

func (c *copying) pushConfig(ctx context.Context, j *copyJob, config image.Content) error {
	if c.has(j.target, config.Descriptor) {
		return nil
	}
	had, err := j.target.HasBlob(ctx, config.Descriptor)
	if err == nil && !had {
		err = j.target.PushBlob(ctx, config.Descriptor, bytes.NewReader(config.Bytes))
	}
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	j.target.has[idOf(config.Descriptor)] = true
	if !had {
		j.sent += config.Size
	}
	return nil
}

func (c *copying) manifest(ctx context.Context, j *copyJob, m image.Content, tag string) error {
	_, err := j.target.PushManifest(ctx, m, tag)
	return err
}

// has says whether a repository is known to have a blob.
func (c *copying) has(t *copyTarget, d image.Descriptor) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return t.has[idOf(d)]
}
