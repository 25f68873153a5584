package davit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/registry"
	"github.com/davit-cli/davit/transfer"
)

// copyBatch is some images whose blobs are sent through the same transfers.
type copyBatch struct {
	*copying
	jobs       []*copyJob
	deliveries []*delivery // that are still to be made
	progress   *copyProgress

	finishing sync.WaitGroup
	finishers chan struct{} // full while as many images as may be are finished
	ended     bool          // guarded by copying.mu: no image is finished any more
}

// delivery is a blob that a repository is to have.
type delivery struct {
	blob    image.Descriptor
	target  *copyTarget
	jobs    []*copyJob // that want it
	numbers []int      // of the jobs in the batch
	tries   int
	there   bool // and accounted for
}

// deliveryPlace is what there is one delivery for.
type deliveryPlace struct {
	target *copyTarget
	blob   blobID
}

// newCopyBatch finds out which blobs the jobs that are resolved still want.
func newCopyBatch(c *copying, jobs []*copyJob) *copyBatch {
	b := &copyBatch{copying: c, jobs: jobs, finishers: make(chan struct{}, resolveJobs)}
	known := map[deliveryPlace]*delivery{}
	for n, j := range jobs {
		if j.err != nil || j.done {
			continue
		}
		for _, blob := range j.image.Blobs() {
			if c.has(j.target, blob) {
				continue
			}
			at := deliveryPlace{j.target, idOf(blob)}
			d := known[at]
			if d == nil {
				d = &delivery{blob: blob, target: j.target}
				known[at] = d
				b.deliveries = append(b.deliveries, d)
			}
			d.jobs, d.numbers = append(d.jobs, j), append(d.numbers, n)
			j.missing++
		}
	}
	return b
}

// run makes the deliveries in passes, in each of which a blob goes to one
// repository: in the next one the others of that registry can mount it. What was
// lost on its way goes again in the next pass.
func (b *copyBatch) run(ctx context.Context) {
	b.progress = newCopyProgress(b.opts.Transfer.Events, b.deliveries)
	defer b.progress.end()
	for _, j := range b.jobs {
		if j.err == nil && !j.done && j.missing == 0 && j.parent == nil {
			b.finishBeside(ctx, j)
		}
	}
	for !b.over(ctx) {
		pass := b.next()
		if len(pass) == 0 {
			break
		}
		b.deliver(ctx, pass)
	}
	b.mu.Lock()
	b.ended = true
	b.mu.Unlock()
	b.finishing.Wait()
	b.finishReferrers(ctx)
	b.listReferrers(ctx)
}

// next is what goes in the next pass: each blob once.
func (b *copyBatch) next() []*delivery {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.deliveries = slices.DeleteFunc(b.deliveries, func(d *delivery) bool {
		return d.there || d.payer() == nil
	})
	var pass []*delivery
	met := map[digest.Digest]bool{}
	for _, d := range b.deliveries {
		if !met[d.blob.Digest] {
			met[d.blob.Digest] = true
			pass = append(pass, d)
		}
	}
	return pass
}

// payer is the first image that still wants the blob: the blob comes from where
// that one is, and counts as sent for it. Nil where none is left. The caller
// holds the lock.
func (d *delivery) payer() *copyJob {
	if i := slices.IndexFunc(d.jobs, func(j *copyJob) bool { return j.err == nil }); i >= 0 {
		return d.jobs[i]
	}
	return nil
}

// item is what the transfer is to fetch, for the images of the payer's source
// alone: those of others fetch it from theirs where it fails. The caller holds
// the lock.
func (d *delivery) item() transfer.Item {
	from := d.payer().image
	item := transfer.Item{Blob: d.blob, Source: from.Source, Mirrors: from.Mirrors}
	for i, j := range d.jobs {
		if j.err == nil && j.image.Source == from.Source {
			item.Wanted = append(item.Wanted, d.numbers[i])
		}
	}
	return item
}

// lanes is how many blobs are sent at once.
const lanes = 8

