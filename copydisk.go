package davit

import (
	"context"
	"errors"

	"github.com/davit-cli/davit/ref"
)

// toDisk copies the images that go onto the disk, all of one path together.
func (c *copying) toDisk(ctx context.Context) {
	var paths []Destination
	jobs := map[Destination][]*copyJob{}
	for _, j := range c.jobs {
		if j.to.Path == "" {
			continue
		}
		at := Destination{Path: j.to.Path, Format: j.to.Format}
		if len(jobs[at]) == 0 {
			paths = append(paths, at)
		}
		jobs[at] = append(jobs[at], j)
	}
	for _, at := range paths {
		if c.over(ctx) {
			return
		}
		c.write(ctx, at, jobs[at])
	}
}

// write writes images as one archive, or into one directory.
func (c *copying) write(ctx context.Context, at Destination, jobs []*copyJob) {
	var all []asked
	for _, j := range jobs {
		a := asked{Location: j.from, platforms: j.platforms, tag: j.to.Tag}
		if j.to.Name != "" {
			a.name, _ = ref.ParseName(j.to.Name) // ParseDestination has read it
		}
		all = append(all, a)
	}
	p, err := newPull(all, PullOptions{
		Format: at.Format, Output: at.Path, NoForeign: c.opts.NoForeign, KeepGoing: c.opts.KeepGoing,
		Registry: c.opts.Source, Transfer: c.opts.Transfer, Events: c.opts.Events,
	})
	if err != nil {
		for _, j := range jobs {
			c.fail(j, err)
		}
		return
	}
	defer p.close()
	_, err = p.all(ctx)
	for _, j := range jobs {
		if r, ok := p.results[j.from]; err == nil || ok {
			j.disk, j.done = &r, true
		} else if err := p.failureOf(err, j.from); err != nil {
			c.fail(j, err)
		}
	}
}

// failureOf is why one image of a pull could not be had; nil where it is because
// another one could not.
func (p *pull) failureOf(err error, from Location) error {
	var several *PullError
	if !errors.As(err, &several) {
		return err
	}
	for _, f := range several.Failures {
		if f.Reference == from.String() || p.located[f.Reference] == from {
			return f.Err
		}
	}
	return nil
}
