package rootfs

import (
	"context"
	"fmt"
	"iter"

	"github.com/davit-cli/davit/image"
)

// View is an image's file system without content: what a container would see.
// It may be used by many goroutines at once.
type View struct {
	tree Tree
}

// OverlayOptions tune Overlay. The zero value works.
type OverlayOptions struct {
	// Limits bound the layers all together.
	Limits Limits
}

// Overlay merges the listings of an image's layers, the lowest first, by the
// rules of Merge. It copies little of them, and keeps them in use.
//
// Errors wrap image.ErrVerification where a layer's content is at fault, and
// ErrLimit where the layers exceed the limits.
func Overlay(ctx context.Context, listings []*Listing, opts OverlayOptions) (*View, error) {
	v := &View{}
	if err := v.overlay(ctx, listings, opts.Limits.withDefaults()); err != nil {
		return nil, fmt.Errorf("overlay the layers: %w", err)
	}
	return v, nil
}

// Fit says whether the limits have room for an image's listings, as far as they
// are there: nil is one that is still to be made. It is for who makes them, and
// would have all in memory before Overlay says so; it looks at none of the
// entries. Errors are those of Overlay.
func Fit(listings []*Listing, opts OverlayOptions) error {
	limits := opts.Limits.withDefaults()
	if len(listings) > maxLayers {
		return fmt.Errorf("%w: the image has %d, more than %d", image.ErrVerification, len(listings), maxLayers)
	}
	var entries, bytes int64
	pages, xattrs := 0, 0
	for i, listing := range listings {
		if listing == nil {
			continue
		}
		entries += listing.entries
		pages += len(listing.text.pages)
		xattrs += listing.metas.xattrBytes
		var err error
		switch {
		case entries > limits.Entries:
			err = fmt.Errorf("%w: %w", image.ErrVerification, limits.errEntries())
		case listing.bytes > limits.Bytes-bytes:
			err = fmt.Errorf("%w: %w", image.ErrVerification, limits.errBytes())
		case (pages-len(listings))*textPage > maxText: // the last pages may become one
			err = errText()
		case xattrs > maxXattrs:
			err = errXattrs()
		}
		bytes += listing.bytes
		if err != nil {
			return fmt.Errorf("layer %d: %w", i+1, err)
		}
	}
	return nil
}

func (v *View) overlay(ctx context.Context, listings []*Listing, limits Limits) error {
	if err := Fit(listings, OverlayOptions{Limits: limits}); err != nil {
		return err
	}
	t := &v.tree
	t.text, t.metas = newText(), newMetas()
	t.text.seal()
	for i, listing := range listings {
		l := *listing.layer
		var err error
		if l.textBase, err = t.text.adopt(listing.text); err == nil {
			l.metaBase, err = t.metas.adopt(listing.metas)
		}
		if err != nil {
			return fmt.Errorf("layer %d: %w", i+1, err)
		}
		t.layers = append(t.layers, &l)
	}
	t.tree = newTree(t.text)
	for i, l := range t.layers {
		a := applier{Tree: t, layer: l, number: uint16(i)}
		if err := a.run(ctx); err != nil {
			return fmt.Errorf("layer %d: %w", i+1, err)
		}
	}
	return nil
}

// Entries gives all entries, in the order of Tree.Entries.
func (v *View) Entries() iter.Seq[Entry] { return v.tree.Entries() }

// Names gives all entries, in the order of Entries, but as Lookup tells of them:
// a file with several names by each.
func (v *View) Names() iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		w := walker{Tree: &v.tree}
		w.all(yield)
	}
}

// EntriesUnder gives the entry at a path if it is no directory, or else the
// directory and all below it, as Entries would if that were all: of a file
// with several names there, the first is the file and the others are links.
// A symbolic link that leads to a directory is followed. Errors are those of
// Lookup.
func (v *View) EntriesUnder(path string) (iter.Seq[Entry], error) {
	id, err := v.tree.look(path, false)
	if err == nil && v.tree.isLink(id) {
		if to, err := v.tree.look(path, true); err == nil && v.tree.isDir(to) {
			id = to
		}
	}
	if err != nil {
		return nil, fmt.Errorf("look up %q: %w", short(path), err)
	}
	if id == root {
		return v.Entries(), nil
	}
	return func(yield func(Entry) bool) {
		w := walker{Tree: &v.tree, first: map[fileID]uint32{}}
		at := v.tree.path(id)
		if yield(w.entry(id, at)) && v.tree.isDir(id) {
			w.walk(id, append([]byte(at), '/'), yield)
		}
	}, nil
}

// Lookup returns the entry at a path, which people may write with a leading or
// trailing slash, with "." and "..". Symbolic links on the way are followed as
// the kernel does inside of the root, absolute ones from there; one that the
// path itself names is followed if follow is set, or the path ends in a slash.
// A file is told as such by each of its names: Type is never TypeLink.
//
// The error wraps image.ErrNotFound if nothing is there, or something on the
// way is no directory, and names the path, and where links led.
func (v *View) Lookup(path string, follow bool) (Entry, error) {
	e, err := v.lookup(path, follow)
	if err != nil {
		return Entry{}, fmt.Errorf("look up %q: %w", short(path), err)
	}
	return e, nil
}

func (v *View) lookup(path string, follow bool) (Entry, error) {
	id, err := v.tree.look(path, follow)
	if err != nil {
		return Entry{}, err
	}
	at := "."
	if id != root {
		at = v.tree.path(id)
	}
	return v.tree.describe(id, at), nil
}
