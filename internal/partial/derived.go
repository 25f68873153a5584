package partial

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/davit-cli/davit/internal/atomicfile"
)

// derivedName is what the output is called until it is whole, where it is not
// the data but made of them.
const derivedName = "derived"

// scratchName is a directory for what is needed only until the output is whole.
const scratchName = "scratch"

// Scratch returns a directory for temporary files, and makes it. Nothing in it
// outlives the process: what a killed one has left the next one removes.
func (p *Partial) Scratch() (string, error) {
	dir := p.path(scratchName)
	if err := os.Mkdir(dir, 0o700); err != nil && !os.IsExist(err) {
		return "", err
	}
	return dir, nil
}

// clear removes all that does not outlive the process.
func (p *Partial) clear() error {
	return errors.Join(p.removeDerived(), os.RemoveAll(p.path(derivedPartsName)), os.RemoveAll(p.path(scratchName)))
}

// Lazy leaves it to the system when to write the data to the disk: an output
// that is derived of them waits for its own bytes alone. It comes before the
// first byte.
func (p *Partial) Lazy() { p.lazy = true }

// Derived is where an output is written that is made of the data: a file or a
// directory, which is not there yet. Nothing of it outlives the process; the
// data do. The caller ends with CommitDerived or Close.
func (p *Partial) Derived() string { return p.path(derivedName) }

// CommitDerived gives the derived output its final name, and removes the
// partial with the data. The output's bytes must be on the disk. A directory
// may replace an empty one, which stays where it is and gets what is in it. On
// error the output is as it was, the partial is still there, and Close is still
// due.
func (p *Partial) CommitDerived() error {
	if err := p.replace(); err != nil {
		return fmt.Errorf("replace %s: %w", p.output, err)
	}
	atomicfile.SyncDir(filepath.Dir(p.output))
	return p.Discard()
}

// Discard removes the partial with all that is in it, in place of a commit.
func (p *Partial) Discard() error {
	if err := errors.Join(p.clear(), p.data.Close(), p.journal.Close(), p.discard(dataName, partsName, journalName)); err != nil {
		return fmt.Errorf("remove %s: %w", p.dir, err)
	}
	p.data, p.journal = nil, nil
	return p.unlock()
}

// removeDerived removes what a run has derived and not committed. Directories
// in it may deny even their owner to remove what they hold, as those of many
// images do.
func (p *Partial) removeDerived() error {
	err := os.RemoveAll(p.Derived())
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	_ = filepath.WalkDir(p.Derived(), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			err = os.Chmod(path, 0o700) // before it is read
		}
		return err
	})
	return os.RemoveAll(p.Derived())
}

func (p *Partial) replace() error {
	info, err := os.Lstat(p.output)
	switch {
	case err == nil && info.IsDir():
		return p.fill()
	case err == nil && info.Mode().IsRegular():
		_ = os.Chmod(p.Derived(), info.Mode().Perm()) // who may read an output that is replaced, does not change
	}
	return move(p.Derived(), p.output)
}

// fill moves what is in the derived directory into the output, which is there
// already: all of it, or nothing. The output may be a mount point, and its
// parent nobody's who runs this.
func (p *Partial) fill() error {
	entries, err := os.ReadDir(p.Derived())
	if err != nil {
		return err
	}
	there, err := os.ReadDir(p.output)
	if err != nil {
		return err
	}
	for _, e := range there {
		if to := filepath.Join(p.output, e.Name()); to != p.dir {
			return fmt.Errorf("%s is there already", to)
		}
	}
	if err := os.Chmod(p.Derived(), 0o700); err != nil { // its owner may have no right to take out what is in it
		return err
	}
	for i, e := range entries {
		err := move(filepath.Join(p.Derived(), e.Name()), filepath.Join(p.output, e.Name()))
		if err == nil {
			continue
		}
		for _, e := range entries[:i] {
			err = errors.Join(err, move(filepath.Join(p.output, e.Name()), filepath.Join(p.Derived(), e.Name())))
		}
		return err
	}
	atomicfile.SyncDir(p.output)
	return os.Remove(p.Derived())
}

// move renames. A directory that its owner may not write to gets no other
// parent: for that moment the owner may.
func move(from, to string) error {
	err := os.Rename(from, to)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	info, statErr := os.Lstat(from)
	if statErr != nil || !info.IsDir() || os.Chmod(from, info.Mode()|0o200) != nil {
		return err
	}
	at := to
	if err = os.Rename(from, to); err != nil {
		at = from
	}
	return errors.Join(err, os.Chmod(at, info.Mode()))
}
