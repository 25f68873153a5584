package rootfs

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

type compression int

const (
	plain compression = iota
	gzipped
	zstandard
)

// detect tells how a layer is compressed, from its first bytes. Media types
// are often wrong about it.
func detect(head []byte) (compression, error) {
	for _, m := range []struct {
		magic string
		is    compression
	}{{"\x1f\x8b", gzipped}, {"\x28\xb5\x2f\xfd", zstandard}} {
		if bytes.HasPrefix(head, []byte(m.magic)) {
			return m.is, nil
		}
	}
	// A zstd stream may begin with a frame to be skipped (zstd:chunked).
	if len(head) >= 4 && head[0]&0xf0 == 0x50 && string(head[1:4]) == "\x2a\x4d\x18" {
		return zstandard, nil
	}
	for _, m := range []struct{ magic, name string }{{"BZh", "bzip2"}, {"\xfd7zXZ\x00", "xz"}} {
		if bytes.HasPrefix(head, []byte(m.magic)) {
			return plain, fmt.Errorf("%w: it is compressed with %s; davit reads gzip, zstd and plain tars", image.ErrVerification, m.name)
		}
	}
	return plain, nil
}

// decompress returns a layer's tar: the members of a gzip and the frames of a
// zstd stream one after the other.
func decompress(blob io.Reader) (io.Reader, compression, func(), error) {
	none := func() {}
	in := bufio.NewReaderSize(blob, 256<<10)
	head, err := in.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, plain, none, err
	}
	kind, err := detect(head)
	if err != nil {
		return nil, plain, none, err
	}
	switch kind {
	case gzipped:
		r, err := gzip.NewReader(in)
		if err != nil {
			return nil, kind, none, fmt.Errorf("%w: gzip: %w", image.ErrVerification, err)
		}
		return r, kind, none, nil
	case zstandard:
		r, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, kind, none, fmt.Errorf("%w: zstd: %w", image.ErrVerification, err)
		}
		return r, kind, r.Close, nil
	}
	return in, plain, none, nil
}
