package partial

import (
	"cmp"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"slices"

	"github.com/davit-cli/davit/internal/split"
)

// salvage carries over from the old data what is wanted and right.
func (p *Partial) salvage() error {
	old, err := readJournal(p.path(oldJournalName))
	if err != nil || old == nil {
		return err
	}
	if err := p.carryAll(old); err != nil {
		return err
	}
	return p.discard(oldJournalName, oldDataName, oldPartsName)
}

// found is a record of the old data that is wanted.
type found struct {
	record
	slot *Slot // of the old data
	to   *place
}

// start and end are the record's in the old data.
func (f found) start() int64 { return f.slot.Offset + f.Off }

func (f found) end() int64 { return f.start() + f.Len }

// carryAll carries over from the end of the old data on, which become shorter
// meanwhile: both together need little more space than one.
func (p *Partial) carryAll(old *journal) error {
	path := func(n int) string { return p.path(nameOf(old.part, n, true)) }
	data := split.NewRow(old.size, old.part, path, func(n int) (*os.File, error) { return openFile(path(n), os.O_RDWR) })
	defer func() { _ = data.Close() }() // they are gone then
	if err := data.Open(1); os.IsNotExist(err) {
		return nil
	} else if err != nil {
		return err
	}
	wanted := p.wanted(old)
	if len(wanted) == 0 {
		return nil
	}
	ends := make([]int64, len(wanted)+1) // of all records before
	for i, f := range wanted {
		ends[i+1] = max(ends[i], f.end())
	}
	for i, f := range slices.Backward(wanted) {
		if err := f.carry(data); err != nil {
			return fmt.Errorf("carry blob %s over: %w", f.slot.Digest, err)
		}
		if err := data.Truncate(ends[i]); err != nil {
			return fmt.Errorf("make room in the old data: %w", err)
		}
	}
	return nil
}

// wanted are the records of the old data that the new ones want and do not have
// yet from a run that was killed, in their order.
func (p *Partial) wanted(old *journal) []found {
	var wanted []found
	for i := range old.slots {
		s := &old.slots[i]
		to := slices.IndexFunc(p.slots, func(want Slot) bool { return want.Digest == s.Digest && want.Size == s.Size })
		if to < 0 {
			continue
		}
		carried := map[record]bool{}
		for _, r := range p.places[to].records {
			carried[r] = true
		}
		for _, r := range old.records[i] {
			if !carried[r] {
				wanted = append(wanted, found{r, s, p.places[to]})
			}
		}
	}
	slices.SortStableFunc(wanted, func(a, b found) int { return cmp.Compare(a.start(), b.start()) })
	return wanted
}

// carry copies the record, and journals it. A hint that was wrong is passed over.
func (f found) carry(data io.ReaderAt) error {
	buf := make([]byte, f.Len)
	if _, err := data.ReadAt(buf, f.start()); err != nil && !errors.Is(err, io.EOF) || crc32.Checksum(buf, castagnoli) != f.crc {
		return nil
	}
	if _, err := f.to.WriteAt(buf, f.Off); err != nil {
		return err
	}
	return f.to.flush()
}
