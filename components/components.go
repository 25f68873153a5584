// Package components writes an image as plain files, each with the exact bytes
// that the source served, for inspection and archiving, and reads it there:
//
//	manifest_list.json                         the index, where the reference names one
//	ALGORITHM_HEX_manifest_list.json           indexes within it
//	image_manifest.json                        the manifest, where the reference names it itself
//	ALGORITHM_HEX_manifest.json                manifests that were chosen from an index
//	ALGORITHM_HEX.json                         configs
//	layers/ALGORITHM_HEX.tar.gz                layers: .tar.zst, .tar or .blob by media type
//
// Manifests are written when all else is there, the indexes last. Names are
// legal on Windows. Other files in the directory are left alone. A reader
// refuses links in place of the files and of layers.
package components

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/atomicfile"
	"github.com/davit-cli/davit/internal/blobfile"
	"github.com/davit-cli/davit/internal/partial"
)

// Options of Create. The zero value works.
type Options struct {
	// ManifestOnly leaves the layers out: no blob gets a place.
	ManifestOnly bool
	// Restart discards what earlier, unfinished runs have left of layers.
	// Layers that are whole stay.
	Restart bool
	// Events receives warnings. May be nil.
	Events image.EventFunc
}

// Writer is a directory that an image is being written into. It is an
// image.Output.
type Writer struct {
	dir   string
	img   image.Image
	opts  Options
	files *blobfile.Files

	names map[digest.Digest]string // of the layers
	over  bool
}

var _ image.Output = (*Writer)(nil)

const layersName = "layers"

// Create begins to write the image into dir, which is made, with its parents,
// where it is missing. The caller ends with Commit, or with Close.
func Create(dir string, img image.Image, opts Options) (*Writer, error) {
	w := &Writer{
		dir:   dir,
		img:   img,
		opts:  opts,
		files: blobfile.New(blobfile.Options{Restart: opts.Restart, Events: opts.Events}),
		names: map[digest.Digest]string{},
	}
	if err := w.note(); err != nil {
		return nil, fmt.Errorf("write %s: %w", dir, err)
	}
	if err := makeDir(dir); err != nil {
		return nil, err
	}
	if err := blobfile.CheckDir(filepath.Join(dir, layersName)); err != nil && !opts.ManifestOnly {
		return nil, fmt.Errorf("write %s: %w", dir, err)
	}
	return w, nil
}

// makeDir makes the directory where it is missing, with its parents.
func makeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return fmt.Errorf("make %s: %w", dir, err)
	}
	return nil
}

// note checks all digests, which become names, and names the layers. Where one
// blob is a layer of two media types, the first one rules.
func (w *Writer) note() error {
	for _, c := range append(w.img.Documents(), w.img.Indexes...) {
		if err := image.CheckDigest(c.Digest); err != nil {
			return err
		}
	}
	for _, m := range w.img.Manifests {
		for _, layer := range m.Layers {
			if err := image.CheckDigest(layer.Digest); err != nil {
				return err
			}
			if w.names[layer.Digest] == "" {
				w.names[layer.Digest] = fileName(layer.Digest) + extension(layer.MediaType)
			}
		}
	}
	var blobs []digest.Digest
	if !w.opts.ManifestOnly {
		for _, blob := range w.img.Blobs() {
			blobs = append(blobs, blob.Digest)
		}
	}
	w.files.Expect(blobs)
	return nil
}

// extension is what a layer's name ends with. OCI and Docker types tell it
// (….tar, ….tar+gzip, ….tar.gzip), and so do those of charts and the like
// that are built alike.
func extension(mediaType string) string {
	mediaType, _, _ = strings.Cut(strings.ToLower(mediaType), ";")
	mediaType = strings.TrimSpace(mediaType)
	for _, e := range []struct{ end, extension string }{
		{".tar", ".tar"},
		{".tar+gzip", ".tar.gz"}, {".tar.gzip", ".tar.gz"},
		{".tar+zstd", ".tar.zst"}, {".tar.zstd", ".tar.zst"},
	} {
		if strings.HasSuffix(mediaType, e.end) {
			return e.extension
		}
	}
	return otherExtension
}

