package rootfs

import (
	"archive/tar"
	"bytes"
	"hash/maphash"
	"slices"
	"strings"
)

// sheet is a listing that Find looks at.
type sheet struct {
	*Listing
	// sure tells of each of the listing's dirs from which record on it is a
	// directory just where its path says, because the layer itself has made it
	// and all its parents. An entry in one that is not is loose: where it goes
	// is up to the links of lower layers.
	sure []uint32
}

const never = whole

// newSheet is false for a layer that has entries in what is no directory in it:
// where they go is not told by one layer's names.
func newSheet(l *Listing) (*sheet, bool) {
	s := &sheet{Listing: l, sure: make([]uint32, len(l.layer.dirs))}
	seed := maphash.MakeSeed()
	ids := make(map[uint64]uint32, len(s.sure)) // never for a parent that has no entries itself
	for id := range s.sure {
		s.sure[id] = never
		ids[maphash.Bytes(seed, s.dirPath(uint32(id)))] = uint32(id)
	}
	s.sure[0] = 0
	for id := range s.sure {
		dir := s.dirPath(uint32(id))
		for slash := bytes.LastIndexByte(dir, '/'); slash > 0; slash = bytes.LastIndexByte(dir, '/') {
			dir = dir[:slash]
			h := maphash.Bytes(seed, dir)
			if _, ok := ids[h]; ok {
				break // and so are all above
			}
			ids[h] = never
		}
	}
	var name []byte
	for i := range uint32(l.layer.records.n) {
		rec := l.layer.records.at(i)
		kind := s.kind(rec)
		if kind == typeWhiteout || kind == typeOpaque {
			continue
		}
		name = append(name[:0], s.dirPath(rec.dir)...)
		if len(name) > 0 {
			name = append(name, '/')
		}
		name = append(name, s.text.bytes(rec.name)...)
		id, ok := ids[maphash.Bytes(seed, name)]
		switch {
		case !ok || id == 0:
		case kind != tar.TypeDir:
			return nil, false
		case id != never && string(s.dirPath(id)) == string(name) && s.sure[id] == never && s.sure[rec.dir] <= i:
			s.sure[id] = i + 1
		}
	}
	return s, true
}

func (s *sheet) dirPath(id uint32) []byte { return s.text.bytes(s.layer.dirs[id]) }

func (s *sheet) kind(rec *record) byte { return s.metas.list[rec.meta].kind }

func (s *sheet) loose(i uint32) bool { return i < s.sure[s.layer.records.at(i).dir] }

func (s *sheet) target(i uint32) string { return s.text.string(uint32(s.layer.records.at(i).data)) }

// entry is a statement's Entry, but for the path.
func (s *sheet) entry(st statement) Entry {
	t := Tree{text: s.text, metas: s.metas, layers: []*layer{s.layer}}
	e := t.inode(0, st.rec)
	e.Layer = st.layer
	return e
}

func (s *sheet) statement(layer int, rec uint32, level int) statement {
	return statement{layer: layer, rec: rec, kind: s.kind(s.layer.records.at(rec)), level: level, loose: s.loose(rec)}
}

// shared is how a directory stands to a path.
type shared struct {
	names int  // that both begin with
	all   bool // the directory has no others
}

// share compares all directories of the layer with a path.
func (s *sheet) share(names []string) []shared {
	of := make([]shared, len(s.layer.dirs))
	for id := range of {
		of[id] = share(s.dirPath(uint32(id)), names)
	}
	return of
}

func share(dir []byte, names []string) shared {
	n := 0
	for len(dir) > 0 {
		if n == len(names) || len(dir) < len(names[n]) || string(dir[:len(names[n])]) != names[n] {
			return shared{n, false}
		}
		rest := dir[len(names[n]):]
		if len(rest) > 0 && rest[0] != '/' {
			return shared{n, false}
		}
		n++
		dir = rest[min(1, len(rest)):]
	}
	return shared{n, true}
}

// passage is what a layer says of a path and its parents; of each, by the
// number of its names.
type passage struct {
	dirs   []uint32 // the last entry that is a directory's, or noRecord
	others []uint32 // the last entry that is not, or noRecord
	below  int      // the largest number of the path's names that entries have as parents
	hidden bool     // from lower layers
}

// read reads the records before one.
func (s *sheet) read(names []string, before uint32) passage {
	p := passage{dirs: make([]uint32, len(names)+1), others: make([]uint32, len(names)+1)}
	for i := range p.dirs {
		p.dirs[i], p.others[i] = noRecord, noRecord
	}
	of := s.share(names)
	for i := range min(before, uint32(s.layer.records.n)) {
		rec := s.layer.records.at(i)
		in := of[rec.dir]
		kind := s.kind(rec)
		mark := kind == typeWhiteout || kind == typeOpaque
		if !mark {
			p.below = max(p.below, in.names)
		}
		if !in.all || in.names == len(names) {
			continue
		}
		level := in.names + 1
		switch same := string(s.text.bytes(rec.name)) == names[in.names]; {
		case kind == typeOpaque:
			p.hidden = true
		case !same:
		case kind == typeWhiteout:
			p.hidden = true
		case kind == tar.TypeDir:
			p.dirs[level] = i
		default:
			p.others[level] = i
		}
	}
	return p
}

// misleads tells whether an entry before one may make a statement about a path
// wrong, of this layer or a lower one: a loose one by its own name or that of a
// directory that it makes on its way; and if the statement rests on a loose
// entry itself, any by its name, one that makes a parent a directory, and one
// that makes a directory opaque.
func (s *sheet) misleads(names []string, st statement, layer int, before uint32) bool {
	names = names[:st.level]
	telling := make(map[string]bool, len(names))
	for _, name := range names {
		telling[name] = true
	}
	base := names[len(names)-1]
	of := s.share(names)
	makes := make([]bool, len(of)) // it has the path's last name, beside the path
	for id, in := range of {
		if !in.all {
			rest := strings.Split(string(s.dirPath(uint32(id))), "/")[in.names:]
			makes[id] = slices.Contains(rest, base)
		}
	}
	for i := range min(before, uint32(s.layer.records.n)) {
		rec := s.layer.records.at(i)
		loose := i < s.sure[rec.dir]
		if !loose && !st.loose {
			continue
		}
		in, kind := of[rec.dir], s.kind(rec)
		name := s.text.bytes(rec.name)
		if kind == typeOpaque {
			if st.loose || loose && !in.all {
				return true
			}
			continue
		}
		if in.all && in.names < len(names) && string(name) == names[in.names] { // on the path itself
			above := layer > st.layer || st.rec != noRecord && i > st.rec
			parent := in.names+1 < len(names)
			if st.loose && parent && (kind == typeWhiteout || kind == tar.TypeDir && above) {
				return true
			}
			continue
		}
		if telling[string(name)] || loose && makes[rec.dir] {
			return true
		}
	}
	return false
}

// anyLoose tells whether an entry before one is loose.
func (s *sheet) anyLoose(before uint32) bool {
	for i := range min(before, uint32(s.layer.records.n)) {
		if s.loose(i) {
			return true
		}
	}
	return false
}
