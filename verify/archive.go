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
	"strings"

	"github.com/opencontainers/go-digest"

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
	t, err := c.readArchive(ctx, name, f)
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return t, nil
}

func (c *checker) readArchive(ctx context.Context, name string, f *os.File) (*tree, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	head := make([]byte, 6)
	n, err := f.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	base := filepath.Base(name)
	blobs := map[digest.Digest]*file{}
	t := &tree{blobs: blobs, layers: blobs, bytes: info.Size(), close: func() { _ = f.Close() }}
	kind, err := compress.Detect(head[:n])
	if err != nil {
		c.problem(Structure, base, "", "the archive: %v", err)
		t.broken = true
		t.find = func(name string) (*file, error) { return nil, fmt.Errorf("%w: %s", image.ErrNotFound, name) }
		return t, nil
	}
	t.kind = kind
	in, size := f, info.Size()
	if kind != compress.Plain {
		in, err = c.decompress(ctx, base, t, f)
		if err != nil {
			return nil, fmt.Errorf("decompress the archive: %w", err)
		}
		t.close = func() { discard(in); _ = f.Close() }
		if size, err = in.Seek(0, io.SeekEnd); err != nil {
			t.close()
			return nil, err
		}
	}
	if err := c.indexTar(base, t, in, size); err != nil {
		if in != f {
			discard(in)
		}
		return nil, err
	}
	return t, nil
}

// discard removes a temporary file.
func discard(f *os.File) {
	_ = f.Close()
	_ = os.Remove(f.Name())
}

// decompress writes the archive's tar into a temporary file, as far as it can
// be decoded. The error is of the files alone.
func (c *checker) decompress(ctx context.Context, base string, t *tree, f *os.File) (_ *os.File, err error) {
	out, err := os.CreateTemp(c.opts.TempDir, "davit-verify-*")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			discard(out)
		}
	}()
	stage := image.NewStage(c.opts.Events, "decompress the archive", t.bytes)
	defer func() { stage.End(err) }()
	in := &source{ctx: ctx, r: io.NewSectionReader(f, 0, t.bytes), stage: stage}
	unpacked, _, end, decodeErr := compress.NewReader(in)
	defer end()
	w := &sink{w: out}
	if decodeErr == nil {
		limit := c.maxDecoded(t.bytes)
		var n int64
		if n, decodeErr = io.Copy(w, io.LimitReader(unpacked, limit+1)); decodeErr == nil && n > limit {
			decodeErr = fmt.Errorf("it decodes to more than %d bytes", limit)
		}
	}
	switch {
	case in.err != nil:
		return nil, in.err
	case w.err != nil:
		return nil, w.err
	case errors.Is(decodeErr, io.ErrUnexpectedEOF), errors.Is(decodeErr, io.EOF):
		t.broken = true
		c.problem(Truncated, base, "", "the compressed archive is cut off at byte %d", t.bytes)
	case decodeErr != nil:
		t.broken = true
		c.problem(Structure, base, "", "the compressed archive cannot be decoded: %v", decodeErr)
	}
	return out, nil
}

// sink remembers that it was the writing that failed.
type sink struct {
	w   io.Writer
	err error
}

func (s *sink) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	if err != nil {
		s.err = err
	}
	return n, err
}

// indexTar finds the tar's files. The error is of reading it.
func (c *checker) indexTar(base string, t *tree, in io.ReaderAt, size int64) error {
	x, err := tarindex.Read(in, size)
	var broken *tarindex.BrokenError
	switch {
	case errors.As(err, &broken):
		c.brokenTar(base, t, broken)
	case err != nil:
		return err
	case !x.Ended && !t.broken:
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

// brokenTar notes where a tar cannot be read on.
func (c *checker) brokenTar(base string, t *tree, broken *tarindex.BrokenError) {
	t.broken = true
	t.cut = broken.Entry
	switch {
	case broken.Cut && broken.Entry != "":
		c.problem(Truncated, broken.Entry, "", "the tar is cut off at byte %d, within %s: %v", broken.Offset, broken.Entry, broken.Err)
	case broken.Cut:
		c.problem(Truncated, base, "", "the tar is cut off at byte %d, within a header", broken.Offset)
	case broken.Offset == 0:
		c.problem(Structure, base, "", "the file is no tar: %v", broken.Err)
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
