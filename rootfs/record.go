package rootfs

import (
	"archive/tar"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// layer is a layer as decoded.
type layer struct {
	Layer
	records table[record]
	dirs    []uint32 // paths in text; the first is the root's, ""
	gaps    []gap
	spool   *spool

	skippedBytes int64

	// listed is set where the records are of a Listing: without content, and
	// with data as where in digests a file's is, or skipped.
	listed  bool
	digests table[[32]byte]
	// textBase and metaBase are how far the layer's are moved in those of the tree.
	textBase, metaBase uint32
}

// gap says which entry of the stream a record is, and those behind it, up to
// the next gap: not all entries have a record.
type gap struct {
	rec     uint32
	ordinal int
}

// ordinal is which entry of the stream a record is, from 0.
func (l *layer) ordinal(rec uint32) int {
	i, found := slices.BinarySearchFunc(l.gaps, rec, func(g gap, rec uint32) int { return cmp.Compare(g.rec, rec) })
	if !found {
		i--
	}
	if i < 0 {
		return int(rec)
	}
	return l.gaps[i].ordinal + int(rec-l.gaps[i].rec)
}

func (l *layer) dirText(dir uint32) uint32     { return l.dirs[dir] + l.textBase }
func (l *layer) nameText(rec *record) uint32   { return rec.name + l.textBase }
func (l *layer) targetText(rec *record) uint32 { return uint32(rec.data) + l.textBase }
func (l *layer) metaOf(rec *record) uint32     { return rec.meta + l.metaBase }

// recorder makes records of a layer's headers.
type recorder struct {
	*merger
	*layer
	ordinals int               // of the entries so far
	dirIDs   map[uint64]uint32 // by the hash of the path
	lastDir  string
	lastID   uint32
}

func newRecorder(m *merger, l *layer) (recorder, error) {
	r := recorder{merger: m, layer: l, dirIDs: map[uint64]uint32{}}
	at, err := m.text.add("")
	l.dirs = append(l.dirs, at)
	r.dirIDs[r.hashPath("")] = 0
	return r, err
}

// parseEntry reads an entry's name; skip tells that the entry is none of the
// file system.
func parseEntry(h *tar.Header) (n name, skip bool, err error) {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return n, true, nil
	}
	return parseName(h.Name)
}

// next reads and counts an entry; skip tells that the entry is none of the
// file system.
func (r *recorder) next(h *tar.Header) (n name, skip bool, err error) {
	r.ordinals++
	n, skip, err = parseEntry(h)
	if skip || err != nil {
		return n, skip, err
	}
	if r.entries.Add(1) > r.opts.Limits.Entries {
		return n, false, r.opts.Limits.errEntries()
	}
	return n, false, nil
}

// record makes the record of an entry, and tells its kind.
func (r *recorder) record(h *tar.Header, n name) (rec record, kind byte, err error) {
	m := meta{uid: h.Uid, gid: h.Gid, mode: uint16(h.Mode & 0o7777)}
	rec = record{data: skipped, mtime: h.ModTime.Unix(), nsec: uint32(h.ModTime.Nanosecond())}
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
			return rec, 0, fmt.Errorf("the device %d:%d cannot be", h.Devmajor, h.Devminor)
		}
		rec.size = h.Devmajor<<32 | h.Devminor
	case tar.TypeSymlink:
		link = h.Linkname
	case tar.TypeLink:
		target, skip, err := parseName(h.Linkname)
		if err != nil || skip || target.mark != 0 || target.base == "" {
			return rec, 0, fmt.Errorf("a link to %q cannot be", short(h.Linkname))
		}
		link = join(target.dir, target.base)
		m, xattrs = meta{kind: tar.TypeLink}, "" // the target has them
	default:
		return rec, 0, fmt.Errorf("the unknown type %q", h.Typeflag)
	}
	if n.base == "" && n.mark == 0 && m.kind != tar.TypeDir {
		return rec, 0, errors.New("the root must be a directory")
	}
	if m.kind == tar.TypeSymlink || m.kind == tar.TypeLink {
		if link == "" || len(link) >= maxPath {
			return rec, 0, fmt.Errorf("a link's target of %d bytes", len(link))
		}
		at, err := r.text.add(link)
		if err != nil {
			return rec, 0, err
		}
		rec.data = int64(at)
	}
	if rec.meta, err = r.metas.add(m, xattrs); err != nil {
		return rec, 0, err
	}
	if rec.dir, err = r.dir(n.dir); err != nil {
		return rec, 0, err
	}
	rec.name, err = r.text.add(n.base)
	return rec, m.kind, err
}

// keep adds the record of the entry that next was called for last.
func (r *recorder) keep(rec record) {
	at, ordinal := uint32(r.records.n), r.ordinals-1
	if ordinal != int(at) && r.ordinal(at) != ordinal {
		r.gaps = append(r.gaps, gap{at, ordinal})
	}
	r.records.add(rec)
}

// dir interns the path of a directory. Most entries have that of the one before.
func (r *recorder) dir(p string) (uint32, error) {
	if p == r.lastDir {
		return r.lastID, nil
	}
	h := r.hashPath(p)
	id, ok := r.dirIDs[h]
	if !ok || !r.text.equal(r.dirs[id], p) {
		at, err := r.text.add(p)
		if err != nil {
			return 0, err
		}
		id = uint32(len(r.dirs))
		r.dirs = append(r.dirs, at)
		r.dirIDs[h] = id
	}
	r.lastDir, r.lastID = strings.Clone(p), id
	return id, nil
}
