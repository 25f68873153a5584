package toc

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
)

// eStargz (github.com/containerd/stargz-snapshotter, docs/estargz.md) is a gzip
// of many members: each chunk of a file begins one, the table is the last but
// one, a tar of one file, and an empty one with the table's offset is the footer.
const (
	// annotationStargz is the digest of the table's JSON.
	annotationStargz = "containerd.io/snapshot/stargz/toc.digest"
	// stargzName is the table's name in the layer's tar.
	stargzName = "stargz.index.json"
	// tailSize is how much is read of the layer's end at first. Of most layers
	// the whole table is in there.
	tailSize = 64 << 10

	footerSize       = 51
	footerSizeLegacy = 47 // of stargz, before it had an e
)

// landmarks are files that a layer has that was made as a whole.
var landmarks = []string{".prefetch.landmark", ".no.prefetch.landmark"}

func (t *Table) openStargz(ctx context.Context, layer image.Descriptor, want digest.Digest) error {
	if err := image.CheckDigest(want); err != nil {
		return fmt.Errorf("annotation %s: %w", annotationStargz, err)
	}
	if want.Algorithm() != digest.SHA256 || layer.Size < footerSize {
		return errUnsupported
	}
	from := max(layer.Size-tailSize, 0)
	tail, err := t.fetch(ctx, from, layer.Size-from)
	if err != nil {
		return err
	}
	off, footer, ok := parseFooter(tail)
	end := layer.Size - footer
	switch {
	case !ok:
		return errUnsupported // it is kept elsewhere, or not at all any more
	case off <= 0 || off >= end:
		return wrong("the footer says that it is at %d, of %d bytes", off, layer.Size)
	case end-off > MaxCompressed:
		return errUnsupported
	}
	tail = tail[:len(tail)-int(footer)]
	if off >= from {
		tail = tail[off-from:]
	} else {
		head, err := t.fetch(ctx, off, from-off)
		if err != nil {
			return err
		}
		tail = append(head, tail...)
	}
	size, inner, err := t.readStargz(ctx, tail, off, want)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(t.entries, func(e entry) bool { return slices.Contains(landmarks, e.name) }) {
		t.addStargz(chunk{off: off, end: end, inner: inner, size: size, told: true}, want)
	}
	return nil
}

// readStargz reads a table as it stands in the blob at off, after its digest is
// verified. It tells the size of its JSON, and where that begins in the tar.
func (t *Table) readStargz(ctx context.Context, compressed []byte, off int64, want digest.Digest) (size, inner int64, err error) {
	json, size, inner, err := unpackStargz(compressed)
	if err != nil {
		return 0, 0, err
	}
	hash := want.Algorithm().Digester()
	if _, err := io.Copy(hash.Hash(), json); err != nil {
		return 0, 0, wrong("decode it: %w", err)
	}
	if got := hash.Digest(); got != want {
		return 0, 0, wrong("its digest is %s, not %s as the annotation says", got, want)
	}
	if json, _, _, err = unpackStargz(compressed); err != nil {
		return 0, 0, err
	}
	return size, inner, t.parse(ctx, json, off)
}

// unpackStargz opens the JSON in a table as it stands in the blob. It tells the
// JSON's size, and where it begins in the tar.
func unpackStargz(compressed []byte) (json io.Reader, size, inner int64, err error) {
	z, err := gzip.NewReader(bytes.NewReader(compressed))
	if err != nil {
		return nil, 0, 0, wrong("decode it: %w", err)
	}
	z.Multistream(false)
	counted := &counter{r: io.LimitReader(z, MaxSize+1<<20)}
	in := tar.NewReader(counted)
	h, err := in.Next()
	switch {
	case err != nil:
		return nil, 0, 0, wrong("decode it: %w", err)
	case h.Name != stargzName || h.Typeflag != tar.TypeReg:
		return nil, 0, 0, wrong("it is no tar of %s", stargzName)
	case h.Size > MaxSize:
		return nil, 0, 0, errUnsupported
	}
	return in, h.Size, counted.n, nil
}

// addStargz adds the entry of the table itself, as its writers make it.
func (t *Table) addStargz(c chunk, d digest.Digest) {
	e := entry{
		name:    stargzName,
		kind:    tar.TypeReg,
		size:    c.size,
		modTime: time.Unix(0, 0),
		told:    true,
		chunk:   uint32(len(t.chunks)),
		chunks:  1,
	}
	e.digest, _ = sum(d) // it was checked
	c.digest = e.digest
	t.entries, t.chunks = append(t.entries, e), append(t.chunks, c)
}

// parseFooter reads the footer at the end of a layer: the table's offset, and
// how long the footer is.
func parseFooter(tail []byte) (off, size int64, ok bool) {
	for _, f := range []struct {
		size   int
		fields []byte // before the offset, in the gzip header's extra field
	}{
		{footerSize, binary.LittleEndian.AppendUint16([]byte("SG"), 22)},
		{footerSizeLegacy, nil},
	} {
		if len(tail) < f.size {
			continue
		}
		z, err := gzip.NewReader(bytes.NewReader(tail[len(tail)-f.size:]))
		if err != nil {
			continue
		}
		text, ok := bytes.CutPrefix(z.Extra, f.fields)
		if !ok {
			continue
		}
		text, ok = bytes.CutSuffix(text, []byte("STARGZ"))
		if !ok || len(text) != 16 {
			continue
		}
		if off, err := strconv.ParseInt(string(text), 16, 64); err == nil {
			return off, int64(f.size), true
		}
	}
	return 0, 0, false
}

// counter counts what is read.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

var errShort = errors.New("it ends early")
