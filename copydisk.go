package davit

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/opencontainers/go-digest"
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
		at := Destination{Path: wholePath(j.to.Path), Format: j.to.Format}
		if len(jobs[at]) == 0 {
			paths = append(paths, at)
		}
		jobs[at] = append(jobs[at], j)
	}
	for _, at := range paths {
		todo := jobs[at]
		at.Path = todo[0].to.Path // as it is written
		if c.opts.SkipSame {
			todo = c.skipStored(ctx, at, todo)
		}
		switch {
		case c.over(ctx):
			return
		case len(todo) == 0:
		case c.opts.DryRun:
			c.planDisk(ctx, at, todo)
		default:
			c.write(ctx, at, todo)
		}
	}
}

// wholePath is the same for all ways to write a path.
func wholePath(path string) string {
	if whole, err := filepath.Abs(path); err == nil {
		return whole
	}
	return filepath.Clean(path)
}

// skipStored notes which images are there already, and returns what is to be
// written: the others; of an archive, which is written as a whole, all that can
// be had, or none where one cannot that is in it.
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
	had := slices.DeleteFunc(slices.Clone(jobs), func(j *copyJob) bool { return j.err != nil })
	left := slices.DeleteFunc(slices.Clone(had), func(j *copyJob) bool { return j.done })
	if at.Format != Archive || len(left) == 0 {
		return left
	}
	for _, j := range jobs {
		if j.err != nil && j.stored {
			c.keep(at, j, had)
			return nil
		}
	}
	return had
}

// keep notes that images are not written, since the archive would lose one that
// it holds.
func (c *copying) keep(at Destination, lost *copyJob, jobs []*copyJob) {
	for _, j := range jobs {
		if !j.done {
			c.fail(j, fmt.Errorf("%s is not written: %s is left as it is, since %s is in it and cannot be had now", j.from, at.Path, lost.from))
		}
	}
}

// compare finds out whether an image is among those of a store.
func (c *copying) compare(ctx context.Context, j *copyJob, there []image.Stored) error {
	l, err := c.look(ctx, j)
	if err != nil {
		return err
	}
	j.stored = j.isStored(l.find.Reference(), there)
	var name ref.Reference
	if j.platforms.All && !j.platforms.Present {
		root, err := l.find.DescribeRoot(ctx)
		if err != nil {
			return err
		}
		name, j.digest = l.find.Reference(), root.Digest
		j.image.Label = name.String()
	} else {
		if err := c.find(ctx, j); err != nil {
			return err
		}
		name, j.digest = j.image.Name, j.image.Entry().Digest
	}
	j.same = j.isStored(name, there, j.digest)
	if j.same && j.referring {
		j.same, err = c.haveReferrers(ctx, j, there)
	}
	j.done = j.same
	return err
}

// isStored says whether a store has an image by the name that the job's gets
// there, if digests are given with one of them.
func (j *copyJob) isStored(name ref.Reference, there []image.Stored, digests ...digest.Digest) bool {
	if name.Tag != "" {
		name = name.WithDigest("")
	}
	called, err := j.asked().called(name)
	return err == nil && slices.ContainsFunc(there, func(s image.Stored) bool {
		return s.Name == called.String() && (len(digests) == 0 || slices.Contains(digests, s.Digest))
	})
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
	a := asked{Location: j.from, platforms: j.platforms, tag: j.to.Tag, referrers: j.referring}
	if j.to.Name != "" {
		a.name, _ = ref.ParseName(j.to.Name) // ParseDestination has read it
	}
	return a
}

// write writes images as one archive, or into one directory. With KeepGoing an
// archive that is there is written without those that cannot be had, unless it
// would lose one of them.
func (c *copying) write(ctx context.Context, at Destination, jobs []*copyJob) {
	renewed := at.Format == Archive && exists(at.Path)
	c.writeOnce(ctx, at, jobs, c.opts.KeepGoing && !renewed)
	if !renewed || !c.opts.KeepGoing || ctx.Err() != nil {
		return
	}
	left := slices.DeleteFunc(slices.Clone(jobs), func(j *copyJob) bool { return j.err != nil })
	lost := slices.IndexFunc(jobs, func(j *copyJob) bool { return j.err != nil && j.stored })
	switch {
	case len(left) == len(jobs):
	case lost >= 0:
		c.keep(at, jobs[lost], left)
	case slices.ContainsFunc(left, func(j *copyJob) bool { return !j.done }):
		c.write(ctx, at, left)
	}
}

// writeOnce writes images as PullAll does.
func (c *copying) writeOnce(ctx context.Context, at Destination, jobs []*copyJob, keepGoing bool) {
	var all []asked
	for _, j := range jobs {
		all = append(all, j.asked())
	}
	results := c.pull(ctx, jobs, all, PullOptions{
		Format: at.Format, Output: at.Path, NoForeign: c.opts.NoForeign, Layers: c.opts.Layers, KeepGoing: keepGoing,
	})
	first := true
	for _, j := range jobs {
		if r, ok := results[j]; ok {
			j.disk, j.done, j.same = &r, true, false
			if first {
				j.sent, first = r.Fetched, false
			}
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
	p.inputs = c.opts.Bases
	p.naming = ": FILE:NAME as the destination gives it one"
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
