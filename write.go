package davit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/davit-cli/davit/archive"
	"github.com/davit-cli/davit/components"
	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/atomicfile"
	"github.com/davit-cli/davit/internal/split"
	"github.com/davit-cli/davit/layout"
	"github.com/davit-cli/davit/ref"
	"github.com/davit-cli/davit/transfer"
)

// write writes the images in the format that was chosen. Of several images,
// those that cannot be had are told by a *transfer.BlobsError.
func (p *pull) write(ctx context.Context, images []image.Image) (written, error) {
	w := written{images: images, path: p.opts.Output}
	if p.opts.Stream == nil && w.path == "" {
		if images[0].Reference.Repository == "" {
			return w, fmt.Errorf("write %s: the image has no name by which the output could be called: name the output", images[0].Label)
		}
		w.path = DefaultOutput(images[0], p.opts)
	}
	if p.opts.directory() {
		w.path = filepath.Clean(w.path)
	}
	if err := p.checkOutput(w.path); err != nil {
		return w, err
	}
	if _, told := compressions[suffix(w.path)]; told && p.opts.Format == Archive {
		p.warning("%s is a plain tar, in spite of its name: the layers in it are compressed already", w.path)
	}
	var err error
	switch {
	case p.opts.Format == Rootfs || p.opts.Format == Files:
		return p.flatten(ctx, w)
	case p.mustRecode(images):
		return p.recode(ctx, w)
	case p.opts.Stream != nil:
		w.size, w.stats, err = p.stream(ctx, images)
		return w, err
	}
	out, err := p.create(&w)
	if err != nil {
		return w, err
	}
	defer func() { _ = out.Close() }() // what it might lose, the next run fetches again
	todo, err := items(images)
	if err != nil {
		return w, err
	}
	if p.opts.ManifestOnly {
		todo = nil
	}
	if w.stats, err = p.fill(ctx, out, todo); err != nil {
		return w, p.pulling(images, err)
	}
	if err := out.Commit(ctx); err != nil {
		return w, fmt.Errorf("finish %s: %w", w.path, err)
	}
	return w, nil
}

// create begins the output, and settles its path and size.
func (p *pull) create(w *written) (image.Output, error) {
	switch p.opts.Format {
	case OCI:
		return layout.Create(w.path, w.images, layout.Options{Restart: p.opts.Restart, Events: p.opts.Events})
	case Components:
		return components.Create(w.path, w.images[0], components.Options{
			ManifestOnly: p.opts.ManifestOnly, Restart: p.opts.Restart, Events: p.opts.Events,
		})
	}
	plan, err := archive.NewLayout(w.images...)
	if err != nil {
		return nil, err
	}
	w.size = plan.Size()
	if w.path, err = atomicfile.Target(w.path); err != nil {
		return nil, err
	}
	if p.opts.Split > 0 {
		w.parts = split.Names(w.path, w.size, p.opts.Split)
	}
	return archive.Create(w.path, plan, archive.CreateOptions{Restart: p.opts.Restart, Split: p.opts.Split, Events: p.opts.Events})
}

// stream puts the archive into a writer, in order.
func (p *pull) stream(ctx context.Context, images []image.Image) (int64, transfer.Stats, error) {
	plan, err := archive.NewLayout(images...)
	if err != nil {
		return 0, transfer.Stats{}, err
	}
	items, err := items(images)
	if err != nil {
		return 0, transfer.Stats{}, err
	}
	out := archive.NewStream(p.opts.Stream, plan)
	stats, err := transfer.Stream(ctx, items, p.opts.Transfer,
		func(_ int, blob io.Reader) error { return out.Blob(blob) })
	if err != nil {
		return 0, stats, p.pulling(images, err)
	}
	return plan.Size(), stats, out.Close()
}

// pulling says of which image an error is, where there is only one.
func (p *pull) pulling(images []image.Image, err error) error {
	var blobs *transfer.BlobsError
	if len(p.from) > 1 || errors.As(err, &blobs) {
		return err
	}
	return fmt.Errorf("pull %s: %w", images[0].Label, err)
}

// items are the blobs of all images, each once, in the order in which they are
// first named, without places.
func items(images []image.Image) ([]transfer.Item, error) {
	var items []transfer.Item
	at := map[digest.Digest]int{}
	known := map[digest.Digest]int64{}
	for _, img := range images {
		for _, c := range img.Documents() {
			known[c.Digest] = c.Size
		}
	}
	for n, img := range images {
		for _, blob := range img.Blobs() {
			size, met := known[blob.Digest]
			if met && size != blob.Size {
				return nil, fmt.Errorf("pull %s: %w: blob %s has two sizes: %d and %d", img.Label, image.ErrVerification, blob.Digest, size, blob.Size)
			}
			known[blob.Digest] = blob.Size
			i, wanted := at[blob.Digest]
			switch {
			case wanted:
				items[i].Wanted = append(items[i].Wanted, n)
			case !met:
				at[blob.Digest] = len(items)
				items = append(items, transfer.Item{Blob: blob, Source: img.Source, Mirrors: img.Mirrors, Wanted: []int{n}})
			}
		}
	}
	return items, nil
}

