package rootfs

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/docker/go-units"
	"golang.org/x/sync/errgroup"

	"github.com/davit-cli/davit/image"
)

// Tree is an image's file system: what a container would see.
type Tree struct {
	layers []*layer
	tree   *tree
	text   *text
	metas  *metas
	spools []*spool
	stats  Stats
	opts   Options
	spent  atomic.Bool // written, where Options.Once says that it is so once
}

// merger is what the decoders of one merge share.
type merger struct {
	opts    Options
	text    *text
	metas   *metas
	layers  []*layer
	seed    maphash.Seed
	hints   []atomic.Pointer[hint]
	total   atomic.Int64 // bytes of tars
	entries atomic.Int64
	stage   *image.Stage
}

func (m *merger) hashPath(p string) uint64 { return maphash.String(m.seed, p) }

// Merge decodes an image's layers, the lowest first, and merges them. The
// caller closes the Tree, which needs the layers' blobs until then.
//
// The layers' rules are those of the OCI image-spec, layer.md, as Docker and
// umoci read them. A whiteout hides what lower layers have, never what its own
// layer has, wherever in the layer it stands. Of two entries of one layer for
// one path the last wins. A path's parents are resolved inside the root: where
// a lower layer has a symbolic link, the upper layer's file goes where it
// leads. What is missing on the way becomes a directory of root with mode 0755
// and time 0, and what is there but neither directory nor link gives way. A
// hard link keeps its content, whatever later happens to its other names.
//
// Errors wrap image.ErrVerification where a layer's content is at fault, and
// ErrLimit where it exceeds the limits.
func Merge(ctx context.Context, layers []Layer, opts Options) (*Tree, error) {
	m, err := newMerger(layers, opts)
	if err != nil {
		return nil, err
	}
	t := &Tree{layers: m.layers, text: m.text, metas: m.metas, opts: m.opts}
	m.begin("merge layers")
	err = t.merge(ctx, m)
	m.stage.End(err)
	if err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

func newMerger(layers []Layer, opts Options) (*merger, error) {
	if len(layers) > maxLayers {
		return nil, fmt.Errorf("merge the layers: %w: the image has %d, more than %d", image.ErrVerification, len(layers), maxLayers)
	}
	m := &merger{
		opts:  opts.withDefaults(),
		text:  newText(),
		metas: newMetas(),
		seed:  maphash.MakeSeed(),
		hints: make([]atomic.Pointer[hint], len(layers)),
	}
	for _, l := range layers {
		m.layers = append(m.layers, &layer{Layer: l})
	}
	return m, nil
}

// begin begins the stage of the decoding.
func (m *merger) begin(text string) {
	var total int64
	for _, l := range m.layers {
		total += l.Descriptor.Size
	}
	m.stage = image.NewStage(m.opts.Events, text, total)
}

func (t *Tree) merge(ctx context.Context, m *merger) error {
	if err := t.decode(ctx, m); err != nil {
		return fmt.Errorf("merge the layers: %w", err)
	}
	m.hints = nil // nobody asks any more, and a million paths take 8 MB
	m.text.seal()
	t.tree = newTree(t.text)
	for i, l := range t.layers {
		a := applier{Tree: t, layer: l, number: uint16(i)}
		if err := a.run(ctx); err != nil {
			return fmt.Errorf("merge the layers: layer %d (%s): %w", i+1, l.Descriptor.Digest, err)
		}
	}
	if err := t.decodeAgain(ctx, m); err != nil {
		return fmt.Errorf("merge the layers: %w", err)
	}
	t.stats.Entries, t.stats.Decoded, t.stats.Paths = m.entries.Load(), m.total.Load(), t.tree.live
	for _, l := range t.layers {
		t.stats.Skipped += l.skippedBytes
	}
	for _, s := range t.spools {
		t.stats.Spooled += s.size()
	}
	if t.stats.Spooled > 0 {
		t.opts.Events.Send(image.Event{
			Kind:  image.EventNote,
			Text:  fmt.Sprintf("%s of unpacked layers wait in a spool until they are written", units.HumanSizeWithPrecision(float64(t.stats.Spooled), 3)),
			Bytes: t.stats.Spooled,
		})
	}
	return nil
}

// decode decodes all layers, the topmost first, so that what upper layers
// hide need not be kept; but none is left for last that would then keep one
// processor at work alone.
func (t *Tree) decode(ctx context.Context, m *merger) error {
	todo := make([]int, len(m.layers)) // topmost last
	var left int64
	for i, l := range m.layers {
		todo[i] = i
		left += l.Descriptor.Size
	}
	jobs := min(m.opts.Jobs, len(m.layers))
	var mu sync.Mutex
	next := func() (int, bool) {
		mu.Lock()
		defer mu.Unlock()
		if len(todo) == 0 {
			return 0, false
		}
		at := len(todo) - 1
		for i, n := range todo {
			if size := m.layers[n].Descriptor.Size; size*int64(jobs) >= left && size > m.layers[todo[at]].Descriptor.Size {
				at = i
			}
		}
		n := todo[at]
		todo = slices.Delete(todo, at, at+1)
		left -= m.layers[n].Descriptor.Size
		return n, true
	}
	for range jobs {
		s, err := newSpool(m.opts.SpoolDir)
		if err != nil {
			return err
		}
		t.spools = append(t.spools, s)
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, s := range t.spools {
		group.Go(func() error {
			for {
				n, ok := next()
				if !ok {
					return s.flush()
				}
				d, err := newDecoder(m, n, s)
				if err != nil {
					return err
				}
				if err := d.run(ctx); err != nil {
					return err
				}
			}
		})
	}
	return group.Wait()
}

// decodeAgain fetches what was taken for hidden and is not: a file that has
// another name (go-containerregistry#2002), or that a link led elsewhere.
func (t *Tree) decodeAgain(ctx context.Context, m *merger) error {
	wanted := map[uint16][]uint32{}
	if !slices.ContainsFunc(t.layers, func(l *layer) bool { return l.skippedBytes > 0 }) {
		return nil
	}
	t.tree.reachable(root, func(n *node) {
		if n.kind == tar.TypeReg && t.layers[n.layer].records.at(n.rec).data == skipped {
			wanted[n.layer] = append(wanted[n.layer], n.rec)
		}
	})
	for _, number := range slices.Sorted(maps.Keys(wanted)) {
		l := t.layers[number]
		recs := wanted[number]
		slices.Sort(recs)
		d := &decoder{recorder: recorder{merger: m, layer: l}, number: int(number), spool: l.spool, again: true, wanted: slices.Compact(recs)}
		for _, rec := range d.wanted {
			l.skippedBytes -= l.records.at(rec).size
		}
		if err := d.run(ctx); err != nil {
			return err
		}
		if err := l.spool.flush(); err != nil {
			return err
		}
		t.stats.Again++
	}
	return nil
}

// begin comes before the tree is written, and tells the size of all content.
func (t *Tree) begin() (int64, error) {
	if t.opts.Once && t.spent.Swap(true) {
		return 0, ErrWritten
	}
	var total int64
	linked := map[fileID]bool{}
	t.tree.reachable(root, func(n *node) {
		if n.kind != tar.TypeReg {
			return
		}
		if n.linked {
			if linked[fileID{n.layer, n.rec}] {
				return
			}
			linked[fileID{n.layer, n.rec}] = true
		}
		rec := t.layers[n.layer].records.at(n.rec)
		total += rec.size
		if t.opts.Once && rec.data >= 0 {
			t.layers[n.layer].spool.expect(rec.data, rec.size)
		}
	})
	return total, nil
}

// Stats tell what the merge did.
func (t *Tree) Stats() Stats { return t.stats }

// Close removes the spool.
func (t *Tree) Close() error {
	var errs []error
	for _, s := range t.spools {
		errs = append(errs, s.close())
	}
	t.spools = nil
	return errors.Join(errs...)
}

// applier applies one layer's records to the tree.
type applier struct {
	*Tree
	*layer
	number uint16

	// made are the nodes of dirs, as resolved in an epoch of the tree.
	made  []madeDir
	stamp uint16
}

type madeDir struct{ node, epoch uint32 }

func (a *applier) run(ctx context.Context) error {
	a.stamp = a.number + 1
	a.made = make([]madeDir, len(a.dirs))
	for i := range uint32(a.records.n) {
		if i%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if err := a.apply(i); err != nil {
			rec := a.records.at(i)
			name := join(a.text.string(a.dirText(rec.dir)), a.text.string(a.nameText(rec)))
			return fmt.Errorf("entry %q: %w", short(name), err)
		}
	}
	return nil
}

func (a *applier) apply(i uint32) error {
	rec := a.records.at(i)
	m := a.metas.list[a.metaOf(rec)]
	base := a.text.bytes(a.nameText(rec))
	switch {
	case m.kind == typeWhiteout || m.kind == typeOpaque:
		dir, missing, err := a.tree.resolve(a.text.string(a.dirText(rec.dir)), a.target)
		if err != nil || len(missing) > 0 {
			return err
		}
		if m.kind == typeOpaque {
			a.tree.sweep(dir, a.stamp)
		} else if id := a.tree.find(dir, base); id != 0 {
			a.tree.hide(id, a.stamp)
		}
		return nil
	case len(base) == 0: // the root
		n := a.tree.node(root)
		n.layer, n.rec = a.number, i
		a.tree.touch(root, a.stamp)
		return nil
	}

	dir, err := a.parent(rec.dir)
	if err != nil {
		return err
	}
	v := node{kind: m.kind, layer: a.number, rec: i}
	old := a.tree.find(dir, base)
	switch {
	case m.kind == tar.TypeLink:
		target, err := a.linked(rec)
		if err != nil {
			return err
		}
		if target == old {
			a.tree.touch(old, a.stamp)
			return nil
		}
		n := a.tree.node(target)
		n.linked = true
		v = node{kind: n.kind, layer: n.layer, rec: n.rec, linked: true}
	case m.kind == tar.TypeDir && old != 0 && a.tree.node(old).kind == tar.TypeDir:
		n := a.tree.node(old)
		n.layer, n.rec = a.number, i
		a.tree.touch(old, a.stamp)
		return nil
	}
	if old != 0 {
		a.tree.remove(old)
	}
	id, err := a.tree.create(dir, a.nameText(rec), v)
	if err != nil {
		return err
	}
	a.tree.touch(id, a.stamp)
	return nil
}

// parent returns the directory that an entry goes to, and makes it where it is missing.
func (a *applier) parent(dir uint32) (uint32, error) {
	if made := a.made[dir]; dir > 0 && made.node != 0 && made.epoch == a.tree.epoch {
		return made.node, nil
	}
	at, missing, err := a.tree.resolve(a.text.string(a.dirText(dir)), a.target)
	if err != nil {
		return 0, err
	}
	if at, err = a.tree.makeDirs(at, missing, a.stamp); err != nil {
		return 0, err
	}
	a.made[dir] = madeDir{at, a.tree.epoch}
	return at, nil
}

// linked returns the node that a hard link is another name of.
func (a *applier) linked(rec *record) (uint32, error) {
	path := a.text.string(a.targetText(rec))
	n, _, err := parseName(path)
	if err != nil {
		return 0, err
	}
	dir, missing, err := a.tree.resolve(n.dir, a.target)
	if err != nil {
		return 0, err
	}
	id := uint32(0)
	if len(missing) == 0 {
		id = a.tree.find(dir, []byte(n.base))
	}
	switch {
	case id == 0:
		return 0, fmt.Errorf("%w: it links to %q, which is not there", image.ErrVerification, short(path))
	case a.tree.node(id).kind == tar.TypeDir:
		return 0, fmt.Errorf("%w: it links to %q, which is a directory", image.ErrVerification, short(path))
	}
	return id, nil
}

// target is where a symbolic link leads.
func (t *Tree) target(n *node) string {
	l := t.layers[n.layer]
	return t.text.string(l.targetText(l.records.at(n.rec)))
}
