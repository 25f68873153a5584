// Package toc reads the tables of contents that some layers carry, so that one
// file can be read without the layer: those of eStargz, which are gzip, and of
// zstd:chunked.
//
// Layers are verified by their digest, which says nothing of a part. But the
// manifest's descriptor of such a layer has the digest of the table in an
// annotation, and the table has digests of the files' pieces: so both prove
// themselves, whoever sent them. A table without such an annotation is not read.
//
// That the table tells the same as the layer's own tar is its author's word, who
// is the image's author: whoever unpacks the layer may find something else.
package toc

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
)

// Limits of what is read. A table beyond them is as none: the layer itself can
// be read.
const (
	MaxCompressed = 64 << 20  // bytes of a table as it is in the layer
	MaxSize       = 256 << 20 // bytes of its JSON
	MaxEntries    = 2 << 20   // files and chunks that it lists
	MaxChunk      = 64 << 20  // bytes of a chunk, which is verified in memory
)

// ErrTooLarge: a file cannot be read by the table within the memory that
// is allowed, but in the layer.
var ErrTooLarge = errors.New("too large to be read by the table of contents")

// errUnsupported is a table that is not read, without being wrong.
var errUnsupported = errors.New("not a table that is read")

// ReadFunc writes n bytes of the layer's blob, from offset off on, to w, in
// order. Nobody need have verified them. Where w returns an error it may end
// with any.
type ReadFunc func(ctx context.Context, off, n int64, w io.Writer) error

// Table is a layer's table of contents. Its methods may be called from many
// goroutines at once, if the ReadFunc may.
type Table struct {
	read    ReadFunc
	zstd    bool // the layer is zstd; else gzip
	entries []entry
	chunks  []chunk // of all files, in their order
	budget  *Budget
	taken   int64 // of the budget
}

// take takes memory of the budget.
func (t *Table) take(bytes int64) error {
	if !t.budget.take(bytes) {
		return errUnsupported
	}
	t.taken += bytes
	return nil
}

// entry is an entry of the layer's tar.
type entry struct {
	name, link    string
	uname, gname  string
	size, mode    int64
	uid, gid      int
	modTime       time.Time
	kind          byte // tar's Typeflag
	told          bool // digest is
	digest        [sha256.Size]byte
	chunk, chunks uint32 // the first of its chunks, and how many there are
	*more                // nil: nothing
}

// more is what few entries have.
type more struct {
	accessTime, changeTime time.Time
	devMajor, devMinor     int64
	xattrs                 map[string][]byte
}

// chunk is a piece of a file's content.
type chunk struct {
	off, end int64 // where the stream that has it begins in the blob, and where it is over at the latest
	inner    int64 // where it begins in what the stream decodes to
	size     int64
	digest   [sha256.Size]byte
	told     bool // digest is
	zeros    bool // it is nothing but zeros, whatever stands in the blob
}

// Budget bounds the memory of several tables together, as those of one image. A
// table beyond it is as none. The zero value has no room; nil has no end.
type Budget struct{ left atomic.Int64 }

// NewBudget is one of so many bytes, as far as these can be told beforehand.
func NewBudget(bytes int64) *Budget {
	b := new(Budget)
	b.left.Store(bytes)
	return b
}

// take takes bytes, or tells that there are not so many left.
func (b *Budget) take(bytes int64) bool {
	if b == nil {
		return true
	}
	if b.left.Add(-bytes) >= 0 {
		return true
	}
	b.left.Add(bytes)
	return false
}

// give gives back what was taken.
func (b *Budget) give(bytes int64) {
	if b != nil {
		b.left.Add(bytes)
	}
}

// Open reads a layer's table. It is nil where the layer has none that its
// descriptor's annotations vouch for by a digest, or one that is not read: of
// another version, beyond the limits, without a digest for each chunk.
//
// One or two reads go out: of the last 64 KiB of an eStargz layer, and of what is
// missing of the table. Errors are those of read; or they wrap
// image.ErrVerification, where the table is not what the annotations say, or
// contradicts itself: then the layer may still be right, as its digest tells.
func Open(ctx context.Context, layer image.Descriptor, read ReadFunc, budget *Budget) (*Table, error) {
	t := &Table{read: read, budget: budget}
	var err error
	if at, ok := zstdAnnotations(layer.Annotations); ok {
		err = t.openZstd(ctx, layer, at)
	} else if d, ok := layer.Annotations[annotationStargz]; ok {
		err = t.openStargz(ctx, layer, digest.Digest(d))
	} else {
		return nil, nil
	}
	if err != nil {
		budget.give(t.taken)
	}
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case errors.Is(err, errUnsupported):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read the table of contents of layer %s: %w", layer.Digest, err)
	}
	return t, nil
}

// Len is how many entries there are.
func (t *Table) Len() int { return len(t.entries) }

// Header is entry i, in the order of the layer's tar; a new one at each call.
// Nothing of it is cleaned: names and links' targets may be anything.
//
// It is the tar's header as far as a table tells: of PAX records there are only
// extended attributes; eStargz rounds times to seconds and leaves out those of
// access and change, zstd:chunked leaves out the names of users and groups. The
// file stargz.index.json, the table itself, which is in the tar of an eStargz
// layer and thus in containers, is told where the layer has a landmark file: tools
// that write none (buildkit) end the tar before it, so that nobody sees it there.
func (t *Table) Header(i int) *tar.Header {
	e := &t.entries[i]
	h := &tar.Header{
		Typeflag: e.kind,
		Name:     e.name,
		Linkname: e.link,
		Size:     e.size,
		Mode:     e.mode,
		Uid:      e.uid,
		Gid:      e.gid,
		Uname:    e.uname,
		Gname:    e.gname,
		ModTime:  e.modTime,
	}
	if m := e.more; m != nil {
		h.AccessTime, h.ChangeTime = m.accessTime, m.changeTime
		h.Devmajor, h.Devminor = m.devMajor, m.devMinor
		for k, v := range m.xattrs {
			if h.PAXRecords == nil {
				h.PAXRecords = map[string]string{}
			}
			h.PAXRecords[paxXattr+k] = string(v)
		}
	}
	return h
}

const paxXattr = "SCHILY.xattr."

// Digest is of the content of entry i, a regular file; "" where the table does
// not tell it, and of anything else.
func (t *Table) Digest(i int) digest.Digest {
	if e := &t.entries[i]; e.told {
		return digest.NewDigestFromBytes(digest.SHA256, e.digest[:])
	}
	return ""
}

// fetch reads a part of the blob into memory, which is taken as bytes come.
func (t *Table) fetch(ctx context.Context, off, n int64) ([]byte, error) {
	if err := t.take(n); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := t.read(ctx, off, n, &capped{&b, n}); err != nil {
		return nil, err
	}
	if int64(b.Len()) != n {
		return nil, fmt.Errorf("%d bytes came of %d: %w", b.Len(), n, io.ErrUnexpectedEOF)
	}
	return b.Bytes(), nil
}

// capped takes no more than so many bytes.
type capped struct {
	w    io.Writer
	left int64
}

func (c *capped) Write(p []byte) (int, error) {
	if int64(len(p)) > c.left {
		return 0, errors.New("more bytes came than were asked for")
	}
	c.left -= int64(len(p))
	return c.w.Write(p)
}

// wrong is an error of what does not fit together.
func wrong(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{image.ErrVerification}, args...)...)
}
