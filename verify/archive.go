package verify

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/compress"
	"github.com/davit-cli/davit/internal/tarindex"
)

// openArchive finds the files of a tar. The caller closes the tree.
func (c *checker) openArchive(ctx context.Context, name string) (*tree, error) {
	c.report.Format = Archive
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	t, err := c.readArchive(ctx, name, f, info.Size())
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return t, nil
}

// archiveFile is an archive, as one file or in parts.
type archiveFile interface {
	io.ReaderAt
	io.Closer
}

func (c *checker) readArchive(ctx context.Context, name string, f archiveFile, size int64) (*tree, error) {
	head := make([]byte, 6)
	n, err := f.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	base := filepath.Base(name)
	blobs := map[digest.Digest]*file{}
	t := &tree{blobs: blobs, layers: blobs, bytes: size, close: func() { _ = f.Close() }}
	kind, err := compress.Detect(head[:n])
	if err != nil {
		c.noArchive(base, t, Structure, "%s", plain(err))
		return t, nil
	}
	t.kind = kind
	if kind == compress.Plain {
		return t, c.indexTar(base, t, f, size)
	}
	in, size, err := compress.Unpack(ctx, f, size, compress.UnpackOptions{Dir: c.opts.TempDir, Limit: c.maxDecoded(t.bytes), Events: c.opts.Events})
	if in == nil {
		return nil, fmt.Errorf("decompress the archive: %w", err)
	}
	t.close = func() { _ = in.Close(); _ = f.Close() }
	c.decompressed(base, t, err)
	if err := c.indexTar(base, t, in, size); err != nil {
		_ = in.Close()
		return nil, err
	}
	return t, nil
}

// decompressed notes that an archive could not be decompressed to its end.
func (c *checker) decompressed(base string, t *tree, err error) {
	t.broken = err != nil
	switch {
	case err == nil:
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		c.problem(Truncated, base, "", "the compressed archive is cut off at byte %d", t.bytes)
	default:
		c.problem(Structure, base, "", "the compressed archive cannot be decompressed: %s", plain(err))
	}
}

// indexTar finds the tar's files. The error is of reading it.
func (c *checker) indexTar(base string, t *tree, in io.ReaderAt, size int64) error {
	x, err := tarindex.Read(in, size)
	var broken *tarindex.BrokenError
	switch {
	case err != nil && !errors.As(err, &broken):
		return err
	case len(x.Entries) == 0 && (size == 0 || broken != nil && broken.Entry == ""):
		c.noTar(base, t, broken)
		return nil
	case broken != nil:
		c.brokenTar(base, t, broken)
	case t.broken: // by its compression
	case !holdsImages(x) && !x.Ended:
		c.noArchive(base, t, Truncated, "the tar has neither an index.json nor a manifest.json, and no end after %d bytes: it is cut off, or no archive of images", size)
		return nil
	case !holdsImages(x):
		c.noArchive(base, t, Structure, "it is a tar of something else, no archive of images: it has neither an index.json nor a manifest.json")
		return nil
	case !x.Ended:
		c.problem(Truncated, base, "", "the tar has no end after %d bytes: it is cut off between two entries, or its writer forgot the empty blocks that end it", size)
	}
	byOffset := map[int64]*file{}
	seen := map[string]bool{}
	for _, e := range x.Entries {
		if path.IsAbs(e.Name) || e.Name == ".." || strings.HasPrefix(e.Name, "../") {
			c.problem(Name, e.Name, "", "the entry %q leads out of the archive", e.Name)
			continue
		}
		if e.Type == tar.TypeDir {
			continue
		}
		again := seen[e.Name]
		seen[e.Name] = true
		f := tarFile(x, e)
		if again && (f == nil || f.claim == "" || f.loose) {
			c.problem(Name, e.Name, "", "the entry %q is there more than once: one reader takes the first, another the last", e.Name)
		}
		if f == nil {
			continue
		}
		byOffset[e.Offset] = f
		t.files = append(t.files, f)
		if f.claim != "" && !f.loose {
			t.blobs[f.claim] = f // the last one, as Find has it
		}
	}
	t.find = func(name string) (*file, error) {
		e, err := x.Find(path.Clean(name))
		if err != nil {
			return nil, err
		}
		f := byOffset[e.Offset]
		if e.Type == tar.TypeDir || f == nil {
			return nil, fmt.Errorf("%q is no regular file", name)
		}
		return f, nil
	}
	return nil
}

// holdsImages says whether there is an entry with which images begin.
func holdsImages(x *tarindex.Index) bool {
	return slices.ContainsFunc(x.Entries, func(e tarindex.Entry) bool {
		return e.Name == ocispec.ImageIndexFile || e.Name == ocispec.ImageLayoutFile || e.Name == listName
	})
}

// noTar notes that it does not even begin as a tar. Where it could not be
// decompressed, that is why, and was told.
func (c *checker) noTar(base string, t *tree, broken *tarindex.BrokenError) {
	it := "it"
	if t.kind != compress.Plain {
		it = "what it decompresses to"
	}
	switch {
	case t.broken:
		t.find = findNone
	case broken == nil:
		c.noArchive(base, t, Structure, "%s is no tar: nothing is in it", it)
	case broken.Cut:
		c.noArchive(base, t, Structure, "%s is no tar: it ends at byte %d, within the first header", it, broken.Offset)
	default:
		c.noArchive(base, t, Structure, "%s is no tar: %v", it, broken.Err)
	}
}

// noArchive notes what it is in place of an archive of images. Nothing else in
// it is looked at.
func (c *checker) noArchive(base string, t *tree, what Kind, format string, args ...any) {
	c.problem(what, base, "", format, args...)
	t.broken, t.other, t.find = true, true, findNone
}

func findNone(name string) (*file, error) {
	return nil, fmt.Errorf("%w: %q", image.ErrNotFound, name)
}

// brokenTar notes where a tar cannot be read on.
func (c *checker) brokenTar(base string, t *tree, broken *tarindex.BrokenError) {
	t.broken = true
	t.cut = broken.Entry
	switch {
	case broken.Cut && broken.Entry != "":
		c.problem(Truncated, broken.Entry, "", "the tar is cut off at byte %d, within %s: %v", broken.Offset, broken.Entry, broken.Err)
	case broken.Cut:
		c.problem(Truncated, base, "", "the tar is cut off at byte %d, within a header", broken.Offset)
	default:
		c.problem(Structure, base, "", "the tar cannot be read from byte %d on: %v", broken.Offset, broken.Err)
	}
}

// tarFile is an entry that has content, else nil.
func tarFile(x *tarindex.Index, e tarindex.Entry) *file {
	switch e.Type {
	case tar.TypeLink, tar.TypeSymlink, tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		return nil
	}
	f := &file{name: e.Name, size: e.Size}
	if d, ok := blobClaim(e.Name); ok {
		f.claim = d
	} else if d, ok := looseClaim(e.Name); ok {
		f.claim, f.loose = d, true
	}
	content, err := x.Section(e)
	if err != nil {
		f.fault = fmt.Sprintf("%v", err)
		return f
	}
	f.open = func() (io.ReadCloser, error) {
		return io.NopCloser(io.NewSectionReader(content, 0, e.Size)), nil
	}
	return f
}
