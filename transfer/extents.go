package transfer

import (
	"slices"

	"github.com/davit-cli/davit/image"
)

// extents are runs of bytes, sorted, apart from each other.
type extents []image.Extent

// newExtents makes a set of what a place reports, which need be neither
// sorted nor sane: what lies outside of [0, size) is cut off.
func newExtents(list []image.Extent, size int64) extents {
	var x extents
	for _, e := range list {
		off, end := max(e.Off, 0), min(e.Off+e.Len, size)
		if off < end {
			x = x.add(off, end-off)
		}
	}
	return x
}

// add joins [off, off+n) to the set.
func (x extents) add(off, n int64) extents {
	end := off + n
	// The runs from i up to j touch the new one.
	i, _ := slices.BinarySearchFunc(x, off, func(e image.Extent, off int64) int {
		if e.Off+e.Len < off {
			return -1
		}
		return 1
	})
	j := i
	for j < len(x) && x[j].Off <= end {
		off, end = min(off, x[j].Off), max(end, x[j].Off+x[j].Len)
		j++
	}
	return slices.Replace(x, i, j, image.Extent{Off: off, Len: end - off})
}

// without is the set less [off, off+n).
func (x extents) without(off, n int64) extents {
	var rest extents
	for _, e := range x {
		if before := min(e.Off+e.Len, off) - e.Off; before > 0 {
			rest = append(rest, image.Extent{Off: e.Off, Len: before})
		}
		if from := max(e.Off, off+n); from < e.Off+e.Len {
			rest = append(rest, image.Extent{Off: from, Len: e.Off + e.Len - from})
		}
	}
	return rest
}

// overlaps tells whether a byte of [off, off+n) is in the set.
func (x extents) overlaps(off, n int64) bool {
	return slices.ContainsFunc(x, func(e image.Extent) bool { return e.Off < off+n && off < e.Off+e.Len })
}

// end tells how far the bytes reach from off on without a gap.
func (x extents) end(off int64) int64 {
	for _, e := range x {
		if e.Off <= off && off < e.Off+e.Len {
			return e.Off + e.Len
		}
	}
	return off
}

// gaps are what [0, size) has and the set has not.
func (x extents) gaps(size int64) []image.Extent {
	var gaps []image.Extent
	at := int64(0)
	for _, e := range x {
		if e.Off >= size {
			break
		}
		if at < e.Off {
			gaps = append(gaps, image.Extent{Off: at, Len: e.Off - at})
		}
		at = e.Off + e.Len
	}
	if at < size {
		gaps = append(gaps, image.Extent{Off: at, Len: size - at})
	}
	return gaps
}

// sum is the number of bytes in the set.
func (x extents) sum() int64 {
	var n int64
	for _, e := range x {
		n += e.Len
	}
	return n
}
