package transfer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/davit-cli/davit/image"
)

// work is one connection's life: claim a piece, fetch it, give back the rest.
func (e *engine) work() {
	buf := make([]byte, bufferSize)
	for c := e.next(); c != nil; c = e.next() {
		e.begin(c.blob)
		e.fetch(c, buf)
		e.release(c)
	}
}

// announce tells what is ahead.
func (e *engine) announce() {
	ev := image.Event{Kind: image.EventPlanned, Blobs: len(e.blobs)}
	for _, b := range e.blobs {
		ev.Bytes += b.Blob.Size
		ev.Have += b.resumed
	}
	e.opts.Events.Send(ev)
}

// begin tells once that a blob is under way.
func (e *engine) begin(b *blob) {
	e.mu.Lock()
	first := !b.started
	b.started = true
	e.mu.Unlock()
	if first {
		e.opts.Events.Send(image.Event{Kind: image.EventBlobStarted, Blob: b.Blob, Have: b.resumed})
	}
}

// fetch tries a claim until it is done, taken over, or hopeless. As long as
// bytes arrive it goes on; tries without a new byte of the blob are counted.
func (e *engine) fetch(c *claim, buf []byte) {
	tries, seen := 0, progress{}
	for {
		before := e.progress(c)
		err := e.attempt(c, buf)
		if err == nil || c.ctx.Err() != nil {
			return
		}
		var noRange *image.NoRangeError
		if errors.As(err, &noRange) && !c.stream {
			e.oneStream(c.blob)
			return
		}
		if permanent(err) {
			e.fail(err)
			return
		}
		now := e.progress(c)
		if now.claim > before.claim {
			tries = 0
			continue // it gave something: ask again at once
		}
		if now.since(seen, err) {
			tries = 0
		}
		seen = now
		if tries++; tries >= e.opts.Retries {
			e.fail(gaveUp(err, tries))
			return
		}
		if !e.pause(c, err, tries) || e.crowded(c) {
			return
		}
	}
}

// progress is what tries are measured by: bytes that have come so far.
type progress struct{ claim, blob, all int64 }

func (e *engine) progress(c *claim) progress {
	e.mu.Lock()
	defer e.mu.Unlock()
	return progress{c.bytes, c.got, e.fetched}
}

// since tells whether bytes have come that give hope after err: any where the
// registry is just busy, else only those of the same blob.
func (p progress) since(seen progress, err error) bool {
	if busy(err) {
		return p.all > seen.all
	}
	return p.blob > seen.blob
}

// busy tells whether the registry wants fewer requests.
func busy(err error) bool {
	var retry *image.RetryError
	return errors.As(err, &retry) && retry.Busy
}

// gaveUp ends the command. Content that ends early every time is not just cut.
func gaveUp(err error, tries int) error {
	if errors.Is(err, errEndsEarly) {
		return fmt.Errorf("%w: %w (every time in %d tries)", err, image.ErrVerification, tries)
	}
	return fmt.Errorf("%w (gave up after %d tries without a new byte)", err, tries)
}

// crowded tells whether more connections are at work than there should be, so
// that this one gives its claim back.
func (e *engine) crowded(c *claim) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return c.pos < c.end && len(e.active)-e.parked > e.target
}

// permanent tells errors that another try cannot mend.
func permanent(err error) bool {
	var cert *tls.CertificateVerificationError
	var place *placeError
	return errors.Is(err, image.ErrVerification) || errors.Is(err, image.ErrNotFound) ||
		errors.Is(err, image.ErrUnauthorized) || errors.As(err, &cert) || errors.As(err, &place)
}

// placeError is a fault of our own side: a full disk, a closed pipe.
type placeError struct {
	blob image.Descriptor
	err  error
}

func (e *placeError) Error() string { return fmt.Sprintf("write blob %s: %v", e.blob.Digest, e.err) }

func (e *placeError) Unwrap() error { return e.err }

