package davit

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/davit-cli/davit/image"
)

// errReferring is of options that contradict each other.
var errReferring = errors.New("re-encoded layers make another image, to which no referrer refers")

// refer finds what goes along with an image that goes into a registry, and makes
// a job of each. root is what the image was before it was trimmed.
func (c *copying) refer(ctx context.Context, l *look, j *copyJob, root digest.Digest) error {
	if !j.referring {
		return nil
	}
	found, err := l.attached(ctx, j.image, root)
	if err != nil {
		return err
	}
	jobs := map[digest.Digest]*copyJob{} // that bring what is referred to
	for _, d := range partsOf(j.image) {
		jobs[d] = j
	}
	for _, img := range found {
		r := &copyJob{from: j.from, to: j.to, image: img, target: j.target, parent: j, after: jobs[img.Subject]}
		r.to.Reference = r.to.Reference.WithTag(img.Name.Tag).WithDigest("")
		if img.Name.Tag == "" {
			r.to.Reference = r.to.Reference.WithDigest(img.Entry().Digest)
		}
		for _, d := range partsOf(img) {
			jobs[d] = r
		}
		j.referrers = append(j.referrers, r)
	}
	return nil
}

// withReferrers are the jobs, and behind them those of what goes along.
func withReferrers(jobs []*copyJob) []*copyJob {
	all := slices.Clone(jobs)
	for _, j := range jobs {
		if j.err == nil {
			all = append(all, j.referrers...)
		}
	}
	return all
}

// errOthers is of what cosign keeps under a tag, where the destination has more of
// it than the source.
var errOthers = errors.New("under its tag the destination has others, which would be lost")

// checkOthers finds out whether signatures would be lost: cosign keeps all of an
// image as the layers of one manifest, under one tag.
func (c *copying) checkOthers(ctx context.Context, j *copyJob) error {
	if j.parent == nil || j.to.Reference.Tag == "" {
		return nil
	}
	there, err := j.target.Manifest(ctx, j.to.Reference.Tag)
	switch {
	case errors.Is(err, image.ErrNotFound):
		return nil
	case err != nil:
		return err
	}
	m, err := image.ParseManifest(there)
	if err != nil {
		return errOthers // whatever it is
	}
	own := map[digest.Digest]bool{}
	for _, d := range j.image.Manifests[0].Layers {
		own[d.Digest] = true
	}
	if slices.ContainsFunc(m.Layers, func(d image.Descriptor) bool { return !own[d.Digest] }) {
		return errOthers
	}
	return nil
}

// failReferrer notes why a referrer cannot be copied, and says whether that is its
// image's failure too: where it is only not there, the source lists what it has
// not got; where the destination has others under its tag, these stay. Either is a
// warning.
func (c *copying) failReferrer(r *copyJob, err error) (fatal bool) {
	c.mu.Lock()
	known := r.err != nil
	if !known {
		r.err = err
	}
	c.mu.Unlock()
	if known || !errors.Is(err, image.ErrNotFound) && !errors.Is(err, errOthers) {
		return !known
	}
	c.opts.Events.Send(image.Event{Kind: image.EventWarning, Text: fmt.Sprintf("%s: a referrer is left out: %v", r.parent.image.Label, err)})
	return false
}

// finishReferrers completes what goes along with images, each after what it
// refers to, where all blobs are there.
func (b *copyBatch) finishReferrers(ctx context.Context) {
	for !b.over(ctx) {
		var ready []*copyJob
		for _, j := range b.jobs {
			if j.parent != nil && !j.done && j.err == nil && j.missing == 0 && j.after.done {
				ready = append(ready, j)
			}
		}
		if len(ready) == 0 {
			return
		}
		var group errgroup.Group
		group.SetLimit(resolveJobs)
		for _, j := range ready {
			group.Go(func() error {
				b.finish(ctx, j)
				return nil
			})
		}
		_ = group.Wait() // each job has its own error
	}
}