// split tells the images that lack a blob from the others. A blob that the
// source of one image could not give is not lacking to another one, which has
// it from its own source as soon as the first is left out.
func (p *pull) split(images []image.Image, err *transfer.BlobsError) (failed []Failure, rest []image.Image) {
	sources := map[digest.Digest]image.Source{}
	for _, img := range images {
		for _, blob := range img.Blobs() {
			if _, met := sources[blob.Digest]; !met {
				sources[blob.Digest] = img.Source // as items has it
			}
		}
	}
	for _, img := range images {
		i := slices.IndexFunc(err.Blobs, func(b transfer.BlobError) bool {
			return sources[b.Digest] == img.Source && slices.ContainsFunc(img.Blobs(), func(d image.Descriptor) bool { return d.Digest == b.Digest })
		})
		if i < 0 {
			rest = append(rest, img)
			continue
		}
		failed = append(failed, Failure{img.Label, fmt.Errorf("pull %s: %w", img.Label, err.Blobs[i].Err)})
	}
	return failed, rest
}

const (
	// maxPlaces is how many blobs of a directory are under way at once. Each
	// takes three open files, of which a process may have 1024 in many places.
	maxPlaces = 256
	// pollBusy is how often a blob is looked for that another process fetches.
	pollBusy = 100 * time.Millisecond
)

// fill fetches into the output what it does not have.
func (p *pull) fill(ctx context.Context, out image.Output, todo []transfer.Item) (transfer.Stats, error) {
	var sum transfer.Stats
	for told := false; len(todo) > 0; {
		n := len(todo)
		if p.opts.directory() {
			n = min(n, maxPlaces)
		}
		ready, busy, err := places(ctx, out, todo[:n])
		if err != nil {
			return sum, err
		}
		todo = slices.Concat(todo[n:], busy)
		if len(ready) > 0 {
			stats, err := transfer.Fetch(ctx, ready, p.transfer())
			sum.Fetched += stats.Fetched
			sum.Resumed += stats.Resumed
			if err != nil {
				return sum, err
			}
			continue
		}
		if len(busy) == 0 {
			continue
		}
		if !told {
			p.note("waiting for another davit, which is fetching %d of the blobs", len(busy))
			told = true
		}
		select {
		case <-ctx.Done():
			return sum, context.Cause(ctx)
		case <-time.After(pollBusy):
		}
	}
	return sum, nil
}

// transfer is how blobs are fetched: of several images, one that cannot be had
// does not keep the others, and neither does what refers to them.
func (p *pull) transfer() transfer.Options {
	opts := p.opts.Transfer
	opts.KeepGoing = len(p.from) > 1 || p.opts.Referrers
	return opts
}

// places asks the output for the places of blobs: ready are those to be
// fetched, busy those that another process is at. What is there already is in
// neither.
func places(ctx context.Context, out image.Output, todo []transfer.Item) (ready, busy []transfer.Item, err error) {
	found := make([]image.Place, len(todo))
	waits := make([]bool, len(todo))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.NumCPU()) // blobs that are there are hashed
	for i, item := range todo {
		group.Go(func() (err error) {
			found[i], err = out.Place(ctx, item.Blob)
			if waits[i] = errors.Is(err, image.ErrBusy); waits[i] {
				err = nil
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, nil, err
	}
	for i, item := range todo {
		item.Place = found[i]
		item.Verified = func() error { return out.Done(item.Blob) }
		switch {
		case waits[i]:
			busy = append(busy, item)
		case item.Place != nil:
			ready = append(ready, item)
		}
	}
	return ready, busy, nil
}

// saveUnknown saves what is no manifest among the components of the image.
func (p *pull) saveUnknown(r ref.Reference, err error) error {
	var unknown *image.UnknownError
	dir := p.opts.Output
	if p.opts.Format != Components || !errors.As(err, &unknown) || dir == "" && r.Repository == "" {
		return err
	}
	if dir == "" {
		if r.Tag == "" && r.Digest == "" {
			r = r.WithTag("latest")
		}
		dir = DefaultOutput(image.Image{Reference: r}, p.opts)
	}
	path, saveErr := components.SaveUnknown(dir, unknown.Content)
	if saveErr != nil {
		return errors.Join(err, saveErr)
	}
	return fmt.Errorf("%w; it is saved as %s", err, path)
}

// warn tells what some loaders will not make of the image.
func (p *pull) warn(img image.Image) {
	if entry := img.Entry(); p.opts.Format == OCI && strings.HasPrefix(entry.MediaType, "application/vnd.docker.") {
		p.note("%s has Docker's media type (%s): umoci takes no such image from a layout, older skopeo and podman only one that is alone, as oci:DIR", img.Label, entry.MediaType)
	}
	if (p.opts.Format == OCI || p.opts.Format == Archive) && p.opts.Layers == "" && slices.ContainsFunc(img.Blobs(), image.IsForeign) {
		p.note("%s has foreign layers: skopeo and podman, from oci: and oci-archive:, want them from their URLs although they are there", img.Label)
	}
	if p.opts.Format != Archive {
		return
	}
	if img.IsArtifact() {
		p.warning("%s is no container image (its config is %s): loaders will not take the archive", img.Label, img.Manifests[0].Config.MediaType)
	}
	if img.Name.Tag == "" {
		p.warning("%s has no tag, so docker and podman load it without a name%s", img.Label, p.naming)
	}
	if p.opts.Layers == "" && slices.ContainsFunc(img.Manifests[0].Carried(), func(d image.Descriptor) bool { return strings.HasSuffix(d.MediaType, "zstd") }) {
		p.note("%s has layers that are compressed with zstd: Docker loads those from version 23 on; --layers gzip makes them gzip's", img.Label)
	}
	for _, m := range img.Manifests {
		for _, d := range append([]image.Descriptor{m.Descriptor, m.Config.Descriptor}, m.Layers...) {
			if d.Digest.Algorithm() != "sha256" {
				p.warning("%s has %s digests: only classic Docker and podman load such an archive", img.Label, d.Digest.Algorithm())
				return
			}
		}
	}
}
