package transfer

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/davit-cli/davit/image"
)

// Where a blob with mirrors has the wrong digest, it has to be found out whose
// bytes are wrong, at the cost of few that are right:
//
//   - Whoever gave all of it, by itself, gave something else and is dropped.
//   - What is known to come of those, and what an earlier run left, is thrown
//     away, and fetched from whoever is left.
//   - Where nobody is known to be at fault, the origin is asked for a sample of
//     what each mirror gave. What those gave that differ is thrown away too; if
//     the digest proves right then, they are at fault.
//   - Where that tells nothing, the blob is completed from one
//     source alone, the best proven first. What it gives is compared with what
//     others gave: if the digest proves right, those who gave something else are
//     at fault. If not, the one is.
//
// Each step ends with a blob that is right, or with a source less.

// share is what of a blob's bytes in the place is as one source gave it.
type share struct {
	from    *source // nil: an earlier run
	has     extents
	differs bool // others gave other bytes in place of some of it, since the last digest
}

func (s *share) add(off, n int64) { s.has = s.has.add(off, n) }

// share is the share that a source has in the blob.
func (b *blob) share(of *source) *share {
	for _, s := range b.shares {
		if s.from == of {
			return s
		}
	}
	s := &share{from: of}
	b.shares = append(b.shares, s)
	return s
}

// compare compares bytes that are about to be written with those that stand
// in their place: where they differ, these are nobody's any more.
func (e *engine) compare(c *claim, off int64, p []byte) error {
	buf := readBackBuffers.Get().(*[2 * bufferSize]byte)
	defer readBackBuffers.Put(buf)
	old := buf[:len(p)]
	if _, err := io.ReadFull(io.NewSectionReader(c.Place, off, int64(len(p))), old); err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	first := 0
	for first < len(p) && old[first] == p[first] {
		first++
	}
	if first == len(p) {
		return nil
	}
	last := len(p)
	for old[last-1] == p[last-1] {
		last--
	}
	off, n := off+int64(first), int64(last-first)
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, s := range c.shares {
		if s.from != c.from && s.has.overlaps(off, n) {
			s.has = s.has.without(off, n)
			s.differs = true
		}
	}
	return nil
}

// credit ends what is kept of a blob that proved right: whoever gave wrong
// bytes of it is known now. The caller holds the lock, and tells what is
// returned once it has let go.
func (e *engine) credit(b *blob) []image.Event {
	var told []image.Event
	for _, s := range b.shares {
		if s.from == nil {
			continue
		}
		s.from.proven += s.has.sum()
		e.opts.Verdicts.learn(s.from, s.has.sum())
		if s.differs {
			told = append(told, e.convict(s.from, fmt.Errorf("it sent wrong bytes of blob %s", b.Blob.Digest))...)
		}
	}
	for _, s := range b.accused {
		told = append(told, e.convict(s, fmt.Errorf("it sent wrong bytes of blob %s", b.Blob.Digest))...)
	}
	b.shares, b.accused = nil, nil
	return told
}

// convict takes note of a source that sent wrong content. The caller holds the
// lock, and tells what is returned once it has let go.
func (e *engine) convict(s *source, why error) []image.Event {
	if s.mirror {
		s.wrong = true
		return e.dismiss(s, why)
	}
	return []image.Event{{Kind: image.EventWarning, Text: fmt.Sprintf("%s: %v", s.name(), why)}}
}

