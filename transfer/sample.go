package transfer

import (
	"slices"

	"github.com/davit-cli/davit/image"
)

// sample is whether a blob of wrong bytes was compared with what its origin
// has: a little of what each mirror gave of it.
type sample int

const (
	untaken sample = iota
	underWay
	taken
)

// sampleSize is how many bytes of each mirror's are compared.
const sampleSize = 64 << 10

// mayBeSampled tells whether the origin can tell the blob's mirrors apart.
func (b *blob) mayBeSampled() bool {
	return b.sample == untaken && !b.lost(b.origin) && !b.origin.noRanges && len(b.shares) > 1
}

// pieces are what a sample is of: the middle of the longest run of bytes that
// each mirror gave.
func (b *blob) pieces() []image.Extent {
	var pieces []image.Extent
	for _, s := range b.shares {
		if s.from == nil || !s.from.mirror || len(s.has) == 0 {
			continue
		}
		longest := slices.MaxFunc(s.has, func(a, b image.Extent) int { return int(min(max(a.Len-b.Len, -1), 1)) })
		n := min(longest.Len, sampleSize)
		pieces = append(pieces, image.Extent{Off: longest.Off + (longest.Len-n)/2, Len: n})
	}
	return pieces
}

// accuse ends a sample: what those mirrors gave whose bytes were not the origin's
// is thrown away, and they are asked for this blob no more. It tells whether
// there are any.
func (b *blob) accuse() bool {
	b.sample = taken
	b.shares = slices.DeleteFunc(b.shares, func(s *share) bool {
		if !s.differs {
			return false
		}
		if b.without == nil {
			b.without = map[*source]bool{}
		}
		b.without[s.from] = true
		b.accused = append(b.accused, s.from)
		return true
	})
	return len(b.accused) > 0
}

// endSample gives a sample up that the origin does not give.
func (b *blob) endSample() {
	if b.sample == underWay {
		b.sole, b.sample = nil, taken
	}
}
