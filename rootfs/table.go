package rootfs

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"slices"
	"sync"

	"github.com/davit-cli/davit/image"
)

// A million paths must not take 300 MB, so nothing here has a pointer a path:
// tables of plain structs, in pages that never move once they are full.

const pageBits = 12

// table is a list in pages.
type table[T any] struct {
	pages [][]T
	n     int
}

func (t *table[T]) add(v T) uint32 {
	if t.n>>pageBits == len(t.pages) {
		var page []T
		if t.n > 0 { // the first grows: a layer may have a handful of entries
			page = make([]T, 0, 1<<pageBits)
		}
		t.pages = append(t.pages, page)
	}
	page := &t.pages[t.n>>pageBits]
	*page = append(*page, v)
	t.n++
	return uint32(t.n - 1)
}

// at is valid until the next add.
func (t *table[T]) at(i uint32) *T { return &t.pages[i>>pageBits][i&(1<<pageBits-1)] }

// text keeps short strings, the same one once. It may be added to from many
// goroutines, and read once that is over.
type text struct {
	mu    sync.Mutex
	pages [][]byte

	seed maphash.Seed
	seen []uint32 // a hash table of what is kept, each one higher than where it stands; 0 is none
	used int
}

func newText() *text { return &text{seed: maphash.MakeSeed(), seen: make([]uint32, 64)} }

// seal gives back what it takes to keep the same string once. Of strings that
// are added later each is kept.
func (t *text) seal() { t.seen = nil }

// clip gives back what is left of the last page.
func (t *text) clip() {
	if last := len(t.pages) - 1; last >= 0 {
		t.pages[last] = slices.Clone(t.pages[last])
	}
}

// adopt takes in all strings of another text, which is not changed, and tells
// how far they are moved. Both must be sealed.
func (t *text) adopt(other *text) (moved uint32, err error) {
	last := len(t.pages) - 1
	if last >= 0 && len(other.pages) == 1 && len(t.pages[last])+len(other.pages[0]) <= textPage {
		moved = uint32(last*textPage + len(t.pages[last]))
		t.pages[last] = append(t.pages[last], other.pages[0]...)
		return moved, nil
	}
	if (len(t.pages)+len(other.pages))*textPage > maxText {
		return 0, errText()
	}
	moved = uint32(len(t.pages) * textPage)
	for _, page := range other.pages {
		t.pages = append(t.pages, slices.Clip(page)) // what is added behind goes elsewhere
	}
	return moved, nil
}

func errText() error {
	return fmt.Errorf("%w: %w: the layers' paths take more than %d bytes", image.ErrVerification, ErrLimit, maxText)
}

const textPage = 64 << 10

// add keeps a string of at most maxPath bytes.
func (t *text) add(s string) (uint32, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.seen == nil {
		return t.append(s)
	}
	slot := t.slot(s)
	if at := t.seen[slot]; at != 0 {
		return at - 1, nil
	}
	at, err := t.append(s)
	if err != nil {
		return 0, err
	}
	t.seen[slot] = at + 1
	if t.used++; t.used*4 >= len(t.seen)*3 {
		t.grow()
	}
	return at, nil
}

// slot is where in seen a string stands, or would stand.
func (t *text) slot(s string) uint64 {
	mask := uint64(len(t.seen) - 1)
	i := maphash.String(t.seed, s) & mask
	for t.seen[i] != 0 && string(t.bytes(t.seen[i]-1)) != s {
		i = (i + 1) & mask
	}
	return i
}

func (t *text) grow() {
	old := t.seen
	t.seen = make([]uint32, 2*len(old))
	mask := uint64(len(t.seen) - 1)
	for _, at := range old {
		if at == 0 {
			continue
		}
		i := maphash.Bytes(t.seed, t.bytes(at-1)) & mask
		for t.seen[i] != 0 { // they all differ
			i = (i + 1) & mask
		}
		t.seen[i] = at
	}
}

func (t *text) append(s string) (uint32, error) {
	need := binary.MaxVarintLen16 + len(s)
	if last := len(t.pages) - 1; last < 0 || textPage-len(t.pages[last]) < need {
		if (len(t.pages)+1)*textPage > maxText {
			return 0, errText()
		}
		t.pages = append(t.pages, make([]byte, 0, textPage))
	}
	last := len(t.pages) - 1
	at := last*textPage + len(t.pages[last])
	page := binary.AppendUvarint(t.pages[last], uint64(len(s)))
	t.pages[last] = append(page, s...)
	return uint32(at), nil
}

// bytes is not to be changed.
func (t *text) bytes(at uint32) []byte {
	page := t.pages[at/textPage][at%textPage:]
	n, w := binary.Uvarint(page)
	return page[w : w+int(n)]
}

// equal may be called while others add.
func (t *text) equal(at uint32, s string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.bytes(at)) == s
}

func (t *text) string(at uint32) string { return string(t.bytes(at)) }

// record is one entry of a layer, and the inode of all paths that it names.
type record struct {
	size  int64  // of a file; major<<32 | minor of a device
	data  int64  // of a file: where it stands, see below; of a link: the target in text
	mtime int64  // seconds
	nsec  uint32 // of mtime
	meta  uint32
	dir   uint32 // the parent's path, in the layer's dirs
	name  uint32 // in text
}

// Where the content of a file stands: data >= 0 in the spool, at data; below
// skipped in the layer's blob, at skipped-1-data.
const skipped = -1

// What a record is beside tar's types.
const (
	typeWhiteout = 'w'
	typeOpaque   = 'o'
)

// meta is what many entries have in common.
type meta struct {
	uid, gid int
	mode     uint16
	kind     byte
	xattrs   uint32 // 0 for none
}

// metas interns.
type metas struct {
	mu    sync.Mutex
	index map[meta]uint32
	list  []meta

	xattrIndex map[string]uint32
	xattrs     []string // as encoded by encodeXattrs
	xattrBytes int
}

func newMetas() *metas {
	return &metas{index: map[meta]uint32{}, xattrIndex: map[string]uint32{"": 0}, xattrs: []string{""}}
}

func (m *metas) add(v meta, xattrs string) (uint32, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	x, ok := m.xattrIndex[xattrs]
	if !ok {
		if m.xattrBytes += len(xattrs); m.xattrBytes > maxXattrs {
			return 0, errXattrs()
		}
		x = uint32(len(m.xattrs))
		m.xattrs = append(m.xattrs, xattrs)
		m.xattrIndex[xattrs] = x
	}
	v.xattrs = x
	i, ok := m.index[v]
	if !ok {
		i = uint32(len(m.list))
		m.list = append(m.list, v)
		m.index[v] = i
	}
	return i, nil
}

// adopt takes in all of other, which is not changed, and tells how far it is
// moved. Nothing can be added afterwards.
func (m *metas) adopt(other *metas) (moved uint32, err error) {
	if m.xattrBytes += other.xattrBytes; m.xattrBytes > maxXattrs {
		return 0, errXattrs()
	}
	moved = uint32(len(m.list))
	xattrs := uint32(len(m.xattrs)) - 1 // the first is that of none in both
	m.xattrs = append(m.xattrs, other.xattrs[1:]...)
	for _, v := range other.list {
		if v.xattrs > 0 {
			v.xattrs += xattrs
		}
		m.list = append(m.list, v)
	}
	return moved, nil
}

func errXattrs() error {
	return fmt.Errorf("%w: %w: the extended attributes take more than %d bytes", image.ErrVerification, ErrLimit, maxXattrs)
}
