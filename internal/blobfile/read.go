package blobfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/davit-cli/davit/image"
)

// Tree is a directory whose files are read as blobs and documents, by names
// below it that have slashes. No link below it is followed, and nothing but a
// regular file is opened. Its methods may be called from many goroutines at
// once. Errors name the file; they wrap image.ErrNotFound where nothing is
// there, and image.ErrVerification where something else is than there should be.
type Tree struct {
	dir  string
	root *os.Root
}

// ErrNoDirectory: something is there, and no directory.
var ErrNoDirectory = errors.New("it is no directory")

// OpenTree opens a directory, which may be named by a link. The caller closes
// it. Errors wrap image.ErrNotFound or ErrNoDirectory.
func OpenTree(dir string) (*Tree, error) {
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		return nil, fmt.Errorf("open %s: %w", dir, ErrNoDirectory)
	}
	var root *os.Root
	if err == nil {
		root, err = os.OpenRoot(dir)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open %s: %w", dir, image.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", dir, cause(err))
	}
	return &Tree{dir, root}, nil
}

// Close gives the directory up. What was opened in it stays open.
func (t *Tree) Close() error { return t.root.Close() }

// Path is where a file is, for messages.
func (t *Tree) Path(name string) string { return filepath.Join(t.dir, filepath.FromSlash(name)) }

// Has says whether anything is there under a name, whatever it is.
func (t *Tree) Has(name string) bool {
	_, err := t.root.Lstat(filepath.FromSlash(name))
	return !errors.Is(err, fs.ErrNotExist)
}

// Open opens a regular file and tells its size. The caller closes it.
func (t *Tree) Open(name string) (*os.File, int64, error) {
	if err := t.checkDirs(path.Dir(name)); err != nil {
		return nil, 0, err
	}
	info, err := t.lstat(name)
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("open %s: %w: it is %s, no regular file", t.Path(name), image.ErrVerification, kind(info))
	}
	file, err := t.root.Open(filepath.FromSlash(name))
	if err != nil {
		return nil, 0, t.failed(name, err)
	}
	opened, err := file.Stat()
	if err == nil && !os.SameFile(info, opened) {
		err = errors.New("it was replaced just now")
	}
	if err != nil {
		return nil, 0, errors.Join(t.failed(name, err), file.Close())
	}
	return file, opened.Size(), nil
}

// checkDirs refuses whatever is no directory itself on the way to a file.
func (t *Tree) checkDirs(dir string) error {
	if dir == "." {
		return nil
	}
	if err := t.checkDirs(path.Dir(dir)); err != nil {
		return err
	}
	info, err := t.lstat(dir)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("open %s: %w: it is %s, no directory", t.Path(dir), image.ErrVerification, kind(info))
	}
	return err
}

func (t *Tree) lstat(name string) (fs.FileInfo, error) {
	info, err := t.root.Lstat(filepath.FromSlash(name))
	if err != nil {
		return nil, t.failed(name, err)
	}
	return info, nil
}

// kind is what stands in the place of something else.
func kind(info fs.FileInfo) string {
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		return "a link, which is not followed"
	case info.IsDir():
		return "a directory"
	case info.Mode().IsRegular():
		return "a file"
	}
	return "a special file"
}

// failed is an error of opening a file.
func (t *Tree) failed(name string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("open %s: %w", t.Path(name), image.ErrNotFound)
	}
	return fmt.Errorf("open %s: %w", t.Path(name), cause(err))
}

// cause is a file's error without the name, which os.Root tells below itself.
func cause(err error) error {
	var in *fs.PathError
	if errors.As(err, &in) {
		return in.Err
	}
	return err
}

// ReadAll reads a whole file, which has at most so many bytes. Nothing but its
// size is verified.
func (t *Tree) ReadAll(ctx context.Context, name string, most int64) ([]byte, error) {
	return t.read(ctx, name, -1, most)
}

// Read reads a whole file, which has at most so many bytes, and verifies that
// it is what the descriptor names by digest and by size, unless that is
// negative: unknown.
func (t *Tree) Read(ctx context.Context, name string, d image.Descriptor, most int64) ([]byte, error) {
	b, err := t.read(ctx, name, d.Size, most)
	if err != nil {
		return nil, err
	}
	d.Size = int64(len(b))
	if err := image.CheckBytes(d, b); err != nil {
		return nil, fmt.Errorf("read %s: %w", t.Path(name), err)
	}
	return b, nil
}

// read takes a file of that size, or of any where it is negative.
func (t *Tree) read(ctx context.Context, name string, want, most int64) ([]byte, error) {
	file, size, err := t.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // it was only read
	switch {
	case want >= 0 && size != want:
		return nil, t.wrongSize(name, size, want)
	case size > most:
		return nil, fmt.Errorf("read %s: %w: it has %d bytes, more than %d", t.Path(name), image.ErrVerification, size, most)
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(reader{ctx, file}, b); err != nil {
		return nil, fmt.Errorf("read %s: %w", t.Path(name), cause(err))
	}
	return b, nil
}

func (t *Tree) wrongSize(name string, have, want int64) error {
	return fmt.Errorf("read %s: %w: it has %d bytes, not %d", t.Path(name), image.ErrVerification, have, want)
}

// OpenRange opens n bytes of a file from offset off, as a Source does: fewer
// where the file ends. Its size must be the blob's; its bytes are not verified.
// The range ends with ctx. Its Host is the directory.
func (t *Tree) OpenRange(ctx context.Context, name string, blob image.Descriptor, off, n int64) (*image.Range, error) {
	file, size, err := t.Open(name)
	if err != nil {
		return nil, err
	}
	switch {
	case size != blob.Size:
		err = t.wrongSize(name, size, blob.Size)
	case off < 0 || n < 0 || off > size:
		err = fmt.Errorf("read %s: %d bytes at %d are not within its %d bytes", t.Path(name), n, off, size)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	n = min(n, size-off)
	return &image.Range{
		Body:  section{reader{ctx, io.NewSectionReader(file, off, n)}, file},
		Start: off, Total: size, Len: n, Host: t.dir,
	}, nil
}

// section is a part of a file, which is closed with it.
type section struct {
	io.Reader
	io.Closer
}

// Size is that of a file as it stands there; what is no regular file is an error.
func (t *Tree) Size(name string) (int64, error) {
	file, size, err := t.Open(name)
	if err != nil {
		return 0, err
	}
	return size, file.Close()
}

// Names are what a directory of the tree has, sorted, "." being the tree's
// own; none where it is not there.
func (t *Tree) Names(dir string) ([]string, error) {
	err := t.checkDirs(dir)
	if errors.Is(err, image.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	file, err := t.root.Open(filepath.FromSlash(dir))
	if err != nil {
		return nil, t.failed(dir, err)
	}
	defer func() { _ = file.Close() }() // it was only read
	names, err := file.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", t.Path(dir), cause(err))
	}
	slices.SortFunc(names, strings.Compare)
	return names, nil
}
