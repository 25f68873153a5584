package rootfs

import (
	"archive/tar"
	"errors"
	"fmt"
	"hash/maphash"
	"strings"

	"github.com/davit-cli/davit/image"
)

// tree is a file system in memory, to which layers are applied.
type tree struct {
	text  *text
	nodes table[node]
	free  uint32 // first of the nodes that may be used again; linked by next
	live  int
	slots []uint32 // a hash table of nodes by parent and name; 0 is none
	used  int
	seed  maphash.Seed

	// epoch counts what may change how a path resolves: a directory or
	// symbolic link that went away.
	epoch uint32
}

// root is the node of the root directory. It stands in no slot.
const root = 0

type node struct {
	name    uint32 // in text
	parent  uint32
	first   uint32 // child; 0 for none
	next    uint32 // sibling
	prev    uint32
	rec     uint32 // in the layer's records
	layer   uint16 // noLayer for a directory that no layer has an entry for
	touched uint16 // the last layer, counted from 1, that made it or something below it
	swept   uint16 // the last layer that removed what is below it of lower layers
	depth   uint16
	kind    byte // a type of tar's; never TypeLink
	linked  bool // its record may have another node
}

const noLayer = 1<<16 - 1

func newTree(t *text) *tree {
	tr := &tree{text: t, slots: make([]uint32, 64), seed: maphash.MakeSeed(), live: 1}
	tr.nodes.add(node{kind: tar.TypeDir, layer: noLayer})
	return tr
}

func (t *tree) node(id uint32) *node { return t.nodes.at(id) }

func (t *tree) hash(parent uint32, name []byte) uint64 {
	h := (maphash.Bytes(t.seed, name) ^ uint64(parent)*0x9e3779b97f4a7c15) * 0xff51afd7ed558ccd
	return h ^ h>>32
}

func (t *tree) hashOf(id uint32) uint64 {
	n := t.node(id)
	return t.hash(n.parent, t.text.bytes(n.name))
}

// find returns the child of a directory, or 0.
func (t *tree) find(parent uint32, name []byte) uint32 {
	mask := uint64(len(t.slots) - 1)
	for i := t.hash(parent, name) & mask; t.slots[i] != 0; i = (i + 1) & mask {
		id := t.slots[i]
		if n := t.node(id); n.parent == parent && string(t.text.bytes(n.name)) == string(name) {
			return id
		}
	}
	return 0
}

func (t *tree) insert(id uint32) {
	if t.used*4 >= len(t.slots)*3 {
		old := t.slots
		t.slots = make([]uint32, 2*len(old))
		for _, id := range old {
			if id != 0 {
				t.put(id)
			}
		}
	}
	t.put(id)
	t.used++
}

func (t *tree) put(id uint32) {
	mask := uint64(len(t.slots) - 1)
	i := t.hashOf(id) & mask
	for t.slots[i] != 0 {
		i = (i + 1) & mask
	}
	t.slots[i] = id
}

// unslot takes a node out of the hash table, and moves up what stands behind it.
func (t *tree) unslot(id uint32) {
	mask := uint64(len(t.slots) - 1)
	i := t.hashOf(id) & mask
	for t.slots[i] != id {
		i = (i + 1) & mask
	}
	for j := i; ; {
		j = (j + 1) & mask
		if t.slots[j] == 0 {
			break
		}
		if home := t.hashOf(t.slots[j]) & mask; (j-home)&mask >= (j-i)&mask {
			t.slots[i] = t.slots[j]
			i = j
		}
	}
	t.slots[i] = 0
	t.used--
}

// create makes a child that is not there yet.
func (t *tree) create(parent, name uint32, v node) (uint32, error) {
	p := t.node(parent)
	if p.depth >= maxDepth {
		return 0, fmt.Errorf("%w: more than %d directories above each other", image.ErrVerification, maxDepth)
	}
	v.name, v.parent, v.depth = name, parent, p.depth+1
	v.first, v.prev, v.next = 0, 0, p.first
	id := t.free
	if id != 0 {
		t.free = t.node(id).next
		*t.node(id) = v
	} else {
		id = t.nodes.add(v)
		p = t.node(parent)
	}
	if p.first != 0 {
		t.node(p.first).prev = id
	}
	p.first = id
	t.live++
	t.insert(id)
	return id, nil
}

