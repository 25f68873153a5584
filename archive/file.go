package archive

import (
	"context"
	"fmt"
	"slices"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/partial"
	"github.com/davit-cli/davit/internal/split"
)

// File is an archive that is being written to a file. Blobs may come in any
// order; under its name it stands only after Commit.
type File struct {
	layout  *Layout
	opts    CreateOptions
	partial *partial.Partial
}

// CreateOptions of Create. The zero value works.
type CreateOptions struct {
	// Restart discards what an earlier run has left.
	Restart bool
	// Split is the size in bytes of the parts in which the archive is written:
	// path.001, path.002 and so on, at most 999, one at least; and path.sha256, which
	// has their checksums and tells how to join them. 0: one file.
	Split int64
	// Events receives a stage where parts are hashed. May be nil.
	Events image.EventFunc
}

// Create begins the archive at path, or goes on with what an earlier run left
// beside it. The caller ends with Commit, or with Close, which keeps what is
// there for the next run.
//
// An archive in parts is refused where a file stands at path already: readers
// would take that one.
func Create(path string, layout *Layout, opts CreateOptions) (*File, error) {
	if opts.Split > 0 {
		if err := CheckSplit(path, layout.size, opts.Split); err != nil {
			return nil, err
		}
	}
	var slots []partial.Slot
	for _, e := range layout.blobs() {
		slots = append(slots, partial.Slot{Digest: e.blob.Digest, Size: e.blob.Size, Offset: e.start()})
	}
	p, err := partial.OpenParts(path+partial.Suffix, path, slots, layout.size, opts.Split, opts.Restart)
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", path, err)
	}
	return &File{layout, opts, p}, nil
}

// CheckSplit says whether an archive of size bytes can be written at path in
// parts of so many bytes.
func CheckSplit(path string, size, part int64) error {
	err := split.CheckCount(size, part)
	if err == nil {
		err = split.CheckOutput(path)
	}
	if err != nil {
		return fmt.Errorf("write %s in parts: %w", path, err)
	}
	return nil
}

// Place is where a blob of the layout goes. It is part of image.Output.
func (f *File) Place(_ context.Context, blob image.Descriptor) (image.Place, error) {
	return f.partial.Place(blob.Digest), nil
}

// Done has nothing to do: the archive is whole only as one. It is part of
// image.Output.
func (f *File) Done(image.Descriptor) error { return nil }

// Commit completes the archive and gives it its name, or its parts theirs, which
// are hashed before; the checksums stand there last. It is called after every blob
// is verified. On error nothing stands under the names that was not there before,
// and Close is still due.
func (f *File) Commit(ctx context.Context) error {
	// All that is no blob is written here, padding too: what an earlier run
	// left there is not believed.
	for _, e := range f.layout.entries {
		if _, err := f.partial.WriteAt(slices.Concat(e.header, e.document), e.offset); err != nil {
			return err
		}
		if e.document != nil {
			continue
		}
		end := e.start() + e.blob.Size
		if _, err := f.partial.WriteAt(make([]byte, padded(end)-end), end); err != nil {
			return err
		}
	}
	if _, err := f.partial.WriteAt(make([]byte, endSize), f.layout.size-endSize); err != nil {
		return err
	}
	if f.opts.Split > 0 {
		return f.partial.CommitParts(ctx, f.layout.size, f.opts.Events)
	}
	return f.partial.Commit()
}

// Close keeps an archive that is not whole. After Commit it does nothing.
func (f *File) Close() error { return f.partial.Close() }
