package transfer

import (
	"slices"
	"time"

	"github.com/davit-cli/davit/image"
)

// source is what is known of a source, either as one that items name or as a
// mirror. The engine's lock guards it.
type source struct {
	image.Source
	mirror   bool
	host     string // who sent its bytes last; empty where it never answered
	active   int    // claims at work
	most     int    // claims that it may have
	noRanges bool   // it serves whole blobs only
	got      int64  // bytes kept of what it gave
	proven   int64  // bytes that it gave of blobs that proved right

	// pausedUntil holds new requests back: the source asked for that, or rests
	// after a failure.
	pausedUntil time.Time
	calmUntil   time.Time // most does not grow before
	busy        bool      // it wanted fewer requests, and has not all of its connections back
	rests       int       // failures in a row, without a byte between them
	restedAt    time.Time // when it failed last
	others      int64     // what the transfer had fetched at the first of them
	trouble     error     // its last failure

	dropped bool // a mirror that nothing more is asked of
	wrong   bool // since it sent wrong content
	refused bool // it was told that the mirror refused a blob
	pulse   pulse

	// barren is how many blobs in a row were given up without a byte of it
	// between them, barrenAt what it had given by then.
	barren   int
	barrenAt int64
	dead     error // why nothing more is asked of it
	mourned  bool  // and that was told
}

// maxBarren is how many blobs in a row may be given up without one byte of
// their source, before nothing more is asked of it: a registry that is down
// costs some tries, not some for each of its blobs.
const maxBarren = 3

// countBarren takes note of a blob that was tried in vain while its source
// gave no byte of any other blob either. The caller holds the lock.
func (s *source) countBarren(err error) {
	if s.barrenAt != s.got {
		s.barren, s.barrenAt = 0, s.got
	}
	if s.barren++; s.barren >= maxBarren && s.dead == nil {
		s.dead = err
	}
}

// introduce finds out whom the blob may be fetched from.
func (e *engine) introduce(b *blob) {
	b.origin = e.source(b.Source, false)
	for _, m := range b.Mirrors {
		if s := e.source(m, true); m != b.Source && !slices.Contains(b.mirrors, s) {
			b.mirrors = append(b.mirrors, s)
		}
	}
	if len(b.mirrors) > 0 && !e.mirrored {
		e.mirrored, e.hosts = true, map[string]int64{}
	}
}

// source is what is known of an image.Source in one of its roles.
func (e *engine) source(of image.Source, mirror bool) *source {
	for _, s := range e.sources {
		if s.Source == of && s.mirror == mirror {
			return s
		}
	}
	s := &source{Source: of, mirror: mirror, most: e.opts.Jobs}
	if mirror {
		s.dropped, s.wrong, s.proven = e.opts.Verdicts.on(of)
	}
	e.sources = append(e.sources, s)
	return s
}

// alone tells whether there is only one source to ask, whatever it says.
func (e *engine) alone() bool { return len(e.sources) == 1 }

// lost tells whether a source gives the blob no more.
func (b *blob) lost(s *source) bool {
	if s.mirror {
		return s.dropped || b.without[s]
	}
	return b.failed != nil || s.dead != nil
}

// hasMirror tells whether a mirror may still give the blob.
func (b *blob) hasMirror() bool {
	return slices.ContainsFunc(b.mirrors, func(s *source) bool { return !b.lost(s) })
}

// ready tells whether a source may be sent a request now.
func (s *source) ready(now time.Time) bool {
	return !now.Before(s.pausedUntil) && s.active < s.most
}

// tested tells whether a source that may be sent a request is not just being
// found out about: after a failure it gets one request at a time until it
// gives a byte.
func (s *source) tested() bool { return s.rests == 0 || s.active == 0 }

// full tells whether a source that is not ready gives bytes all the same, over
// as many connections as it bears.
func (s *source) full(now time.Time) bool {
	return s.busy && s.rests == 0 && s.pulse.slow == 0 && now.Sub(s.pulse.at) < patience
}

func (s *source) pauseUntil(until time.Time) {
	if until.After(s.pausedUntil) {
		s.pausedUntil = until
	}
}

// choose tells whom to ask for a piece of the blob now, nil where it is to be
// nobody. Of its mirrors it is the one with the fewest connections at work, so
// that their rates add up and the faster gives more; one without ranges only
// where no other can be asked. The blob's origin gives what none of them can. A
// mirror that is better not asked is, before the origin.
func (e *engine) choose(b *blob, not *source, now time.Time) *source {
	switch {
	case !b.hasMirror():
		if e.alone() || b.origin.ready(now) {
			return b.origin
		}
		return nil
	case b.sole != nil && !b.lost(b.sole):
		if b.sole.ready(now) && b.sole.tested() {
			return b.sole
		}
		return nil
	case b.origin.pulse.probe && !b.lost(b.origin) && b.origin.ready(now):
		return b.origin
	}
	var best *source
	full := false // some mirror is
	for _, s := range b.mirrors {
		switch {
		case b.lost(s):
		case !s.ready(now) || !s.tested():
			full = full || s.full(now)
		case s.pulse.probe:
			return s
		case best == nil, best == not, best.noRanges && !s.noRanges:
			best = s
		case s != not && s.noRanges == best.noRanges && s.active < best.active:
			best = s
		}
	}
	if best != nil || full {
		return best
	}
	if s := b.origin; !b.lost(s) && s.ready(now) && s.tested() {
		return s
	}
	return nil
}