// Place is where a layer is to be written. It is nil where the layer is there,
// which was hashed. The error is image.ErrBusy where another process is
// fetching it. With ManifestOnly it is always an error.
func (w *Writer) Place(ctx context.Context, blob image.Descriptor) (image.Place, error) {
	if !w.files.Expects(blob.Digest) {
		return nil, fmt.Errorf("open blob %s: it is none that goes into %s", blob.Digest, w.dir)
	}
	where, err := w.where(blob.Digest)
	if err != nil {
		return nil, err
	}
	return w.files.Place(ctx, blob, where)
}

// where makes the layers' directory and tells a layer's paths.
func (w *Writer) where(d digest.Digest) (blobfile.Where, error) {
	dir, err := blobfile.MakeDir(w.dir, layersName)
	if err != nil {
		return blobfile.Where{}, fmt.Errorf("open blob %s: %w", d, err)
	}
	file := filepath.Join(dir, w.names[d])
	return blobfile.Where{File: file, Partial: file + partial.Suffix}, nil
}

// Done is called when a layer that got a place is whole and verified.
func (w *Writer) Done(blob image.Descriptor) error {
	return w.files.Done(blob)
}

// Commit writes the documents: configs, then manifests, then indexes. On error
// Close is still due.
func (w *Writer) Commit(ctx context.Context) error {
	if err := w.files.Complete(); err != nil {
		return fmt.Errorf("finish %s: %w", w.dir, err)
	}
	if err := w.knownLayers(ctx); err != nil {
		return fmt.Errorf("finish %s: %w", w.dir, err)
	}
	for _, f := range w.documents() {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("finish %s: %w", w.dir, err)
		}
		if err := atomicfile.Write(filepath.Join(w.dir, f.name), f.Bytes); err != nil {
			return err
		}
	}
	w.over = true
	w.warnOfAnother()
	return nil
}

// warnOfAnother tells of the manifest of another image in the directory, which
// has a name that this one's does not take.
func (w *Writer) warnOfAnother() {
	name := indexName
	if len(w.img.Indexes) > 0 {
		name = manifestName
	}
	path := filepath.Join(w.dir, name)
	if _, err := os.Lstat(path); err == nil {
		w.opts.Events.Send(image.Event{Kind: image.EventWarning, Text: fmt.Sprintf("%s is there too: it is another image's", path)})
	}
}

// knownLayers writes layers that are documents too, a config that an artifact
// names as its layer for example: nobody fetches these.
func (w *Writer) knownLayers(ctx context.Context) error {
	if w.opts.ManifestOnly {
		return nil
	}
	for _, c := range w.img.Documents() {
		if w.names[c.Digest] == "" {
			continue
		}
		where, err := w.where(c.Digest)
		if err != nil {
			return err
		}
		if err := w.files.Put(ctx, c, where); err != nil {
			return err
		}
	}
	return nil
}

// named is a document with its file's name.
type named struct {
	name string
	image.Content
}

// documents are the files beside the layers, in the order in which they are
// written.
func (w *Writer) documents() []named {
	var configs, manifests, indexes []named
	for _, m := range w.img.Manifests {
		configs = append(configs, named{fileName(m.Config.Digest) + configSuffix, m.Config})
		name := fileName(m.Digest) + manifestSuffix
		if len(w.img.Indexes) == 0 {
			name = manifestName
		}
		manifests = append(manifests, named{name, m.Content})
	}
	for i, c := range w.img.Indexes {
		name := fileName(c.Digest) + indexSuffix
		if i == 0 {
			name = indexName
		}
		indexes = append(indexes, named{name, c})
	}
	slices.Reverse(indexes) // the root stands for all
	return slices.Concat(configs, manifests, indexes)
}

// Close gives the image up, and keeps the layers that are under way for the
// next run. After Commit it does nothing. It may be called more than once.
func (w *Writer) Close() error {
	if w.over {
		return nil
	}
	return w.files.Close()
}

// SaveUnknown writes a document that davit does not read into dir, which is
// made where it is missing, as unknown_manifest.json, and returns its path.
func SaveUnknown(dir string, c image.Content) (path string, err error) {
	if err := makeDir(dir); err != nil {
		return "", err
	}
	path = filepath.Join(dir, "unknown_manifest.json")
	return path, atomicfile.Write(path, c.Bytes)
}
