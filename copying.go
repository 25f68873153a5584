package davit

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/ref"
	"github.com/davit-cli/davit/registry"
	"github.com/davit-cli/davit/transfer"
)

// copying is one CopyAll.
type copying struct {
	opts    CopyOptions
	sources *sources
	session *registry.Session // of the destinations
	targets map[string]*copyTarget
	holders map[string]*copyTarget // by registry and digest: where a blob is
	jobs    []*copyJob

	mu     sync.Mutex  // guards what the jobs and targets have come to
	failed atomic.Bool // that one of the jobs is
}

// copyTarget is a repository that is copied into.
type copyTarget struct {
	*registry.Repository
	registry string
	has      map[digest.Digest]bool // blobs
	configs  map[digest.Digest]bool // that were sent
}

// newCopying finds what is wrong before any request is made.
func newCopying(items []CopyItem, opts CopyOptions) (*copying, error) {
	c := &copying{opts: opts, targets: map[string]*copyTarget{}, holders: map[string]*copyTarget{}}
	for _, item := range items {
		j, err := newCopyJob(item, opts)
		if err != nil {
			return nil, err
		}
		c.jobs = append(c.jobs, j)
	}
	c.sources = newSources(opts.Source, opts.Events)
	c.sources.bases = opts.Bases
	c.session = registry.NewSession(opts.Destination)
	return c, nil
}

// close closes what the images are in, and gives up idle connections.
func (c *copying) close() {
	c.sources.close()
	_ = c.session.Close()
}

// target opens the repository of a destination, once. It sends nothing.
func (c *copying) target(r ref.Reference) (*copyTarget, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := r.Scheme + "//" + r.Name()
	if known := c.targets[key]; known != nil {
		return known, nil
	}
	route, err := c.session.Route(r)
	if err != nil {
		return nil, err
	}
	repository, err := c.session.OpenEndpoint(route.Origin)
	if err != nil {
		return nil, err
	}
	t := &copyTarget{Repository: repository, registry: strings.ToLower(r.Host()), has: map[digest.Digest]bool{}, configs: map[digest.Digest]bool{}}
	c.targets[key] = t
	return t, nil
}

// copyBatch is how many images are resolved before their blobs are sent: what
// lies between a long list's beginning and its first byte.
const copyBatch = 128

// toRegistries copies the images that go into registries.
func (c *copying) toRegistries(ctx context.Context) {
	var jobs []*copyJob
	for _, j := range c.jobs {
		if j.to.Path == "" {
			jobs = append(jobs, j)
		}
	}
	for len(jobs) > 0 && !c.over(ctx) {
		n := min(len(jobs), copyBatch)
		c.batch(ctx, jobs[:n])
		jobs = jobs[n:]
	}
}

// batch copies some images: it resolves them, and sends what is missing.
func (c *copying) batch(ctx context.Context, jobs []*copyJob) {
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
	if c.over(ctx) {
		return
	}
	b := newCopyBatch(c, withReferrers(jobs))
	if c.opts.DryRun {
		b.plan(ctx)
		return
	}
	b.run(ctx)
}

// lanes is how many blobs are sent at once.
const lanes = 8

// wanted is a blob that a repository is to have.
type wanted struct {
	blob    image.Descriptor
	target  *copyTarget
	jobs    []*copyJob // that want it, the first for whom it is counted
	numbers []int      // of the jobs
	lost    int        // how often it was lost on the way
}

// copyingBatch is some images whose blobs are sent through one transfer.
type copyingBatch struct {
	*copying
	batch     []*copyJob
	wanted    []*wanted
	whole     []*copyJob // that want no blobs
	finishing errgroup.Group
}

