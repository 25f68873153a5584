package archive

import (
	"fmt"
	"io"
	"slices"
)

// Stream is an archive that is being written in order.
type Stream struct {
	layout *Layout
	w      io.Writer
	next   int   // entry
	at     int64 // offset
}

// NewStream begins the archive on w.
func NewStream(w io.Writer, layout *Layout) *Stream {
	return &Stream{layout: layout, w: w}
}

// Blob writes the next blob, in the order of Layout.Blobs, with all that
// stands before it.
func (s *Stream) Blob(blob io.Reader) error {
	if err := s.documents(); err != nil {
		return err
	}
	e := s.layout.entries[s.next]
	s.next++
	if err := s.write(e.header); err != nil {
		return err
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{s.w}, blob, make([]byte, 256<<10))
	s.at += n
	if err == nil && n != e.blob.Size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("write blob %s: %w", e.blob.Digest, err)
	}
	return nil
}

// Close writes what stands behind the last blob, and the archive's end.
func (s *Stream) Close() error {
	if err := s.documents(); err != nil {
		return err
	}
	return s.pad(s.layout.size)
}

// documents writes the entries up to the next blob.
func (s *Stream) documents() error {
	for s.next < len(s.layout.entries) {
		e := s.layout.entries[s.next]
		if err := s.pad(e.offset); err != nil {
			return err
		}
		if e.document == nil {
			return nil
		}
		s.next++
		if err := s.write(slices.Concat(e.header, e.document)); err != nil {
			return err
		}
	}
	return nil
}

// pad writes zeros up to an offset.
func (s *Stream) pad(offset int64) error { return s.write(make([]byte, offset-s.at)) }

func (s *Stream) write(b []byte) error {
	n, err := s.w.Write(b)
	s.at += int64(n)
	if err != nil {
		return fmt.Errorf("write the archive: %w", err)
	}
	return nil
}
