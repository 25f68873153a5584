package rootfs

import (
	"archive/tar"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/compress"
)

// layer is a layer as decoded.
type layer struct {
	Layer
	records table[record]
	dirs    []uint32 // paths in text; the first is the root's, ""
	spool   *spool

	skippedBytes int64
}

// hint is what a decoded layer hides of lower ones: hashes of paths. It may
// be wrong where links are followed, and is not relied upon: a file that was
// taken for hidden and is not is decoded again.
type hint []uint64

// decoder decodes one layer.
type decoder struct {
	*merger
	number int // from 0
	*layer
	spool   *spool
	dirIDs  map[uint64]uint32 // by the hash of the path
	lastDir string
	lastID  uint32
	hides   []uint64

	// again is set when the layer is decoded a second time: records that are
	// wanted and have no content get it, and nothing else changes.
	again  bool
	wanted []uint32
	seq    uint32

	// names is set when nothing but names is looked at.
	names bool
}

func newDecoder(m *merger, number int, s *spool) (*decoder, error) {
	d := &decoder{merger: m, number: number, layer: m.layers[number], spool: s, dirIDs: map[uint64]uint32{}}
	d.layer.spool = s
	at, err := m.text.add("")
	d.dirs = append(d.dirs, at)
	d.dirIDs[d.hashPath("")] = 0
	return d, err
}

// bigFile is from where on it is asked whether a file is hidden.
const bigFile = 64 << 10

// source reads a blob, and knows whether it was the blob that failed.
type source struct {
	ctx   context.Context
	r     io.Reader
	stage *image.Stage
	err   error
}

func (s *source) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		s.err = err
		return 0, err
	}
	n, err := s.r.Read(p)
	s.stage.Add(int64(n))
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// counter counts a layer's tar against the limit of all.
type counter struct {
	r     io.Reader
	n     int64
	total *atomic.Int64
	limit int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	if c.total.Add(int64(n)) > c.limit {
		return 0, c.over()
	}
	return n, err
}

func (c *counter) over() error {
	return fmt.Errorf("%w: the layers decode to more than %d bytes", ErrLimit, c.limit)
}

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
	blob := &source{ctx: ctx, r: io.NewSectionReader(d.Blob, 0, d.Descriptor.Size)}
	if !d.again {
		blob.stage = d.stage
	}
	unpacked, kind, closeIt, err := compress.NewReader(blob)
	if err != nil {
		return d.fault(blob, "open the blob", err)
	}
	defer closeIt()
	tarred, err := newTarHash(d.DiffID)
	if err != nil {
		return err
	}
	if !d.again { // where it was checked
		unpacked = tarred.tee(unpacked)
	}
	if kind != compress.Plain {
		ahead := compress.NewReadahead(unpacked)
		defer ahead.Stop()
		unpacked = ahead
	}
	in := &counter{r: unpacked, total: &d.total, limit: d.opts.Limits.Bytes}
	if d.again {
		in.total = new(atomic.Int64)
	}
	tr := tar.NewReader(in)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return d.fault(blob, "read the tar", err)
		}
		if err := d.entry(h, tr, in, kind == compress.Plain); err != nil {
			return d.fault(blob, fmt.Sprintf("entry %q", short(h.Name)), err)
		}
		if d.again && len(d.wanted) == 0 {
			return nil
		}
	}
	// What is left tells whether the stream is whole.
	if _, err := io.Copy(io.Discard, in); err != nil {
		return d.fault(blob, "read to the end", err)
	}
	if !d.again {
		if err := tarred.check(); err != nil {
			return err
		}
		slices.Sort(d.hides)
		h := hint(slices.Compact(d.hides))
		d.hints[d.number].Store(&h)
	}
	return nil
}

