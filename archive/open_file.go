package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/compress"
)

// tarFile is the tar that is read: the archive's own file, or what that was
// decompressed to.
type tarFile struct {
	source
	size int64
}

// source is a file that is read. Where it is a temporary one, Close removes it.
type source interface {
	io.ReaderAt
	io.Closer
}

// openTar opens the tar at path, decompressed where it must be.
func openTar(ctx context.Context, path string, events image.EventFunc) (*tarFile, error) {
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
		return &tarFile{f, info.Size()}, nil
	}
	t, size, err := compress.Unpack(ctx, f, compress.UnpackOptions{Events: events})
	_ = f.Close() // what is only read loses nothing
	if err != nil {
		err = fmt.Errorf("decompress: %w", err)
		if t != nil {
			err = errors.Join(err, t.Close())
		}
		return nil, err
	}
	return &tarFile{t, size}, nil
}
