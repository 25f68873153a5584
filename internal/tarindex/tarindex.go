// Package tarindex finds the files of a tar without reading their content.
//
//	x, err := tarindex.Read(f, size)      // on error x has what stands before
//	content, err := x.Open("index.json")  // an *io.SectionReader
//	e, err := x.Find("layer.tar")         // an entry, through links
//	content, err = x.Section(e)
//
// x.Entries are all that stand in the tar, x.Ended says whether it is closed as
// it should be, and a *BrokenError where it is not whole. Whatever the tar says
// is hostile: nothing is allocated by its word, and no link leads out of it.
package tarindex

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/davit-cli/davit/image"
)

// Limits of a tar. What exceeds them is refused.
const (
	maxEntries = 1 << 18
	maxName    = 4096     // bytes of a name, and of a link's target
	maxNames   = 64 << 20 // bytes of all of them together
)

// Index is what a tar holds. Nothing changes it after Read, so that it may be
// used from many goroutines at once, as far as the tar's ReaderAt may.
type Index struct {
	// Entries are the tar's, in its order. A name may be there more than once.
	Entries []Entry
	// Ended says that the two empty blocks that end a tar are there. Without
	// them it may be one that was cut off between two entries.
	Ended bool

	r    io.ReaderAt
	last map[string]int // the last entry of each name
}

// Entry is a file of a tar, or whatever else stands there: see Type.
type Entry struct {
	// Name is as path.Clean has it: without a leading ./ or a trailing slash.
	// It may begin with a slash or with ../; then Find does not find it.
	Name string
	// Type is the tar's: tar.TypeReg, tar.TypeDir, tar.TypeSymlink, ….
	Type byte
	// Linkname is the target as it was written, of symbolic and hard links.
	Linkname string
	// Offset is where the content stands in the tar, Size its bytes. Both are
	// within the tar.
	Offset, Size int64
	// Sparse says that the content does not stand there in one piece: it
	// cannot be had here.
	Sparse bool
}

// BrokenError tells where a tar is not what a tar must be. It wraps
// image.ErrVerification.
type BrokenError struct {
	// Offset is of the first byte that is wrong, or missing where Cut is set.
	Offset int64
	// Entry is the name of the entry whose content is cut off; empty where a
	// header is, or is wrong.
	Entry string
	// Cut says that the file ends too early.
	Cut bool
	Err error
}

func (e *BrokenError) Error() string {
	switch {
	case e.Cut && e.Entry != "":
		return fmt.Sprintf("%v: the tar is cut off at byte %d, within %q: %v", image.ErrVerification, e.Offset, e.Entry, e.Err)
	case e.Cut:
		return fmt.Sprintf("%v: the tar is cut off at byte %d, within a header", image.ErrVerification, e.Offset)
	}
	return fmt.Sprintf("%v: the tar is broken at byte %d: %v", image.ErrVerification, e.Offset, e.Err)
}

// Unwrap gives image.ErrVerification and the cause.
func (e *BrokenError) Unwrap() []error { return []error{image.ErrVerification, e.Err} }

// Read finds the entries of a tar of size bytes. The index is never nil: with
// an error it has the entries that are whole before it. The error is a
// *BrokenError, or of r. That no entry follows is none: see Ended.
func Read(r io.ReaderAt, size int64) (*Index, error) {
	x := &Index{r: r, last: map[string]int{}}
	in := &input{SectionReader: io.NewSectionReader(r, 0, size)}
	t := tar.NewReader(in)
	var next int64 // where the next header stands
	names := 0
	for {
		header, err := t.Next()
		at, seekErr := in.Seek(0, io.SeekCurrent)
		switch {
		case in.err != nil:
			return x, fmt.Errorf("read the tar at byte %d: %w", at, in.err)
		case errors.Is(err, io.EOF):
			x.Ended = !in.ended
			return x, nil
		case errors.Is(err, tar.ErrInsecurePath): // GODEBUG=tarinsecurepath=0; names are not believed here
		case errors.Is(err, io.ErrUnexpectedEOF):
			return x, &BrokenError{Offset: size, Cut: true, Err: err}
		case err != nil:
			return x, &BrokenError{Offset: next, Err: err}
		case seekErr != nil:
			return x, seekErr
		}
		e := entryOf(header, at)
		names += len(e.Name) + len(e.Linkname)
		switch {
		case len(x.Entries) == maxEntries:
			return x, &BrokenError{Offset: next, Err: fmt.Errorf("it has more than %d entries", maxEntries)}
		case len(header.Name) > maxName || len(header.Linkname) > maxName:
			return x, &BrokenError{Offset: next, Err: fmt.Errorf("a name has more than %d bytes", maxName)}
		case names > maxNames:
			return x, &BrokenError{Offset: next, Err: fmt.Errorf("its names have more than %d bytes together", maxNames)}
		case e.Size > size-at:
			return x, &BrokenError{Offset: size, Entry: e.Name, Cut: true, Err: fmt.Errorf("it has %d of %d bytes", size-at, e.Size)}
		}
		next = at + (e.Size+511)/512*512
		if header.Typeflag == tar.TypeXGlobalHeader {
			continue // no file
		}
		x.last[e.Name] = len(x.Entries)
		x.Entries = append(x.Entries, e)
	}
}

