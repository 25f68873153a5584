package toc

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
)

const (
	// maxGap is how much that is not wanted may lie between two chunks that
	// one request asks for.
	maxGap = 64 << 10
	// maxRest is how much of a request is read to its end, so that its
	// connection can be used again.
	maxRest = 64 << 10
	// maxVain is how many bytes may be decoded of what stands before a file's
	// chunks in their streams.
	maxVain = 1 << 30
)

// Content writes the content of entry i, a regular file, to w, in order. Each
// chunk is verified before a byte of it is written, and the last one only
// after the whole file is, where the table tells its digest. What is in memory
// is one chunk. The content is asked for in one read, if nothing else is between
// its chunks.
//
// On error w has had the chunks before the error, all of them right. Errors are
// those of the ReadFunc and of w; or they wrap image.ErrVerification, or
// ErrTooLarge, where nothing was written.
func (t *Table) Content(ctx context.Context, i int, w io.Writer) error {
	e := &t.entries[i]
	if e.kind != tar.TypeReg {
		return fmt.Errorf("entry %d is no regular file", i)
	}
	chunks := t.chunks[e.chunk : e.chunk+e.chunks]
	if err := affordable(chunks); err != nil {
		return err
	}
	f := file{Table: t, w: w}
	if e.told && len(chunks) > 1 {
		f.hash = sha256.New()
	}
	defer f.close()
	for n, c := range chunks {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if f.stream != nil && c.off >= f.stream.end {
			f.close()
		}
		if f.stream == nil && !c.zeros {
			f.open(ctx, chunks[n:])
		}
		last := n == len(chunks)-1
		if err := f.chunk(ctx, c, last, e.digest); err != nil {
			return fmt.Errorf("chunk %d of %d: %w", n+1, len(chunks), err)
		}
	}
	return nil
}

// affordable says whether a file's chunks can be decoded.
func affordable(chunks []chunk) error {
	off, at, vain := int64(0), int64(0), int64(0)
	for i, c := range chunks {
		if c.zeros {
			continue
		}
		if c.off != off {
			off, at = c.off, 0
		}
		vain += c.inner - at
		at = c.inner + c.size
		if c.size > MaxChunk || vain > maxVain {
			return fmt.Errorf("chunk %d of %d: %w", i+1, len(chunks), ErrTooLarge)
		}
	}
	return nil
}

// file is a file's content under way.
type file struct {
	*Table
	w      io.Writer
	hash   hash.Hash // of the whole file; nil where nothing is to be compared
	stream *stream
	buf    bytes.Buffer
}

// open asks for the chunks as far as they lie beside each other.
func (f *file) open(ctx context.Context, chunks []chunk) {
	off, end := chunks[0].off, chunks[0].end
	for _, c := range chunks[1:] {
		if c.off > end+maxGap {
			break
		}
		end = max(end, c.end)
	}
	f.stream = newStream(ctx, f.read, f.zstd, off, end)
}

func (f *file) close() {
	if f.stream != nil {
		f.stream.close()
		f.stream = nil
	}
}

// chunk verifies and writes a chunk; with the last one the whole file.
func (f *file) chunk(ctx context.Context, c chunk, last bool, whole [sha256.Size]byte) error {
	var write func(w io.Writer) error
	if c.zeros {
		write = func(w io.Writer) error { return writeZeros(ctx, w, c.size) }
	} else {
		f.buf.Reset()
		if err := f.stream.decode(c, &f.buf); err != nil {
			return err
		}
		if sha256.Sum256(f.buf.Bytes()) != c.digest {
			return wrong("it has another digest than the table says")
		}
		write = func(w io.Writer) error {
			_, err := w.Write(f.buf.Bytes())
			return err
		}
	}
	if f.hash != nil {
		if err := write(f.hash); err != nil {
			return err
		}
		if last && [sha256.Size]byte(f.hash.Sum(nil)) != whole {
			return wrong("the file has another digest than its chunks")
		}
	}
	return write(f.w)
}

var zeros [64 << 10]byte

func writeZeros(ctx context.Context, w io.Writer, n int64) error {
	for n > 0 {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		m, err := w.Write(zeros[:min(n, int64(len(zeros)))])
		if err != nil {
			return err
		}
		n -= int64(m)
	}
	return nil
}

// errEnough ends a read of which nothing more is wanted.
var errEnough = errors.New("nothing more is wanted")
