package davit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/archive"
	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/atomicfile"
	"github.com/davit-cli/davit/internal/partial"
	"github.com/davit-cli/davit/layout"
	"github.com/davit-cli/davit/recode"
	"github.com/davit-cli/davit/transfer"
)

// mustRecode says whether layers are to be re-encoded.
func (p *pull) mustRecode(images []image.Image) bool {
	return p.opts.Layers != "" && slices.ContainsFunc(images, func(img image.Image) bool {
		return len(recode.Plan(img, p.layers())) > 0
	})
}

func (p *pull) layers() recode.Compression {
	if p.opts.Layers == None {
		return recode.None
	}
	return recode.Gzip
}

// recode writes images with layers that are re-encoded, once they are fetched
// into a spool.
func (p *pull) recode(ctx context.Context, w written) (written, error) {
	todo, err := items(w.images)
	if err != nil {
		return w, err
	}
	if p.opts.Format == OCI {
		return p.recodeLayout(ctx, w, todo)
	}
	return p.recodeArchive(ctx, w, todo)
}

// recodeArchive appends blob after blob to the archive: the sizes of the
// layers are not known before.
func (p *pull) recodeArchive(ctx context.Context, w written, todo []transfer.Item) (written, error) {
	dir := ""
	if p.opts.Stream == nil {
		var err error
		if w.path, err = atomicfile.Target(w.path); err != nil {
			return w, err
		}
		dir = w.path + partial.Suffix
		if p.opts.Split > 0 {
			if err := archive.CheckSplit(w.path, 0, p.opts.Split); err != nil {
				return w, err
			}
		}
	}
	s, err := p.openSpool(dir, w.path, blobsOf(todo))
	if err != nil {
		return w, err
	}
	defer func() { _ = s.close() }() // what it might lose, the next run fetches again
	if w.stats, err = s.fill(ctx, todo, p.transfer()); err != nil {
		return w, p.pulling(w.images, err)
	}
	file, err := p.createDerived(s)
	if err != nil {
		return w, err
	}
	w.images, w.size, err = p.appendAll(ctx, file, s, w.images)
	if err = errors.Join(err, file.Close()); err != nil {
		return w, err
	}
	if p.opts.Stream != nil {
		return w, nil
	}
	if err := p.commitDerived(ctx, s, &w); err != nil {
		return w, fmt.Errorf("finish %s: %w", w.path, err)
	}
	return w, nil
}

// appendAll writes the archive into the file, and on to the stream where there
// is one.
func (p *pull) appendAll(ctx context.Context, file appendFile, s *spool, images []image.Image) ([]image.Image, int64, error) {
	out := archive.NewAppend(file)
	derived, err := p.recodeAll(ctx, images, s, out, nil)
	if err != nil {
		return nil, 0, err
	}
	if err := out.Finish(derived...); err != nil {
		return nil, 0, err
	}
	if p.opts.Stream != nil {
		return derived, out.Size(), copyStream(ctx, p.opts.Stream, io.NewSectionReader(file, 0, out.Size()))
	}
	if one, ok := file.(*os.File); ok {
		return derived, out.Size(), one.Sync()
	}
	return derived, out.Size(), nil // parts are made durable when they are hashed
}

// recodeLayout fetches what stays as it is into the layout itself, and the
// rest into a spool beside the layout's other blobs under way.
func (p *pull) recodeLayout(ctx context.Context, w written, todo []transfer.Item) (written, error) {
	out, err := layout.Create(w.path, w.images, layout.Options{Restart: p.opts.Restart, Events: p.opts.Events})
	if err != nil {
		return w, err
	}
	defer func() { _ = out.Close() }() // what it might lose, the next run fetches again
	planned := map[digest.Digest]bool{}
	for _, img := range w.images {
		for _, d := range recode.Plan(img, p.layers()) {
			planned[d.Digest] = true
		}
	}
	var kept, changed []transfer.Item
	for _, item := range todo {
		if planned[item.Blob.Digest] {
			changed = append(changed, item)
		} else {
			kept = append(kept, item)
		}
	}
	if w.stats, err = p.fill(ctx, out, kept); err != nil {
		return w, p.pulling(w.images, err)
	}
	s, err := p.openLayoutSpool(ctx, w.path, blobsOf(changed))
	if err != nil {
		return w, err
	}
	defer func() { _ = s.close() }()
	stats, err := s.fill(ctx, changed, p.transfer())
	w.stats.Fetched += stats.Fetched
	if err != nil {
		return w, p.pulling(w.images, err)
	}
	have := func(blob image.Descriptor) bool { return !planned[blob.Digest] }
	if w.images, err = p.recodeAll(ctx, w.images, s, &layoutSink{out, s}, have); err != nil {
		return w, err
	}
	if err := out.Derive(w.images); err != nil {
		return w, err
	}
	if err := s.Discard(); err != nil {
		return w, err
	}
	if err := out.Commit(ctx); err != nil {
		return w, fmt.Errorf("finish %s: %w", w.path, err)
	}
	return w, nil
}

// openLayoutSpool opens the spool of a layout in dir, which is this command's:
// whatever its images are now, the next run finds it. Where another process is
// at the same, it waits.
func (p *pull) openLayoutSpool(ctx context.Context, dir string, blobs []image.Descriptor) (*spool, error) {
	name := "recode-" + digest.FromString(fmt.Sprint(p.names())).Encoded()[:12]
	for told := false; ; told = true {
		s, err := p.openSpool(filepath.Join(dir, layout.PartialDir, name), filepath.Join(dir, name), blobs)
		if !errors.Is(err, partial.ErrLocked) {
			return s, err
		}
		if !told {
			p.note("waiting for another davit, which is re-encoding the same images")
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(pollBusy):
		}
	}
}

// layoutSink makes re-encoded layers blobs of a layout.
type layoutSink struct {
	out *layout.Writer
	*spool
}

// Blob is part of recode.Sink.
func (s *layoutSink) Blob(write func(w io.Writer) (image.Descriptor, error)) error {
	file, err := os.Create(s.Derived())
	if err != nil {
		return err
	}
	blob, err := write(file)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	return s.out.Adopt(blob, s.Derived())
}

// recodeAll writes the images' blobs from the spool into the sink.
func (p *pull) recodeAll(ctx context.Context, images []image.Image, s *spool, sink recode.Sink, have func(image.Descriptor) bool) ([]image.Image, error) {
	stage := image.NewStage(p.opts.Events, "re-encode layers", s.size)
	open := func(_ context.Context, blob image.Descriptor) (io.ReadCloser, error) {
		in := io.NewSectionReader(s.Place(blob.Digest), 0, blob.Size)
		return io.NopCloser(&stagedReader{in, stage}), nil
	}
	derived, err := recode.Images(ctx, images, p.layers(), open, sink, recode.Options{Level: p.opts.Level, Have: have, Events: p.opts.Events})
	stage.End(err)
	return derived, err
}

// stagedReader tells a stage of what is read.
type stagedReader struct {
	r     io.Reader
	stage *image.Stage
}

func (r *stagedReader) Read(b []byte) (int, error) {
	n, err := r.r.Read(b)
	r.stage.Add(int64(n))
	return n, err
}

func blobsOf(items []transfer.Item) []image.Descriptor {
	var blobs []image.Descriptor
	for _, item := range items {
		blobs = append(blobs, item.Blob)
	}
	return blobs
}
