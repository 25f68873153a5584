//go:build unix

package blobfile

import (
	"errors"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/davit-cli/davit/image"
)

// A named pipe would make its reader wait for ever.
func TestSpecialFilesAreRefused(t *testing.T) {
	files := tree(t, nil)
	if err := syscall.Mkfifo(filepath.Join(files.dir, "pipe"), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := files.ReadAll(t.Context(), "pipe", 1); !errors.Is(err, image.ErrVerification) {
		t.Errorf("it is read: %v", err)
	}
}
