package davit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/atomicfile"
	"github.com/davit-cli/davit/internal/partial"
	"github.com/davit-cli/davit/rootfs"
	"github.com/davit-cli/davit/transfer"
)

// flatten writes the image's file system, as one tar or into a directory. The
// layers are fetched into a spool; each is decoded as soon as it is verified.
func (p *pull) flatten(ctx context.Context, w written) (written, error) {
	img := w.images[0]
	if !img.Manifests[0].IsImage() {
		return w, fmt.Errorf("%s: %w (its config is %s)", img.Label, ErrNoFileSystem, img.Manifests[0].Config.MediaType)
	}
	if err := p.opts.checkSaveConfig(w.path); err != nil {
		return w, err
	}
	f, err := p.newFlattening(img, w.path)
	if err != nil {
		return w, err
	}
	defer func() { _ = f.spool.close() }() // what it might lose, the next run fetches again
	if w.stats, err = f.run(ctx); err != nil {
		return w, p.pulling(w.images, err)
	}
	w.path, w.layer, w.size = f.path, f.layer.String(), f.size
	if err := f.commit(); err != nil {
		return w, fmt.Errorf("finish %s: %w", w.path, err)
	}
	if p.opts.SaveConfig != "" {
		return w, saveConfig(p.opts.SaveConfig, img.Manifests[0])
	}
	return w, nil
}

// flattening is one file system on its way.
type flattening struct {
	*pull
	image  image.Image
	layers []rootfs.Layer
	blobs  []image.Descriptor
	path   string // "" for a stream
	spool  *spool

	layer digest.Digest // whose bytes are the output
	size  int64
}

func (p *pull) newFlattening(img image.Image, path string) (*flattening, error) {
	m := img.Manifests[0]
	f := &flattening{pull: p, image: img, blobs: layersOf(m)}
	var dir string
	var err error
	switch {
	case p.opts.Stream != nil:
	case p.opts.Format == Files:
		f.path, dir, err = outputDirectory(path)
	default:
		f.path, err = atomicfile.Target(path)
		dir = f.path + partial.Suffix
	}
	if err == nil && p.opts.SaveConfig != "" {
		err = makeConfigDir(p.opts.SaveConfig)
	}
	if err != nil {
		return nil, err
	}
	if f.spool, err = p.openSpool(dir, f.path, f.blobs); err != nil {
		return nil, err
	}
	// Every layer is verified by its digest. Its diffID, which says the same of
	// the tar in it, is not computed: that would cost a tenth of the time.
	for _, d := range m.Carried() {
		f.layers = append(f.layers, rootfs.Layer{
			Descriptor: d,
			Blob:       f.spool.Place(d.Digest),
			Wait:       func(ctx context.Context) error { return f.spool.wait(ctx, d) },
		})
	}
	return f, nil
}

// layersOf are a manifest's layers that go along, each once.
func layersOf(m image.Manifest) []image.Descriptor {
	seen := map[digest.Digest]bool{}
	var layers []image.Descriptor
	for _, d := range m.Carried() {
		if !seen[d.Digest] {
			seen[d.Digest] = true
			layers = append(layers, d)
		}
	}
	return layers
}

// run fetches the layers and writes the output, side by side.
func (f *flattening) run(ctx context.Context) (transfer.Stats, error) {
	var items []transfer.Item
	for _, blob := range f.blobs {
		items = append(items, transfer.Item{Blob: blob, Source: f.image.Source, Mirrors: f.image.Mirrors})
	}
	var stats transfer.Stats
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		stats, err = f.spool.fill(ctx, items, f.opts.Transfer)
		return err
	})
	group.Go(func() error { return f.write(ctx) })
	err := group.Wait()
	return stats, err
}

// commit gives the output its name; a stream has none.
func (f *flattening) commit() error {
	switch {
	case f.opts.Stream != nil:
		return nil
	case f.layer != "":
		return f.spool.Commit()
	}
	return f.spool.CommitDerived()
}

// write makes the output of the layers.
func (f *flattening) write(ctx context.Context) error {
	scratch, err := f.spool.Scratch()
	if err != nil {
		return err
	}
	opts := rootfs.Options{SpoolDir: scratch, Once: true, Events: f.opts.Events}
	if f.opts.Format == Rootfs && f.compression() == Gzip && f.opts.Level == 0 {
		same, err := rootfs.Verbatim(ctx, f.layers, opts)
		if err != nil {
			return err
		}
		if same {
			return f.verbatim(ctx)
		}
	}
	tree, err := rootfs.Merge(ctx, f.layers, opts)
	if err != nil {
		return err
	}
	defer func() { _ = tree.Close() }() // only the spool, which nobody needs any more
	switch {
	case f.opts.Format == Files:
		for e := range tree.Entries() {
			f.size += e.Size
		}
		return tree.Unpack(ctx, f.spool.Derived(), rootfs.UnpackOptions{Events: f.opts.Events})
	case f.opts.Stream != nil:
		counted := &countingWriter{w: f.opts.Stream}
		err := tree.WriteTar(ctx, counted, f.tarOptions())
		f.size = counted.n
		return err
	}
	out, err := os.OpenFile(f.spool.Derived(), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	err = tree.WriteTar(ctx, out, f.tarOptions())
	if err == nil {
		f.size, err = out.Seek(0, io.SeekCurrent)
	}
	if err == nil {
		err = out.Sync()
	}
	return errors.Join(err, out.Close())
}

// verbatim makes the bytes of the one layer the output.
func (f *flattening) verbatim(ctx context.Context) error {
	blob := f.blobs[0]
	f.layer, f.size = blob.Digest, blob.Size
	f.note("the file system is one layer: its own bytes are taken, %s", blob.Digest)
	if f.opts.Stream == nil {
		return nil
	}
	return copyStream(ctx, f.opts.Stream, io.NewSectionReader(f.spool.Place(blob.Digest), 0, blob.Size))
}

// compression is what was asked for or, for a file, what its name says.
func (f *flattening) compression() Compression {
	switch {
	case f.opts.Compress != "":
		return f.opts.Compress
	case f.opts.Stream != nil:
		return None
	}
	return CompressionOf(f.path)
}

func (f *flattening) tarOptions() rootfs.TarOptions {
	return rootfs.TarOptions{
		Compression: map[Compression]rootfs.Compression{None: rootfs.None, Gzip: rootfs.Gzip, Zstd: rootfs.Zstd}[f.compression()],
		Level:       f.opts.Level,
		Direct:      true,
		Events:      f.opts.Events,
	}
}

// countingWriter counts what goes through it.
type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}