// deliver makes the deliveries of a pass, as far as they succeed.
func (b *copyBatch) deliver(ctx context.Context, pass []*delivery) {
	var items []transfer.Item
	b.mu.Lock()
	for _, d := range pass {
		items = append(items, d.item())
		d.tries++
	}
	b.mu.Unlock()
	opts := b.opts.Transfer
	opts.KeepGoing = len(b.jobs) > 1
	opts.Events = b.progress.take
	_, err := transfer.Relay(ctx, items, opts, lanes, func(i int, content io.Reader) error {
		b.bring(ctx, pass[i], items[i].Source, content)
		return nil
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
	for i, d := range pass {
		if b.isThere(d) {
			continue
		}
		b.progress.lose(d.blob)
		switch most := b.opts.Transfer.Retries + len(d.jobs); {
		case err != nil:
			b.lose(d, nil, err)
		case failed[d.blob.Digest] != nil:
			b.lose(d, items[i].Source, failed[d.blob.Digest])
		case d.tries > most:
			b.lose(d, nil, fmt.Errorf("push blob %s: it was lost %d times", d.blob.Digest, d.tries))
		}
	}
}

// lose notes that images do without a blob: those of one source where that
// cannot give it, and all of them where it is nil.
func (b *copyBatch) lose(d *delivery, source image.Source, err error) {
	if errors.Is(err, errUnwanted) {
		return
	}
	for _, j := range d.jobs {
		if source == nil || j.image.Source == source {
			b.fail(j, j.failure(err))
		}
	}
}

// bring brings one blob into its repository, unless it is there.
func (b *copyBatch) bring(ctx context.Context, d *delivery, source image.Source, content io.Reader) {
	from := &wantedContent{Reader: content, ctx: ctx, batch: b, delivery: d}
	if !from.wanted() {
		return
	}
	how, err := b.place(ctx, d.target, d.blob, source, from)
	var again *image.RetryError
	switch {
	case err == nil:
		b.arrived(ctx, d, how)
	case ctx.Err() != nil:
	case from.err != nil:
		b.lose(d, source, from.err)
	case errors.Is(err, registry.ErrUploadLost) && errors.As(err, &again) && d.tries <= b.opts.Transfer.Retries:
		b.opts.Transfer.Events.Send(image.Event{Kind: image.EventRetry, Blob: d.blob, Text: err.Error()})
	default:
		b.lose(d, nil, err)
	}
}

// arrived notes that a blob is there, and finishes the images that waited for it
// alone.
func (b *copyBatch) arrived(ctx context.Context, d *delivery, how image.EventKind) {
	b.progress.arrived(d.blob, how)
	for _, j := range b.account(d, how) {
		b.finishBeside(ctx, j)
	}
}

// isThere says whether a blob has arrived for those that want it: that a repository
// has it as another image's config is not enough.
func (b *copyBatch) isThere(d *delivery) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return d.there
}

// account notes for whom a blob is there, and returns the images that lack
// nothing more.
func (b *copyBatch) account(d *delivery, how image.EventKind) (whole []*copyJob) {
	b.mu.Lock()
	defer b.mu.Unlock()
	d.there = true
	b.holds(d.target, d.blob)
	if payer := d.payer(); payer != nil {
		payer.count(d.blob, how)
	}
	for _, j := range d.jobs {
		if j.missing--; j.missing == 0 && j.err == nil && j.parent == nil {
			whole = append(whole, j)
		}
	}
	return whole
}

// finishBeside finishes an image beside the transfer.
func (b *copyBatch) finishBeside(ctx context.Context, j *copyJob) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended {
		return // an upload that was stuck when the copying was interrupted
	}
	b.finishing.Go(func() {
		b.finishers <- struct{}{}
		defer func() { <-b.finishers }()
		b.finish(ctx, j)
	})
}

// errUnwanted ends what is under way where another image has failed, or each one
// that wants the blob.
var errUnwanted = errors.New("no image is left that wants it")

// wantedContent is a blob's content for as long as an image wants it.
type wantedContent struct {
	io.Reader
	ctx      context.Context
	batch    *copyBatch
	delivery *delivery
	err      error // of the source
}

func (c *wantedContent) Read(p []byte) (int, error) {
	if !c.wanted() {
		c.err = errUnwanted
		return 0, errUnwanted
	}
	n, err := c.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		c.err = err
	}
	return n, err
}

func (c *wantedContent) wanted() bool {
	if c.batch.over(c.ctx) {
		return false
	}
	c.batch.mu.Lock()
	defer c.batch.mu.Unlock()
	return c.delivery.payer() != nil
}
