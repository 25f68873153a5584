package rootfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
)

// sink takes a tar's bytes in order.
type sink interface {
	write(p []byte) error
	copy(c content, n int64) error
	// end completes what was written, if it is whole, and releases all.
	end(whole bool) error
}

const (
	blockSize  = 512 // of a tar
	sinkBuffer = 1 << 20
	// copyPieces is how much of a large file is copied at a time.
	copyPieces = 16 << 20
)

// streamSink writes one byte after the other. Whatever ends it early, what has
// been written ends where a file's content is still to come, and without a
// compressor's end: readers of tars take one for whole that ends between two
// entries, some even one that ends within a block.
type streamSink struct {
	ctx  context.Context
	gate *gate          // to the writer
	w    io.WriteCloser // the compressor, which writes through the gate
	at   int64          // of buf's start
	buf  []byte
	cut  int // where buf may be cut; 0 for nowhere
}

func newStreamSink(ctx context.Context, w io.Writer, opts TarOptions) (*streamSink, error) {
	g := &gate{w: w}
	c, err := compressor(g, opts)
	return &streamSink{ctx: ctx, gate: g, w: c, buf: make([]byte, 0, sinkBuffer+blockSize)}, err
}

// flush writes up to the cut.
func (s *streamSink) flush() error {
	if err := s.ctx.Err(); err != nil {
		return err
	}
	_, err := s.w.Write(s.buf[:s.cut])
	s.at += int64(s.cut)
	s.buf = append(s.buf[:0], s.buf[s.cut:]...)
	s.cut = 0
	return err
}

func (s *streamSink) write(p []byte) error {
	if len(p) >= blockSize && len(s.buf)+len(p) > sinkBuffer { // a header: padding always fits
		if s.cut == 0 { // no file with content in all of the buffer: second best
			s.buf, p = append(s.buf, p[:blockSize/2]...), p[blockSize/2:]
			s.cut = len(s.buf)
		}
		if err := s.flush(); err != nil {
			return err
		}
	}
	s.buf = append(s.buf, p...)
	return nil
}

func (s *streamSink) copy(c content, n int64) error {
	for n > 0 {
		s.cut = len(s.buf) // at the start of a block
		if s.cut+blockSize > sinkBuffer {
			if err := s.flush(); err != nil {
				return err
			}
		}
		room := s.buf[len(s.buf) : sinkBuffer-s.at%blockSize]
		room = room[:min(n, int64(len(room)))]
		if err := c.next(room); err != nil {
			return err
		}
		s.buf = s.buf[:len(s.buf)+len(room)]
		n -= int64(len(room))
	}
	return nil
}

func (s *streamSink) end(whole bool) error {
	var err error
	if whole {
		s.cut = len(s.buf)
		err = s.flush()
	}
	if !whole || err != nil {
		s.gate.shut.Store(true)
	}
	closeErr := s.w.Close()
	if err == nil && !errors.Is(closeErr, errShut) {
		err = closeErr
	}
	return err
}

// gate is a writer until it is shut.
type gate struct {
	w    io.Writer
	shut atomic.Bool
}

var errShut = errors.New("the stream has ended early")

func (g *gate) Write(p []byte) (int, error) {
	if g.shut.Load() {
		return 0, errShut
	}
	return g.w.Write(p)
}

// next fills b with the content, of which that much less is left then.
func (c *content) next(b []byte) error {
	if err := readFull(*c, b); err != nil {
		return err
	}
	c.release(int64(len(b)))
	c.off += int64(len(b))
	return nil
}

// readFull fills b with content.
func readFull(c content, b []byte) error {
	if n, err := c.in.ReadAt(b, c.off); n < len(b) {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("read back the content: %w", err)
	}
	return nil
}

// copyContent copies n bytes of content to a place in a file, and releases them.
func copyContent(ctx context.Context, to *os.File, at int64, c content, n int64, buf []byte) error {
	for n > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		m, err := copyPiece(to, at, c, min(n, copyPieces), buf)
		if err != nil {
			return err
		}
		c.release(m)
		c.off += m
		at, n = at+m, n-m
	}
	return nil
}

// copyPiece copies some of n bytes and tells how many: as many as the kernel
// copies by itself, or else what fits in the buffer.
func copyPiece(to *os.File, at int64, c content, n int64, buf []byte) (int64, error) {
	if from, ok := c.in.(*os.File); ok {
		if m := copyRange(to, at, from, c.off, n); m > 0 {
			return m, nil
		}
	}
	b := buf[:min(n, int64(len(buf)))]
	if err := readFull(c, b); err != nil {
		return 0, err
	}
	return int64(len(b)), writeAt(to, b, at)
}