func newCopyBatch(c *copying, jobs []*copyJob) *copyingBatch {
	b := &copyingBatch{copying: c, batch: jobs}
	b.finishing.SetLimit(resolveJobs)
	known := map[string]*wanted{}
	for n, j := range jobs {
		if j.err != nil || j.done {
			continue
		}
		for _, blob := range j.image.Blobs() {
			if j.target.has[blob.Digest] {
				continue // by an earlier batch
			}
			key := fmt.Sprintf("%p %s", j.target, blob.Digest)
			w := known[key]
			if w == nil {
				w = &wanted{blob: blob, target: j.target}
				known[key] = w
				b.wanted = append(b.wanted, w)
			}
			w.jobs, w.numbers = append(w.jobs, j), append(w.numbers, n)
			j.missing++
		}
		if j.missing == 0 && j.parent == nil {
			b.whole = append(b.whole, j)
		}
	}
	return b
}

// run sends the blobs in passes, in each of which a blob goes to one repository:
// in the next one the others of that registry can mount it. What was lost on its
// way is sent anew in the next pass.
func (b *copyingBatch) run(ctx context.Context) {
	for _, j := range b.whole {
		b.finish(ctx, j)
	}
	for !b.over(ctx) {
		pass := b.pass()
		if len(pass) == 0 {
			break
		}
		b.send(ctx, pass)
	}
	_ = b.finishing.Wait() // each job has its own error
	b.finishReferrers(ctx)
	b.list(ctx)
}

// pass is what is sent next: each blob once.
func (b *copyingBatch) pass() []*wanted {
	b.mu.Lock()
	defer b.mu.Unlock()
	var pass, rest []*wanted
	met := map[digest.Digest]bool{}
	for _, w := range b.wanted {
		switch {
		case w.target.has[w.blob.Digest] || !w.alive():
		case met[w.blob.Digest]:
			rest = append(rest, w)
		default:
			met[w.blob.Digest] = true
			pass, rest = append(pass, w), append(rest, w)
		}
	}
	b.wanted = rest
	return pass
}

// alive says whether an image is left that wants the blob.
func (w *wanted) alive() bool {
	for _, j := range w.jobs {
		if j.err == nil {
			return true
		}
	}
	return false
}

// send sends the blobs of a pass.
func (b *copyingBatch) send(ctx context.Context, pass []*wanted) {
	var items []transfer.Item
	for _, w := range pass {
		from := w.jobs[0].image
		items = append(items, transfer.Item{Blob: w.blob, Source: from.Source, Mirrors: from.Mirrors, Wanted: w.numbers})
	}
	opts := b.opts.Transfer
	opts.KeepGoing = true
	_, err := transfer.Relay(ctx, items, opts, lanes, func(i int, content io.Reader) error {
		return b.blob(ctx, pass[i], stoppable{ctx, content, b.copying})
	})
	if ctx.Err() != nil {
		return
	}
	failed := map[digest.Digest]error{}
	var blobs *transfer.BlobsError
	if errors.As(err, &blobs) {
		err = nil
		for _, f := range blobs.Blobs {
			failed[f.Digest] = f.Err
		}
	}
	for _, w := range pass {
		b.lose(w, cmp.Or(failed[w.blob.Digest], err))
	}
}

// errStopped ends what is under way where another image has failed.
var errStopped = errors.New("another image could not be copied")

// stoppable reads until the copying is over.
type stoppable struct {
	ctx context.Context
	io.Reader
	*copying
}

func (s stoppable) Read(p []byte) (int, error) {
	if s.over(s.ctx) {
		return 0, errStopped
	}
	return s.Reader.Read(p)
}

// lose notes what has become of a blob that is not where it belongs: one that
// was lost on its way goes again in the next pass.
func (b *copyingBatch) lose(w *wanted, err error) {
	b.mu.Lock()
	has := w.target.has[w.blob.Digest]
	b.mu.Unlock()
	var again *image.RetryError
	w.lost++
	switch {
	case has, errors.Is(err, errStopped):
		return
	case w.lost <= b.opts.Transfer.Retries && (err == nil || errors.Is(err, registry.ErrUploadLost) && errors.As(err, &again)):
		return
	case err == nil:
		err = fmt.Errorf("blob %s was not sent", w.blob.Digest)
	}
	for _, j := range w.jobs {
		b.fail(j, fmt.Errorf("copy %s to %s: %w", j.image.Label, j.to, err))
	}
}

