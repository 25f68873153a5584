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
		w := walker{Tree: t, first: map[fileID]uint32{}}
		w.all(yield)
	}
}

// fileID names a record.
type fileID struct {
	layer uint16
	rec   uint32
}

type walker struct {
	*Tree
	first map[fileID]uint32 // of files with several names: the node of the first; nil: each name is a file's
}

func (w *walker) all(yield func(Entry) bool) {
	if w.tree.node(root).layer != noLayer && !yield(w.entry(root, ".")) {
		return
	}
	w.walk(root, nil, yield)
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
	if n.linked && w.first != nil {
		key := fileID{n.layer, n.rec}
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
	e := Entry{Type: tar.TypeDir, Layer: -1, Ordinal: -1, Mode: 0o755, ModTime: time.Unix(0, 0)}
	if n.layer != noLayer {
		e = t.inode(n.layer, n.rec)
	}
	e.Path, e.node = path, id
	return e
}

// inode tells all that a record does, which is no hard link's.
func (t *Tree) inode(layer uint16, i uint32) Entry {
	l := t.layers[layer]
	rec := l.records.at(i)
	m := t.metas.list[l.metaOf(rec)]
	e := Entry{
		Type: m.kind, Mode: int64(m.mode), UID: m.uid, GID: m.gid,
		ModTime: time.Unix(rec.mtime, int64(rec.nsec)),
		Xattrs:  decodeXattrs(t.metas.xattrs[m.xattrs]),
		Layer:   int(layer), Ordinal: l.ordinal(i),
	}
	switch m.kind {
	case tar.TypeReg:
		e.Size = rec.size
		switch {
		case l.listed:
			e.Digest = l.digestOf(rec)
		case rec.data < skipped:
			e.content = content{in: l.Blob, off: skipped - 1 - rec.data}
		default:
			e.content = content{in: l.spool.file.File, off: rec.data, spool: l.spool}
		}
	case tar.TypeSymlink:
		e.Target = t.text.string(l.targetText(rec))
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
