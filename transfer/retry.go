package transfer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/davit-cli/davit/image"
)

// progress is what tries are measured by: bytes that have come so far.
type progress struct{ claim, blob, source, all int64 }

func (e *engine) progress(c *claim) progress {
	e.mu.Lock()
	defer e.mu.Unlock()
	return progress{c.bytes, c.got, c.from.got, e.fetched}
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

// gaveUp tells that the tries are used up. Content that ends early every time is not just cut.
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
	return c.pos < c.end && (len(e.active)-e.parked > e.target || c.from.active > c.from.most)
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

// backoff is how long to wait after so many tries: longer each time.
func (o Options) backoff(tries int) time.Duration {
	wait := min(o.Backoff<<min(tries-1, 10), max(30*time.Second, o.Backoff))
	return wait + time.Duration(rand.Int64N(int64(wait)/4+1))
}

// pause waits before the next try, longer each time, and as long as the
// registry asks for. It tells whether the claim is still worth a try.
func (e *engine) pause(c *claim, err error, tries int) bool {
	wait := e.opts.backoff(tries)
	var retry *image.RetryError
	if errors.As(err, &retry) {
		wait = max(wait, retry.After)
		if retry.Busy {
			e.mu.Lock()
			e.busy(c.from, wait)
			alone := e.alone()
			e.mu.Unlock()
			if !alone && e.crowded(c) {
				return false
			}
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
	if waiting != c.waiting && !e.alone() { // another connection may be used meanwhile
		if waiting {
			e.parked++
			e.wake.Broadcast()
		} else {
			e.parked--
		}
	}
	c.waiting = waiting
	c.started, c.base = time.Now(), c.bytes // its rate begins anew
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