// blob brings one blob into its repository, unless it is there.
func (b *copyingBatch) blob(ctx context.Context, w *wanted, content io.Reader) error {
	if b.over(ctx) {
		return errStopped
	}
	had, err := w.target.HasBlob(ctx, w.blob)
	if err != nil {
		return err
	}
	mounted := false
	for _, from := range b.mountable(w) {
		if had || mounted {
			break
		}
		if mounted, err = w.target.MountBlob(ctx, w.blob, from); err != nil {
			return err
		}
	}
	if !had && !mounted {
		if err := w.target.PushBlob(ctx, w.blob, content); err != nil {
			return err
		}
	}
	b.arrived(ctx, w, had, mounted)
	return nil
}

// mountable are the repositories from which the blob may be mounted: the one
// that it is copied from, and one that has it by now.
func (b *copyingBatch) mountable(w *wanted) []image.Source {
	b.mu.Lock()
	defer b.mu.Unlock()
	from := []image.Source{w.jobs[0].image.Source}
	if holder := b.holders[w.target.registry+" "+w.blob.Digest.String()]; holder != nil {
		from = append([]image.Source{holder.Repository}, from...)
	}
	return from
}

// arrived notes that a blob is there, and finishes the images that waited for it.
func (b *copyingBatch) arrived(ctx context.Context, w *wanted, had, mounted bool) {
	b.mu.Lock()
	w.target.has[w.blob.Digest] = true
	b.holders[w.target.registry+" "+w.blob.Digest.String()] = w.target
	var whole []*copyJob
	for i, j := range w.jobs {
		if i == 0 && mounted {
			j.mounted += w.blob.Size
		}
		if i == 0 && !had && !mounted {
			j.sent += w.blob.Size
		}
		if j.missing--; j.missing == 0 && j.err == nil && j.parent == nil {
			whole = append(whole, j)
		}
	}
	b.mu.Unlock()
	for _, j := range whole {
		b.finish(ctx, j)
	}
}

// finish completes an image whose blobs are there.
func (b *copyingBatch) finish(ctx context.Context, j *copyJob) {
	b.finishing.Go(func() error {
		if b.over(ctx) {
			return nil
		}
		if err := b.documents(ctx, j); err != nil {
			b.fail(j, fmt.Errorf("copy %s to %s: %w", j.image.Label, j.to, err))
			return nil
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		j.done = true
		return nil
	})
}

// documents sends an image's configs, then manifests, then indexes, and last what
// gets the tag.
func (c *copying) documents(ctx context.Context, j *copyJob) error {
	for _, m := range j.image.Manifests {
		if err := c.config(ctx, j, m.Config); err != nil {
			return err
		}
	}
	entry := j.image.Entry()
	for _, m := range j.image.Manifests {
		if m.Digest == entry.Digest {
			continue
		}
		if err := c.manifest(ctx, j, m.Content, ""); err != nil {
			return err
		}
	}
	if j.image.KeepIndexes {
		for i := len(j.image.Indexes) - 1; i > 0; i-- {
			if err := c.manifest(ctx, j, j.image.Indexes[i], ""); err != nil {
				return err
			}
		}
	}
	return c.manifest(ctx, j, entry, j.to.Reference.Tag)
}

func (c *copying) config(ctx context.Context, j *copyJob, config image.Content) error {
	has, err := j.target.HasBlob(ctx, config.Descriptor)
	if err != nil || has {
		return err
	}
	if err := j.target.PushBlob(ctx, config.Descriptor, bytes.NewReader(config.Bytes)); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !j.target.configs[config.Digest] { // another image may have sent it meanwhile
		j.sent += config.Size
	}
	j.target.configs[config.Digest] = true
	return nil
}

func (c *copying) manifest(ctx context.Context, j *copyJob, m image.Content, tag string) error {
	pushed, err := j.target.PushManifest(ctx, m, tag)
	if err == nil && !pushed.SubjectKnown {
		c.unlisted(j, m)
	}
	return err
}
