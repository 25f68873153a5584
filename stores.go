package davit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/archive"
	"github.com/davit-cli/davit/components"
	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/split"
	"github.com/davit-cli/davit/layout"
)

// OpenStore opens the images at a path: an archive of whichever tool, also in
// parts (x.tar.001, or x.tar where that is not there itself), an image
// layout or a directory of components. It ends when ctx does, which the store
// outlives; events, which may be nil, receives a stage where an archive is
// decompressed. The caller closes the store. Errors are those of archive.Open,
// layout.Open and components.Open; they wrap image.ErrNotFound where nothing is
// there.
func OpenStore(ctx context.Context, path string, events image.EventFunc) (image.Store, error) {
	return openStore(ctx, path, events)
}

// Stat looks whether something is at a path that OpenStore may open: a file, a
// directory, or the parts of an archive. The error is os.Stat's.
func Stat(path string) error {
	_, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) && split.Begun(path) {
		return nil
	}
	return err
}

// openStore opens what is at a path: an archive, an image layout or a
// directory of components. It ends when ctx does, which the store outlives.
func openStore(ctx context.Context, path string, events image.EventFunc) (image.Store, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil && Stat(path) == nil:
		return opened(archive.Open(ctx, path, archive.OpenOptions{Events: events}))
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("open %s: %w: there is no such file or directory", path, image.ErrNotFound)
	case err != nil:
		return nil, fmt.Errorf("open the image: %w", err) // it names the path
	case !info.IsDir():
		return opened(archive.Open(ctx, path, archive.OpenOptions{Events: events}))
	case exists(filepath.Join(path, ocispec.ImageLayoutFile)):
		return opened(layout.Open(path))
	}
	store, err := components.Open(path)
	if errors.Is(err, components.ErrNoComponents) {
		err = fmt.Errorf("open %s: %w, and is no image layout either: it has none of oci-layout, manifest_list.json, image_manifest.json",
			path, components.ErrNoComponents)
	}
	return opened(store, err)
}

// opened is a store, or nil where there is an error.
func opened[S image.Store](store S, err error) (image.Store, error) {
	if err != nil {
		return nil, err
	}
	return store, nil
}
