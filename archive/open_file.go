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
	"github.com/davit-cli/davit/internal/tarindex"
)

// tarFile is the tar that is read: the archive's own file, or what that was
// decompressed to.
type tarFile struct {
	source
	size     int64
	unpacked bool // it was compressed
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
		return &tarFile{source: f, size: info.Size()}, nil
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
	return &tarFile{source: t, size: size, unpacked: true}, nil
}

// noTar says why it does not even begin as a tar; nil where it does, or where it
// could not be read.
func (f *tarFile) noTar(x *tarindex.Index, err error) error {
	it := "it"
	if f.unpacked {
		it = "what it decompresses to"
	}
	broken, ok := errors.AsType[*tarindex.BrokenError](err)
	switch {
	case len(x.Entries) > 0:
		return nil
	case err == nil && f.size == 0:
		return fmt.Errorf("%w: %s is no tar: nothing is in it", image.ErrVerification, it)
	case !ok || broken.Entry != "":
		return nil
	case broken.Cut:
		return fmt.Errorf("%w: %s is no tar: it ends at byte %d, within the first header", image.ErrVerification, it, broken.Offset)
	}
	return fmt.Errorf("%w: %s is no tar: %w", image.ErrVerification, it, broken.Err)
}
