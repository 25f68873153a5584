package partial

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
)

// Slot is where a blob stands in the data file.
type Slot struct {
	Digest digest.Digest
	Size   int64
	Offset int64
}

// maxRecord is the longest run that is journaled as one: a step, and the piece
// that brought it beyond.
const maxRecord = journalStep + maxPiece

// record is a run of bytes of a slot's blob that was written, with its CRC-32C.
type record struct {
	image.Extent
	crc uint32
}

// journal is what the journal file tells: how the data file is laid out and
// what is written of it. One line each:
//
//	davit-journal 1 SIZE             the data's size
//	davit-journal 1 SIZE PART        the same, and that of the parts in which they are
//	blob DIGEST SIZE OFFSET          a slot; slots are counted from 0
//	+ SLOT OFF LEN CRC               bytes of a slot that are written
//	- SLOT                           nothing of the slot is written after all
//
// A line counts only with its newline, so a torn last line counts for nothing.
type journal struct {
	size    int64
	part    int64 // 0: the data are one file
	slots   []Slot
	records [][]record // by slot
	length  int64      // bytes of the file that were understood
}

const magic = "davit-journal 1 "

// readJournal reads as far as it understands. A journal that is missing or
// foreign is nil and no error: it is a hint.
func readJournal(path string) (*journal, error) {
	f, err := openFile(path, os.O_RDONLY)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	r := bufio.NewReader(f)
	j := &journal{}
	for {
		line, err := r.ReadSlice('\n') // no line is as long as the buffer
		if errors.Is(err, io.EOF) || errors.Is(err, bufio.ErrBufferFull) {
			break
		}
		if err != nil {
			return nil, err
		}
		if !j.read(string(line)) {
			break
		}
		j.length += int64(len(line))
	}
	if j.length == 0 {
		return nil, nil
	}
	return j, nil
}

// read takes in a line; it tells whether the line made sense.
func (j *journal) read(line string) bool {
	if j.length == 0 {
		if n, err := fmt.Sscanf(line, magic+"%d %d\n", &j.size, &j.part); n == 2 && err == nil {
			return j.size >= 0 && j.part > 0
		}
		j.part = 0
		n, err := fmt.Sscanf(line, magic+"%d\n", &j.size)
		return n == 1 && err == nil && j.size >= 0
	}
	switch line[0] {
	case 'b':
		var s Slot
		if n, _ := fmt.Sscanf(line, "blob %s %d %d\n", &s.Digest, &s.Size, &s.Offset); n != 3 || s.Digest.Validate() != nil {
			return false
		}
		j.slots = append(j.slots, s)
		j.records = append(j.records, nil)
		return true
	case '+':
		var i int
		var r record
		if n, _ := fmt.Sscanf(line, "+ %d %d %d %x\n", &i, &r.Off, &r.Len, &r.crc); n != 4 || i < 0 || i >= len(j.slots) {
			return false
		}
		if r.Off < 0 || r.Len <= 0 || r.Len > min(j.slots[i].Size, maxRecord) || r.Off > j.slots[i].Size-r.Len {
			return false
		}
		j.records[i] = append(j.records[i], r)
		return true
	case '-':
		var i int
		if n, _ := fmt.Sscanf(line, "- %d\n", &i); n != 1 || i < 0 || i >= len(j.slots) {
			return false
		}
		j.records[i] = nil
		return true
	}
	return false
}

// lays tells whether the journal's data are laid out as wanted.
func (j *journal) lays(slots []Slot, size, part int64) bool {
	return j.size == size && j.part == part && slices.Equal(j.slots, slots)
}

// header is the journal's beginning for a layout.
func header(slots []Slot, size, part int64) []byte {
	b := fmt.Appendf(nil, magic+"%d\n", size)
	if part > 0 {
		b = fmt.Appendf(nil, magic+"%d %d\n", size, part)
	}
	for _, s := range slots {
		b = fmt.Appendf(b, "blob %s %d %d\n", s.Digest, s.Size, s.Offset)
	}
	return b
}

func recordLine(slot int, r record) []byte {
	return fmt.Appendf(nil, "+ %d %d %d %08x\n", slot, r.Off, r.Len, r.crc)
}

func forgetLine(slot int) []byte {
	return fmt.Appendf(nil, "- %d\n", slot)
}
