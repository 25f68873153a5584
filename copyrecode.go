package davit

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/davit-cli/davit/ref"
)

// recode writes the images that go into registries as a layout with re-encoded
// layers, from which they go on.
func (c *copying) recode(ctx context.Context) {
	var jobs []*copyJob
	var all []asked
	for _, j := range c.jobs {
		if j.to.Path != "" || c.over(ctx) {
			continue
		}
		if err := c.called(ctx, j); err != nil {
			c.fail(j, err)
			continue
		}
		all = append(all, asked{Location: j.from, platforms: j.platforms, name: nameInRecoded(len(jobs))})
		jobs = append(jobs, j)
	}
	if len(jobs) == 0 || c.over(ctx) {
		return
	}
	dir, err := os.MkdirTemp("", "davit-")
	if err != nil {
		for _, j := range jobs {
			c.fail(j, fmt.Errorf("make room for re-encoded layers: %w", err))
		}
		return
	}
	c.recoded = dir
	at := Location{Path: filepath.Join(dir, "layout")}
	results := c.pull(ctx, jobs, all, PullOptions{
		Format: OCI, Output: at.Path, NoForeign: c.opts.NoForeign, Layers: c.opts.Layers, KeepGoing: c.opts.KeepGoing,
	})
	for i, j := range jobs {
		if _, ok := results[j]; ok {
			at.Image = nameInRecoded(i).String()
			j.from, j.platforms.Present = at, j.platforms.All
		}
	}
}

// nameInRecoded is what an image is called in the layout of recoded images, where
// no two may have the same name.
func nameInRecoded(i int) ref.Reference {
	return ref.Reference{Registry: "davit.invalid", Repository: strconv.Itoa(i), Tag: "recoded"}
}

// called finds out what an image is called where it comes from, for its
// destination and for messages.
func (c *copying) called(ctx context.Context, j *copyJob) error {
	l, err := c.look(ctx, j)
	if err != nil {
		return err
	}
	img, err := l.resolve(ctx)
	if err != nil {
		return err
	}
	j.label = img.Label
	if tag := l.tag(img); j.to.Reference.TagOrDigest() == "" && tag != "" {
		j.to.Reference = j.to.Reference.WithTag(tag)
	}
	return nil
}
