package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"github.com/davit-cli/davit/image"
)

// Section writes n bytes of the item's blob, from offset off on, to w, in
// order, over one connection at a time. It is for small pieces of large blobs.
//
// Nothing of it is verified: a part of a blob proves nothing by itself. Whoever
// uses the bytes needs a digest of theirs, and must not keep them without.
//
// The mirrors are asked before the source, one after the other, with Fetch's
// manners: as long as bytes come it goes on from where a connection broke;
// Options.Retries tries in a row without one end a source; who asks for a pause
// gets it, while others are asked. Of the Options Jobs, KeepGoing and Events but
// for image.EventRetry have no meaning here, and of Verdicts it only heeds those
// that are known. The item's place is not used.
//
// On error w has had the bytes before the error, each once. The error is an
// *image.NoRangeError where a source that serves no ranges is all that is left:
// nothing is read then of the whole blob that it sends instead.
func Section(ctx context.Context, item Item, off, n int64, w io.Writer, opts Options) error {
	if err := check([]Item{item}); err != nil {
		return err
	}
	if off < 0 || n < 0 || off > item.Blob.Size || n > item.Blob.Size-off {
		return fmt.Errorf("blob %s: it has %d bytes, so none at %d+%d", item.Blob.Digest, item.Blob.Size, off, n)
	}
	s := newSection(item, off, off+n, w, opts.withDefaults())
	for s.pos < s.end {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		g, err := s.next(ctx)
		if err != nil {
			return err
		}
		begun := s.pos
		if err := s.attempt(ctx, g); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			var place *placeError
			if errors.As(err, &place) {
				return err
			}
			s.failed(g, err, s.pos > begun)
		}
	}
	return nil
}

// section is a part of a blob under way.
type section struct {
	blob     image.Descriptor
	pos, end int64
	w        io.Writer
	opts     Options
	limiter  *rate.Limiter // nil: no cap
	givers   []*giver      // the mirrors that may be asked, then the source
	noRange  error         // of a giver without ranges
	buf      []byte
}

// giver is a source of a section.
type giver struct {
	image.Source
	blob  image.Descriptor
	tries int       // in a row without a byte
	until time.Time // when it may be asked again
	err   error     // its last failure
	lost  bool      // it is not asked any more
}

func newSection(item Item, off, end int64, w io.Writer, opts Options) *section {
	s := &section{blob: item.Blob, pos: off, end: end, w: w, opts: opts, limiter: newLimiter(opts.LimitRate)}
	for _, m := range item.Mirrors {
		known := func(g *giver) bool { return g.Source == m }
		if dropped, _, _ := opts.Verdicts.on(m); dropped || m == item.Source || slices.ContainsFunc(s.givers, known) {
			continue
		}
		blob := item.Blob
		blob.URLs = nil // a foreign layer's URLs come after the origin
		s.givers = append(s.givers, &giver{Source: m, blob: blob})
	}
	s.givers = append(s.givers, &giver{Source: item.Source, blob: item.Blob})
	s.buf = make([]byte, min(bufferSize, max(end-off, 1)))
	return s
}

// next is who is asked now: of those that may be asked the first, after a wait
// where all of them rest. The error tells why nobody is left.
func (s *section) next(ctx context.Context) (*giver, error) {
	var first *giver
	for _, g := range s.givers {
		switch {
		case g.lost:
		case first == nil || g.until.Before(first.until) && first.until.After(time.Now()):
			first = g
		}
	}
	switch {
	case first == nil && s.noRange != nil:
		return nil, s.noRange
	case first == nil:
		return nil, s.givers[len(s.givers)-1].err
	}
	if wait := time.Until(first.until); wait > 0 {
		s.opts.Events.Send(image.Event{Kind: image.EventRetry, Blob: s.blob, Text: first.err.Error(), Wait: wait})
		if !sleep(ctx, wait) {
			return nil, context.Cause(ctx)
		}
	}
	return first, nil
}

// failed takes note of an attempt that did not bring all that was missing.
func (s *section) failed(g *giver, err error, some bool) {
	g.err = err
	var noRange *image.NoRangeError
	var retry *image.RetryError
	switch {
	case errors.As(err, &noRange):
		g.lost, s.noRange = true, err
		return
	case permanent(err):
		g.lost = true
		return
	case some:
		g.tries = 0
		if !errors.Is(err, errStalled) {
			return // ask again at once
		}
	}
	if g.tries++; g.tries >= s.opts.Retries {
		g.lost, g.err = true, gaveUp(err, g.tries)
		return
	}
	wait := s.opts.backoff(g.tries)
	if errors.As(err, &retry) {
		wait = max(wait, retry.After)
	}
	g.until = time.Now().Add(wait)
}

// attempt is one request for all that is missing.
func (s *section) attempt(ctx context.Context, g *giver) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stall := time.AfterFunc(s.opts.Stall, func() { cancel(errStalled) })
	defer stall.Stop()
	if s.alone(g) {
		stall.Stop() // whoever is slow to answer is all that there is
	}
	host := "the source"
	rng, err := g.OpenRange(ctx, g.blob, s.pos, s.end-s.pos)
	if err == nil {
		host = rng.Host
		defer rng.Body.Close()
		if err = checkRange(rng, s.blob, s.pos, s.end); err == nil {
			err = s.receive(ctx, rng, stall)
		}
	}
	if err != nil && errors.Is(context.Cause(ctx), errStalled) {
		return fmt.Errorf("fetch blob %s: %s %w for %s", s.blob.Digest, host, errStalled, s.opts.Stall)
	}
	return err
}

// alone tells whether nobody else can be asked.
func (s *section) alone(g *giver) bool {
	return !slices.ContainsFunc(s.givers, func(o *giver) bool { return o != g && !o.lost })
}

// receive writes what comes until nothing is missing.
func (s *section) receive(ctx context.Context, rng *image.Range, stall *time.Timer) error {
	ends := s.pos + rng.Len // below pos where nobody knows
	for s.pos < s.end {
		p := s.buf[:min(int64(len(s.buf)), s.end-s.pos)]
		if s.limiter != nil {
			p = p[:min(len(p), s.limiter.Burst())]
		}
		stall.Reset(s.opts.Stall)
		n, err := rng.Body.Read(p)
		stall.Stop() // neither our writer nor our own rate limit is a stall
		if n > 0 {
			if _, err := s.w.Write(p[:n]); err != nil {
				return &placeError{s.blob, err}
			}
			s.pos += int64(n)
			if s.limiter != nil && s.limiter.WaitN(ctx, n) != nil {
				return context.Cause(ctx)
			}
		}
		switch {
		case s.pos == s.end:
		case errors.Is(err, io.EOF):
			return fmt.Errorf("fetch blob %s: connection to %s ended %d bytes early: %w",
				s.blob.Digest, rng.Host, s.end-s.pos, io.ErrUnexpectedEOF)
		case err != nil:
			return fmt.Errorf("fetch blob %s: connection to %s broke off: %w", s.blob.Digest, rng.Host, err)
		}
	}
	if s.pos == ends {
		// Its end is at hand: read, so that the connection can be used again.
		stall.Reset(s.opts.Stall)
		_, _ = rng.Body.Read(s.buf[:1])
	}
	return nil
}
