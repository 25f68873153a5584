package davit

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/tempfile"
	"github.com/davit-cli/davit/rootfs"
	"github.com/davit-cli/davit/toc"
	"github.com/davit-cli/davit/transfer"
)

// layers reads the layers of one image that is looked at, without writing it.
// The caller ends with release.
type layers struct {
	*look
	layers []image.Descriptor
	// digests has the content of all files hashed.
	digests bool
	// keep has layers that come over the network kept, so that content can be
	// read after their names.
	keep bool

	budget *toc.Budget                      // of all tables
	tables map[digest.Digest]*toc.Table     // of layers that list has listed by them
	kept   map[digest.Digest]*tempfile.File // whole layers
}

func (l *look) layers(img image.Image) (*layers, error) {
	m := img.Manifests[0]
	if !m.IsImage() {
		return nil, ErrNoFileSystem
	}
	return &layers{look: l, layers: m.Layers, budget: toc.NewBudget(maxTables), tables: map[digest.Digest]*toc.Table{}, kept: map[digest.Digest]*tempfile.File{}}, nil
}

// release removes what was kept.
func (v *layers) release() {
	for _, f := range v.kept {
		_ = f.Close()
	}
}

// view merges all layers by their names. Those that known has are not read
// again, and the others are added to it.
func (v *layers) view(ctx context.Context, known map[digest.Digest]*rootfs.Listing) (*rootfs.View, error) {
	if err := v.listTables(ctx, known); err != nil {
		return nil, err
	}
	for _, layer := range v.unknown(known) {
		v.tell(layer, readWhole)
	}
	if err := v.listWhole(ctx, known); err != nil {
		return nil, err
	}
	var listings []*rootfs.Listing
	for _, layer := range v.layers {
		listings = append(listings, known[layer.Digest])
	}
	return rootfs.Overlay(ctx, listings, rootfs.OverlayOptions{})
}

// How a layer is read.
const (
	readTable = "its table of contents"
	readWhole = "read whole"
)

// tell tells how a layer is read.
func (v *layers) tell(layer image.Descriptor, how string) {
	number := 1 + slices.IndexFunc(v.layers, func(d image.Descriptor) bool { return d.Digest == layer.Digest })
	v.opts.Events.Send(image.Event{Kind: image.EventStep, Text: fmt.Sprintf("layer %d of %d, %s: %s", number, len(v.layers), layer.Digest, how)})
}

// maxTables is the memory in bytes that the tables of contents of an image may
// take. Layers beyond it are read whole.
const maxTables = 1 << 30

// tableJobs is how many tables of contents are read at once.
const tableJobs = 8

// unknown are the layers that known has not, each once.
func (v *layers) unknown(known map[digest.Digest]*rootfs.Listing) []image.Descriptor {
	var unknown []image.Descriptor
	for _, layer := range v.layers {
		met := func(d image.Descriptor) bool { return d.Digest == layer.Digest }
		if known[layer.Digest] == nil && !slices.ContainsFunc(unknown, met) {
			unknown = append(unknown, layer)
		}
	}
	return unknown
}

