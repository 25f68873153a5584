// Package compress reads layers as registries serve them, and writes gzip: what
// the rooms that decode layers share.
package compress

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/davit-cli/davit/image"
)

// Kind is how a layer is compressed.
type Kind int

// The kinds of compression.
const (
	Plain Kind = iota
	Gzip
	Zstd
)

// maxWindow is the memory that a zstd stream may ask for.
const maxWindow = 128 << 20

// Detect tells how a layer is compressed, from its first bytes. Media types
// are often wrong about it. Six bytes are enough. The error of one that is not
// read wraps image.ErrVerification.
func Detect(head []byte) (Kind, error) {
	for _, m := range []struct {
		magic string
		is    Kind
	}{{"\x1f\x8b", Gzip}, {"\x28\xb5\x2f\xfd", Zstd}} {
		if bytes.HasPrefix(head, []byte(m.magic)) {
			return m.is, nil
		}
	}
	// A zstd stream may begin with a frame to be skipped (zstd:chunked).
	if len(head) >= 4 && head[0]&0xf0 == 0x50 && string(head[1:4]) == "\x2a\x4d\x18" {
		return Zstd, nil
	}
	for _, m := range []struct{ magic, name string }{{"BZh", "bzip2"}, {"\xfd7zXZ\x00", "xz"}} {
		if bytes.HasPrefix(head, []byte(m.magic)) {
			return Plain, fmt.Errorf("%w: it is compressed with %s; davit reads gzip, zstd and plain tars", image.ErrVerification, m.name)
		}
	}
	return Plain, nil
}

// NewReader returns a layer's tar: the members of a gzip and the frames of a
// zstd stream one after the other. The caller ends with the function returned,
// which is never nil.
func NewReader(blob io.Reader) (io.Reader, Kind, func(), error) {
	none := func() {}
	in := bufio.NewReaderSize(blob, 256<<10)
	head, err := in.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, Plain, none, err
	}
	kind, err := Detect(head)
	if err != nil {
		return nil, Plain, none, err
	}
	switch kind {
	case Gzip:
		r, err := gzip.NewReader(in)
		if err != nil {
			return nil, kind, none, fmt.Errorf("%w: gzip: %w", image.ErrVerification, err)
		}
		return r, kind, none, nil
	case Zstd:
		r, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, kind, none, fmt.Errorf("%w: zstd: %w", image.ErrVerification, err)
		}
		return r, kind, r.Close, nil
	}
	return in, Plain, none, nil
}
