package partial

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/davit-cli/davit/internal/split"
)

// firstName is the name of the file with which data begin that are in parts of
// so many bytes, or one file.
func firstName(part int64) string { return nameOf(part, 1, false) }

// nameOf is the name of the file that is the part n of the data, or of the old
// data.
func nameOf(part int64, n int, old bool) string {
	switch {
	case part > 0 && old:
		return filepath.Join(oldPartsName, split.PartName(n))
	case part > 0:
		return filepath.Join(partsName, split.PartName(n))
	case old:
		return oldDataName
	}
	return dataName
}

// openData opens the data, for which a journal vouches, or makes them anew. A
// part has a file of its size from when it is first used on: on file systems
// without sparse files that takes the space.
func (p *Partial) openData(found *journal, size int64) error {
	if err := p.prepareData(found); err != nil {
		return err
	}
	p.data = split.NewRow(size, p.part, p.dataPath, p.openPart)
	if err := p.checkSpace(size); err != nil {
		return err
	}
	return p.data.Open(1)
}

// prepareData leaves the files that a journal vouches for, and no others.
func (p *Partial) prepareData(found *journal) error {
	if p.part > 0 {
		if found == nil {
			if err := p.discard(partsName); err != nil {
				return err
			}
			if err := os.Mkdir(p.path(partsName), 0o700); err != nil {
				return err
			}
		}
		return p.discard(dataName)
	}
	flags := os.O_RDWR | os.O_CREATE
	if found == nil {
		flags |= os.O_TRUNC
	}
	f, err := openFile(p.path(dataName), flags)
	if err == nil {
		err = f.Close()
	}
	return errors.Join(err, p.discard(partsName))
}

// checkParts refuses what stands in the place of a directory of parts and is none
// of this user's: somebody may have planted it.
func (p *Partial) checkParts() error {
	for _, name := range []string{partsName, oldPartsName, derivedPartsName} {
		if info, err := os.Lstat(p.path(name)); err == nil && !(info.IsDir() && own(info)) {
			return fmt.Errorf("%s is not a directory of davit's: remove it", p.path(name))
		}
	}
	return nil
}

func (p *Partial) dataPath(n int) string { return p.path(nameOf(p.part, n, false)) }

// openPart opens a part of the data, with its size.
func (p *Partial) openPart(n int) (*os.File, error) {
	f, err := openFile(p.dataPath(n), os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, err
	}
	want := p.data.PartSize(n)
	info, err := f.Stat()
	if err == nil && info.Size() != want {
		err = errors.Join(markSparse(f), tooLarge(f.Truncate(want), want))
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// tooLarge is ErrTooLarge where that is why a file could not be written, or get
// so many bytes.
func tooLarge(err error, size int64) error {
	if isTooLarge(err, size) {
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	}
	return err
}

// checkSpace compares what is still to be written with what is free, where
// the system tells. Old data make room for the new.
func (p *Partial) checkSpace(size int64) error {
	free, ok := freeSpace(p.dir)
	if !ok {
		return nil
	}
	if need := size - p.allocated(); need > free {
		return fmt.Errorf("%w: %s more is needed, %s is free", ErrNoSpace, humanSize(need), humanSize(free))
	}
	return nil
}

// allocated is what data and old data take on the disk.
func (p *Partial) allocated() (sum int64) {
	for _, name := range []string{dataName, partsName, oldDataName, oldPartsName} {
		_ = filepath.WalkDir(p.path(name), func(_ string, e os.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() {
				return nil
			}
			if info, err := e.Info(); err == nil {
				sum += allocated(info)
			}
			return nil
		})
	}
	return sum
}
