package rootfs

import (
	"io"
	"os"
	"slices"
	"sync/atomic"

	"github.com/davit-cli/davit/internal/tempfile"
)

// spool keeps the content of files until their place in the output is known.
// It has one writer.
type spool struct {
	file *tempfile.File
	buf  []byte
	at   int64 // of the buffer's start

	// left, if set, is how many bytes of each extent are still to be read.
	left []int32
}

const (
	spoolBuffer = 1 << 20
	writeSize   = 32 << 10
	spoolExtent = 1 << 20
)

func newSpool(dir string) (*spool, error) {
	f, err := tempfile.New(dir)
	if err != nil {
		return nil, err
	}
	return &spool{file: f, buf: make([]byte, 0, spoolBuffer)}, nil
}

// size is where the next content will stand.
func (s *spool) size() int64 { return s.at + int64(len(s.buf)) }

// take copies n bytes from r. An error of the spool itself is a writeError.
func (s *spool) take(r io.Reader, n int64) error {
	for n > 0 {
		if len(s.buf) == cap(s.buf) {
			if err := s.flush(); err != nil {
				return err
			}
		}
		room := s.buf[len(s.buf):cap(s.buf)]
		room = room[:min(n, int64(len(room)))]
		got, err := io.ReadFull(r, room)
		s.buf = s.buf[:len(s.buf)+got]
		n -= int64(got)
		if err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

func (s *spool) flush() error {
	if err := writeAt(s.file.File, s.buf, s.at); err != nil {
		return writeError{"write the spool", err}
	}
	s.at += int64(len(s.buf))
	s.buf = s.buf[:0]
	return nil
}

// extents gives the parts of a content in each extent that it touches.
func extents(off, n int64, part func(i int64, n int32)) {
	for n > 0 {
		i := off / spoolExtent
		m := min(n, (i+1)*spoolExtent-off)
		part(i, int32(m))
		off, n = off+m, n-m
	}
}

// expect says that a content will be read once.
func (s *spool) expect(off, n int64) {
	if s.left == nil {
		s.left = make([]int32, s.size()/spoolExtent+1)
	}
	extents(off, n, func(i int64, n int32) { s.left[i] += n })
}

// release says that a content was read, and gives back what nobody will read.
func (s *spool) release(off, n int64) {
	if s == nil || s.left == nil {
		return
	}
	extents(off, n, func(i int64, n int32) {
		if atomic.AddInt32(&s.left[i], -n) == 0 {
			punch(s.file.File, i*spoolExtent, spoolExtent)
		}
	})
}

// writeAt writes in small pieces: for large ones Linux asks for large pages,
// which a virtual machine may have to get from its host first. That takes
// several times longer than the copying itself.
func writeAt(f *os.File, p []byte, off int64) error {
	for b := range slices.Chunk(p, writeSize) {
		if _, err := f.WriteAt(b, off); err != nil {
			return err
		}
		off += int64(len(b))
	}
	return nil
}

func (s *spool) close() error { return s.file.Close() }
