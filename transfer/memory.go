package transfer

import (
	"errors"
	"math"
	"sync"

	"github.com/davit-cli/davit/image"
)

// pageSize is how much memory a blob takes, and gives back, at once.
const pageSize = 256 << 10

type page [pageSize]byte

// pagePool keeps the free pages of a transfer, to be used again.
type pagePool struct {
	mu   sync.Mutex
	free []*page
	made int // pages in all
}

func (p *pagePool) get() *page {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := len(p.free) - 1
	if last < 0 {
		p.made++
		return new(page)
	}
	got := p.free[last]
	p.free = p.free[:last]
	return got
}

func (p *pagePool) put(free *page) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free = append(p.free, free)
}

// memory is a row of bytes of which only those ahead of a reader are kept.
type memory struct {
	pool *pagePool

	// kept is held by those who write and read, side by side, and by one who
	// gives pages back, alone.
	kept sync.RWMutex
	gone int64 // what lies before it is not kept any more

	mu    sync.Mutex
	pages map[int64]*page // by their number in the row
}

func newMemory(pool *pagePool) *memory { return &memory{pool: pool, pages: map[int64]*page{}} }

// at is the rest of the page that has a position. The caller holds kept.
func (m *memory) at(pos int64) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := pos / pageSize
	p := m.pages[n]
	if p == nil {
		p = m.pool.get()
		m.pages[n] = p
	}
	return p[pos%pageSize:]
}

// forget gives back the pages that lie before a position.
func (m *memory) forget(before int64) {
	m.kept.Lock()
	defer m.kept.Unlock()
	for n := m.gone / pageSize; n < before/pageSize; n++ {
		if p := m.pages[n]; p != nil {
			m.pool.put(p)
			delete(m.pages, n)
		}
	}
	m.gone = max(m.gone, before)
}

// close gives all pages back.
func (m *memory) close() {
	m.kept.Lock()
	defer m.kept.Unlock()
	for _, p := range m.pages {
		m.pool.put(p)
	}
	clear(m.pages)
	m.gone = math.MaxInt64
}

// memoryPlace is the place of a blob that starts at a position of a memory.
type memoryPlace struct {
	*memory
	start int64
}

var errGone = errors.New("its memory is given back")

// WriteAt writes but for what is not kept any more: a connection that was cut
// short may still be at it.
func (p memoryPlace) WriteAt(b []byte, off int64) (int, error) {
	p.kept.RLock()
	defer p.kept.RUnlock()
	pos, n := p.start+off, len(b)
	if late := min(p.gone-pos, int64(n)); late > 0 {
		b, pos = b[late:], pos+late
	}
	for len(b) > 0 {
		done := copy(p.at(pos), b)
		b, pos = b[done:], pos+int64(done)
	}
	return n, nil
}

func (p memoryPlace) ReadAt(b []byte, off int64) (int, error) {
	p.kept.RLock()
	defer p.kept.RUnlock()
	pos, n := p.start+off, len(b)
	if pos < p.gone {
		return 0, errGone
	}
	for len(b) > 0 {
		done := copy(b, p.at(pos))
		b, pos = b[done:], pos+int64(done)
	}
	return n, nil
}

func (p memoryPlace) Written() []image.Extent { return nil }

// Forget has nothing to forget: what the reader has had cannot be taken back.
func (p memoryPlace) Forget() error { return nil }
