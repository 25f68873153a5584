package rootfs

import (
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/davit-cli/davit/internal/compress"
)

// zstdFrame is what one processor compresses at a time, at most. It decides the
// bytes, so it never changes with the number of processors.
const zstdFrame = 4 << 20

// compressor compresses to w, and leaves w open.
func compressor(w io.Writer, opts TarOptions) (io.WriteCloser, error) {
	switch opts.Compression {
	case None:
		return nopCloser{w}, nil
	case Gzip:
		return compress.NewGzip(w, opts.Level, opts.Jobs)
	case Zstd:
		if opts.Level < 0 || opts.Level > 19 {
			return nil, fmt.Errorf("zstd has levels 1 to 19, not %d", opts.Level)
		}
		level := zstd.SpeedFastest
		if opts.Level > 0 {
			level = zstd.EncoderLevelFromZstd(opts.Level)
		}
		z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(level), zstd.WithEncoderConcurrency(max(1, opts.Jobs)), zstd.WithWindowSize(zstdFrame))
		if err != nil {
			return nil, err
		}
		return newFrames(w, z, max(1, opts.Jobs)), nil
	}
	return nil, fmt.Errorf("unknown compression %d", opts.Compression)
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// frames writes a zstd stream of frames that are compressed side by side. A
// frame ends where a Write ended: a stream that is cut behind one is whole for
// a reader of zstd, and it is the writer who knows what it means then.
type frames struct {
	z     *zstd.Encoder
	buf   []byte
	queue chan chan []byte // of the frames in order
	free  chan []byte
	fail  chan struct{} // closed when writing failed
	err   error         // why; to be read after fail or done
	done  chan struct{}
}

func newFrames(w io.Writer, z *zstd.Encoder, jobs int) *frames {
	f := &frames{
		z:     z,
		queue: make(chan chan []byte, jobs),
		free:  make(chan []byte, jobs+2),
		fail:  make(chan struct{}),
		done:  make(chan struct{}),
	}
	for range jobs + 2 {
		f.free <- nil
	}
	go func() {
		defer close(f.done)
		for frame := range f.queue {
			b := <-frame
			if f.err != nil {
				continue
			}
			if _, f.err = w.Write(b); f.err != nil {
				close(f.fail)
			}
		}
	}()
	return f
}

func (f *frames) Write(p []byte) (int, error) {
	total := len(p)
	if len(f.buf) > 0 && len(f.buf)+len(p) > zstdFrame {
		if err := f.flush(); err != nil {
			return 0, err
		}
	}
	for len(p) > 0 {
		if f.buf == nil {
			f.buf = <-f.free
			if f.buf == nil {
				f.buf = make([]byte, 0, zstdFrame)
			}
		}
		n := copy(f.buf[len(f.buf):cap(f.buf)], p)
		f.buf = f.buf[:len(f.buf)+n]
		p = p[n:]
		if len(f.buf) == cap(f.buf) {
			if err := f.flush(); err != nil {
				return total - len(p), err
			}
		}
	}
	return total, nil
}

func (f *frames) flush() error {
	select {
	case <-f.fail:
		return f.err
	default:
	}
	in, out := f.buf, make(chan []byte, 1)
	f.buf = nil
	f.queue <- out
	go func() {
		out <- f.z.EncodeAll(in, nil)
		f.free <- in[:0]
	}()
	return nil
}

// Close ends the stream. It must not be called twice.
func (f *frames) Close() error {
	var err error
	if len(f.buf) > 0 {
		err = f.flush()
	}
	close(f.queue)
	<-f.done
	if err == nil {
		err = f.err
	}
	return errors.Join(err, f.z.Close())
}
