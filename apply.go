package davit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
)

// Apply joins a delta, the last of the files, with its bases, the others, and
// writes the delta's images whole, as an Archive or OCI layout: what a pull
// without PullOptions.Since writes of the same images, byte for byte. Files are
// archives, layouts or directories of components; a base may be a delta too. All
// that is written is verified.
//
// Of the options count Format, Output or Stream (one of them is needed), Split,
// Restart, Transfer and Events. Where blobs are in none of the files, nothing is written,
// and the error is a *MissingError. Foreign layers that are in none are left out
// with a warning, as PullOptions.NoForeign does.
func Apply(ctx context.Context, files []string, opts PullOptions) ([]PullResult, error) {
	begun := time.Now()
	var from []Location
	for _, file := range files {
		at, err := parseFile(file)
		if err != nil {
			return nil, err
		}
		from = append(from, at)
	}
	switch {
	case len(from) < 2:
		return nil, errors.New("a delta and at least one base are needed")
	case opts.Output == "" && opts.Stream == nil:
		return nil, errors.New("the output needs a name")
	case opts.Format != "" && opts.Format != Archive && opts.Format != OCI:
		return nil, fmt.Errorf("format %s: a delta becomes an archive or an OCI layout", opts.Format)
	}
	p, err := newPull([]asked{{Location: from[len(from)-1]}}, PullOptions{
		Format: opts.Format, Output: opts.Output, Stream: opts.Stream, Split: opts.Split, Restart: opts.Restart,
		Transfer: opts.Transfer, Events: opts.Events,
	})
	if err != nil {
		return nil, err
	}
	defer p.close()
	p.naming = ""
	for _, at := range from {
		p.inputs = append(p.inputs, at.Path)
	}
	source, err := p.joinStores(ctx, from)
	if err != nil {
		return nil, err
	}
	path := from[len(from)-1].Path
	images, err := p.joinedImages(ctx, source, path)
	if err != nil {
		return nil, err
	}
	results, err := p.finish(ctx, begun, images, nil)
	if err != nil {
		return nil, fmt.Errorf("apply %s: %w", path, source.blame(err))
	}
	return results, nil
}

// parseFile is a file or directory with images.
func parseFile(name string) (Location, error) {
	if exists(name) {
		return Location{Path: name}, nil
	}
	at, err := ParseLocation(name)
	switch {
	case err == nil && at.Image != "":
		return at, fmt.Errorf("%s: all of a delta and its bases are joined: name them without an image", name)
	case err == nil && at.Path != "":
		return at, nil
	}
	return at, cmp.Or(noTransport(name), fmt.Errorf("open %s: %w: there is no such file or directory", name, image.ErrNotFound))
}

// joinStores opens the last of the files, joined with the others.
func (p *pull) joinStores(ctx context.Context, from []Location) (*joined, error) {
	var bases []image.Source
	for _, at := range from[:len(from)-1] {
		store, err := p.sources.store(ctx, at.Path)
		if err != nil {
			return nil, err
		}
		bases = append(bases, store)
	}
	delta, err := p.sources.store(ctx, from[len(from)-1].Path)
	if err != nil {
		return nil, err
	}
	return join(delta, bases...), nil
}

// joinedImages finds all images of a delta.
func (p *pull) joinedImages(ctx context.Context, source *joined, path string) ([]image.Image, error) {
	var images []image.Image
	for _, stored := range source.Images() {
		img, err := image.NewStoredFinder(source, stored, path, p.opts.Events).Held(ctx)
		if err != nil {
			return nil, fmt.Errorf("apply %s: %w", path, err)
		}
		if stored.Subject != "" {
			img = asReferrer(img, stored)
		}
		p.roots[img.Label] = img.Root().Digest
		images = append(images, img)
	}
	return p.checkJoined(ctx, source, path, images)
}

// checkJoined finds out whether all blobs are there, before any is written.
// Foreign layers need not be.
func (p *pull) checkJoined(ctx context.Context, source *joined, path string, images []image.Image) ([]image.Image, error) {
	missing := &MissingError{Path: path}
	met := map[digest.Digest]bool{}
	whole := true
	for i, img := range images {
		foreign := map[digest.Digest]bool{} // and nowhere
		for _, blob := range img.Blobs() {
			size, err := source.BlobSize(ctx, blob.Digest)
			whole = whole && source.holds(ctx, blob.Digest)
			switch {
			case errors.Is(err, image.ErrNotFound) && image.IsForeign(blob):
				foreign[blob.Digest] = true
			case errors.Is(err, image.ErrNotFound) && met[blob.Digest]:
			case errors.Is(err, image.ErrNotFound):
				met[blob.Digest] = true
				base, _ := source.Expected(blob.Digest)
				missing.Blobs = append(missing.Blobs, MissingBlob{blob.Digest, base})
			case err == nil && size != blob.Size:
				_, err = source.OpenRange(ctx, blob, 0, 0) // which says of which file
				return nil, fmt.Errorf("apply %s: %w", path, err)
			case err != nil:
				return nil, fmt.Errorf("apply %s: %w", path, err)
			}
		}
		var layers []image.Descriptor
		images[i], layers = image.WithoutBlobs(img, func(layer image.Descriptor) (string, bool) { return "", foreign[layer.Digest] })
		if len(layers) > 0 {
			p.warning("%s: foreign layers are in none of the files, and left out (%d)", img.Label, len(layers))
		}
	}
	if len(missing.Blobs) > 0 {
		return nil, missing
	}
	if whole {
		p.warning("%s is whole without the files before it: the delta comes last", path)
	}
	return images, nil
}

// maxMissing is how many blobs an error lists.
const maxMissing = 10

// MissingError says which blobs of a delta are neither in it nor in the bases. It
// wraps image.ErrNotFound.
type MissingError struct {
	// Path is the delta's.
	Path  string
	Blobs []MissingBlob
}

// MissingBlob is a blob that is not there.
type MissingBlob struct {
	Digest digest.Digest
	// Base is what the delta calls the base that has it; empty where the delta
	// does not say that it was left out.
	Base string
}

// Error names the first ten blobs.
func (e *MissingError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "apply %s: %v, in none of the files: ", e.Path, image.ErrNotFound)
	for i, blob := range e.Blobs {
		switch {
		case i == maxMissing:
			fmt.Fprintf(&b, ", and %d blobs more", len(e.Blobs)-i)
			return b.String()
		case i > 0:
			b.WriteString(", ")
		}
		if blob.Base == "" {
			fmt.Fprintf(&b, "%s (which %s does not say that a base has)", blob.Digest, filepath.Base(e.Path))
		} else {
			fmt.Fprintf(&b, "%s (expected in %s)", blob.Digest, blob.Base)
		}
	}
	return b.String()
}

// Bases are the names of the bases that are expected, each once.
func (e *MissingError) Bases() []string {
	var names []string
	seen := map[string]bool{"": true}
	for _, blob := range e.Blobs {
		if !seen[blob.Base] {
			seen[blob.Base] = true
			names = append(names, blob.Base)
		}
	}
	return names
}

func (e *MissingError) Unwrap() error { return image.ErrNotFound }
