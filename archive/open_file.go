package archive

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/compress"
	"github.com/davit-cli/davit/internal/tempfile"
)

// maxDecompressed bounds what a compressed archive may decompress to.
const maxDecompressed = 1 << 40

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
	t, err := decompress(f, maxDecompressed)
	_ = f.Close() // what is only read loses nothing
	return t, err
}

// decompress writes what a compressed tar holds to a temporary file.
func decompress(compressed io.Reader, limit int64) (*tarFile, error) {
	f, err := tempfile.New("")
	if err != nil {
		return nil, fmt.Errorf("decompress: %w", err)
	}
	size, err := fill(f, compressed, limit)
	if err != nil {
		return nil, fmt.Errorf("decompress: %w", errors.Join(err, f.Close()))
	}
	return &tarFile{f, size}, nil
}

// fill writes what a compressed tar holds, and returns its size.
func fill(w io.Writer, compressed io.Reader, limit int64) (int64, error) {
	r, _, done, err := compress.NewReader(compressed)
	defer done()
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(w, io.LimitReader(r, limit+1))
	var ofFile *fs.PathError
	switch {
	case errors.As(err, &ofFile):
		return n, err
	case err != nil:
		return n, fmt.Errorf("%w: after %d bytes: %w", image.ErrVerification, n, err)
	case n > limit:
		return n, fmt.Errorf("%w: it has more than %d bytes", image.ErrVerification, limit)
	}
	return n, nil
}
