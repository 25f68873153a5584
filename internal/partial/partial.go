// Package partial keeps an unfinished output beside the place where it will
// stand: a data file laid out as the output will be, and a journal of the
// bytes that are written in it. A process may be killed at any moment; the
// next one finds every byte that the journal tells of.
//
// The journal is a hint. What it tells of is hashed before anybody believes it.
package partial

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/docker/go-units"
	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/atomicfile"
	"github.com/davit-cli/davit/internal/split"
)

// Suffix is what a partial is called after its output.
const Suffix = ".davit-part"

// ErrLocked says that another process is writing the same output.
var ErrLocked = errors.New("another davit is writing it")

// ErrNoSpace says that the file system has less room than the output needs.
var ErrNoSpace = errors.New("not enough free space")

// ErrTooLarge says that the file system holds no file of that size, as FAT32
// holds none of 4 GiB. An output in parts has smaller ones.
var ErrTooLarge = errors.New("the file system holds no file that large")

// Partial is an unfinished output, locked for this process.
type Partial struct {
	output string
	dir    string
	lock   *lock
	part   int64 // bytes of a part; 0: the data are one file
	data   *split.Row
	slots  []Slot

	lazy    bool         // the data are not sent on their way to the disk early
	written atomic.Int64 // bytes, since they were last sent on their way to the disk

	mu      sync.Mutex // guards the rest
	journal *os.File
	places  []*place
}

// Names inside of a partial's directory.
const (
	dataName       = "data"
	partsName      = "parts" // a directory, in place of data
	journalName    = "journal"
	oldDataName    = "old-data"
	oldPartsName   = "old-parts"
	oldJournalName = "old-journal"
	lockName       = "lock"
)

// outlive are the names of all that outlives a process.
var outlive = []string{dataName, partsName, journalName, oldDataName, oldPartsName, oldJournalName}

// Open opens the partial of an output, with blobs at slots in a file of size
// bytes, and makes it where there is none. What an earlier run left is used:
// where it was laid out otherwise (a tag has moved), the blobs that are still
// wanted are carried over. With restart it is discarded.
//
// The error is ErrLocked where another process has the partial, and ErrNoSpace
// where the file system cannot hold what is missing. The caller ends with
// Commit or Close.
func Open(output string, slots []Slot, size int64, restart bool) (*Partial, error) {
	return OpenIn(output+Suffix, output, slots, size, restart)
}

// OpenIn is Open with the partial in a directory of the caller's choice, on
// the same file system as the output. Its parents are made, and stay; those of
// the output are the caller's to make.
func OpenIn(dir, output string, slots []Slot, size int64, restart bool) (*Partial, error) {
	return OpenParts(dir, output, slots, size, 0, restart)
}

// OpenParts is OpenIn with the data in parts of so many bytes, 0 for one file.
// The output is in such parts too then, see package split: the caller ends with
// CommitParts or Close.
func OpenParts(dir, output string, slots []Slot, size, part int64, restart bool) (*Partial, error) {
	p := &Partial{output: output, dir: dir, slots: slots, part: part}
	var err error
	if p.lock, err = acquire(p.dir, p.path(lockName)); err != nil {
		return nil, err
	}
	if err := p.open(size, restart); err != nil {
		return nil, errors.Join(err, p.giveUp())
	}
	return p, nil
}

// giveUp ends a partial that could not be opened. Where an earlier run has
// left nothing, nothing stays.
func (p *Partial) giveUp() error {
	if p.journal != nil || p.has(journalName) || p.has(oldJournalName) {
		return p.Close()
	}
	var errs []error
	if p.data != nil {
		errs = append(errs, p.data.Close())
	}
	errs = append(errs, p.discard(dataName, partsName), p.lock.remove(p.dir))
	p.data, p.lock = nil, nil
	return errors.Join(errs...)
}

func (p *Partial) path(name string) string { return filepath.Join(p.dir, name) }

func (p *Partial) open(size int64, restart bool) error {
	if err := p.checkParts(); err != nil {
		return err
	}
	if err := errors.Join(p.undo(), p.clear()); err != nil {
		return err
	}
	if restart {
		if err := p.discard(outlive...); err != nil {
			return err
		}
	}
	found, err := readJournal(p.path(journalName))
	if err != nil {
		return err
	}
	if found != nil && !(found.lays(p.slots, size, p.part) && p.has(firstName(p.part))) {
		if err := p.setAside(found.part); err != nil {
			return err
		}
		found = nil
	}
	if err := p.openData(found, size); err != nil {
		return err
	}
	if err := p.openJournal(found, size); err != nil {
		return err
	}
	return p.salvage()
}

// openFile opens a file of the partial. A link, or whatever else is no plain
// file of its own, is refused: somebody may have planted it.
func openFile(path string, flags int) (*os.File, error) {
	info, err := os.Lstat(path)
	if err == nil && !plain(info) {
		return nil, fmt.Errorf("%s is not a file of davit's: remove it", path)
	}
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	return os.OpenFile(path, flags|noFollow, 0o666)
}

// has tells whether a file of the partial is there.
func (p *Partial) has(name string) bool {
	_, err := os.Lstat(p.path(name))
	return err == nil
}

