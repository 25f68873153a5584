package toc

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
)

// zstd:chunked (containers/storage, pkg/chunked) is a zstd stream in which each
// chunk of a file begins a frame. The table is in a frame to be skipped at the
// end; annotations tell where.
const (
	annotationChecksum = ".zstd-chunked.manifest-checksum" // the digest of the table as it is in the blob
	annotationPosition = ".zstd-chunked.manifest-position" // OFFSET:SIZE:SIZE DECODED:TYPE

	typeCRFS = 1 // the one type of table that there is

	maxWindow = 128 << 20 // of memory that a zstd stream may ask for
)

// zstdPrefixes are those of the annotations: as written today, and as skopeo and
// podman up to 4.3, buildkit and nerdctl wrote them.
var zstdPrefixes = []string{"io.github.containers", "io.containers"}

// zstdAt are the annotations of a zstd:chunked layer.
type zstdAt struct{ checksum, position string }

func zstdAnnotations(annotations map[string]string) (zstdAt, bool) {
	for _, prefix := range zstdPrefixes {
		at := zstdAt{annotations[prefix+annotationChecksum], annotations[prefix+annotationPosition]}
		if at.checksum != "" && at.position != "" {
			return at, true
		}
	}
	return zstdAt{}, false
}

func (t *Table) openZstd(ctx context.Context, layer image.Descriptor, at zstdAt) error {
	t.zstd = true
	want := digest.Digest(at.checksum)
	if err := image.CheckDigest(want); err != nil {
		return fmt.Errorf("annotation %s: %w", annotationChecksum, err)
	}
	off, size, decoded, err := parsePosition(at.position, layer.Size)
	if err != nil {
		return fmt.Errorf("annotation %s: %w", annotationPosition, err)
	}
	compressed, err := t.fetch(ctx, off, size)
	if err != nil {
		return err
	}
	if got := want.Algorithm().FromBytes(compressed); got != want {
		return wrong("its digest is %s, not %s as the annotation says", got, want)
	}
	return t.readZstd(ctx, compressed, off, decoded)
}

// readZstd reads a table as it stands in the blob at off.
func (t *Table) readZstd(ctx context.Context, compressed []byte, off, decoded int64) error {
	z, err := newZstd(bytes.NewReader(compressed))
	if err != nil {
		return wrong("decode it: %w", err)
	}
	defer z.Close()
	json := &counter{r: io.LimitReader(z, decoded+1)}
	if err := t.parse(ctx, json, off); err != nil {
		return err
	}
	if json.n != decoded {
		return wrong("it does not decode to %d bytes, as the annotation says", decoded)
	}
	return nil
}

// parsePosition reads the annotation of a table's position in a blob.
func parsePosition(s string, blob int64) (off, size, decoded int64, err error) {
	var n [4]int64
	fields := strings.Split(s, ":")
	if len(fields) != len(n) {
		return 0, 0, 0, wrong("it is not made of %d numbers", len(n))
	}
	for i, f := range fields {
		v, err := strconv.ParseUint(f, 10, 63)
		if err != nil {
			return 0, 0, 0, wrong("it is not made of %d numbers", len(n))
		}
		n[i] = int64(v)
	}
	off, size, decoded = n[0], n[1], n[2]
	switch {
	case n[3] != typeCRFS:
		return 0, 0, 0, errUnsupported
	case off == 0 || size == 0 || off > blob || size > blob-off:
		return 0, 0, 0, wrong("%d bytes at %d are not in a blob of %d", size, off, blob)
	case size > MaxCompressed || decoded > MaxSize:
		return 0, 0, 0, errUnsupported
	}
	return off, size, decoded, nil
}

func newZstd(r io.Reader) (*zstd.Decoder, error) {
	return zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
}