// entryOf is the entry of a header whose content stands at an offset.
func entryOf(h *tar.Header, at int64) Entry {
	e := Entry{Name: path.Clean(h.Name), Type: h.Typeflag, Linkname: h.Linkname, Offset: at}
	e.Sparse = h.Typeflag == tar.TypeGNUSparse
	for key := range h.PAXRecords {
		e.Sparse = e.Sparse || strings.HasPrefix(key, "GNU.sparse.")
	}
	switch h.Typeflag {
	case tar.TypeLink, tar.TypeSymlink, tar.TypeChar, tar.TypeBlock, tar.TypeDir, tar.TypeFifo, tar.TypeXGlobalHeader:
	default:
		if !e.Sparse { // its size is not what stands here
			e.Size = h.Size
		}
	}
	return e
}

// Section is an entry's content. The error, of what is no regular file or is a
// sparse one, wraps image.ErrVerification.
func (x *Index) Section(e Entry) (*io.SectionReader, error) {
	switch {
	case e.Sparse:
		return nil, fmt.Errorf("%w: %q is a sparse file", image.ErrVerification, e.Name)
	case e.Type != tar.TypeReg:
		return nil, fmt.Errorf("%w: %q is no regular file", image.ErrVerification, e.Name)
	}
	return io.NewSectionReader(x.r, e.Offset, e.Size), nil
}

// maxLinks is how many links in a row are followed.
const maxLinks = 16

// Find is the entry of a name, the last one where there are several, and the
// one that it leads to where it is a link. Errors wrap image.ErrNotFound where
// the entry or a link's target is not there, image.ErrVerification where links
// lead in a circle or out of the tar.
func (x *Index) Find(name string) (Entry, error) {
	at := name
	for range maxLinks {
		i, ok := x.last[at]
		if !ok || outside(at) {
			if at != name {
				return Entry{}, fmt.Errorf("%w: %q, which is a link to %q", image.ErrNotFound, name, at)
			}
			return Entry{}, fmt.Errorf("%w: %q", image.ErrNotFound, name)
		}
		e := x.Entries[i]
		switch e.Type {
		case tar.TypeSymlink: // leads from where it stands
			at = path.Join(path.Dir(at), e.Linkname)
		case tar.TypeLink: // leads from the tar's root
			at = path.Clean(e.Linkname)
		default:
			return e, nil
		}
		if path.IsAbs(e.Linkname) || outside(at) {
			return Entry{}, fmt.Errorf("%w: %q is a link out of the tar", image.ErrVerification, name)
		}
	}
	return Entry{}, fmt.Errorf("%w: %q is a link that leads to links without end", image.ErrVerification, name)
}

// outside says whether a clean path is not within the tar.
func outside(name string) bool {
	return path.IsAbs(name) || name == ".." || strings.HasPrefix(name, "../")
}

// Open is the content of the entry that Find finds. Errors are those of Find
// and of Section.
func (x *Index) Open(name string) (*io.SectionReader, error) {
	e, err := x.Find(name)
	if err != nil {
		return nil, err
	}
	return x.Section(e)
}

// input is the tar, and remembers how reading it ended.
type input struct {
	*io.SectionReader
	err   error // of the file
	ended bool  // more was wanted than there is
}

func (in *input) Read(p []byte) (int, error) {
	n, err := in.SectionReader.Read(p)
	switch {
	case errors.Is(err, io.EOF):
		in.ended = in.ended || n == 0
	case err != nil:
		in.err = err
	}
	return n, err
}
