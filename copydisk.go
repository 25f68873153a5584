package davit

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/davit-cli/davit/image"
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
		todo := jobs[at]
		if c.opts.SkipSame {
			todo = c.skipStored(ctx, at, todo)
		}
		switch {
		case c.over(ctx):
			return
		case c.opts.DryRun:
			c.planDisk(ctx, at, todo)
		case len(todo) > 0:
			c.write(ctx, at, todo)
		}
	}
}

// skipStored leaves out the images that are there already: of an archive all or
// none of them.
func (c *copying) skipStored(ctx context.Context, at Destination, jobs []*copyJob) []*copyJob {
	there, err := openStore(ctx, at.Path, c.opts.Events)
	if err != nil {
		return jobs // if it matters, whoever writes there tells it
	}
	defer func() { _ = there.Close() }()
	var group errgroup.Group
	group.SetLimit(resolveJobs)
	for _, j := range jobs {
		group.Go(func() error {
			if c.over(ctx) {
				return nil
			}
			if err := c.compare(ctx, j, there.Images()); err != nil {
				c.fail(j, err)
			}
			return nil
		})
	}
	_ = group.Wait() // each has its own error
	left := slices.DeleteFunc(slices.Clone(jobs), func(j *copyJob) bool { return j.done || j.err != nil })
	switch {
	case at.Format != Archive || len(left) == 0:
		return left
	case slices.ContainsFunc(jobs, func(j *copyJob) bool { return j.err != nil }):
		return nil // what is in the archive is not lost because it cannot be had now
	}
	for _, j := range jobs {
		j.same, j.done = false, false
	}
	return jobs
}

// compare finds out whether an image is among those of a store.
func (c *copying) compare(ctx context.Context, j *copyJob, there []image.Stored) error {
	l, err := c.look(ctx, j)
	if err != nil {
		return err
	}
	var name ref.Reference
	if j.platforms.All && !j.platforms.Present {
		root, err := l.find.DescribeRoot(ctx)
		if err != nil {
			return err
		}
		name, j.digest = l.find.Reference(), root.Digest
		j.image.Label = name.String()
		if name.Tag != "" {
			name = name.WithDigest("")
		}
	} else {
		if err := c.find(ctx, j); err != nil {
			return err
		}
		name, j.digest = j.image.Name, j.image.Entry().Digest
	}
	if name, err = j.asked().called(name); err != nil {
		return fmt.Errorf("%s: %w", j.from, err)
	}
	j.same = slices.ContainsFunc(there, func(s image.Stored) bool { return s.Name == name.String() && s.Digest == j.digest })
	if j.same && c.opts.Referrers {
		j.same, err = c.haveReferrers(ctx, j, there)
	}
	j.done = j.same
	return err
}

// look opens where an image is.
func (c *copying) look(ctx context.Context, j *copyJob) (*look, error) {
	return openLookAt(ctx, j.from, j.platforms, LookOptions{Events: c.opts.Events, sources: c.sources})
}

// find finds an image that goes onto the disk.
func (c *copying) find(ctx context.Context, j *copyJob) error {
	l, err := c.look(ctx, j)
	if err == nil {
		j.image, err = l.resolve(ctx)
	}
	if err != nil {
		return err
	}
	j.image.Name, err = j.asked().called(j.image.Name)
	return err
}

// asked is what a pull is asked for.
func (j *copyJob) asked() asked {
	a := asked{Location: j.from, platforms: j.platforms, tag: j.to.Tag}
	if j.to.Name != "" {
		a.name, _ = ref.ParseName(j.to.Name) // ParseDestination has read it
	}
	return a
}

// write writes images as one archive, or into one directory.
func (c *copying) write(ctx context.Context, at Destination, jobs []*copyJob) {
	var all []asked
	for _, j := range jobs {
		all = append(all, j.asked())
	}
	results := c.pull(ctx, jobs, all, PullOptions{
		Format: at.Format, Output: at.Path, NoForeign: c.opts.NoForeign, Referrers: c.opts.Referrers, Layers: c.opts.Layers,
		KeepGoing: c.opts.KeepGoing && !(at.Format == Archive && exists(at.Path)), // nothing is lost that is there
	})
	first := true
	for _, j := range jobs {
		r, ok := results[j]
		if !ok {
			continue
		}
		j.disk, j.done = &r, true
		if first {
			j.sent, first = r.Fetched, false
		}
	}
}

// pull pulls the images of jobs, which all asks for in their order. Those of which
// there is no result have an error, or another one has.
func (c *copying) pull(ctx context.Context, jobs []*copyJob, all []asked, opts PullOptions) map[*copyJob]PullResult {
	opts.Registry, opts.Transfer = c.opts.Source, c.opts.Transfer
	if opts.Events == nil {
		opts.Events = c.opts.Events
	}
	p, err := newPull(all, opts)
	if err != nil {
		for _, j := range jobs {
			c.fail(j, err)
		}
		return nil
	}
	defer p.close()
	p.sources.bases = c.opts.Bases
	_, err = p.all(ctx)
	results := map[*copyJob]PullResult{}
	for _, j := range jobs {
		if r, ok := p.results[j.from]; err == nil || ok {
			results[j] = r
		} else if err := p.failureOf(err, j.from); err != nil {
			c.fail(j, err)
		}
	}
	return results
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