// setAside makes what is there the old data, from which blobs are salvaged.
// The journal goes last: a run that finds one without its data knows that it
// was killed right here, and that the data have gone ahead.
func (p *Partial) setAside(part int64) error {
	name, old := dataName, oldDataName
	if part > 0 {
		name, old = partsName, oldPartsName
	}
	if p.has(firstName(part)) {
		if err := p.discard(oldDataName, oldPartsName, oldJournalName); err != nil {
			return err
		}
		if err := os.Rename(p.path(name), p.path(old)); err != nil {
			return err
		}
	}
	return os.Rename(p.path(journalName), p.path(oldJournalName))
}

func humanSize(n int64) string { return units.HumanSizeWithPrecision(float64(n), 4) }

// openJournal goes on with the journal found, or begins one.
func (p *Partial) openJournal(found *journal, size int64) error {
	p.places = make([]*place, len(p.slots))
	for i := range p.slots {
		p.places[i] = &place{partial: p, slot: i}
	}
	f, err := openFile(p.path(journalName), os.O_RDWR|os.O_CREATE)
	if err != nil {
		return err
	}
	p.journal = f
	length := int64(0)
	if found != nil {
		length = found.length
		for i, records := range found.records {
			p.places[i].records = records
		}
	}
	if err := f.Truncate(length); err != nil { // a torn line ends here
		return err
	}
	if _, err := f.Seek(length, io.SeekStart); err != nil {
		return err
	}
	if found == nil {
		_, err = f.Write(header(p.slots, size, p.part))
	}
	return err
}

// Place is where the blob goes that stands in one of the slots.
func (p *Partial) Place(d digest.Digest) image.Place {
	i := slices.IndexFunc(p.slots, func(s Slot) bool { return s.Digest == d })
	if i < 0 {
		return nil
	}
	return p.places[i]
}

// WriteAt writes bytes of the output that belong to no blob. They are not
// journaled: they are written anew by every run.
func (p *Partial) WriteAt(b []byte, off int64) (int, error) {
	n, err := p.data.WriteAt(b, off)
	return n, tooLarge(err, 0)
}

// Commit gives the data its final name, durably, and removes the partial. On
// error the partial is still there, and Close is still due. It is for data that
// are one file.
func (p *Partial) Commit() error {
	if info, err := os.Stat(p.output); err == nil && info.Mode().IsRegular() {
		_ = os.Chmod(p.path(dataName), info.Mode().Perm()) // who may read an output that is replaced, does not change
	}
	if err := p.data.Each((*os.File).Sync); err != nil {
		return fmt.Errorf("sync %s: %w", p.path(dataName), err)
	}
	if err := p.data.Close(); err != nil {
		return fmt.Errorf("close %s: %w", p.path(dataName), err)
	}
	p.data = nil
	if err := os.Rename(p.path(dataName), p.output); err != nil {
		return fmt.Errorf("replace %s: %w", p.output, err)
	}
	// The output stands there now, whatever a directory makes of being synced.
	atomicfile.SyncDir(filepath.Dir(p.output))
	if err := errors.Join(p.journal.Close(), p.clear(), p.discard(journalName)); err != nil {
		return fmt.Errorf("remove %s: %w", p.dir, err)
	}
	p.journal = nil
	return p.unlock()
}

// unlock ends the partial, which is empty now.
func (p *Partial) unlock() error {
	l := p.lock
	p.lock = nil
	return l.remove(p.dir)
}

// Close keeps the partial for the next run, and unlocks it. After Commit it
// does nothing. It may be called more than once.
func (p *Partial) Close() error {
	var errs []error
	if p.journal != nil {
		for _, pl := range p.places {
			errs = append(errs, pl.flush())
		}
		errs = append(errs, p.journal.Close())
		p.journal = nil
	}
	if p.data != nil {
		errs = append(errs, p.data.Close())
		p.data = nil
	}
	if p.lock != nil {
		errs = append(errs, p.clear(), p.lock.release())
		p.lock = nil
	}
	return errors.Join(errs...)
}

// Remove removes the partial in a directory, that an earlier run has left. It
// does nothing where there is none. The error is ErrLocked where another
// process has it.
func Remove(dir string) error {
	if _, err := os.Lstat(dir); os.IsNotExist(err) {
		return nil
	}
	p := &Partial{dir: dir}
	var err error
	if p.lock, err = acquire(dir, p.path(lockName)); err != nil {
		return err
	}
	if err := errors.Join(p.clear(), p.discard(outlive...)); err != nil {
		return errors.Join(err, p.lock.release())
	}
	return p.lock.remove(dir)
}

// flushStep is how many bytes are written before they are sent on their way.
const flushStep = 16 << 20

// wrote lets the system begin to write to the disk, so that little is left to
// wait for in Commit.
func (p *Partial) wrote(n int64) {
	if p.lazy {
		return
	}
	if p.written.Add(n) >= flushStep {
		p.written.Store(0)
		_ = p.data.Each(func(f *os.File) error {
			startWriteback(f)
			return nil
		})
	}
}

// discard removes files of the partial, and directories of parts, that may not
// be there.
func (p *Partial) discard(names ...string) error {
	for _, name := range names {
		remove := os.Remove
		if name == partsName || name == oldPartsName {
			remove = os.RemoveAll
		}
		if err := remove(p.path(name)); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	return nil
}

// append adds a line to the journal.
func (p *Partial) append(line []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.journal == nil {
		return os.ErrClosed
	}
	if _, err := p.journal.Write(line); err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	return nil
}
