// Package atomicfile replaces small files so that whoever reads them, also
// after a power failure, finds the old content or the new one, whole.
package atomicfile

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// infix stands in the names of files under way: .NAME.davit-new-RANDOM.
const infix = ".davit-new-"

// Write makes path a file with these bytes, durably: it writes another file in
// the same directory, syncs it, gives it the name and syncs the directory. A
// file that is replaced passes its permissions on. A link is replaced itself;
// what it leads to stays as it is. On error path is as it was, and nothing
// else remains.
func Write(path string, data []byte) error { return write(path, filled(data), 0o666, keepMode) }

// WriteFunc is Write for bytes that fill writes. An error of fill is returned as
// it is.
func WriteFunc(path string, fill func(w io.Writer) error) error {
	return write(path, fill, 0o666, keepMode)
}

// WritePrivate is Write for what is nobody else's business: the file has the
// permissions 0600, from before its first byte on, whatever those of a file
// that it replaces were. That one passes its owner on, as far as we may.
func WritePrivate(path string, data []byte) error { return write(path, filled(data), 0o600, keepOwner) }

// filled writes bytes that are there.
func filled(data []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	}
}

// write writes the file; keep gives the new one what it has of the old one. An
// error names path, unless it is fill's.
func write(path string, fill func(io.Writer) error, mode os.FileMode, keep func(f *os.File, old os.FileInfo)) error {
	f, err := os.OpenFile(prefix(path)+rand.Text(), os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return naming(path, err)
	}
	if old, err := os.Lstat(path); err == nil && old.Mode().IsRegular() {
		keep(f, old)
	}
	err = fill(writer{f, path})
	if err == nil {
		err = naming(path, f.Sync())
	}
	if closing := f.Close(); err == nil {
		err = naming(path, closing)
	}
	if err == nil {
		err = naming(path, os.Rename(f.Name(), path))
	}
	if err != nil {
		if left := os.Remove(f.Name()); left != nil {
			err = errors.Join(err, left)
		}
		return err
	}
	SyncDir(filepath.Dir(path))
	return nil
}

// writer is a file under way to path, which its errors name.
type writer struct {
	f    *os.File
	path string
}

func (w writer) Write(p []byte) (int, error) {
	n, err := w.f.Write(p)
	return n, naming(w.path, err)
}

// naming is an error of a file under way, in which path stands in the place of
// that file's own name. It is nil where err is.
func naming(path string, err error) error {
	var ofPath *os.PathError
	var ofLink *os.LinkError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &ofPath):
		err = ofPath.Err
	case errors.As(err, &ofLink):
		err = ofLink.Err
	}
	return fmt.Errorf("write %s: %w", path, err)
}

// keepMode is as good as the file system: some know no permissions.
func keepMode(f *os.File, old os.FileInfo) { _ = f.Chmod(old.Mode().Perm()) }

// prefix is what the names of files under way to path begin with.
func prefix(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+infix)
}

// UnderWay says whether a file of this name, without its directory, is one
// that Write makes on its way, and that it leaves where it is killed.
func UnderWay(name string) bool { return strings.HasPrefix(name, ".") && strings.Contains(name, infix) }

// Clean removes what writers of path have left that were killed. It is for
// callers that keep other writers away meanwhile.
func Clean(path string) error {
	files, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return err
	}
	for _, f := range files {
		left := filepath.Join(filepath.Dir(path), f.Name())
		if !strings.HasPrefix(left, prefix(path)) {
			continue
		}
		if err := os.Remove(left); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	return nil
}