// pause waits before the next try, longer each time, and as long as the
// registry asks for. It tells whether the claim is still worth a try.
func (e *engine) pause(c *claim, err error, tries int) bool {
	wait := min(e.opts.Backoff<<min(tries-1, 10), max(30*time.Second, e.opts.Backoff))
	wait += time.Duration(rand.Int64N(int64(wait)/4 + 1))
	var retry *image.RetryError
	if errors.As(err, &retry) {
		wait = max(wait, retry.After)
		if retry.Busy {
			e.busy(wait)
		}
	}
	e.opts.Events.Send(image.Event{Kind: image.EventRetry, Blob: c.Blob, Text: err.Error(), Wait: wait})
	e.setWaiting(c, true)
	defer e.setWaiting(c, false)
	return sleep(c.ctx, wait)
}

func (e *engine) setWaiting(c *claim, waiting bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c.waiting = waiting
	c.started, c.bytes = time.Now(), 0 // its rate begins anew
}

// sleep waits; it tells whether the time passed before ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// attempt is one request for what is left of a claim. Nil means that nothing
// is left of it, be it fetched or taken over.
func (e *engine) attempt(c *claim, buf []byte) error {
	ctx, cancel := context.WithCancelCause(c.ctx)
	defer cancel(nil)
	e.mu.Lock()
	off, end, size := c.pos, c.end, c.Blob.Size
	paused := time.Until(e.pausedUntil)
	e.mu.Unlock()
	if off >= end && size > 0 {
		return nil
	}
	if !sleep(ctx, paused) {
		return nil
	}
	if c.stream {
		off, end = 0, size
	}
	rng, err := c.Source.OpenRange(ctx, c.Blob, off, end-off)
	if err != nil {
		if errors.Is(context.Cause(ctx), errSuperseded) {
			return nil
		}
		return fmt.Errorf("fetch blob %s: %w", c.Blob.Digest, err)
	}
	defer rng.Body.Close()
	if err := checkRange(rng, c.Blob, off, end); err != nil {
		return err
	}
	stall := time.AfterFunc(e.opts.Stall, func() { cancel(errStalled) })
	defer stall.Stop()
	err = e.receive(ctx, c, rng, buf, stall)
	switch cause := context.Cause(ctx); {
	case err == nil, errors.Is(cause, errSuperseded):
		return nil
	case errors.Is(cause, errStalled):
		return fmt.Errorf("fetch blob %s: %s %w for %s", c.Blob.Digest, rng.Host, errStalled, e.opts.Stall)
	}
	return err
}

var (
	// errSuperseded ends an attempt whose claim another connection has taken.
	errSuperseded = errors.New("another connection took over")
	errStalled    = errors.New("sent nothing")
	// errEndsEarly is a body of unknown length that ends, properly as it
	// seems, before the blob does.
	errEndsEarly = errors.New("it ends early")
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
		n, err := rng.Body.Read(p)
		if rng.Len < 0 && err == nil && at+int64(n) == c.Blob.Size {
			err = endsHere(rng.Body, c.Blob)
		}
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
	if err := e.waitRoom(c.start + end); err != nil {
		return err
	}
	e.mu.Lock()
	gaps := c.written.gaps(end)
	e.mu.Unlock()
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
	if _, err := c.Place.WriteAt(p, off); err != nil {
		return &placeError{c.Blob, err}
	}
	e.mu.Lock()
	c.bytes += int64(len(p))
	e.mu.Unlock()
	e.wrote(c.blob, off, p)
	return nil
}

// waitRoom waits until the stream's reader has made room up to a position.
func (e *engine) waitRoom(end int64) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.limit >= end {
		return e.err
	}
	e.parked++
	defer func() { e.parked-- }()
	e.wake.Broadcast() // another connection may be used meanwhile
	for e.limit < end && e.err == nil {
		e.wake.Wait()
	}
	return e.err
}
