package components

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/blobfile"
)

// ErrNoComponents: what is there are no components of an image.
var ErrNoComponents = errors.New("it has no components of an image")

// The document that what was pulled is known by.
const (
	indexName    = "manifest_list.json"
	manifestName = "image_manifest.json"
)

// Reader is a directory of components that is read. It is an image.Store; but
// for the root, files are looked at when they are asked for. Its methods may be
// called from many goroutines at once.
type Reader struct {
	files    *blobfile.Tree
	root     image.Content
	rootName string
}

var _ image.Store = (*Reader)(nil)

// Open reads a directory that a Writer has made. The caller closes it. Errors
// wrap ErrNoComponents where something else is there; image.ErrNotFound where
// nothing is; image.ErrVerification, image.ErrMediaType or image.ErrSchema1
// where the root is no index, or no manifest, as its name says.
func Open(dir string) (*Reader, error) {
	files, err := blobfile.OpenTree(dir)
	if errors.Is(err, blobfile.ErrNoDirectory) {
		err = fmt.Errorf("%w: %w", ErrNoComponents, err)
	}
	if err != nil {
		return nil, fmt.Errorf("read components: %w", err)
	}
	r := &Reader{files: files}
	if err := r.readRoot(); err != nil {
		return nil, errors.Join(fmt.Errorf("read components of %s: %w", dir, err), files.Close())
	}
	return r, nil
}

// readRoot reads the document that the image is known by. Where two images were
// pulled into the directory (the writer warns), both may be there, and nothing
// tells which is newer: it is the index, within which the manifest may be too.
func (r *Reader) readRoot() error {
	for _, name := range []string{indexName, manifestName} {
		if !r.files.Has(name) {
			continue
		}
		b, err := r.files.ReadAll(context.Background(), name, image.MaxManifestSize)
		if err != nil {
			return err
		}
		c := image.Content{Descriptor: image.Descriptor{Digest: digest.FromBytes(b), Size: int64(len(b))}, Bytes: b}
		if c.MediaType, err = image.MediaTypeOf(c); err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		if image.IsIndex(c.MediaType) != (name == indexName) {
			return fmt.Errorf("read %s: %w: it is of media type %s", name, image.ErrVerification, c.MediaType)
		}
		r.root, r.rootName = c, name
		return nil
	}
	return fmt.Errorf("%w: it has neither %s nor %s", ErrNoComponents, indexName, manifestName)
}

// Images is the one image, which has no name here. The digest of its root is
// its sha256, whichever it was pulled by.
func (r *Reader) Images() []image.Stored { return []image.Stored{{Descriptor: r.root.Descriptor}} }

// Manifest reads the manifest or index that a digest names, and tells its media
// type as its bytes do.
func (r *Reader) Manifest(ctx context.Context, tagOrDigest string) (image.Content, error) {
	d := digest.Digest(tagOrDigest)
	if !strings.Contains(tagOrDigest, ":") {
		return image.Content{}, fmt.Errorf("read manifest %q: %w: components are asked by digest", tagOrDigest, image.ErrNotFound)
	}
	if err := image.CheckDigest(d); err != nil {
		return image.Content{}, fmt.Errorf("read manifest: %w", err)
	}
	if d.Algorithm().FromBytes(r.root.Bytes) == d {
		c := r.root
		c.Digest = d
		return c, nil
	}
	c := image.Content{Descriptor: image.Descriptor{Digest: d, Size: -1}}
	name, err := r.find(d, fileName(d)+indexSuffix, fileName(d)+manifestSuffix)
	if err == nil {
		c.Bytes, err = r.files.Read(ctx, name, c.Descriptor, image.MaxManifestSize)
	}
	if err != nil {
		return image.Content{}, fmt.Errorf("read manifest %s: %w", d, err)
	}
	c.Size = int64(len(c.Bytes))
	c.MediaType, _ = image.MediaTypeOf(c) // whoever parses it learns what is wrong
	return c, nil
}

// find is the first of the names that is there.
func (r *Reader) find(d digest.Digest, names ...string) (string, error) {
	for _, name := range names {
		if r.files.Has(name) {
			return name, nil
		}
	}
	return "", fmt.Errorf("%w: %s has no file of %s", image.ErrNotFound, r.files.Path("."), fileName(d))
}

// blob is the file of a layer or config. Its digest is an error where it is none.
func (r *Reader) blob(d digest.Digest) (string, error) {
	if err := image.CheckDigest(d); err != nil {
		return "", err
	}
	var names []string
	for _, e := range extensions {
		names = append(names, path.Join(layersName, fileName(d)+e))
	}
	return r.find(d, append(names, fileName(d)+configSuffix)...)
}

// Blob reads a config, or a small layer, and verifies it.
func (r *Reader) Blob(ctx context.Context, d image.Descriptor) ([]byte, error) {
	name, err := r.blob(d.Digest)
	var b []byte
	if err == nil {
		b, err = r.files.Read(ctx, name, d, d.Size)
	}
	if err != nil {
		return nil, fmt.Errorf("read blob %s: %w", d.Digest, err)
	}
	return b, nil
}

// OpenRange opens n bytes of a layer, or of a config, from offset off. A file
// of another size than the descriptor's is an error that wraps
// image.ErrVerification; its bytes are not verified.
func (r *Reader) OpenRange(ctx context.Context, blob image.Descriptor, off, n int64) (*image.Range, error) {
	name, err := r.blob(blob.Digest)
	var rng *image.Range
	if err == nil {
		rng, err = r.files.OpenRange(ctx, name, blob, off, n)
	}
	if err != nil {
		return nil, fmt.Errorf("open blob %s: %w", blob.Digest, err)
	}
	return rng, nil
}

// BlobSize is the size of a layer's or config's file, in bytes, whose bytes are
// not verified.
func (r *Reader) BlobSize(_ context.Context, d digest.Digest) (int64, error) {
	name, err := r.blob(d)
	var size int64
	if err == nil {
		size, err = r.files.Size(name)
	}
	if err != nil {
		return 0, fmt.Errorf("open blob %s: %w", d, err)
	}
	return size, nil
}

// Close gives the directory up. Ranges that are open stay open.
func (r *Reader) Close() error { return r.files.Close() }
