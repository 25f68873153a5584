package archive

import (
	"context"
	"fmt"
	"slices"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/partial"
)

// File is an archive that is being written to a file. Blobs may come in any
// order; under its name it stands only after Commit.
type File struct {
	layout  *Layout
	partial *partial.Partial
}

// Create begins the archive at path, or goes on with what an earlier run left
// beside it. With restart that is discarded. The caller ends with Commit, or
// with Close, which keeps what is there for the next run.
func Create(path string, layout *Layout, restart bool) (*File, error) {
	var slots []partial.Slot
	for _, e := range layout.blobs() {
		slots = append(slots, partial.Slot{Digest: e.blob.Digest, Size: e.blob.Size, Offset: e.start()})
	}
	p, err := partial.Open(path, slots, layout.size, restart)
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", path, err)
	}
	return &File{layout, p}, nil
}

// Place is where a blob of the layout goes. It is part of image.Output.
func (f *File) Place(_ context.Context, blob image.Descriptor) (image.Place, error) {
	return f.partial.Place(blob.Digest), nil
}

// Done has nothing to do: the archive is whole only as one. It is part of
// image.Output.
func (f *File) Done(image.Descriptor) error { return nil }

// Commit completes the archive and gives it its name. It is called after
// every blob is verified. On error nothing stands under the name that was not
// there before, and Close is still due.
func (f *File) Commit(context.Context) error {
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
	return f.partial.Commit()
}

// Close keeps an archive that is not whole. After Commit it does nothing.
func (f *File) Close() error { return f.partial.Close() }
