package rootfs

import (
	"archive/tar"
	"bytes"
	"iter"
	"slices"
	"time"
)

// Entries gives the tree's entries in the order that WriteTar writes them in:
// the root if a layer has an entry for it, then depth first, the names of each
// directory sorted by their bytes. So a directory comes before what is in it,
// and the first name of a file before its hard links.
func (t *Tree) Entries() iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		w := walker{Tree: t, first: map[inode]uint32{}}
		if t.tree.node(root).layer != noLayer && !yield(w.entry(root, ".")) {
			return
		}
		w.walk(root, nil, yield)
	}
}

// inode names a record.
type inode struct {
	layer uint16
	rec   uint32
}

type walker struct {
	*Tree
	first map[inode]uint32 // of files with several names: the node of the first
}

func (w *walker) walk(dir uint32, path []byte, yield func(Entry) bool) bool {
	for _, id := range w.children(dir) {
		n := w.tree.node(id)
		below := append(path, w.text.bytes(n.name)...)
		if !yield(w.entry(id, string(below))) {
			return false
		}
		if n.first != 0 && !w.walk(id, append(below, '/'), yield) {
			return false
		}
	}
	return true
}

// children are the nodes in a directory, sorted by name.
func (t *Tree) children(dir uint32) []uint32 {
	var ids []uint32
	for c := t.tree.node(dir).first; c != 0; c = t.tree.node(c).next {
		ids = append(ids, c)
	}
	slices.SortFunc(ids, func(a, b uint32) int {
		return bytes.Compare(t.text.bytes(t.tree.node(a).name), t.text.bytes(t.tree.node(b).name))
	})
	return ids
}

func (w *walker) entry(id uint32, path string) Entry {
	n := w.tree.node(id)
	if n.linked {
		key := inode{n.layer, n.rec}
		if first, ok := w.first[key]; ok {
			e := w.describe(id, path)
			e.Type, e.Target, e.Size, e.Xattrs = tar.TypeLink, w.path(first), 0, nil
			return e
		}
		w.first[key] = id
	}
	return w.describe(id, path)
}

// describe tells of a node, whatever other names it has.
func (t *Tree) describe(id uint32, path string) Entry {
	n := t.tree.node(id)
	e := Entry{Path: path, Type: n.kind, Layer: -1, node: id, Mode: 0o755, ModTime: time.Unix(0, 0)}
	if n.layer == noLayer {
		return e
	}
	l := t.layers[n.layer]
	rec := l.records.at(n.rec)
	m := t.metas.list[l.metaOf(rec)]
	e.Layer, e.Mode, e.UID, e.GID = int(n.layer), int64(m.mode), m.uid, m.gid
	e.ModTime = time.Unix(rec.mtime, int64(rec.nsec))
	e.Xattrs = decodeXattrs(t.metas.xattrs[m.xattrs])
	switch n.kind {
	case tar.TypeReg:
		e.Size = rec.size
		if rec.data < skipped {
			e.content = content{in: l.Blob, off: skipped - 1 - rec.data}
		} else {
			e.content = content{in: l.spool.file, off: rec.data, spool: l.spool}
		}
	case tar.TypeSymlink:
		e.Target = t.target(n)
	case tar.TypeChar, tar.TypeBlock:
		e.DevMajor, e.DevMinor = rec.size>>32, rec.size&(1<<32-1)
	}
	return e
}

// path is the path of a node.
func (t *Tree) path(id uint32) string {
	var names [][]byte
	for ; id != root; id = t.tree.node(id).parent {
		names = append(names, t.text.bytes(t.tree.node(id).name))
	}
	slices.Reverse(names)
	return string(bytes.Join(names, []byte{'/'}))
}

// reachable gives all nodes but the root.
func (t *tree) reachable(dir uint32, yield func(*node)) {
	for c := t.node(dir).first; c != 0; c = t.node(c).next {
		yield(t.node(c))
		t.reachable(c, yield)
	}
}
