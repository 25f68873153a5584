package davit

import (
	"context"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/davit-cli/davit/internal/flight"
	"github.com/davit-cli/davit/registry"
)

// copying is one CopyAll.
type copying struct {
	opts    CopyOptions
	sources *sources
	session *registry.Session // of the destinations
	targets map[string]*copyTarget
	jobs    []*copyJob
	recoded string // a directory of recoded images; empty where there are none

	mu      sync.Mutex              // guards what the jobs and targets have come to
	holders map[holding]*copyTarget // one that has a blob, for each registry
	configs flight.Group[struct{}]  // that are being sent, by registry and digest
	failed  atomic.Bool             // that one of the jobs is
}

// newCopying finds what is wrong before any request is made.
func newCopying(items []CopyItem, opts CopyOptions) (*copying, error) {
	c := &copying{opts: opts, targets: map[string]*copyTarget{}, holders: map[holding]*copyTarget{}}
	for _, item := range items {
		j, err := newCopyJob(item, opts)
		if err != nil {
			return nil, err
		}
		c.jobs = append(c.jobs, j)
	}
	c.opts.Bases = nil
	for _, name := range opts.Bases {
		at, err := parseFile(name)
		if err != nil {
			return nil, err
		}
		c.opts.Bases = append(c.opts.Bases, at.Path)
	}
	if c.sources = opts.sources; c.sources == nil {
		c.sources = newSources(opts.Source, opts.Events)
	}
	c.sources.bases = c.opts.Bases
	c.session = registry.NewSession(opts.Destination)
	return c, nil
}

// close closes what the images are in, and gives up idle connections.
func (c *copying) close() {
	if c.opts.sources == nil {
		c.sources.close()
	}
	_ = c.session.Close()
	if c.recoded != "" {
		_ = os.RemoveAll(c.recoded)
	}
}

// batchSize is how many images are resolved before their blobs are sent: what
// lies between a long list's beginning and its first byte.
const batchSize = 128

// toRegistries copies the images that go into registries.
func (c *copying) toRegistries(ctx context.Context) {
	var jobs []*copyJob
	for _, j := range c.jobs {
		if j.to.Path == "" {
			jobs = append(jobs, j)
		}
	}
	for len(jobs) > 0 && !c.over(ctx) {
		n := min(len(jobs), batchSize)
		c.send(ctx, jobs[:n])
		jobs = jobs[n:]
	}
}

// send resolves some images, and sends what is missing.
func (c *copying) send(ctx context.Context, jobs []*copyJob) {
	var group errgroup.Group
	group.SetLimit(resolveJobs)
	for _, j := range jobs {
		group.Go(func() error {
			if c.over(ctx) {
				return nil
			}
			if err := c.resolve(ctx, j); err != nil {
				c.fail(j, err)
			}
			return nil
		})
	}
	_ = group.Wait() // each has its own error
	switch {
	case c.over(ctx):
	case c.opts.DryRun:
		newCopyBatch(c, withReferrers(jobs)).plan(ctx)
	default:
		newCopyBatch(c, withReferrers(jobs)).run(ctx)
	}
}

// fail notes why an image cannot be copied. The caller holds no lock.
func (c *copying) fail(j *copyJob, err error) {
	if j.parent != nil {
		if !c.failReferrer(j, err) {
			return
		}
		j = j.parent
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if j.err == nil {
		j.err = err
	}
	c.failed.Store(true)
}

// over says that nothing more is to be begun.
func (c *copying) over(ctx context.Context) bool {
	return ctx.Err() != nil || !c.opts.KeepGoing && c.failed.Load()
}
