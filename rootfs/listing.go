package rootfs

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"iter"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
)

// Listing is the entries of one layer, without content. It may be used by many
// goroutines at once.
type Listing struct {
	layer   *layer
	text    *text
	metas   *metas
	entries int64 // as counted against Limits
	bytes   int64
}

// ListOptions tune List and ListHeaders. The zero value works.
type ListOptions struct {
	// Digests has List hash the content of regular files with SHA-256.
	Digests bool
	// Limits bound what the layer may decode to.
	Limits Limits
}

// List reads a layer's tar to its end, compressed with gzip, zstd or not at
// all: the first bytes tell. It does not read blob any more once it returns.
//
// Errors wrap image.ErrVerification where the layer's content is at fault, and
// ErrLimit where it exceeds the limits. An error of blob is wrapped, and not
// blamed on the content. Bytes that the caller has not verified prove
// themselves only behind the last one: a Listing of them is to be dropped
// where they do not.
func List(ctx context.Context, blob io.Reader, opts ListOptions) (*Listing, error) {
	l, err := newLister(opts)
	if err != nil {
		return nil, fmt.Errorf("list the layer: %w", err)
	}
	in := stream{blob: blob, total: &l.total, limit: l.opts.Limits.Bytes}
	if err := in.read(ctx, l.entry); err != nil {
		return nil, fmt.Errorf("list the layer: %w", err)
	}
	return l.listing(), nil
}

// ListHeaders makes a Listing of headers that somebody else knows, from a
// table of contents for example: in the layer's order, whiteouts among them.
// With each comes the digest of its content, or "" where it is not known;
// digests that are no SHA-256 are taken for unknown. The ordinals are those of
// the headers. What headers may say is what List accepts; errors are blamed on
// the content.
func ListHeaders(ctx context.Context, entries iter.Seq2[*tar.Header, digest.Digest], opts ListOptions) (*Listing, error) {
	l, err := newLister(opts)
	if err != nil {
		return nil, fmt.Errorf("list the headers: %w", err)
	}
	for h, d := range entries {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("list the headers: %w", err)
		}
		if err := l.header(h, d); err != nil {
			if !errors.Is(err, image.ErrVerification) {
				err = fmt.Errorf("%w: %w", image.ErrVerification, err)
			}
			return nil, fmt.Errorf("list the headers: entry %q: %w", short(h.Name), err)
		}
	}
	return l.listing(), nil
}

// lister makes a Listing.
type lister struct {
	recorder
	list ListOptions
	hash hash.Hash
	buf  []byte
}

func newLister(opts ListOptions) (*lister, error) {
	m, err := newMerger(make([]Layer, 1), Options{Limits: opts.Limits})
	if err != nil {
		return nil, err
	}
	m.layers[0].listed = true
	r, err := newRecorder(m, m.layers[0])
	return &lister{recorder: r, list: opts}, err
}

// listing gives back what only the listing itself took.
func (l *lister) listing() *Listing {
	l.text.seal()
	l.text.clip()
	l.dirs = slices.Clip(l.dirs)
	l.metas.index, l.metas.xattrIndex = nil, nil
	return &Listing{layer: l.layer, text: l.text, metas: l.metas, entries: l.entries.Load(), bytes: l.total.Load()}
}

// entry notes an entry of a stream.
func (l *lister) entry(h *tar.Header, r io.Reader, in *counter) error {
	n, skip, err := l.next(h)
	if skip || err != nil {
		return err
	}
	rec, kind, err := l.record(h, n)
	if err != nil {
		return err
	}
	if kind == tar.TypeReg {
		if isSparse(h) {
			if err := in.hold(rec.size); err != nil {
				return err
			}
		}
		if err := l.content(&rec, r); err != nil {
			return err
		}
	}
	l.keep(rec)
	return nil
}

// content hashes the content of a file, where that is wanted.
func (l *lister) content(rec *record, r io.Reader) error {
	if !l.list.Digests {
		return nil
	}
	if l.hash == nil {
		l.hash, l.buf = sha256.New(), make([]byte, 64<<10)
	}
	l.hash.Reset()
	if _, err := io.CopyBuffer(l.hash, struct{ io.Reader }{r}, l.buf); err != nil {
		return err
	}
	rec.data = int64(l.digests.add([sha256.Size]byte(l.hash.Sum(l.buf[:0]))))
	return nil
}

// header notes a header of a table.
func (l *lister) header(h *tar.Header, d digest.Digest) error {
	n, skip, err := l.next(h)
	if skip || err != nil {
		return err
	}
	if h.Typeflag == 0 { // as archive/tar reads it
		reg := *h
		reg.Typeflag = tar.TypeReg
		h = &reg
	}
	rec, kind, err := l.record(h, n)
	if err != nil {
		return err
	}
	if kind == tar.TypeReg {
		if h.Size < 0 {
			return fmt.Errorf("a file of %d bytes", h.Size)
		}
		if h.Size > l.opts.Limits.Bytes || l.total.Add(h.Size) > l.opts.Limits.Bytes {
			return l.opts.Limits.errBytes()
		}
		if d != "" {
			if err := image.CheckDigest(d); err != nil {
				return err
			}
			if d.Algorithm() == digest.SHA256 {
				sum, err := hex.DecodeString(d.Encoded())
				if err != nil {
					return err
				}
				rec.data = int64(l.digests.add([sha256.Size]byte(sum)))
			}
		}
	}
	l.keep(rec)
	return nil
}

// digestOf is the digest of a file's content, "" where it is not known.
func (l *layer) digestOf(rec *record) digest.Digest {
	if !l.listed || rec.data < 0 {
		return ""
	}
	return digest.NewDigestFromEncoded(digest.SHA256, hex.EncodeToString(l.digests.at(uint32(rec.data))[:]))
}
