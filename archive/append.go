package archive

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
)

// AppendFile is what an archive is appended to, an *os.File for example.
type AppendFile interface {
	io.ReaderAt
	io.WriterAt
	Truncate(size int64) error
}

// Append is an archive of blobs whose sizes and digests are known only once
// they are written: they come first, each behind the block of its header, which
// is filled in afterwards, and the documents come last. It has the entries that
// NewLayout gives the same images, in another order.
//
// It is not made for several goroutines at once. The same blobs in the same
// order give the same bytes.
type Append struct {
	file AppendFile
	have map[digest.Digest]bool
	size int64 // where the next header stands
}

// NewAppend begins an archive at the start of a file, which is the caller's to
// sync and to close.
func NewAppend(file AppendFile) *Append {
	return &Append{file: file, have: map[digest.Digest]bool{}}
}

// Blob appends what write writes and then says that it is; the digest is
// believed. A blob that is there already is written once more and then given
// up. On error nothing of the blob remains, and another one may come.
func (a *Append) Blob(write func(w io.Writer) (image.Descriptor, error)) error {
	w := io.NewOffsetWriter(a.file, a.size+blockSize)
	d, err := write(w)
	if err != nil {
		return err
	}
	n, err := w.Seek(0, io.SeekCurrent)
	if err == nil && n != d.Size {
		err = fmt.Errorf("%d bytes were written, not %d", n, d.Size)
	}
	if err == nil && !a.have[d.Digest] {
		err = a.finish(d)
	}
	if err != nil {
		return fmt.Errorf("append blob %s: %w", d.Digest, err)
	}
	return nil
}

// finish gives the bytes behind the next header's block their header.
func (a *Append) finish(d image.Descriptor) error {
	header, err := encodeHeader(blobName(d.Digest), d.Size, tar.FormatUnknown)
	if err == nil && len(header) > blockSize {
		// GNU's header has a form for large sizes that takes no more room.
		if gnu, gnuErr := encodeHeader(blobName(d.Digest), d.Size, tar.FormatGNU); gnuErr == nil && len(gnu) < len(header) {
			header = gnu
		}
	}
	if err != nil {
		return err
	}
	// What is left is a name that is too long, of a sha512 digest.
	start := a.size + int64(len(header))
	if err := a.move(a.size+blockSize, start, d.Size); err != nil {
		return err
	}
	end := start + d.Size
	if _, err := a.file.WriteAt(make([]byte, padded(end)-end), end); err != nil {
		return err
	}
	if _, err := a.file.WriteAt(header, a.size); err != nil {
		return err
	}
	a.have[d.Digest] = true
	a.size = padded(end)
	return nil
}

// move moves n bytes of the file backwards, the last ones first.
func (a *Append) move(from, to, n int64) error {
	if from == to {
		return nil
	}
	buf := make([]byte, 1<<20)
	for n > 0 {
		piece := buf[:min(n, int64(len(buf)))]
		n -= int64(len(piece))
		if _, err := a.file.ReadAt(piece, from+n); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if _, err := a.file.WriteAt(piece, to+n); err != nil {
			return err
		}
	}
	return nil
}

// Finish appends the documents of the images, whose blobs must all be there,
// and ends the archive.
func (a *Append) Finish(images ...image.Image) error {
	if err := a.end(images); err != nil {
		return fmt.Errorf("end the archive: %w", err)
	}
	return nil
}

// Size is the size in bytes of what is appended; behind Finish it is the
// archive's.
func (a *Append) Size() int64 { return a.size }

func (a *Append) end(images []image.Image) error {
	for _, img := range images {
		for _, c := range img.Documents() {
			if a.have[c.Digest] {
				continue
			}
			if err := a.document(blobName(c.Digest), c.Bytes); err != nil {
				return err
			}
			a.have[c.Digest] = true
		}
	}
	for _, img := range images {
		for _, d := range img.Blobs() {
			if !a.have[d.Digest] {
				return fmt.Errorf("blob %s is missing", d.Digest)
			}
		}
	}
	documents, err := documents(images)
	if err != nil {
		return err
	}
	for _, d := range documents {
		if err := a.document(d.name, d.data); err != nil {
			return err
		}
	}
	if _, err := a.file.WriteAt(make([]byte, endSize), a.size); err != nil {
		return err
	}
	a.size += endSize
	return a.file.Truncate(a.size) // of a blob that was given up
}

func (a *Append) document(name string, data []byte) error {
	header, err := encodeHeader(name, int64(len(data)), tar.FormatUnknown)
	if err != nil {
		return err
	}
	b := append(header, data...)
	b = append(b, make([]byte, padded(int64(len(b)))-int64(len(b)))...)
	if _, err := a.file.WriteAt(b, a.size); err != nil {
		return err
	}
	a.size += int64(len(b))
	return nil
}
