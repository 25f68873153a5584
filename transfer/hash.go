package transfer

import (
	"errors"
	"fmt"
	"hash"
	"io"
	"runtime"
	"sync"

	"golang.org/x/sync/semaphore"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
)

// hasher is the in-order hash of one blob.
type hasher struct {
	hash.Hash
	at   int64 // bytes hashed
	busy bool  // somebody is hashing; nobody else may
}

// newCatchUp bounds how many blobs are read back at once: more than cores
// only cost memory.
func newCatchUp() *semaphore.Weighted {
	return semaphore.NewWeighted(int64(runtime.NumCPU()))
}

// wrote takes note of a piece that has just been written. Where it continues
// the hash, it is hashed right here, while it is hot.
func (e *engine) wrote(c *claim, off int64, p []byte) {
	b := c.blob
	e.mu.Lock()
	c.bytes += int64(len(p))
	b.written = b.written.add(off, int64(len(p)))
	b.got += int64(len(p))
	e.fetched += int64(len(p))
	e.gave(c, off, int64(len(p)))
	hot := !b.hasher.busy && off == b.hasher.at
	if hot {
		b.hasher.busy = true
	}
	e.mu.Unlock()
	e.opts.Events.Send(image.Event{Kind: image.EventBlobAdvanced, Blob: b.Blob, Bytes: int64(len(p))})
	if !hot {
		return
	}
	e.feed(b, p)
	e.mu.Lock()
	defer e.mu.Unlock()
	b.hasher.busy = false
	e.hashOn(b)
}

// feed hashes p, which continues what is hashed. The caller has made the
// hasher busy.
func (e *engine) feed(b *blob, p []byte) {
	if b.hasher.Hash == nil {
		b.hasher.Hash = b.Blob.Digest.Algorithm().Hash()
	}
	_, _ = b.hasher.Write(p) // a hash returns no error
	e.mu.Lock()
	b.hasher.at += int64(len(p))
	if e.window > 0 {
		e.wake.Broadcast() // a reader may go on
	}
	e.mu.Unlock()
}

// hashOn starts hashing what lies beyond the frontier, where something does
// and nobody is at it. The caller holds the lock.
func (e *engine) hashOn(b *blob) {
	at := b.hasher.at
	if b.verified || b.givenUp || b.hasher.busy || at < b.Blob.Size && b.written.end(at) == at {
		return
	}
	b.hasher.busy = true
	e.hashers.Go(func() { e.readBack(b) })
}

// readBackBuffers are used again: readers-back come and go with the frontier.
var readBackBuffers = sync.Pool{New: func() any { return new([2 * bufferSize]byte) }}

// readBack hashes what is written beyond the frontier, and ends the blob when
// that was its last byte.
func (e *engine) readBack(b *blob) {
	if e.catchUp.Acquire(e.ctx, 1) != nil {
		return // the transfer is over
	}
	defer e.catchUp.Release(1)
	buf := readBackBuffers.Get().(*[2 * bufferSize]byte)[:]
	defer func() { readBackBuffers.Put((*[2 * bufferSize]byte)(buf)) }()
	for e.ctx.Err() == nil {
		e.mu.Lock()
		at, size := b.hasher.at, b.Blob.Size
		n := min(b.written.end(at)-at, int64(len(buf)))
		if b.givenUp || n == 0 && at < size {
			b.hasher.busy = false
			e.mu.Unlock()
			return
		}
		e.mu.Unlock()
		if at == size {
			e.conclude(b)
			return
		}
		if _, err := io.ReadFull(io.NewSectionReader(b.Place, at, n), buf[:n]); err != nil {
			if !errors.Is(err, errGone) { // else its sink has returned
				e.fail(fmt.Errorf("read back blob %s: %w", b.Blob.Digest, err))
			}
			return
		}
		e.feed(b, buf[:n])
	}
}

// conclude compares the digest of a blob that is whole. What an earlier run
// left is not believed: where the digest is wrong and such bytes are in it,
// they are fetched again.
func (e *engine) conclude(b *blob) {
	if b.hasher.Hash == nil {
		e.feed(b, nil)
	}
	want := b.Blob.Digest
	got := want.Algorithm().Encode(b.hasher.Sum(nil))
	if got == want.Encoded() {
		e.accept(b)
		return
	}
	if err := b.Place.Forget(); err != nil {
		e.fail(fmt.Errorf("forget blob %s: %w", want, err))
		return
	}
	if len(b.mirrors) > 0 && b.Blob.Size > 0 {
		e.mend(b, got)
		return
	}
	if b.damaged++; b.resumed == 0 || b.damaged > maxDamaged {
		e.reject(b, &ContentError{Digest: want, Got: digest.NewDigestFromEncoded(want.Algorithm(), got)})
		return
	}
	e.startOver(b)
}

// ContentError says that a blob's only source gave bytes of another digest. It
// wraps image.ErrVerification.
type ContentError struct {
	Digest, Got digest.Digest
}

func (e *ContentError) Error() string {
	return fmt.Sprintf("blob %s: other content came, with digest %s: %v", e.Digest, e.Got, image.ErrVerification)
}

func (e *ContentError) Unwrap() error { return image.ErrVerification }

// maxDamaged bounds how often a disk that gives back other bytes than were
// written to it is given another chance.
const maxDamaged = 4

func (e *engine) accept(b *blob) {
	if b.Verified != nil {
		if err := b.Verified(); err != nil {
			e.fail(fmt.Errorf("finish blob %s: %w", b.Blob.Digest, err))
			return
		}
	}
	e.begin(b)
	e.opts.Events.Send(image.Event{Kind: image.EventBlobVerified, Blob: b.Blob})
	e.mu.Lock()
	b.verified = true
	e.resumed += b.resumed
	e.left--
	told := e.credit(b)
	e.wake.Broadcast()
	e.mu.Unlock()
	e.tell(told)
}

// damage tells that what an earlier run left was wrong.
func (b *blob) damage() image.Event {
	return image.Event{Kind: image.EventNote, Blob: b.Blob,
		Text: fmt.Sprintf("what an earlier run left of blob %s is damaged; fetching the damaged part again", b.Blob.Digest)}
}

// startOver fetches again what the place no longer vouches for.
func (e *engine) startOver(b *blob) {
	written := newExtents(b.Place.Written(), b.Blob.Size)
	e.begin(b)
	e.opts.Events.Send(b.damage())
	e.opts.Events.Send(image.Event{Kind: image.EventBlobAdvanced, Blob: b.Blob, Bytes: written.sum() - b.Blob.Size})
	e.mu.Lock()
	b.written, b.resumed = written, written.sum()
	b.todo = written.gaps(b.Blob.Size)
	b.hasher = hasher{}
	told := e.giveUpVain()
	e.wake.Broadcast()
	e.hashOn(b)
	e.mu.Unlock()
	e.tell(told)
}
