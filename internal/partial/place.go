package partial

import (
	"hash/crc32"
	"io"
	"slices"
	"sync"

	"github.com/davit-cli/davit/image"
)

const (
	// journalStep is how many bytes a run of small pieces gathers before it is
	// journaled. A kill loses at most so much for each connection.
	journalStep = 64 << 10
	// maxPiece bounds a record: what is damaged is fetched again by records.
	maxPiece = 1 << 20
	// maxRuns is how many runs may be gathering: more than connections leave
	// some that nobody goes on with.
	maxRuns = 32
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// place is a slot that is being filled.
type place struct {
	partial *Partial
	slot    int

	mu      sync.Mutex
	records []record // journaled
	runs    []record // written, not yet journaled; each grows at its end
}

// WriteAt writes the bytes, then journals them: at the latest with the next
// 64 KiB that continue them, at a multiple of 64 KiB, where pieces end, or at
// the blob's end.
func (p *place) WriteAt(b []byte, off int64) (int, error) {
	n, err := p.partial.data.WriteAt(b, p.partial.slots[p.slot].Offset+off)
	if err != nil {
		return n, tooLarge(err, 0)
	}
	p.partial.wrote(int64(n))
	p.mu.Lock()
	defer p.mu.Unlock()
	for piece := range slices.Chunk(b, maxPiece) {
		if err := p.note(piece, off); err != nil {
			return n, err
		}
		off += int64(len(piece))
	}
	return n, nil
}

// note takes a piece that is written into the runs. The caller holds the lock.
func (p *place) note(b []byte, off int64) error {
	i := slices.IndexFunc(p.runs, func(r record) bool { return r.Off+r.Len == off })
	if i < 0 {
		i = len(p.runs)
		p.runs = append(p.runs, record{Extent: image.Extent{Off: off}})
	}
	r := &p.runs[i]
	r.Len += int64(len(b))
	r.crc = crc32.Update(r.crc, castagnoli, b)
	if end := r.Off + r.Len; r.Len < journalStep && end%journalStep != 0 && end != p.partial.slots[p.slot].Size {
		if len(p.runs) <= maxRuns {
			return nil
		}
		i = 0 // the one that has waited longest
	}
	done := p.runs[i]
	p.runs = slices.Delete(p.runs, i, i+1)
	return p.journal(done)
}

// journal writes a record. The caller holds the lock.
func (p *place) journal(r record) error {
	p.records = append(p.records, r)
	return p.partial.append(recordLine(p.slot, r))
}

// flush journals the runs that are still short.
func (p *place) flush() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.runs {
		if err := p.journal(r); err != nil {
			return err
		}
	}
	p.runs = nil
	return nil
}

func (p *place) ReadAt(b []byte, off int64) (int, error) {
	return p.partial.data.ReadAt(b, p.partial.slots[p.slot].Offset+off)
}

func (p *place) Written() []image.Extent {
	p.mu.Lock()
	defer p.mu.Unlock()
	var written []image.Extent
	for _, r := range p.records {
		written = append(written, r.Extent)
	}
	for _, r := range p.runs {
		written = append(written, r.Extent)
	}
	return written
}

// Forget drops the runs whose bytes are no longer those that were written (a
// power failure, a bad disk); where all are, it drops everything, for then
// they were wrong when they came.
func (p *place) Forget() error {
	if err := p.flush(); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var sound []record
	for _, r := range p.records {
		if p.sound(r) {
			sound = append(sound, r)
		}
	}
	if len(sound) == len(p.records) {
		sound = nil
	}
	p.records = nil
	if err := p.partial.append(forgetLine(p.slot)); err != nil {
		return err
	}
	for _, r := range sound {
		if err := p.journal(r); err != nil {
			return err
		}
	}
	return nil
}

func (p *place) sound(r record) bool {
	h := crc32.New(castagnoli)
	n, err := io.Copy(h, io.NewSectionReader(p, r.Off, r.Len))
	return err == nil && n == r.Len && h.Sum32() == r.crc
}