// mend goes on with a blob that has mirrors, after its bytes had the wrong
// digest and were forgotten.
func (e *engine) mend(b *blob, got string) {
	e.begin(b)
	kept := newExtents(b.Place.Written(), b.Blob.Size)
	damaged := kept.sum() > 0 && b.damaged < maxDamaged
	e.mu.Lock()
	e.endClaims(b, errSuperseded)
	var told []image.Event
	switch {
	case b.read:
		err := b.wrongDigest(got)
		if e.opts.KeepGoing {
			told = e.blameSole(b, got)
		}
		e.mu.Unlock()
		e.tell(told)
		e.reject(b, err)
		return
	case damaged:
		b.damaged++
		told = append(told, b.damage())
		for _, s := range b.shares {
			for _, gap := range kept.gaps(b.Blob.Size) {
				s.has = s.has.without(gap.Off, gap.Len)
			}
		}
	default:
		told = e.suspect(b, got)
	}
	written := extents(nil)
	b.resumed = 0
	for _, s := range b.shares {
		s.differs = false
		if b.sole != nil && s.from != b.sole && b.sample != underWay {
			continue
		}
		for _, x := range s.has {
			written = written.add(x.Off, x.Len)
		}
		if s.from == nil {
			b.resumed = s.has.sum()
		}
	}
	if b.sample == underWay {
		for _, piece := range b.pieces() {
			written = written.without(piece.Off, piece.Len)
		}
	}
	b.again, b.written, b.hasher = true, written, hasher{}
	b.todo = written.gaps(b.Blob.Size)
	told = append(told, image.Event{Kind: image.EventBlobAdvanced, Blob: b.Blob, Bytes: written.sum() - b.Blob.Size})
	told = append(told, e.bereave()...)
	e.wake.Broadcast()
	e.hashOn(b)
	e.mu.Unlock()
	e.tell(told)
}

// blameSole ends what cannot be kept of a blob with the wrong digest for sure:
// what an earlier run left, and those that gave all of it by themselves. The
// caller holds the lock, and tells what is returned once it has let go.
func (e *engine) blameSole(b *blob, got string) []image.Event {
	var told []image.Event
	for _, s := range b.shares {
		switch {
		case s.from == nil:
			told = append(told, b.damage())
		case s.has.sum() < b.Blob.Size:
		case s.from.mirror:
			told = append(told, e.convict(s.from, b.wrongDigest(got, s.from))...)
		default:
			b.failed = b.wrongDigest(got, s.from)
		}
	}
	return told
}

// suspect finds out whose bytes may be wrong: what stays in b.shares is worth
// keeping, and of b.sole alone where that is set. The caller holds the lock,
// and tells what is returned once it has let go.
func (e *engine) suspect(b *blob, got string) []image.Event {
	var told []image.Event
	b.sole = nil
	found := b.sample == underWay && b.accuse()
	b.shares = slices.DeleteFunc(b.shares, func(s *share) bool { return len(s.has) == 0 })
	told = append(told, e.blameSole(b, got)...)
	shares := len(b.shares)
	b.shares = slices.DeleteFunc(b.shares, func(s *share) bool {
		return s.from == nil || s.from.wrong || s.from == b.origin && b.failed != nil
	})
	if found || len(b.shares) < shares {
		return told // what is fetched in place of theirs may be right
	}
	if b.mayBeSampled() {
		b.sole, b.sample = b.origin, underWay
		return append(told, image.Event{Kind: image.EventStep,
			Text: fmt.Sprintf("blob %s has the wrong digest; comparing pieces of it with the registry's", b.Blob.Digest)})
	}
	if b.sole = b.best(); b.sole == nil {
		b.shares = nil // and nobody is left to ask
		return told
	}
	return append(told, image.Event{Kind: image.EventStep,
		Text: fmt.Sprintf("blob %s has the wrong digest; completing it from %s alone", b.Blob.Digest, b.sole.name())})
}

// best is who can complete the blob alone: of those that gave some of it the
// one whose bytes proved right most, then any other.
func (b *blob) best() *source {
	slices.SortStableFunc(b.shares, func(a, b *share) int {
		return cmp.Or(-cmp.Compare(a.from.proven, b.from.proven), -cmp.Compare(a.has.sum(), b.has.sum()))
	})
	var order []*source
	for _, s := range b.shares {
		order = append(order, s.from)
	}
	order = append(append(order, b.mirrors...), b.origin)
	i := slices.IndexFunc(order, func(s *source) bool { return !b.lost(s) })
	if i < 0 {
		return nil
	}
	return order[i]
}

// wrongDigest is the error of content with another digest, of these sources or
// else of all that gave some of it.
func (b *blob) wrongDigest(got string, from ...*source) error {
	var names []string
	for _, s := range b.shares {
		if s.from != nil && s.has.sum() > 0 && (len(from) == 0 || slices.Contains(from, s.from)) {
			names = append(names, s.from.name())
		}
	}
	want := b.Blob.Digest
	return fmt.Errorf("blob %s: %s sent other content, with digest %s:%s: %w",
		want, strings.Join(names, " and "), want.Algorithm(), got, image.ErrVerification)
}
