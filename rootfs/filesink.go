package rootfs

import (
	"context"
	"io"
	"os"
	"unsafe"

	"golang.org/x/sync/errgroup"
)

const (
	// fileBlock is what is written to a file at once.
	fileBlock = 4 << 20
	// fileBlocks is how many of them there are: one is filled, one is written,
	// one is in between.
	fileBlocks = 3
	// directAlign is what offsets, sizes and buffers are multiples of where
	// bytes go past the system's cache.
	directAlign = 4096
)

// fileSink writes to a file, one block after the other, while the next one is
// filled.
type fileSink struct {
	ctx    context.Context // ends when a write has failed
	file   *os.File
	direct bool
	group  *errgroup.Group
	free   chan []byte
	full   chan []byte
	buf    []byte // in the filling
	size   int64  // that the file will have
}

// newFileSink is ok where the file takes writes at offsets. Where direct, its
// bytes go past the system's cache, if the system can.
func newFileSink(ctx context.Context, f *os.File, direct bool) (*fileSink, bool) {
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil, false
	}
	at, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return nil, false
	}
	if _, err := f.WriteAt(nil, at); err != nil { // it was opened to append
		return nil, false
	}
	s := &fileSink{file: f, size: at, free: make(chan []byte, fileBlocks), full: make(chan []byte, fileBlocks)}
	s.direct = direct && at%directAlign == 0 && setDirect(f, true)
	for range fileBlocks {
		s.free <- alignedBlock()
	}
	s.buf = <-s.free
	s.group, s.ctx = errgroup.WithContext(ctx)
	s.group.Go(func() error { return s.drain(at) })
	return s, true
}

// alignedBlock is memory for a block, without content.
func alignedBlock() []byte {
	b := make([]byte, fileBlock+directAlign)
	off := -uintptr(unsafe.Pointer(unsafe.SliceData(b))) % directAlign
	return b[off : off : off+fileBlock]
}

// drain writes the full blocks.
func (s *fileSink) drain(at int64) error {
	for b := range s.full {
		if err := s.writeBlock(b, at); err != nil {
			return err
		}
		at += int64(len(b))
		s.free <- b[:0]
	}
	return nil
}

// writeBlock writes a block. What is no multiple of directAlign, and what a
// file system refuses after all, goes through the system's cache.
func (s *fileSink) writeBlock(b []byte, at int64) error {
	if s.direct && len(b)%directAlign == 0 {
		if _, err := s.file.WriteAt(b, at); err == nil {
			return nil
		}
	}
	s.cached()
	return writeAt(s.file, b, at)
}

// cached lets bytes go through the system's cache.
func (s *fileSink) cached() {
	if s.direct {
		setDirect(s.file, false)
		s.direct = false
	}
}

// flush hands over a block.
func (s *fileSink) flush() error {
	s.full <- s.buf // it has room for all blocks
	select {
	case s.buf = <-s.free:
		return nil
	case <-s.ctx.Done():
		s.buf = s.buf[:0]
		return s.ctx.Err()
	}
}

func (s *fileSink) write(p []byte) error {
	s.size += int64(len(p))
	for {
		n := copy(s.buf[len(s.buf):cap(s.buf)], p)
		s.buf = s.buf[:len(s.buf)+n]
		if p = p[n:]; len(p) == 0 {
			return nil
		}
		if err := s.flush(); err != nil {
			return err
		}
	}
}

func (s *fileSink) copy(c content, n int64) error {
	s.size += n
	for n > 0 {
		if len(s.buf) == cap(s.buf) {
			if err := s.flush(); err != nil {
				return err
			}
		}
		room := s.buf[len(s.buf):cap(s.buf)]
		room = room[:min(n, int64(len(room)))]
		if err := c.next(room); err != nil {
			return err
		}
		s.buf = s.buf[:len(s.buf)+len(room)]
		n -= int64(len(room))
	}
	return nil
}

func (s *fileSink) end(whole bool) error {
	if whole && len(s.buf) > 0 {
		s.full <- s.buf
	}
	close(s.full)
	err := s.group.Wait()
	s.cached()
	if err == nil && whole {
		_, err = s.file.Seek(s.size, io.SeekStart)
	}
	return err
}
