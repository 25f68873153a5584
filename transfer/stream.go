package transfer

import (
	"context"
	"io"
)

const (
	// windowSize is how far the engine fetches ahead of a stream's reader:
	// the memory that a stream takes.
	windowSize = 24 << 20
	// held is how many of a blob's last bytes the reader gets only after the
	// blob's digest proved right.
	held = 64 << 10
	// roomStep is how much room the reader makes before it wakes the workers.
	roomStep = 256 << 10
)

// Stream fetches blobs side by side, in bounded memory, and gives them to sink
// one after the other, in the order of items. The reader of a blob ends only
// after the blob is verified; its last bytes are held back until then, so a
// sink that copies what it reads never completes a wrong blob. A blob that may
// come from mirrors, of up to 12 MiB, is given out only once it is whole and
// verified, so that what a mirror gives wrong can be fetched from another. Of a
// larger one the reader has had bytes by then, and the wrong digest ends the
// transfer with an image.ErrVerification that names who gave some of it.
//
// The places of the items are not used, and neither is Options.KeepGoing: what
// is read in order cannot leave a blob out. Stream returns when sink has had all
// blobs, or with the first error, after sink has returned. Only where ctx ends
// it does not wait for a sink that is stuck in a write.
func Stream(ctx context.Context, items []Item, opts Options, sink func(i int, blob io.Reader) error) (Stats, error) {
	if err := check(items); err != nil {
		return Stats{}, err
	}
	opts.KeepGoing = false
	e := newEngine(ctx, items, opts)
	e.window, e.ahead = windowSize, windowSize
	all := newMemory(&pagePool{}) // of one blob behind the other
	var start int64
	for _, b := range e.blobs {
		b.keepIn(memoryPlace{all, start})
		e.open(b, windowSize-start)
		start += b.Blob.Size
	}
	return e.runInto(ctx, func() error {
		for i, b := range e.blobs {
			if err := sink(i, &blobReader{e, b}); err != nil {
				e.fail(err)
				return err
			}
		}
		return nil
	})
}

// keepIn makes a memory the blob's place, in which nothing is yet.
func (b *blob) keepIn(m memoryPlace) {
	b.memory, b.Place, b.limit = m, m, 0
	b.written, b.shares, b.resumed, b.todo = nil, nil, 0, extents(nil).gaps(b.Blob.Size)
}

// runInto runs while sink takes the blobs, and returns when both are done.
func (e *engine) runInto(ctx context.Context, sink func() error) (Stats, error) {
	e.announce()
	sunk := make(chan error, 1)
	go func() { sunk <- sink() }()
	stats, err := e.run()
	select {
	case sinkErr := <-sunk:
		if err == nil {
			err = sinkErr
		}
	case <-ctx.Done():
		if err == nil {
			err = context.Cause(ctx)
		}
	}
	return stats, err
}

// open lets the blob be fetched up to a limit. A blob with mirrors is held back
// whole, up to half of what may be fetched ahead: as long as nobody has read of
// it, what one mirror gives wrong is fetched from another.
func (e *engine) open(b *blob, limit int64) {
	b.opened, b.limit, b.held = true, limit, held
	if len(b.mirrors) > 0 && b.Blob.Size <= e.ahead/2 {
		b.held = b.Blob.Size
	}
}

// makeRoom lets more be fetched ahead of a blob's reader. The caller holds the
// lock.
func (e *engine) makeRoom(b *blob) {
	limit := b.pos + e.ahead
	if limit-b.limit < roomStep {
		return
	}
	b.limit = limit
	if e.inOrder() {
		for _, next := range e.blobs[b.number+1:] {
			limit -= b.Blob.Size
			next.limit, b = limit, next
		}
	}
	e.wake.Broadcast()
}

// blobReader reads a blob behind the hash frontier.
type blobReader struct {
	*engine
	blob *blob
}

func (r *blobReader) Read(p []byte) (int, error) {
	b := r.blob
	n, err := r.await(int64(len(p)))
	if n == 0 || err != nil {
		return 0, err
	}
	if _, err := b.memory.ReadAt(p[:n], b.pos); err != nil {
		return 0, err
	}
	if before := b.memory.start + b.pos; (before+n)/pageSize > before/pageSize {
		b.memory.forget(before + n)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	b.pos += n
	r.makeRoom(b)
	return int(n), nil
}

// await waits until at most n bytes may be read, and tells how many.
func (r *blobReader) await(n int64) (int64, error) {
	b := r.blob
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil && !b.opened && !b.closed && !b.givenUp {
		r.tellUnlocked(r.startRead(b))
	}
	for {
		ready := b.hasher.at
		if !b.verified {
			ready = min(ready, b.Blob.Size-b.held)
		}
		switch {
		case r.err != nil:
			return 0, r.err
		case b.closed:
			return 0, errGone
		case b.givenUp:
			return 0, b.whyGivenUp()
		case n == 0:
			return 0, nil
		case b.pos < ready:
			b.read = true
			return min(n, ready-b.pos), nil
		case b.verified:
			return 0, io.EOF
		}
		r.wake.Wait()
	}
}
