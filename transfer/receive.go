package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/davit-cli/davit/image"
)

// checkRange compares what a server is about to send with what was asked for.
func checkRange(rng *image.Range, blob image.Descriptor, off, end int64) error {
	total := rng.Total
	if total < 0 && rng.Start == 0 && off == 0 && end == blob.Size {
		total = rng.Len
	}
	if total >= 0 && total != blob.Size {
		return fmt.Errorf("blob %s: %s has %d bytes of it, the manifest says %d: %w",
			blob.Digest, rng.Host, total, blob.Size, image.ErrVerification)
	}
	if rng.Start != off || rng.Len > end-off {
		return &image.NoRangeError{Host: rng.Host,
			Err: fmt.Errorf("asked for bytes %d-%d, it sends from %d", off, end-1, rng.Start)}
	}
	return nil
}

// receive writes what a server sends, until the claim has all of it.
func (e *engine) receive(ctx context.Context, c *claim, rng *image.Range, buf []byte, stall *time.Timer) error {
	at := rng.Start
	for {
		p := buf
		if e.limiter != nil {
			p = buf[:min(len(buf), e.limiter.Burst())]
		}
		stall.Reset(e.opts.Stall)
		c.flow.wait()
		n, err := rng.Body.Read(p)
		if rng.Len < 0 && err == nil && at+int64(n) == c.Blob.Size {
			err = endsHere(rng.Body, c.Blob)
		}
		c.flow.gotSome()
		stall.Stop() // neither our disk nor our own rate limit is a stall
		if errors.Is(err, image.ErrVerification) {
			return err
		}
		if n > 0 {
			if err := e.keep(c, at, p[:n]); err != nil {
				return err
			}
			at += int64(n)
			if e.limiter != nil && e.limiter.WaitN(ctx, n) != nil {
				return context.Cause(ctx)
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return e.ended(c, at, rng)
		case err != nil:
			return fmt.Errorf("fetch blob %s: connection to %s broke off: %w", c.Blob.Digest, rng.Host, err)
		case n > 0 && e.done(c, at):
			return nil
		}
	}
}

// endsHere reads the end of a body of unknown length, before its last bytes
// are taken for the blob's.
func endsHere(body io.Reader, blob image.Descriptor) error {
	var more [1]byte
	n, err := io.ReadFull(body, more[:])
	if n > 0 {
		return tooLong(blob)
	}
	return err
}

// done tells whether a thief has taken what is left of the claim. A claim
// that ends where its range does reads on to the end, so that the connection
// can be used again.
func (e *engine) done(c *claim, at int64) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return !c.stream && at > c.end
}

// ended judges the end of a body.
func (e *engine) ended(c *claim, at int64, rng *image.Range) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case c.pos >= c.end:
		return nil
	case c.stream && rng.Len < 0:
		return fmt.Errorf("blob %s: %s sent %d bytes of it, the manifest says %d: %w",
			c.Blob.Digest, rng.Host, at, c.Blob.Size, errEndsEarly)
	default:
		return fmt.Errorf("fetch blob %s: connection to %s ended after %d of %d bytes: %w",
			c.Blob.Digest, rng.Host, at, c.Blob.Size, io.ErrUnexpectedEOF)
	}
}

// keep writes a piece of a body to the place, as far as the claim still wants
// it. Bytes are taken out of the claim before they are written, so that a
// thief never writes them too.
func (e *engine) keep(c *claim, at int64, p []byte) error {
	if c.stream {
		return e.keepMissing(c, at, p)
	}
	e.mu.Lock()
	n := min(int64(len(p)), max(c.end-at, 0))
	c.pos = at + n
	beyond := at+int64(len(p)) > c.Blob.Size
	e.mu.Unlock()
	if beyond {
		return tooLong(c.Blob)
	}
	return e.write(c, at, p[:n])
}

// keepMissing writes of a whole blob's stream what is not there yet.
func (e *engine) keepMissing(c *claim, at int64, p []byte) error {
	end := at + int64(len(p))
	if end > c.Blob.Size {
		return tooLong(c.Blob)
	}
	if err := e.waitRoom(c, end); err != nil {
		return err
	}
	e.mu.Lock()
	gaps, over := c.written.gaps(end), c.over
	e.mu.Unlock()
	if over {
		return errSuperseded
	}
	for _, g := range gaps {
		from := max(g.Off, at)
		if from >= g.Off+g.Len {
			continue
		}
		if err := e.write(c, from, p[from-at:g.Off+g.Len-at]); err != nil {
			return err
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	c.pos = max(c.pos, end)
	return nil
}

func tooLong(blob image.Descriptor) error {
	return fmt.Errorf("blob %s: the registry sent more than the %d bytes that the manifest says: %w",
		blob.Digest, blob.Size, image.ErrVerification)
}

func (e *engine) write(c *claim, off int64, p []byte) error {
	if len(p) == 0 {
		return nil
	}
	if c.again {
		if err := e.compare(c, off, p); err != nil {
			return &placeError{c.Blob, err}
		}
	}
	if _, err := c.Place.WriteAt(p, off); err != nil {
		return &placeError{c.Blob, err}
	}
	e.wrote(c, off, p)
	return nil
}

// waitRoom waits until the blob's reader has made room up to a position in it.
// An error ends the claim.
func (e *engine) waitRoom(c *claim, end int64) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c.limit >= end {
		return e.err
	}
	e.parked++
	c.waiting = true
	defer func() { e.parked--; c.waiting = false }()
	e.wake.Broadcast() // another connection may be used meanwhile
	for c.limit < end && c.ctx.Err() == nil {
		if e.neglected(c) {
			c.cancel(errSuperseded)
			break
		}
		e.wake.Wait()
	}
	c.flow.began, c.flow.base = time.Now(), c.bytes // its rate begins anew
	return context.Cause(c.ctx)
}

// neglected tells whether, where one reader takes all blobs, one before the
// claim's waits to be fetched again while every worker has something to do: the
// reader would wait for it for ever, and the claim for the reader. The caller
// holds the lock.
func (e *engine) neglected(c *claim) bool {
	return e.inOrder() && len(e.active) == e.opts.Jobs &&
		slices.ContainsFunc(e.blobs[:c.number], func(b *blob) bool { return len(b.todo) > 0 })
}
