package transfer

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/davit-cli/davit/image"
)

// maxRests is how many failures in a row, without a byte between them, drop a
// mirror while others give bytes. Where nobody does it has as many tries as
// any source (Options.Retries).
const maxRests = 3

// name is how messages call a source.
func (s *source) name() string {
	switch {
	case s.mirror && s.host != "":
		return "mirror " + s.host
	case s.mirror:
		return "a mirror" // the error names it
	case s.host != "":
		return s.host
	}
	return "the registry"
}

// met takes note of who sends the bytes of a source.
func (e *engine) met(c *claim, host string) {
	if !e.mirrored {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	c.from.host, c.flow.host = host, host
}

// gave takes note of bytes that a claim's source gave and that are written.
// The caller holds the lock.
func (e *engine) gave(c *claim, off, n int64) {
	s := c.from
	s.got += n
	s.rests = 0
	if !e.mirrored {
		return
	}
	e.hosts[c.flow.host] += n
	c.begins(time.Now())
	if len(c.mirrors) > 0 {
		c.share(s).add(off, n)
	}
}

// elsewhere tells whether others than the claim's source may be asked while it
// pauses.
func (e *engine) elsewhere(c *claim) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return c.from.mirror || c.hasMirror()
}

// passOn tells whether a claim whose source failed goes back to the queue at
// once, for whoever else can give it, and what that means for the source.
// Where only the blob's origin is left, it has its tries.
func (e *engine) passOn(c *claim, before progress, err error) bool {
	if !e.mirrored {
		return false
	}
	var place *placeError
	e.mu.Lock()
	passed := (c.from.mirror || c.hasMirror()) && !errors.As(err, &place)
	var told []image.Event
	if passed {
		told = e.failed(c, before, err)
	}
	e.mu.Unlock()
	e.tell(told)
	return passed
}

// failed takes note of a source's failure at a claim. The caller holds the
// lock, and tells what is returned once it has let go.
func (e *engine) failed(c *claim, before progress, err error) []image.Event {
	b, s := c.blob, c.from
	if s == b.sole {
		b.endSample()
	}
	switch {
	case !permanent(err) && c.bytes > before.claim:
		return nil // it gave something
	case !permanent(err):
		return e.rest(c, err)
	case !s.mirror:
		b.failed = err
		return e.bereave()
	case errors.Is(err, image.ErrNotFound), errors.Is(err, image.ErrUnauthorized):
		return e.goWithout(b, s, err)
	default:
		s.wrong = errors.Is(err, image.ErrVerification)
		return e.dismiss(s, err)
	}
}

// rest holds new requests to a source back after a failure, longer each time,
// and drops a mirror in the end, as it does the origin of a blob that is asked
// of it alone. The caller holds the lock, and tells what is returned once it has
// let go.
func (e *engine) rest(c *claim, err error) []image.Event {
	s, now := c.from, time.Now()
	wait := e.opts.backoff(s.rests + 1)
	var retry *image.RetryError
	if errors.As(err, &retry) {
		wait = max(wait, retry.After)
		if retry.Busy {
			e.busy(s, wait)
		}
		if s.full(now) {
			return nil // it gives bytes, over as many connections as it bears
		}
	}
	if c.flow.made.Before(s.restedAt) {
		return nil // it fails with those that failed then
	}
	if s.rests == 0 {
		s.others = e.fetched
	}
	s.rests++
	s.restedAt, s.trouble = now, err
	s.pulse.probed = s.rests >= e.opts.Retries
	if c.sole == s && !s.mirror && s.rests >= e.opts.Retries {
		c.failed = gaveUp(err, s.rests)
		return e.bereave()
	}
	tries := e.opts.Retries
	if e.fetched > s.others {
		tries = min(tries, maxRests)
	}
	if s.mirror && s.rests >= tries {
		return e.dismiss(s, gaveUp(err, s.rests))
	}
	s.pauseUntil(now.Add(wait))
	return []image.Event{{Kind: image.EventStep, Text: fmt.Sprintf("%s is not asked for %s: %v", s.name(), wait.Round(time.Millisecond), err)}}
}

// goWithout asks a mirror for the blob no more. The caller holds the lock, and
// tells what is returned once it has let go.
func (e *engine) goWithout(b *blob, s *source, err error) []image.Event {
	if b.without == nil {
		b.without = map[*source]bool{}
	}
	b.without[s] = true
	kind := image.EventStep
	if errors.Is(err, image.ErrUnauthorized) && !s.refused {
		s.refused, kind = true, image.EventWarning
	}
	told := image.Event{Kind: kind, Text: fmt.Sprintf("%s does not give blob %s: %v", s.name(), b.Blob.Digest, err)}
	return append([]image.Event{told}, e.bereave()...)
}

// dismiss drops a mirror: what is under way from it ends, and nothing more is
// asked of it. The caller holds the lock, and tells what is returned once it
// has let go.
func (e *engine) dismiss(s *source, why error) []image.Event {
	if s.dropped {
		return nil
	}
	s.dropped = true
	e.opts.Verdicts.learn(s, 0)
	for c := range e.active {
		if c.from == s {
			c.cancel(errSuperseded)
		}
	}
	e.wake.Broadcast()
	told := image.Event{Kind: image.EventWarning, Text: fmt.Sprintf("%s is not asked any more: %v", s.name(), why)}
	return append([]image.Event{told}, e.bereave()...)
}

// bereave ends the blobs that neither their origin nor a mirror gives any
// more. The caller holds the lock, and tells what is returned once it has let go.
func (e *engine) bereave() []image.Event {
	var told []image.Event
	for _, b := range e.blobs {
		switch {
		case b.failed == nil || !b.lacking() || b.hasMirror():
		case !e.opts.KeepGoing:
			e.failLocked(b.failed)
			return told
		default:
			told = append(told, e.giveUp(b, b.failed)...)
		}
	}
	return append(told, e.giveUpVain()...)
}

// tellHosts tells, where there are mirrors, who gave how much, and which mirror
// failed in the end without having been dropped yet.
func (e *engine) tellHosts() {
	e.mu.Lock()
	var gave []string
	for host, n := range e.hosts {
		gave = append(gave, fmt.Sprintf("%d from %s", n, host))
	}
	slices.Sort(gave)
	var told []image.Event
	if len(gave) > 0 {
		told = append(told, image.Event{Kind: image.EventStep, Text: "bytes of blobs: " + strings.Join(gave, ", ")})
	}
	for _, s := range e.sources {
		if s.mirror && !s.dropped && (s.rests > 1 || s.rests > 0 && s.got == 0) {
			told = append(told, image.Event{Kind: image.EventWarning, Text: fmt.Sprintf("%s gave nothing more: %v", s.name(), s.trouble)})
		}
	}
	e.mu.Unlock()
	e.tell(told)
}
