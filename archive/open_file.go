package archive

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/compress"
)

// maxDecompressed bounds what a compressed archive may decompress to.
const maxDecompressed = 1 << 40

// tarFile is the tar that is read: the archive's own file, or what that was
// decompressed to.
type tarFile struct {
	*os.File
	size int64
	name string // to be removed, where the file could not be at once
}

// openTar opens the tar at path, decompressed where it must be.
func openTar(path string) (*tarFile, error) {
	info, err := os.Stat(path) // a pipe would block already when it is opened
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w: %w", image.ErrNotFound, err)
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%w: it is no regular file", image.ErrVerification)
	case info.Size() == 0:
		return nil, fmt.Errorf("%w: it is empty", image.ErrVerification)
	}
	f, err := os.Open(path)
	if ofPath, ok := errors.AsType[*fs.PathError](err); ok {
		err = ofPath.Err // the caller names the path
	}
	if err != nil {
		return nil, err
	}
	var head [6]byte
	n, err := f.ReadAt(head[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, errors.Join(err, f.Close())
	}
	kind, err := compress.Detect(head[:n])
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if kind == compress.Plain {
		return &tarFile{File: f, size: info.Size()}, nil
	}
	t, err := decompress(f, maxDecompressed)
	_ = f.Close() // what is only read loses nothing
	return t, err
}

// decompress writes what a compressed tar holds to a temporary file.
func decompress(compressed io.Reader, limit int64) (*tarFile, error) {
	f, err := os.CreateTemp("", ".davit-archive-*")
	if err != nil {
		return nil, fmt.Errorf("decompress: %w", err)
	}
	t := &tarFile{File: f}
	if runtime.GOOS == "windows" || os.Remove(f.Name()) != nil {
		t.name = f.Name()
	}
	if err := t.fill(compressed, limit); err != nil {
		return nil, fmt.Errorf("decompress: %w", errors.Join(err, t.Close()))
	}
	return t, nil
}

func (t *tarFile) fill(compressed io.Reader, limit int64) error {
	r, _, done, err := compress.NewReader(compressed)
	defer done()
	if err != nil {
		return err
	}
	t.size, err = io.Copy(t.File, io.LimitReader(r, limit+1))
	var ofFile *fs.PathError
	switch {
	case errors.As(err, &ofFile):
		return err
	case err != nil:
		return fmt.Errorf("%w: after %d bytes: %w", image.ErrVerification, t.size, err)
	case t.size > limit:
		return fmt.Errorf("%w: it has more than %d bytes", image.ErrVerification, limit)
	}
	return nil
}

// Close closes the file, and removes it where it is a temporary one.
func (t *tarFile) Close() error {
	err := t.File.Close()
	if t.name != "" {
		err = errors.Join(err, os.Remove(t.name))
	}
	return err
}
