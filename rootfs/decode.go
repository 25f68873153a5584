package rootfs

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
)

// hint is what a decoded layer hides of lower ones: hashes of paths. It may
// be wrong where links are followed, and is not relied upon: a file that was
// taken for hidden and is not is decoded again.
type hint []uint64

// decoder decodes one layer.
type decoder struct {
	recorder
	number int // from 0
	spool  *spool
	hides  []uint64

	// again is set when the layer is decoded a second time: records that are
	// wanted and have no content get it, and nothing else changes.
	again  bool
	wanted []uint32
	seq    uint32

	// names is set when nothing but names is looked at.
	names bool
}

func newDecoder(m *merger, number int, s *spool) (*decoder, error) {
	r, err := newRecorder(m, m.layers[number])
	r.spool = s
	return &decoder{recorder: r, number: number, spool: s}, err
}

// bigFile is from where on it is asked whether a file is hidden.
const bigFile = 64 << 10

// run decodes the layer. Errors say which it is, and wrap
// image.ErrVerification where its content is at fault.
func (d *decoder) run(ctx context.Context) error {
	err := d.decode(ctx)
	if err != nil {
		return fmt.Errorf("layer %d (%s): %w", d.number+1, d.Descriptor.Digest, err)
	}
	return nil
}

func (d *decoder) decode(ctx context.Context) error {
	if d.Wait != nil {
		if err := d.Wait(ctx); err != nil {
			return fmt.Errorf("wait for the blob: %w", err)
		}
	}
	in := stream{blob: io.NewSectionReader(d.Blob, 0, d.Descriptor.Size), limit: d.opts.Limits.Bytes}
	if d.again { // all was checked and counted
		in.total = new(atomic.Int64)
		return in.read(ctx, d.entryAgain)
	}
	in.diffID, in.stage, in.total = d.DiffID, d.stage, &d.total
	if err := in.read(ctx, d.entry); err != nil {
		return err
	}
	slices.Sort(d.hides)
	h := hint(slices.Compact(d.hides))
	d.hints[d.number].Store(&h)
	return nil
}

// entry notes an entry, and keeps its content.
func (d *decoder) entry(h *tar.Header, r io.Reader, in *counter) error {
	n, skip, err := d.next(h)
	if err != nil {
		return err
	}
	if d.names {
		if skip && h.Typeflag != tar.TypeXGlobalHeader || n.mark != 0 {
			return errWhiteout // it would appear
		}
		return nil
	}
	if skip {
		return nil
	}
	rec, kind, err := d.record(h, n)
	if err != nil {
		return err
	}
	if d.number > 0 && kind != tar.TypeDir {
		d.hides = append(d.hides, d.hashName(n))
	}
	if kind == tar.TypeReg {
		if err := d.content(&rec, h, n, r, in); err != nil {
			return err
		}
	}
	d.keep(rec)
	return nil
}

// entryAgain keeps the content of an entry that is wanted.
func (d *decoder) entryAgain(h *tar.Header, r io.Reader, _ *counter) error {
	if _, skip, err := parseEntry(h); skip || err != nil {
		return err
	}
	i := d.seq
	d.seq++
	if d.wanted[0] != i {
		return nil
	}
	d.wanted = d.wanted[1:]
	rec := d.records.at(i)
	rec.data = d.spool.size()
	if err := d.spool.take(r, rec.size); err != nil {
		return err
	}
	if len(d.wanted) == 0 {
		return errEnough
	}
	return nil
}

// content keeps the content of a file, or what it takes to find it again.
func (d *decoder) content(rec *record, h *tar.Header, n name, r io.Reader, in *counter) error {
	direct := in.plain
	if isSparse(h) {
		// The holes are spooled and written as any other zeros.
		if err := in.hold(rec.size); err != nil {
			return err
		}
		direct = false
	}
	switch {
	case direct:
		// A plain tar is its own spool.
		if rec.size > d.Descriptor.Size-in.n {
			return io.ErrUnexpectedEOF
		}
		rec.data = skipped - 1 - in.n
		return nil
	case rec.size >= bigFile && d.hidden(n):
		d.skippedBytes += rec.size
		return nil
	}
	rec.data = d.spool.size()
	return d.spool.take(r, rec.size)
}

// hashName is the hash of what an entry hides: a path with all below it, or
// what is below an opaque directory.
func (d *decoder) hashName(n name) uint64 {
	if n.mark == typeOpaque {
		return d.hashPath(join(n.dir, "/"))
	}
	return d.hashPath(join(n.dir, n.base))
}

// hidden says whether an upper layer seems to hide a file.
func (d *decoder) hidden(n name) bool {
	p := join(n.dir, n.base)
	hashes := []uint64{d.hashPath(p), d.hashPath("/")}
	for i := range p {
		if p[i] == '/' {
			hashes = append(hashes, d.hashPath(p[:i]), d.hashPath(p[:i]+"//"))
		}
	}
	for i := range d.hints[d.number+1:] {
		upper := d.hints[d.number+1+i].Load()
		if upper == nil {
			continue // not decoded yet
		}
		for _, h := range hashes {
			if _, ok := slices.BinarySearch(*upper, h); ok {
				return true
			}
		}
	}
	return false
}
