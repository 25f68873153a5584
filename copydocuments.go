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
	var manifests []image.Content
	met := map[digest.Digest]bool{entry.Digest: true}
	for _, m := range j.image.Manifests {
		if !met[m.Digest] {
			manifests = append(manifests, m.Content)
		}
		met[m.Digest] = true
	}
	if err := each(ctx, configsOf(j.image), func(ctx context.Context, config image.Content) error { return c.config(ctx, j, config) }); err != nil {
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
	if err := c.checkOthers(ctx, j); err != nil {
		return err
	}
	return c.manifest(ctx, j, entry, j.to.Reference.Tag)
}

// configsOf are the documents of an image that a registry is to have as blobs,
// each once: its configs, and what else a manifest names as a config or a layer.
func configsOf(img image.Image) []image.Content {
	documents := map[digest.Digest]image.Content{}
	for _, c := range img.Documents() {
		documents[c.Digest] = c
	}
	var configs []image.Content
	met := map[digest.Digest]bool{}
	for _, m := range img.Manifests {
		for _, d := range append([]image.Descriptor{m.Config.Descriptor}, m.Carried()...) {
			if c, is := documents[d.Digest]; is && !met[d.Digest] {
				met[d.Digest] = true
				configs = append(configs, image.Content{Descriptor: d, Bytes: c.Bytes})
			}
		}
	}
	return configs
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

// config brings a config to where it is wanted. What of it others send to the
// same registry meanwhile is waited for, so that it is mounted or there then.
func (c *copying) config(ctx context.Context, j *copyJob, config image.Content) error {
	for own := false; !own && !c.has(j.target, config.Descriptor); {
		_, err := c.configs.Do(ctx, j.target.registry+" "+config.Digest.String(), func(ctx context.Context) (struct{}, error) {
			own = true
			return struct{}{}, c.placeConfig(ctx, j, config)
		})
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if own && err != nil {
			return err
		}
	}
	return nil
}

func (c *copying) placeConfig(ctx context.Context, j *copyJob, config image.Content) error {
	how, err := c.place(ctx, j.target, config.Descriptor, j.image.Source, bytes.NewReader(config.Bytes))
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !j.target.has[idOf(config.Descriptor)] { // another image may have sent it meanwhile
		j.count(config.Descriptor, how)
	}
	c.holds(j.target, config.Descriptor)
	return nil
}

func (c *copying) manifest(ctx context.Context, j *copyJob, m image.Content, tag string) error {
	pushed, err := j.target.PushManifest(ctx, m, tag)
	if err == nil && !pushed.SubjectKnown {
		c.unlisted(j, m)
	}
	return err
}
