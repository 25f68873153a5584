package rootfs

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"math"
	"path"
	"slices"
	"strings"
)

// Found is a regular file that Find has found.
type Found struct {
	// Entry is the file's. Its Layer and Ordinal say where the content stands.
	// Its Path is where links led, as far as the opened layers tell.
	Entry Entry
	// Opened is how many layers were opened.
	Opened int
}

// Find finds a regular file of an image of n layers, as View.Lookup would with
// links followed, without reading more layers than it takes: open is called
// for the topmost first, at most once for each, and goes no further down than
// to the layer that holds the file, the links on its way, or the target of the
// hard link that it is.
//
// All layers are opened, and merged by Overlay, where the upper ones leave it
// open: nothing is there that the path names, or an entry whose parents have no
// entry of their own in its layer (so that a link of a lower layer may lead it
// elsewhere) may be what is looked for, or may replace or hide it, by its name
// or a parent's. What upper layers cannot tell is not noticed: that such an
// entry goes through a lower layer's link right to the file, as if that were a
// directory; or that the directory which such a link leads to is replaced or
// removed above, under its other name. What Merge would refuse in a layer that
// is not opened is not noticed either.
//
// The error wraps image.ErrNotFound where Lookup's would. What is there and no
// regular file is an error of another kind.
func Find(ctx context.Context, n int, open func(ctx context.Context, layer int) (*Listing, error), path string) (Found, error) {
	f := newFinder(n, open)
	e, err := f.find(ctx, path)
	if err == nil && e.Type != tar.TypeReg {
		err = noFile(path, e)
	}
	if err != nil {
		return Found{}, fmt.Errorf("find %q: %w", short(path), err)
	}
	return Found{Entry: e, Opened: f.opened}, nil
}

// noFile says what is at a path in place of a regular file.
func noFile(asked string, e Entry) error {
	found := path.Join("/", e.Path)
	if path.Join("/", asked) == found {
		return fmt.Errorf("it is %s", kindName(e.Type))
	}
	return fmt.Errorf("it leads to %q, %s", short(found), kindName(e.Type))
}

func kindName(kind byte) string {
	switch kind {
	case tar.TypeDir:
		return "a directory"
	case tar.TypeSymlink:
		return "a symbolic link"
	case tar.TypeFifo:
		return "a named pipe"
	}
	return "a device"
}

// errDoubt says that the opened layers do not tell.
var errDoubt = errors.New("the upper layers do not tell")

const (
	// maxSteps is how many links, of both kinds, are followed without Overlay.
	maxSteps = 40
	// whole is all records of a layer.
	whole = math.MaxUint32
)

// finder finds one file.
type finder struct {
	open     func(ctx context.Context, layer int) (*Listing, error)
	listings []*Listing // nil: not opened
	sheets   []*sheet   // of the listings; nil: not made
	opened   int
	steps    int
	strict   bool // any entry that a link may lead elsewhere is a doubt; for tests
}

func newFinder(n int, open func(ctx context.Context, layer int) (*Listing, error)) *finder {
	return &finder{open: open, listings: make([]*Listing, n), sheets: make([]*sheet, n)}
}

func (f *finder) listing(ctx context.Context, layer int) (*Listing, error) {
	if f.listings[layer] == nil {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		l, err := f.open(ctx, layer)
		if err != nil {
			return nil, fmt.Errorf("layer %d: %w", layer+1, err)
		}
		f.listings[layer] = l
		f.opened++
		if err := Fit(f.listings, OverlayOptions{}); err != nil {
			return nil, err
		}
	}
	return f.listings[layer], nil
}

func (f *finder) sheet(ctx context.Context, layer int) (*sheet, error) {
	if f.sheets[layer] == nil {
		l, err := f.listing(ctx, layer)
		if err != nil {
			return nil, err
		}
		s, ok := newSheet(l)
		if !ok {
			return nil, errDoubt
		}
		f.sheets[layer] = s
	}
	return f.sheets[layer], nil
}

func (f *finder) find(ctx context.Context, path string) (Entry, error) {
	at := spot{layer: len(f.listings) - 1, before: whole}
	names, ok := extend(nil, path, false)
	if ok && len(names) > 0 && !endsAsDir(path) {
		e, err := f.resolve(ctx, names, at, true)
		if !errors.Is(err, errDoubt) {
			return e, err
		}
	}
	return f.merged(ctx, path)
}

// merged opens all layers and looks up the path in all of them.
func (f *finder) merged(ctx context.Context, path string) (Entry, error) {
	f.sheets = nil // nobody asks any more
	for i := len(f.listings) - 1; i >= 0; i-- {
		if _, err := f.listing(ctx, i); err != nil {
			return Entry{}, err
		}
	}
	v, err := Overlay(ctx, f.listings, OverlayOptions{})
	if err != nil {
		return Entry{}, err
	}
	return v.lookup(path, true)
}

// spot is a time in the merge: all below a layer is applied, and of the layer
// the records before one.
type spot struct {
	layer  int
	before uint32
}

