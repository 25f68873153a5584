// Package atomicfile replaces small files so that whoever reads them, also
// after a power failure, finds the old content or the new one, whole.
package atomicfile

import (
	"crypto/rand"
	"errors"
	"fmt"
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
func Write(path string, data []byte) error {
	if err := write(path, data); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func write(path string, data []byte) (err error) {
	f, err := os.OpenFile(prefix(path)+rand.Text(), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if err := fill(f, path, data); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	SyncDir(filepath.Dir(path))
	return nil
}

// fill gives the new file all that it has before its name.
func fill(f *os.File, path string, data []byte) error {
	if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() {
		_ = f.Chmod(info.Mode().Perm()) // file systems without permissions refuse
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Sync()
}

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
