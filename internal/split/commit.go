package split

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/atomicfile"
)

// Names in the directory of parts that are not committed yet, besides the parts
// themselves, which are 001, 002 and so on.
const (
	// sumsName is the file of checksums. Where it is, a commit has begun.
	sumsName = "sha256"
	// replacedName is a directory for what stood under the output's names.
	replacedName = "replaced"
)

// PartName is the name of the part n in the directory of parts.
func PartName(n int) string { return fmt.Sprintf("%03d", n) }

// Commit gives the parts in dir their names: they have size bytes in parts of
// part bytes, and become the file at output; dir is on the same file system. They
// are hashed and made durable first. What an earlier run has left under such
// names is replaced, of a longer one removed.
//
// The checksums stand there last, and those that stood there go first. The first
// part goes before the other ones and comes behind them, so that nobody reads
// some parts of the one file with some of the other.
//
// On error everything is as it was. A process that is killed meanwhile leaves it
// to Undo.
func Commit(ctx context.Context, dir, output string, size, part int64, events image.EventFunc) error {
	if err := CheckCount(size, part); err != nil {
		return err
	}
	if err := CheckOutput(output); err != nil {
		return err
	}
	count := Count(size, part)
	var paths []string
	for n := range count {
		path := filepath.Join(dir, PartName(n+1))
		paths = append(paths, path)
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		if want := min(part, size-int64(n)*part); info.Size() != want {
			return fmt.Errorf("part %d has %d bytes, not %d", n+1, info.Size(), want)
		}
	}
	sums, err := sumAndSync(ctx, paths, size, events)
	if err != nil {
		return err
	}
	moves, err := plan(dir, output, count)
	if err != nil {
		return err
	}
	if err := atomicfile.Write(filepath.Join(dir, sumsName), sums.Format(output)); err != nil {
		return err
	}
	keepMode(dir, output, paths)
	for i, m := range moves {
		if i == len(moves)-1 {
			atomicfile.SyncDir(filepath.Dir(output)) // the parts are there before the checksums
		}
		if err := os.Rename(m.from, m.to); err != nil {
			return errors.Join(err, Undo(dir, output))
		}
	}
	atomicfile.SyncDir(filepath.Dir(output))
	return nil
}

// move is the renaming of a file.
type move struct{ from, to string }

// plan is what Commit does. It makes the directory for what is replaced.
func plan(dir, output string, count int) ([]move, error) {
	replaced := filepath.Join(dir, replacedName)
	if err := os.RemoveAll(replaced); err != nil {
		return nil, err
	}
	if err := os.Mkdir(replaced, 0o700); err != nil {
		return nil, err
	}
	old, err := present(output)
	if err != nil {
		return nil, err
	}
	var moves []move
	if _, err := os.Lstat(SumsName(output)); err == nil {
		moves = append(moves, move{SumsName(output), filepath.Join(replaced, sumsName)})
	}
	for _, n := range old {
		moves = append(moves, move{Name(output, n), filepath.Join(replaced, PartName(n))})
	}
	for n := count; n > 0; n-- {
		moves = append(moves, move{filepath.Join(dir, PartName(n)), Name(output, n)})
	}
	return append(moves, move{filepath.Join(dir, sumsName), SumsName(output)}), nil
}

// keepMode passes on who may read an output that is replaced, as far as the file
// system knows such things.
func keepMode(dir, output string, paths []string) {
	info, err := os.Stat(Name(output, 1))
	if err != nil || !info.Mode().IsRegular() {
		return
	}
	for _, path := range append(paths, filepath.Join(dir, sumsName)) {
		_ = os.Chmod(path, info.Mode().Perm())
	}
}

// Undo takes back a commit from dir that did not come to its end. Where none has
// begun, or there is no such directory, it does nothing.
func Undo(dir, output string) error {
	b, err := os.ReadFile(filepath.Join(dir, sumsName))
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	count := 0 // of a file that is not whole, which has moved nothing
	if sums, err := parseSums(b, filepath.Base(output)); err == nil && sums != nil {
		count = len(sums.Parts)
	}
	var errs []error
	for n := 1; n <= count; n++ { // the first is the last that Commit moves
		at := filepath.Join(dir, PartName(n))
		if _, err := os.Lstat(at); os.IsNotExist(err) {
			errs = append(errs, rename(Name(output, n), at))
		}
	}
	replaced := filepath.Join(dir, replacedName)
	for n := MaxParts; n > 0; n-- {
		errs = append(errs, rename(filepath.Join(replaced, PartName(n)), Name(output, n)))
	}
	errs = append(errs, rename(filepath.Join(replaced, sumsName), SumsName(output)))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("take back what is not whole: %w", err)
	}
	atomicfile.SyncDir(filepath.Dir(output))
	return os.Remove(filepath.Join(dir, sumsName))
}

// rename renames what is there.
func rename(from, to string) error {
	if err := os.Rename(from, to); err != nil && !os.IsNotExist(err) {
		return err
	}
	return nil
}
