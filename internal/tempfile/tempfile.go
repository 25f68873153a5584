// Package tempfile makes files that nobody finds again: on Unix they have no
// name, so that a killed process leaves none.
package tempfile

import (
	"errors"
	"fmt"
	"os"
	"runtime"
)

// File is a temporary file. Close removes it.
type File struct {
	*os.File
	name string // to be removed, where the file could not be at once
}

// New makes a file in dir, "" for the system's directory of temporary files.
func New(dir string) (*File, error) {
	f, err := os.CreateTemp(dir, ".davit-spool-*")
	if err != nil {
		return nil, fmt.Errorf("create a spool: %w", err)
	}
	t := &File{File: f}
	if runtime.GOOS == "windows" || os.Remove(f.Name()) != nil {
		t.name = f.Name()
	}
	return t, nil
}

// Close removes the file.
func (t *File) Close() error {
	err := t.File.Close()
	if t.name != "" {
		err = errors.Join(err, os.Remove(t.name))
	}
	return err
}
