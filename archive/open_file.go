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
	"github.com/davit-cli/davit/internal/split"
	"github.com/davit-cli/davit/internal/tarindex"
)

// tarFile is the tar that is read: the archive's own file, or what that was
// decompressed to.
type tarFile struct {
	source
	size     int64
	unpacked bool   // it was compressed
	partOf   string // the name of the first part, where it may be another one
}

// source is a file that is read. Where it is a temporary one, Close removes it.
type source interface {
	io.ReaderAt
	io.Closer
}

// openTar opens the tar at path, decompressed where it must be.
func openTar(ctx context.Context, path string, events image.EventFunc) (*tarFile, error) {
	f, size, err := openSource(path)
	if err != nil {
		return nil, err
	}
	t, err := unpackTar(ctx, f, size, events)
	if first, ok := split.First(path); err == nil && ok {
		t.partOf = first
	}
	return t, err
}

// openSource opens the file at path, or its parts.
func openSource(path string) (source, int64, error) {
	set, err := split.Find(path)
	if err != nil {
		return nil, 0, err
	}
	if set != nil {
		f, err := set.Open()
		if err != nil {
			return nil, 0, err
		}
		return f, set.Size, nil
	}
	info, err := os.Stat(path) // a pipe would block already when it is opened
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, 0, fmt.Errorf("%w: %w", image.ErrNotFound, err)
	case err != nil:
		return nil, 0, err
	case !info.Mode().IsRegular():
		return nil, 0, fmt.Errorf("%w: it is no regular file", image.ErrVerification)
	case info.Size() == 0:
		return nil, 0, fmt.Errorf("%w: it is empty", image.ErrVerification)
	}
	f, err := os.Open(path)
	if ofPath, ok := errors.AsType[*fs.PathError](err); ok {
		err = ofPath.Err // the caller names the path
	}
	if err != nil {
		return nil, 0, err
	}
	return f, info.Size(), nil
}

// unpackTar is the tar in a file, which it takes over.
func unpackTar(ctx context.Context, f source, size int64, events image.EventFunc) (*tarFile, error) {
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
		return &tarFile{source: f, size: size}, nil
	}
	t, size, err := compress.Unpack(ctx, f, size, compress.UnpackOptions{Events: events})
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
	if f.partOf != "" {
		it = "it stands beside " + f.partOf + ", which is read in the place of all parts; it"
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
