package split

import (
	"errors"
	"io"
	"os"
	"sync"
)

// maxOpen is how many parts are open at once, unless more are read or written
// at the same moment: a process may have 1024 open files in many places.
const maxOpen = 64

// Row is one file that stands in parts. Its methods may be called from many
// goroutines at once.
type Row struct {
	size, part int64
	path       func(n int) string
	open       func(n int) (*os.File, error)

	mu    sync.Mutex // guards the rest
	files map[int]*handle
	used  uint64 // counts uses
	top   int    // the highest part that was opened
}

// handle is a part that is open.
type handle struct {
	*os.File
	users int
	used  uint64 // the last time
}

// NewRow is a file of size bytes in parts of part bytes, 0 for one part. A
// negative size is not known yet: what is written makes the file longer. Parts
// have the paths that path gives for their numbers, from 1 on, and are opened by
// open when they are first read or written, perhaps more than once. The caller
// closes the row.
func NewRow(size, part int64, path func(n int) string, open func(n int) (*os.File, error)) *Row {
	return &Row{size: size, part: part, path: path, open: open, files: map[int]*handle{}}
}

// Parts is how many parts there are, as far as is known.
func (r *Row) Parts() int {
	if r.size >= 0 {
		return Count(r.size, r.part)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.top
}

// PartSize is the size of a part, which only the last may not have.
func (r *Row) PartSize(n int) int64 {
	if r.part <= 0 {
		return r.size
	}
	return min(r.part, r.size-int64(n-1)*r.part)
}

// Open opens the part n, and makes sure that it can be.
func (r *Row) Open(n int) error {
	_, err := r.acquire(n)
	if err == nil {
		r.release(n)
	}
	return err
}

// acquire is the part n, open until it is released.
func (r *Row) acquire(n int) (*os.File, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.files == nil {
		return nil, os.ErrClosed
	}
	h := r.files[n]
	if h == nil {
		if err := r.makeRoom(); err != nil {
			return nil, err
		}
		f, err := r.open(n)
		if err != nil {
			return nil, err
		}
		h = &handle{File: f}
		r.files[n] = h
		r.top = max(r.top, n)
	}
	r.used++
	h.users, h.used = h.users+1, r.used
	return h.File, nil
}

// makeRoom closes the part that nobody has used for the longest time, where many
// are open. The caller holds the lock.
func (r *Row) makeRoom() error {
	if len(r.files) < maxOpen {
		return nil
	}
	oldest := 0
	for n, h := range r.files {
		if h.users == 0 && (oldest == 0 || h.used < r.files[oldest].used) {
			oldest = n
		}
	}
	if oldest == 0 {
		return nil
	}
	h := r.files[oldest]
	delete(r.files, oldest)
	return h.Close()
}

func (r *Row) release(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if h := r.files[n]; h != nil {
		h.users--
	}
}

// at is the part in which an offset stands, the offset there, and how many bytes
// the part has from there on.
func (r *Row) at(off int64) (n int, inPart, room int64) {
	if r.part <= 0 {
		return 1, off, 1<<63 - 1 - off
	}
	inPart = off % r.part
	return int(off/r.part) + 1, inPart, r.part - inPart
}

// ReadAt is part of io.ReaderAt. A part that ends too early is
// io.ErrUnexpectedEOF.
func (r *Row) ReadAt(b []byte, off int64) (int, error) {
	var end error
	if r.size >= 0 {
		if off >= r.size {
			return 0, io.EOF
		}
		if int64(len(b)) > r.size-off {
			b, end = b[:r.size-off], io.EOF
		}
	}
	n, err := r.each(b, off, (*os.File).ReadAt)
	if errors.Is(err, io.EOF) && r.size >= 0 {
		err = io.ErrUnexpectedEOF
	}
	if err == nil {
		err = end
	}
	return n, err
}

// WriteAt is part of io.WriterAt.
func (r *Row) WriteAt(b []byte, off int64) (int, error) {
	return r.each(b, off, (*os.File).WriteAt)
}

// each does the same in every part over which b reaches.
func (r *Row) each(b []byte, off int64, do func(f *os.File, b []byte, off int64) (int, error)) (done int, err error) {
	for done < len(b) {
		n, inPart, room := r.at(off + int64(done))
		piece := b[done:min(int64(len(b)), int64(done)+min(room, int64(len(b))))]
		f, err := r.acquire(n)
		if err != nil {
			return done, err
		}
		m, err := do(f, piece, inPart)
		r.release(n)
		done += m
		if err != nil && (!errors.Is(err, io.EOF) || m < len(piece)) {
			return done, err
		}
	}
	return done, nil
}

// Truncate makes the row no longer than size bytes. Parts beyond are removed;
// the first one stays.
func (r *Row) Truncate(size int64) error {
	last := Count(size, r.part)
	for n := r.Parts(); n > last; n-- {
		if err := r.drop(n); err != nil {
			return err
		}
		if err := os.Remove(r.path(n)); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	r.mu.Lock()
	r.top = min(r.top, last)
	r.mu.Unlock()
	rest := size
	if r.part > 0 {
		rest -= int64(last-1) * r.part
	}
	info, err := os.Stat(r.path(last))
	if os.IsNotExist(err) || err == nil && info.Size() <= rest {
		return nil
	}
	if err != nil {
		return err
	}
	f, err := r.acquire(last)
	if err != nil {
		return err
	}
	defer r.release(last)
	return f.Truncate(rest)
}

// drop closes the part n.
func (r *Row) drop(n int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.files[n]
	if h == nil {
		return nil
	}
	delete(r.files, n)
	return h.Close()
}

// Each does something with every part that is open at the moment.
func (r *Row) Each(do func(f *os.File) error) error {
	r.mu.Lock()
	var numbers []int
	var files []*os.File
	for n, h := range r.files {
		h.users++
		numbers, files = append(numbers, n), append(files, h.File)
	}
	r.mu.Unlock()
	var errs []error
	for i, f := range files {
		errs = append(errs, do(f))
		r.release(numbers[i])
	}
	return errors.Join(errs...)
}

// Close closes all parts. It may be called more than once.
func (r *Row) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	for _, h := range r.files {
		errs = append(errs, h.Close())
	}
	r.files = nil
	return errors.Join(errs...)
}