// fault names the step, and lays the fault on the content unless the blob
// could not be read, or the spool not be written.
func (d *decoder) fault(blob *source, step string, err error) error {
	switch {
	case blob.err != nil:
		return fmt.Errorf("%s: %w", step, blob.err)
	case errors.As(err, new(spoolError)), errors.Is(err, image.ErrVerification):
		return fmt.Errorf("%s: %w", step, err)
	case errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("%s: %w: %w", step, image.ErrVerification, err)
}

// short makes a name fit for an error.
func short(s string) string {
	if len(s) > 200 {
		return s[:200] + "…"
	}
	return s
}

// name is what an entry of a layer is called.
type name struct {
	dir, base string // "" and "" for the root
	mark      byte   // 0, typeWhiteout or typeOpaque
}

const whiteoutPrefix = ".wh."

// parseName reads an entry's name. Names are relative to the root, whatever
// they look like. skip tells that the entry is of AUFS's bookkeeping.
func parseName(s string) (n name, skip bool, err error) {
	clean := path.Clean("/" + s)[1:]
	if len(clean) >= maxPath {
		return n, false, fmt.Errorf("the path has %d bytes, more than %d", len(clean), maxPath-1)
	}
	if slash := strings.LastIndexByte(clean, '/'); slash >= 0 {
		n.dir, n.base = clean[:slash], clean[slash+1:]
	} else {
		n.base = clean
	}
	if !strings.Contains(clean, whiteoutPrefix) {
		return n, false, nil
	}
	for part := range strings.SplitSeq(n.dir, "/") {
		if strings.HasPrefix(part, whiteoutPrefix+whiteoutPrefix) {
			return n, true, nil
		}
		if strings.HasPrefix(part, whiteoutPrefix) {
			return n, false, errors.New("a whiteout is no directory")
		}
	}
	of, ok := strings.CutPrefix(n.base, whiteoutPrefix)
	switch {
	case !ok:
	case of == whiteoutPrefix+".opq":
		n.base, n.mark = "", typeOpaque
	case strings.HasPrefix(of, whiteoutPrefix):
		return n, true, nil
	case of == "" || of == "." || of == "..":
		return n, false, errors.New("a whiteout of nothing")
	default:
		n.base, n.mark = of, typeWhiteout
	}
	return n, false, nil
}

func join(dir, base string) string {
	if dir == "" {
		return base
	}
	return dir + "/" + base
}

// entry notes an entry, and keeps its content.
func (d *decoder) entry(h *tar.Header, r io.Reader, in *counter, direct bool) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	n, skip, err := parseName(h.Name)
	if skip && d.names {
		return errWhiteout // it would appear too
	}
	if skip || err != nil {
		return err
	}
	if d.again {
		i := d.seq
		d.seq++
		if len(d.wanted) == 0 || d.wanted[0] != i {
			return nil
		}
		d.wanted = d.wanted[1:]
		rec := d.records.at(i)
		rec.data = d.spool.size()
		return d.spool.take(r, rec.size)
	}
	if d.entries.Add(1) > d.opts.Limits.Entries {
		return fmt.Errorf("%w: the layers have more than %d entries", ErrLimit, d.opts.Limits.Entries)
	}
	if d.names {
		if n.mark != 0 {
			return errWhiteout
		}
		return nil
	}
	m := meta{uid: h.Uid, gid: h.Gid, mode: uint16(h.Mode & 0o7777)}
	rec := record{data: skipped, mtime: h.ModTime.Unix(), nsec: uint32(h.ModTime.Nanosecond())}
	xattrs := ""
	switch {
	case n.mark != 0:
		m = meta{kind: n.mark}
	default:
		m.kind = h.Typeflag
		xattrs = encodeXattrs(h.PAXRecords)
	}
	var link string
	switch m.kind {
	case typeWhiteout, typeOpaque, tar.TypeDir, tar.TypeFifo:
	case tar.TypeReg, tar.TypeGNUSparse, tar.TypeCont:
		m.kind = tar.TypeReg
		rec.size = h.Size
	case tar.TypeChar, tar.TypeBlock:
		if uint64(h.Devmajor) > 1<<31-1 || uint64(h.Devminor) > 1<<31-1 {
			return fmt.Errorf("the device %d:%d cannot be", h.Devmajor, h.Devminor)
		}
		rec.size = h.Devmajor<<32 | h.Devminor
	case tar.TypeSymlink:
		link = h.Linkname
	case tar.TypeLink:
		target, skip, err := parseName(h.Linkname)
		if err != nil || skip || target.mark != 0 || target.base == "" {
			return fmt.Errorf("a link to %q cannot be", short(h.Linkname))
		}
		link = join(target.dir, target.base)
		m, xattrs = meta{kind: tar.TypeLink}, "" // the target has them
	default:
		return fmt.Errorf("the unknown type %q", h.Typeflag)
	}
	if n.base == "" && n.mark == 0 && m.kind != tar.TypeDir {
		return errors.New("the root must be a directory")
	}
	if m.kind == tar.TypeSymlink || m.kind == tar.TypeLink {
		if link == "" || len(link) >= maxPath {
			return fmt.Errorf("a link's target of %d bytes", len(link))
		}
		at, err := d.text.add(link)
		if err != nil {
			return err
		}
		rec.data = int64(at)
	}
	if rec.meta, err = d.metas.add(m, xattrs); err != nil {
		return err
	}
	if rec.dir, err = d.dir(n.dir); err != nil {
		return err
	}
	if rec.name, err = d.text.add(n.base); err != nil {
		return err
	}
	if d.number > 0 && m.kind != tar.TypeDir {
		d.hides = append(d.hides, d.hashName(n))
	}
	if m.kind == tar.TypeReg {
		if err := d.content(&rec, h, n, r, in, direct); err != nil {
			return err
		}
	}
	d.records.add(rec)
	return nil
}