// listTables lists the layers that have a table of contents.
func (v *layers) listTables(ctx context.Context, known map[digest.Digest]*rootfs.Listing) error {
	todo := v.unknown(known)
	found := make([]*rootfs.Listing, len(todo))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(tableJobs)
	for i, layer := range todo {
		group.Go(func() error {
			table, err := v.table(groupCtx, layer)
			if err == nil && table != nil {
				found[i], err = listTable(groupCtx, layer, table)
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for i, layer := range todo {
		if found[i] != nil {
			v.tell(layer, readTable)
			known[layer.Digest] = found[i]
		}
	}
	return v.fit(known)
}

// fit says whether what is known of the layers so far is not too much for one
// image: before all of it is in memory.
func (v *layers) fit(known map[digest.Digest]*rootfs.Listing) error {
	var listings []*rootfs.Listing
	for _, layer := range v.layers {
		listings = append(listings, known[layer.Digest])
	}
	return rootfs.Fit(listings, rootfs.OverlayOptions{})
}

// table reads a layer's table of contents, where it has one that is to be used.
func (v *layers) table(ctx context.Context, layer image.Descriptor) (*toc.Table, error) {
	if v.opts.NoTOC {
		return nil, nil
	}
	item := v.item(layer)
	table, err := toc.Open(ctx, layer, func(ctx context.Context, off, n int64, w io.Writer) error {
		return transfer.Section(ctx, item, off, n, w, v.opts.Transfer)
	}, v.budget)
	var none *image.NoRangeError
	switch {
	case errors.As(err, &none):
		return nil, nil
	case errors.Is(err, image.ErrVerification):
		v.opts.Events.Send(image.Event{Kind: image.EventWarning, Text: fmt.Sprintf("the layer is read whole: %v", err)})
		return nil, nil
	case err != nil:
		return nil, err // it names the step
	case table != nil && v.digests && !tellsDigests(table):
		return nil, nil
	}
	return table, nil
}

// tellsDigests says whether a table tells the digest of every file's content.
func tellsDigests(table *toc.Table) bool {
	for i := range table.Len() {
		if h := table.Header(i); h.Typeflag == tar.TypeReg && h.Size > 0 && table.Digest(i) == "" {
			return false
		}
	}
	return true
}

func listTable(ctx context.Context, layer image.Descriptor, table *toc.Table) (*rootfs.Listing, error) {
	listing, err := rootfs.ListHeaders(ctx, headers(table), rootfs.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("read the table of contents of layer %s: %w", layer.Digest, err)
	}
	return listing, nil
}

func headers(table *toc.Table) iter.Seq2[*tar.Header, digest.Digest] {
	return func(yield func(*tar.Header, digest.Digest) bool) {
		for i := range table.Len() {
			if !yield(table.Header(i), table.Digest(i)) {
				return
			}
		}
	}
}

// listWhole reads the layers that are still unknown from end to end, each once.
func (v *layers) listWhole(ctx context.Context, known map[digest.Digest]*rootfs.Listing) error {
	var todo []transfer.Item
	for _, layer := range v.unknown(known) {
		todo = append(todo, v.item(layer))
	}
	if len(todo) == 0 {
		return nil
	}
	read := maps.Clone(known) // known is not the sink's, which may outlive ctx's end
	_, err := transfer.Stream(ctx, todo, v.opts.Transfer, func(i int, blob io.Reader) (err error) {
		layer := todo[i].Blob.Digest
		if read[layer], err = v.listBlob(ctx, layer, blob); err != nil {
			return err
		}
		return v.fit(read)
	})
	if err != nil {
		return err
	}
	maps.Copy(known, read)
	return nil
}

// listBlob reads a layer to its end, where it proves itself, and keeps it
// where that is wanted and it is not on disk already.
func (v *layers) listBlob(ctx context.Context, layer digest.Digest, blob io.Reader) (*rootfs.Listing, error) {
	if v.keep && v.store == nil {
		file, err := tempfile.New("")
		if err != nil {
			return nil, err
		}
		v.kept[layer] = file
		blob = io.TeeReader(blob, file)
	}
	listing, err := rootfs.List(ctx, blob, rootfs.ListOptions{Digests: v.digests})
	if err != nil {
		return nil, fmt.Errorf("read layer %s: %w", layer, err)
	}
	if _, err := io.Copy(io.Discard, blob); err != nil {
		return nil, fmt.Errorf("read layer %s: %w", layer, err)
	}
	return listing, nil
}

// list lists one layer, by its table of contents where it has one.
func (v *layers) list(ctx context.Context, i int) (*rootfs.Listing, error) {
	layer := v.layers[i]
	table, err := v.table(ctx, layer)
	if err != nil {
		return nil, err
	}
	if table != nil {
		v.tell(layer, readTable)
		v.tables[layer.Digest] = table
		return listTable(ctx, layer, table)
	}
	v.tell(layer, readWhole)
	one := layers{look: v.look, layers: []image.Descriptor{layer}, digests: v.digests, keep: v.keep, kept: v.kept}
	known := map[digest.Digest]*rootfs.Listing{}
	err = one.listWhole(ctx, known)
	return known[layer.Digest], err
}

// content writes the content of a file of a layer that was listed.
func (v *layers) content(ctx context.Context, e rootfs.Entry, w io.Writer) error {
	layer := v.layers[e.Layer]
	if table := v.tables[layer.Digest]; table != nil {
		return table.Content(ctx, e.Ordinal, w)
	}
	if kept := v.kept[layer.Digest]; kept != nil {
		return rootfs.CopyEntry(ctx, io.NewSectionReader(kept, 0, layer.Size), e.Ordinal, w, rootfs.CopyOptions{})
	}
	opened, err := v.source.OpenRange(ctx, layer, 0, layer.Size)
	if err != nil {
		return err
	}
	defer func() { _ = opened.Body.Close() }()
	return rootfs.CopyEntry(ctx, opened.Body, e.Ordinal, w, rootfs.CopyOptions{Digest: e.Digest})
}