// statement is what a layer says of a path, or of one of its parents.
type statement struct {
	layer int
	rec   uint32 // noRecord for a directory that is there by what is in it
	kind  byte
	level int // how many of the path's names it is about
	loose bool
}

const noRecord = math.MaxUint32

// resolve finds what stands at a path at a spot in the merge. The error is
// errDoubt if the layers opened for that do not tell.
func (f *finder) resolve(ctx context.Context, names []string, at spot, follow bool) (Entry, error) {
	for {
		if f.steps++; f.steps > maxSteps {
			return Entry{}, errDoubt
		}
		st, err := f.search(ctx, names, at)
		if err != nil {
			return Entry{}, err
		}
		if st.layer == 0 { // all are open, so that Overlay costs nothing more
			return Entry{}, errDoubt
		}
		if err := f.doubt(ctx, names, st, at); err != nil {
			return Entry{}, err
		}
		var e Entry
		s := f.sheets[st.layer]
		switch {
		case st.rec == noRecord:
			return Entry{Type: st.kind, Path: strings.Join(names, "/"), Layer: -1, Ordinal: -1}, nil
		case st.kind == tar.TypeLink:
			target, ok := extend(nil, s.target(st.rec), false)
			if !ok {
				return Entry{}, errDoubt
			}
			to, err := f.resolve(ctx, target, spot{st.layer, st.rec}, false)
			if err != nil {
				return Entry{}, err
			}
			if to.Type == tar.TypeDir { // which Merge refuses
				return Entry{}, errDoubt
			}
			e = to
		default:
			e = s.entry(st)
		}
		e.Path = strings.Join(names[:st.level], "/")
		switch last := st.level == len(names); {
		case last && (!follow || e.Type != tar.TypeSymlink):
			return e, nil
		case e.Type != tar.TypeSymlink: // a hard link to what is no directory
			return Entry{}, errDoubt
		}
		parent := names[:st.level-1]
		if strings.HasPrefix(e.Target, "/") {
			parent = nil
		}
		to, ok := extend(parent, e.Target, st.loose)
		if !ok {
			return Entry{}, errDoubt
		}
		names = append(to, names[st.level:]...)
	}
}

// extend adds a path's names to those of a directory. It is false where a ".."
// would leave what may be a link, and so may lead anywhere.
func extend(dir []string, path string, loose bool) ([]string, bool) {
	names, added := slices.Clone(dir), 0
	for name := range strings.SplitSeq(path, "/") {
		switch {
		case name == "" || name == ".":
		case name != "..":
			names = append(names, name)
			added++
		case added > 0 || loose && len(names) > 0:
			return nil, false
		case len(names) > 0:
			names = names[:len(names)-1]
		}
	}
	return names, true
}

// search goes down through the layers to the first that says what stands at a
// path, or that a parent of it is a link.
func (f *finder) search(ctx context.Context, names []string, at spot) (statement, error) {
	if len(names) == 0 {
		return statement{}, errDoubt
	}
	made := make([]bool, len(names)+1) // directories that a layer above has entries for
	for layer := at.layer; layer >= 0; layer-- {
		s, err := f.sheet(ctx, layer)
		if err != nil {
			return statement{}, err
		}
		p := s.read(names, at.upTo(layer))
		first := slices.IndexFunc(p.others, func(rec uint32) bool { return rec != noRecord })
		if first >= 0 && (p.dirs[first] != noRecord || p.below >= first) {
			return statement{}, errDoubt // two things in one layer
		}
		last := len(names)
		switch {
		case first >= 0:
			st := s.statement(layer, p.others[first], first)
			if first < last && (made[first] || st.kind != tar.TypeSymlink && st.kind != tar.TypeLink) {
				return statement{}, errDoubt // so it is not there
			}
			return st, nil
		case p.dirs[last] != noRecord:
			return s.statement(layer, p.dirs[last], last), nil
		case p.below >= last:
			return statement{layer: layer, rec: noRecord, kind: tar.TypeDir, level: last, loose: true}, nil
		case p.hidden:
			return statement{}, errDoubt
		}
		for level, rec := range p.dirs {
			made[level] = made[level] || rec != noRecord
		}
	}
	return statement{}, errDoubt
}

// upTo is how many records of a layer count.
func (at spot) upTo(layer int) uint32 {
	if layer == at.layer {
		return at.before
	}
	return whole
}

// doubt is errDoubt if an entry of the layers from a statement's up to a spot
// may make it wrong, by way of a link of a lower layer.
func (f *finder) doubt(ctx context.Context, names []string, st statement, at spot) error {
	for layer := st.layer; layer <= at.layer; layer++ {
		s, err := f.sheet(ctx, layer)
		if err != nil {
			return err
		}
		if f.strict && (st.loose || s.anyLoose(at.upTo(layer))) || s.misleads(names, st, layer, at.upTo(layer)) {
			return errDoubt
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}
