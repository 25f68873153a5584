package toc

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// stream is a part of the blob that is being read, and decoded chunk by chunk.
type stream struct {
	cancel   context.CancelFunc
	pipe     *io.PipeReader
	done     chan struct{} // the read has ended
	in       *bufio.Reader
	pos, end int64 // in the blob
	err      error // of the read

	zstd    bool
	gunzip  *gzip.Reader
	unzstd  *zstd.Decoder
	decoder io.Reader // of what begins at off; nil: of nothing
	off     int64
	decoded int64 // bytes
}

// newStream begins to read the part [off, end) of the blob.
func newStream(ctx context.Context, read ReadFunc, zstd bool, off, end int64) *stream {
	ctx, cancel := context.WithCancel(ctx)
	r, w := io.Pipe()
	s := &stream{cancel: cancel, pipe: r, done: make(chan struct{}), in: bufio.NewReaderSize(r, 64<<10), pos: off, end: end, zstd: zstd}
	go func() {
		defer close(s.done)
		given := &counted{w: w}
		err := read(ctx, off, end-off, given)
		if err == nil && given.n != end-off {
			err = io.ErrUnexpectedEOF
		}
		_ = w.CloseWithError(err) // never fails; nil is io.EOF
	}()
	return s
}

// counted counts what is written.
type counted struct {
	w io.Writer
	n int64
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// close ends the read, and waits for it.
func (s *stream) close() {
	if s.err == nil && s.end-s.pos <= maxRest {
		_, _ = io.Copy(io.Discard, s.in)
	}
	_ = s.pipe.CloseWithError(errEnough) // never fails
	s.cancel()
	<-s.done
	if s.unzstd != nil {
		s.unzstd.Close()
	}
}

// Read gives the part's bytes. It remembers why there are no more.
func (s *stream) Read(p []byte) (int, error) {
	n, err := s.in.Read(p)
	s.pos += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// decode reads a chunk.
func (s *stream) decode(c chunk, to *bytes.Buffer) error {
	err := s.seek(c)
	if err == nil {
		var n int64
		n, err = to.ReadFrom(io.LimitReader(s.decoder, c.size))
		s.decoded += n
		if err == nil && n < c.size {
			err = errShort
		}
	}
	switch {
	case s.err != nil:
		return s.err
	case err != nil:
		return wrong("decode it: %w", err)
	}
	return nil
}

// seek goes on to where a chunk begins. Chunks come in the order of the blob.
func (s *stream) seek(c chunk) error {
	if s.decoder == nil || s.off != c.off {
		if err := skip(s, c.off-s.pos); err != nil {
			return err
		}
		if err := s.restart(io.LimitReader(s, c.end-c.off)); err != nil {
			return err
		}
		s.off, s.decoded = c.off, 0
	}
	vain := c.inner - s.decoded
	s.decoded = c.inner
	return skip(s.decoder, vain)
}

// restart begins to decode what r gives.
func (s *stream) restart(r io.Reader) (err error) {
	switch {
	case s.zstd && s.unzstd == nil:
		s.unzstd, err = newZstd(r)
	case s.zstd:
		err = s.unzstd.Reset(r)
	case s.gunzip == nil:
		s.gunzip, err = gzip.NewReader(r)
	default:
		err = s.gunzip.Reset(r)
	}
	s.decoder = s.gunzip
	if s.zstd {
		s.decoder = s.unzstd
	}
	return err
}

func skip(r io.Reader, n int64) error {
	m, err := io.CopyN(io.Discard, r, n)
	if errors.Is(err, io.EOF) && m < n {
		return errShort
	}
	return err
}
