package transfer

import (
	"context"
	"errors"
	"fmt"
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
	first := !b.started && !b.givenUp
	b.started = true
	e.mu.Unlock()
	if first {
		e.opts.Events.Send(image.Event{Kind: image.EventBlobStarted, Blob: b.Blob, Have: b.resumed})
	}
}

// fetch tries a claim until it is done, taken over, or hopeless. As long as
// bytes arrive it goes on; tries without a new byte of the blob are counted.
func (e *engine) fetch(c *claim, buf []byte) {
	tries, seen, begun := 0, progress{}, e.progress(c)
	for {
		before := e.progress(c)
		err := e.attempt(c, buf)
		if err == nil || c.ctx.Err() != nil {
			return
		}
		var noRange *image.NoRangeError
		if errors.As(err, &noRange) && !c.stream {
			e.oneStream(c)
			return
		}
		if e.passOn(c, before, err) {
			return
		}
		if permanent(err) {
			e.hopeless(c, begun, err)
			return
		}
		now := e.progress(c)
		if now.claim > before.claim {
			tries, begun = 0, now
			continue // it gave something: ask again at once
		}
		if now.since(seen, err) {
			tries, begun = 0, now
		}
		seen = now
		if tries++; tries >= e.opts.Retries {
			e.hopeless(c, begun, gaveUp(err, tries))
			return
		}
		if !e.pause(c, err, tries) || e.crowded(c) {
			return
		}
	}
}

// attempt is one request for what is left of a claim. Nil means that there is
// nothing more to do for it: it is fetched, taken over, or to be given back.
func (e *engine) attempt(c *claim, buf []byte) error {
	ctx, cancel := context.WithCancelCause(c.ctx)
	defer cancel(nil)
	e.mu.Lock()
	off, end, size := c.pos, c.end, c.Blob.Size
	paused := time.Until(c.from.pausedUntil)
	c.flow.ask()
	// A stream may break off behind the last byte that was missing.
	whole := c.stream && !c.lacking()
	e.mu.Unlock()
	if whole || off >= end && size > 0 {
		return nil
	}
	if paused > 0 && e.elsewhere(c) {
		return nil // and give it back
	}
	if paused > 0 {
		e.setWaiting(c, true)
		slept := sleep(ctx, paused)
		e.setWaiting(c, false)
		if !slept {
			return nil
		}
	}
	if c.stream {
		off, end = 0, size
	}
	blob := c.Blob
	if c.from.mirror {
		blob.URLs = nil // a foreign layer's URLs come after the origin
	}
	rng, err := c.from.OpenRange(ctx, blob, off, end-off)
	if err != nil {
		if errors.Is(context.Cause(ctx), errSuperseded) {
			return nil
		}
		return err // it names the step
	}
	defer rng.Body.Close()
	if err := checkRange(rng, c.Blob, off, end); err != nil {
		return err
	}
	e.met(c, rng.Host)
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
	// errGivenUp ends the attempts of a blob that nobody waits for any more.
	errGivenUp = errors.New("the blob is given up")
	// errEndsEarly is a body of unknown length that ends, properly as it
	// seems, before the blob does.
	errEndsEarly = errors.New("it ends early")
)