// content keeps the content of a file, or what it takes to find it again.
func (d *decoder) content(rec *record, h *tar.Header, n name, r io.Reader, in *counter, direct bool) error {
	if isSparse(h) {
		// The holes are spooled and written as any other zeros.
		if rec.size > in.limit || in.total.Add(rec.size) > in.limit {
			return in.over()
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

func isSparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for k := range h.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// dir interns the path of a directory. Most entries have that of the one before.
func (d *decoder) dir(p string) (uint32, error) {
	if p == d.lastDir {
		return d.lastID, nil
	}
	h := d.hashPath(p)
	id, ok := d.dirIDs[h]
	if !ok || !d.text.equal(d.dirs[id], p) {
		at, err := d.text.add(p)
		if err != nil {
			return 0, err
		}
		id = uint32(len(d.dirs))
		d.dirs = append(d.dirs, at)
		d.dirIDs[h] = id
	}
	d.lastDir, d.lastID = strings.Clone(p), id
	return id, nil
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

const paxXattr = "SCHILY.xattr."

// encodeXattrs gives the extended attributes one form, sorted by name.
func encodeXattrs(records map[string]string) string {
	var keys []string
	for k := range records {
		if strings.HasPrefix(k, paxXattr) && len(k) > len(paxXattr) {
			keys = append(keys, k)
		}
	}
	if keys == nil {
		return ""
	}
	slices.SortFunc(keys, cmp.Compare)
	var b []byte
	for _, k := range keys {
		for _, s := range []string{k[len(paxXattr):], records[k]} {
			b = binary.AppendUvarint(b, uint64(len(s)))
			b = append(b, s...)
		}
	}
	return string(b)
}

func decodeXattrs(s string) map[string]string {
	if s == "" {
		return nil
	}
	next := func() string {
		n, w := binary.Uvarint([]byte(s[:min(len(s), binary.MaxVarintLen64)]))
		v := s[w : w+int(n)]
		s = s[w+int(n):]
		return v
	}
	m := map[string]string{}
	for s != "" {
		k := next()
		m[k] = next()
	}
	return m
}