// remove takes out a node with all below it.
func (t *tree) remove(id uint32) {
	n := t.node(id)
	if n.prev != 0 {
		t.node(n.prev).next = n.next
	} else {
		t.node(n.parent).first = n.next
	}
	if n.next != 0 {
		t.node(n.next).prev = n.prev
	}
	t.discard(id)
}

func (t *tree) discard(id uint32) {
	n := t.node(id)
	for c := n.first; c != 0; {
		next := t.node(c).next
		t.discard(c)
		c = next
	}
	if n.kind == tar.TypeDir || n.kind == tar.TypeSymlink {
		t.epoch++
	}
	t.unslot(id)
	n.next = t.free
	t.free = id
	t.live--
}

// touch notes that a layer, counted from 1, has something at a node.
func (t *tree) touch(id uint32, layer uint16) {
	for {
		n := t.node(id)
		if n.touched == layer {
			return // and so are all above
		}
		n.touched = layer
		if id == root {
			return
		}
		id = n.parent
	}
}

// hide removes a node of lower layers, with all below it but what the layer
// itself has put there.
func (t *tree) hide(id uint32, layer uint16) {
	if t.node(id).touched != layer {
		t.remove(id)
		return
	}
	t.sweep(id, layer)
}

// sweep hides what is below a node. Whatever comes there afterwards in the
// same layer is the layer's own, so once is enough.
func (t *tree) sweep(id uint32, layer uint16) {
	n := t.node(id)
	if n.swept == layer {
		return
	}
	n.swept = layer
	for c := n.first; c != 0; {
		next := t.node(c).next
		t.hide(c, layer)
		c = next
	}
}

var errLinks = errors.New("too many symbolic links")

// route is what is left of a path that is walked, inside of the root.
type route struct {
	rest  string
	links int // followed so far
}

// next takes the next name off, which may be ".."; "" at the end.
func (r *route) next() string {
	for r.rest != "" {
		var name string
		name, r.rest, _ = strings.Cut(r.rest, "/")
		if name != "" && name != "." {
			return name
		}
	}
	return ""
}

// follow goes on with a link's target, from where the link stands unless
// fromRoot is true.
func (r *route) follow(target string) (fromRoot bool, err error) {
	if r.links++; r.links > maxLinks {
		return false, errLinks
	}
	r.rest = target + "/" + r.rest
	return strings.HasPrefix(target, "/"), nil
}

// resolve walks to a directory as the kernel would inside of the root: links
// are followed, absolute ones from the root, and ".." ends at the root. It
// returns the last directory on the way that is there, and the names of those
// that are missing below it. What is neither directory nor link counts as missing.
func (t *tree) resolve(path string, target func(*node) string) (at uint32, missing []string, err error) {
	r := route{rest: path}
	for {
		name := r.next()
		switch {
		case name == "":
			return at, missing, nil
		case name == "..":
			if len(missing) > 0 {
				missing = missing[:len(missing)-1]
			} else {
				at = t.node(at).parent // the root's is itself
			}
			continue
		case len(missing) > 0:
			missing = append(missing, name)
			continue
		}
		child := t.find(at, []byte(name))
		if child == 0 {
			missing = append(missing, name)
			continue
		}
		switch n := t.node(child); n.kind {
		case tar.TypeDir:
			at = child
		case tar.TypeSymlink:
			fromRoot, err := r.follow(target(n))
			if err != nil {
				return 0, nil, fmt.Errorf("%w: %w", image.ErrVerification, err)
			}
			if fromRoot {
				at = root
			}
		default:
			missing = append(missing, name)
		}
	}
}

// makeDirs makes the directories that resolve found missing; what stands in
// their way gives way.
func (t *tree) makeDirs(at uint32, missing []string, layer uint16) (uint32, error) {
	for _, name := range missing {
		if old := t.find(at, []byte(name)); old != 0 {
			t.remove(old)
		}
		ref, err := t.text.add(name)
		if err != nil {
			return 0, err
		}
		if at, err = t.create(at, ref, node{kind: tar.TypeDir, layer: noLayer}); err != nil {
			return 0, err
		}
	}
	t.touch(at, layer)
	return at, nil
}
