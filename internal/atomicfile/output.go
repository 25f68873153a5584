package atomicfile

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// WriteOutput is WriteFunc for a file that a person names: its parent
// directories are made, and it is Target's that is replaced.
func WriteOutput(path string, fill func(w io.Writer) error) error {
	target, err := Target(path)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o777); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return WriteFunc(target, fill)
}

// Target is the file that is to be replaced where a person names path: a link is
// followed, and what is no file is refused, a directory, a device, a pipe.
func Target(path string) (string, error) {
	if base := filepath.Base(path); path == "" || os.IsPathSeparator(path[len(path)-1]) || base == "." || base == ".." {
		return "", fmt.Errorf("write %s: it names a directory: name a file in it", path)
	}
	info, err := os.Lstat(path)
	if err != nil {
		return path, nil // not there, or nothing that the writing would not meet
	}
	target := path
	if info.Mode()&os.ModeSymlink != 0 {
		if info, err = os.Stat(path); err == nil && info.Mode().IsRegular() {
			target, err = filepath.EvalSymlinks(path)
		}
		if err != nil {
			return "", fmt.Errorf("write %s: it is a link that leads nowhere: %w", path, err)
		}
	}
	switch {
	case info.IsDir():
		return "", fmt.Errorf("write %s: it is a directory: name a file in it", path)
	case !info.Mode().IsRegular():
		return "", fmt.Errorf("write %s: it is no regular file (-o - writes to a pipe)", path)
	}
	return target, nil
}