// unlisted notes a manifest that the target does not list with its subject's
// referrers, although it has one.
func (c *copying) unlisted(j *copyJob, m image.Content) {
	if _, _, ok := image.DescribeReferrer(m); !ok {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if j.unlisted == nil {
		j.unlisted = map[digest.Digest]bool{}
	}
	j.unlisted[m.Digest] = true
}

// listing is what is to be added to one list of referrers.
type listing struct {
	target  *copyTarget
	subject digest.Digest
	add     []image.Descriptor
	jobs    []*copyJob
}

// listReferrers adds what the targets do not list themselves to the lists that are kept
// under tags.
func (b *copyBatch) listReferrers(ctx context.Context) {
	var group errgroup.Group
	group.SetLimit(resolveJobs)
	for _, l := range b.listings() {
		group.Go(func() error {
			if b.over(ctx) {
				return nil
			}
			if err := l.target.AddReferrers(ctx, l.subject, l.add); err != nil {
				for _, j := range l.jobs {
					b.fail(j, fmt.Errorf("copy %s to %s: %w", j.image.Label, j.to, err))
				}
			}
			return nil
		})
	}
	_ = group.Wait() // each job has its own error
}

// listings are in the order of the batch.
func (b *copyBatch) listings() []*listing {
	var all []*listing
	known := map[string]*listing{}
	for _, j := range b.jobs {
		if len(j.unlisted) == 0 || j.err != nil {
			continue
		}
		var documents []image.Content
		for _, m := range j.image.Manifests {
			documents = append(documents, m.Content)
		}
		for _, c := range append(documents, j.image.Indexes...) {
			if !j.unlisted[c.Digest] {
				continue
			}
			d, subject, _ := image.DescribeReferrer(c)
			key := fmt.Sprintf("%p %s", j.target, subject)
			if known[key] == nil {
				known[key] = &listing{target: j.target, subject: subject}
				all = append(all, known[key])
			}
			known[key].add, known[key].jobs = append(known[key].add, d), append(known[key].jobs, j)
		}
	}
	return all
}

// addReferrers counts what went along with the image.
func (r *CopyResult) addReferrers(j *copyJob) {
	if j.disk != nil {
		r.Referrers = j.disk.Referrers
	}
	images := []image.Image{}
	if !j.same && j.disk == nil {
		images = append(images, j.image)
	}
	for _, with := range j.referrers {
		if !with.done || with.err != nil {
			continue
		}
		images = append(images, with.image)
		r.Referrers++
		r.Sent += with.sent
		r.Mounted += with.mounted
	}
	if len(j.referrers) > 0 {
		r.Size = contentSize(images)
	}
}

// contentSize is that of the blobs of images, each once.
func contentSize(images []image.Image) int64 {
	var size int64
	seen := map[digest.Digest]bool{}
	add := func(d image.Descriptor) {
		if !seen[d.Digest] {
			seen[d.Digest] = true
			size += d.Size
		}
	}
	for _, img := range images {
		for _, d := range img.Blobs() {
			add(d)
		}
		for _, m := range img.Manifests {
			add(m.Config.Descriptor)
		}
	}
	return size
}

// attached finds what goes along with an image onto the disk.
func (c *copying) attached(ctx context.Context, j *copyJob) ([]image.Image, error) {
	l, err := c.look(ctx, j)
	if err != nil {
		return nil, err
	}
	img, err := l.resolve(ctx)
	if err != nil {
		return nil, err
	}
	if img.Name, err = j.asked().called(img.Name); err != nil {
		return nil, fmt.Errorf("%s: %w", j.from, err)
	}
	return l.attached(ctx, img, img.Root().Digest)
}

// haveReferrers says whether all that goes along with an image is among those of a
// store.
func (c *copying) haveReferrers(ctx context.Context, j *copyJob, there []image.Stored) (bool, error) {
	found, err := c.attached(ctx, j)
	for _, r := range found {
		tag := r.Name.Tag
		if !slices.ContainsFunc(there, func(s image.Stored) bool { return s.Digest == r.Entry().Digest && (tag == "" || tag == s.Tag()) }) {
			return false, err
		}
	}
	return err == nil, err
}

// planReferrers notes what would go along with an image onto the disk, and gives
// the blobs of all.
func (c *copying) planReferrers(ctx context.Context, j *copyJob) ([]image.Descriptor, error) {
	blobs := j.image.Blobs()
	if !j.referring {
		return blobs, nil
	}
	found, err := c.attached(ctx, j)
	for _, r := range found {
		j.referrers = append(j.referrers, &copyJob{from: j.from, to: j.to, image: r, parent: j, done: true})
		blobs = append(blobs, r.Blobs()...)
	}
	return blobs, err
}
