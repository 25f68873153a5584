package registry

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/davit-cli/davit/image"
)

// window is a blob's content, of which it keeps what may have to be sent again.
type window struct {
	content io.Reader
	random  io.ReaderAt // content, where it can be read at will; nothing is kept then
	size    int64       // of the blob

	base int64  // the offset of what is kept
	kept []byte // followed by what content gives next
}

// errGone is content that is wanted again and not kept.
var errGone = errors.New("its content is not there to be sent again")

// contentError is what reading the content failed of.
type contentError struct{ error }

func (e contentError) Unwrap() error { return e.error }

func newWindow(content io.Reader, size int64) *window {
	w := &window{content: content, size: size}
	w.random, _ = content.(io.ReaderAt)
	return w
}

// reaches tells whether content can be had from an offset on.
func (w *window) reaches(off int64) bool {
	return w.random != nil || off >= w.base && off <= w.base+int64(len(w.kept))
}

// rewind makes content be had from its start on, where that can be.
func (w *window) rewind() bool {
	if w.reaches(0) {
		return true
	}
	seeker, ok := w.content.(io.Seeker)
	if !ok {
		return false
	}
	if _, err := seeker.Seek(0, io.SeekStart); err != nil {
		return false
	}
	w.base, w.kept = 0, w.kept[:0]
	return true
}

// hold makes room for n bytes from off on, which it reaches, and gives up what
// lies before. It is for fewer where the blob ends.
func (w *window) hold(off, n int64) {
	if n = min(n, w.size-off); w.random != nil || off+n <= w.base+int64(len(w.kept)) {
		return
	}
	left := w.kept[off-w.base:]
	if int64(cap(w.kept)) < n {
		w.kept = append(make([]byte, 0, n), left...)
	} else {
		w.kept = w.kept[:copy(w.kept, left)]
	}
	w.base = off
}

// keep reads and keeps n bytes from off on, of those that there is room for.
func (w *window) keep(off, n int64) error {
	if w.random != nil {
		return nil
	}
	for off+n > w.base+int64(len(w.kept)) {
		if err := w.more(off + n - w.base - int64(len(w.kept))); err != nil {
			return err
		}
	}
	return nil
}

// more reads up to n bytes at once, and keeps them. Those at the blob's end it
// keeps only where nothing follows.
func (w *window) more(n int64) error {
	have := len(w.kept)
	got, err := w.content.Read(w.kept[have : have+int(n)])
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return contentError{err}
	case got > 0 && w.base+int64(have+got) == w.size:
		if err := w.atEnd(); err != nil {
			return err
		}
	case got == 0 && err != nil:
		return w.short(err)
	}
	w.kept = w.kept[:have+got]
	return nil
}

func (w *window) short(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("%w: it has fewer than %d bytes", image.ErrVerification, w.size)
	}
	return contentError{err}
}

// atEnd sees to it that nothing follows: who gives content may verify it then.
func (w *window) atEnd() error {
	var one [1]byte
	switch n, err := io.ReadFull(w.content, one[:]); {
	case n > 0:
		return contentError{fmt.Errorf("%w: it has more than %d bytes", image.ErrVerification, w.size)}
	case !errors.Is(err, io.EOF):
		return contentError{err}
	}
	return nil
}

// piece is a body of n bytes from off on, which are kept once they are read.
func (w *window) piece(off, n int64) *payload {
	return &payload{size: n, open: func() (io.Reader, error) {
		if w.random != nil {
			return &guarded{io.NewSectionReader(w.random, off, n)}, nil
		}
		return &keeping{w, off, off + n}, nil
	}}
}

// rest is a body of all bytes from off on, which passes on what content gives
// without keeping it: it can be sent again only as long as none of that was read.
func (w *window) rest(off int64) *payload {
	if w.random != nil {
		return w.piece(off, w.size-off)
	}
	return &payload{size: w.size - off, open: func() (io.Reader, error) {
		if !w.reaches(off) {
			return nil, errGone
		}
		return io.MultiReader(bytes.NewReader(w.kept[off-w.base:]), (*unkept)(w)), nil
	}}
}

// keeping reads what is kept, and then what follows, which it keeps: there has to
// be room for it.
type keeping struct {
	*window
	off, end int64
}

func (k *keeping) Read(b []byte) (int, error) {
	b = b[:min(int64(len(b)), k.end-k.off)]
	if len(b) == 0 {
		return 0, io.EOF
	}
	if k.off == k.base+int64(len(k.kept)) {
		if err := k.more(int64(len(b))); err != nil {
			return 0, err
		}
	}
	n := copy(b, k.kept[k.off-k.base:])
	k.off += int64(n)
	return n, nil
}

// unkept reads what follows what is kept, and keeps nothing.
type unkept window

func (p *unkept) Read(b []byte) (int, error) {
	w := (*window)(p)
	n, err := w.content.Read(b)
	if n > 0 {
		w.base, w.kept = w.base+int64(len(w.kept)+n), w.kept[:0]
	}
	if err == nil {
		return n, nil
	}
	if !errors.Is(err, io.EOF) {
		err = contentError{err}
	} else if w.base+int64(len(w.kept)) < w.size {
		err = w.short(err)
	}
	return n, err
}

// guarded marks what reading content fails of.
type guarded struct{ io.Reader }

func (g *guarded) Read(b []byte) (int, error) {
	n, err := g.Reader.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		err = contentError{err}
	}
	return n, err
}
