package davit

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/davit-cli/davit/image"
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
		Events: func(e image.Event) { c.tellRecoding(e, jobs) },
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
	return ref.Reference{Registry: recodedRegistry, Repository: strconv.Itoa(i), Tag: recodedTag}
}

const (
	recodedRegistry = "davit.invalid"
	recodedTag      = "recoded"
)

// tellRecoding passes on what recoding tells, with the images' own names. What is
// noted of the layout as such is nobody's business.
func (c *copying) tellRecoding(e image.Event, jobs []*copyJob) {
	if strings.HasPrefix(e.Text, recodedRegistry) {
		number, rest, _ := strings.Cut(strings.TrimPrefix(e.Text, recodedRegistry+"/"), ":"+recodedTag)
		if i, err := strconv.Atoi(number); err == nil && i < len(jobs) {
			e.Text = jobs[i].label + rest
		}
	} else if e.Kind == image.EventNote {
		return
	}
	c.opts.Events.Send(e)
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
