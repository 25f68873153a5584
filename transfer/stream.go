package transfer

import (
	"context"
	"io"

	"github.com/davit-cli/davit/image"
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
	ring := make(ring, windowSize)
	var pos int64
	for _, b := range e.blobs {
		b.start, b.Place = pos, ringPlace{ring, pos}
		b.written, b.shares, b.resumed, b.todo = nil, nil, 0, extents(nil).gaps(b.Blob.Size)
		pos += b.Blob.Size
	}
	e.limit = windowSize
	sunk := make(chan error, 1)
	go func() {
		for i, b := range e.blobs {
			if err := sink(i, &orderedReader{engine: e, blob: b}); err != nil {
				e.fail(err)
				sunk <- err
				return
			}
		}
		sunk <- nil
	}()
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

// held is how many of the blob's last bytes wait for its digest. A blob with
// mirrors waits whole, up to half of the window: as long as nobody has read of
// it, what one mirror gives wrong is fetched from another.
func (b *blob) held() int64 {
	if len(b.mirrors) > 0 && b.Blob.Size <= windowSize/2 {
		return b.Blob.Size
	}
	return held
}

// orderedReader reads a blob behind the hash frontier.
type orderedReader struct {
	*engine
	blob *blob
	pos  int64
}

func (r *orderedReader) Read(p []byte) (int, error) {
	n, err := r.await(int64(len(p)))
	if n == 0 || err != nil {
		return 0, err
	}
	if _, err := r.blob.Place.ReadAt(p[:n], r.pos); err != nil {
		return 0, err
	}
	r.pos += n
	r.mu.Lock()
	defer r.mu.Unlock()
	if limit := r.blob.start + r.pos + windowSize; limit-r.limit >= roomStep {
		r.limit = limit
		r.wake.Broadcast()
	}
	return int(n), nil
}

// await waits until at most n bytes may be read, and tells how many.
func (r *orderedReader) await(n int64) (int64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		ready := r.blob.hasher.at
		if !r.blob.verified {
			ready = min(ready, r.blob.Blob.Size-r.blob.held())
		}
		switch {
		case r.err != nil:
			return 0, r.err
		case n == 0:
			return 0, nil
		case r.pos < ready:
			r.blob.read = true
			return min(n, ready-r.pos), nil
		case r.blob.verified:
			return 0, io.EOF
		}
		r.wake.Wait()
	}
}

// ring is the window's memory: position p of the stream lies at p modulo its length.
type ring []byte

// ringPlace is the place of a blob that starts at a position of the stream.
type ringPlace struct {
	ring  ring
	start int64
}

func (p ringPlace) WriteAt(b []byte, off int64) (int, error) {
	at := int((p.start + off) % int64(len(p.ring)))
	n := copy(p.ring[at:], b)
	copy(p.ring, b[n:])
	return len(b), nil
}

func (p ringPlace) ReadAt(b []byte, off int64) (int, error) {
	at := int((p.start + off) % int64(len(p.ring)))
	n := copy(b, p.ring[at:])
	copy(b[n:], p.ring)
	return len(b), nil
}

func (p ringPlace) Written() []image.Extent { return nil }

// Forget has nothing to forget: what the reader has had cannot be taken back.
func (p ringPlace) Forget() error { return nil }
