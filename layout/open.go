package layout

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/blobfile"
	"github.com/davit-cli/davit/ref"
)

// Reader is a layout that is read, as index.json was when it was opened. It is
// an image.Store; blobs are looked at when they are asked for. Its methods may
// be called from many goroutines at once.
type Reader struct {
	files  *blobfile.Tree
	images []image.Stored
	delta  image.Delta // what index.json says was left out
}

var (
	_ image.Store       = (*Reader)(nil)
	_ image.DeltaTeller = (*Reader)(nil)
)

// Open reads the layout in dir, of version 1.0 (OCI image-spec,
// image-layout.md). The caller closes it. Errors wrap ErrNoLayout where
// something else is there; image.ErrNotFound where nothing is, or a layout
// without any image; image.ErrVerification where index.json is malformed,
// larger than image.MaxManifestSize, or a link.
func Open(dir string) (*Reader, error) {
	files, err := blobfile.OpenTree(dir)
	if errors.Is(err, blobfile.ErrNoDirectory) {
		err = fmt.Errorf("%w: %w", ErrNoLayout, err)
	}
	if err != nil {
		return nil, fmt.Errorf("read the layout: %w", err)
	}
	r := &Reader{files: files}
	if err := r.read(); err != nil {
		return nil, errors.Join(fmt.Errorf("read the layout %s: %w", dir, err), files.Close())
	}
	return r, nil
}

func (r *Reader) read() error {
	ctx := context.Background() // two small files
	b, err := r.files.ReadAll(ctx, ocispec.ImageLayoutFile, maxVersionSize)
	if errors.Is(err, image.ErrNotFound) {
		return fmt.Errorf("%w: the directory has no %s", ErrNoLayout, ocispec.ImageLayoutFile)
	}
	if err != nil {
		return err
	}
	version, err := readVersion(b)
	if err != nil {
		return fmt.Errorf("read %s: %w: %w", ocispec.ImageLayoutFile, image.ErrVerification, err)
	}
	if !strings.HasPrefix(version, "1.0.") {
		return fmt.Errorf("its image layout is of version %q, davit reads 1.0", version)
	}
	if b, err = r.files.ReadAll(ctx, ocispec.ImageIndexFile, image.MaxManifestSize); err != nil {
		return err
	}
	x, err := readIndex(b)
	if err == nil {
		r.images, err = x.images()
		r.delta = x.delta
	}
	if err != nil {
		return fmt.Errorf("read %s: %w: %w", ocispec.ImageIndexFile, image.ErrVerification, err)
	}
	if len(r.images) == 0 {
		return fmt.Errorf("read %s: %w: it names no image", ocispec.ImageIndexFile, image.ErrNotFound)
	}
	return nil
}

// images are the entries, as images of a store.
func (x *index) images() ([]image.Stored, error) {
	var images []image.Stored
	for i, e := range x.entries {
		d, err := e.descriptor()
		if err != nil {
			return nil, fmt.Errorf("its manifest %d: %w", i+1, err)
		}
		images = append(images, image.StoredOf(d))
	}
	return images, nil
}

// descriptor is the entry with the fields that tell of an image. A field whose
// name is written in another case is none of them.
func (e entry) descriptor() (image.Descriptor, error) {
	d := image.Descriptor{Size: -1}
	for _, f := range []struct {
		name  string
		value any
	}{
		{"mediaType", &d.MediaType}, {"digest", &d.Digest}, {"size", &d.Size},
		{"artifactType", &d.ArtifactType}, {"platform", &d.Platform}, {"annotations", &d.Annotations},
	} {
		if err := e.fields.read(f.name, f.value); err != nil {
			return image.Descriptor{}, err
		}
	}
	if err := ref.CheckDigest(d.Digest); err != nil {
		return image.Descriptor{}, err
	}
	if d.Size < 0 {
		return image.Descriptor{}, fmt.Errorf("%s has no size", d.Digest)
	}
	return d, nil
}

// Images are the entries of index.json, in its order.
func (r *Reader) Images() []image.Stored { return slices.Clone(r.images) }

// Manifest reads the manifest or index that a digest names. It has the media
// type that index.json tells, or else what its bytes are.
func (r *Reader) Manifest(ctx context.Context, tagOrDigest string) (image.Content, error) {
	c := image.Content{Descriptor: image.Descriptor{Digest: digest.Digest(tagOrDigest), Size: -1}}
	if !strings.Contains(tagOrDigest, ":") {
		return image.Content{}, fmt.Errorf("read manifest %q: %w: a layout is asked by digest", tagOrDigest, image.ErrNotFound)
	}
	name, err := blobName(c.Digest)
	if err != nil {
		return image.Content{}, fmt.Errorf("read manifest: %w", err)
	}
	for _, stored := range r.images {
		if stored.Digest == c.Digest {
			c.MediaType, c.Size = stored.MediaType, stored.Size
			break
		}
	}
	if c.Bytes, err = r.files.Read(ctx, name, c.Descriptor, image.MaxManifestSize); err != nil {
		return image.Content{}, fmt.Errorf("read manifest %s: %w", c.Digest, r.why(c.Digest, err))
	}
	c.Size = int64(len(c.Bytes))
	if c.MediaType == "" {
		c.MediaType, _ = image.MediaTypeOf(c) // whoever parses it learns what is wrong
	}
	return c, nil
}

// Blob reads a small blob and verifies it.
func (r *Reader) Blob(ctx context.Context, d image.Descriptor) ([]byte, error) {
	name, err := blobName(d.Digest)
	if err != nil {
		return nil, fmt.Errorf("read blob: %w", err)
	}
	b, err := r.files.Read(ctx, name, d, d.Size)
	if err != nil {
		return nil, fmt.Errorf("read blob %s: %w", d.Digest, r.why(d.Digest, err))
	}
	return b, nil
}

// OpenRange opens n bytes of a blob from offset off. A blob of another size
// than the descriptor's is an error that wraps image.ErrVerification; its
// bytes are not verified.
func (r *Reader) OpenRange(ctx context.Context, blob image.Descriptor, off, n int64) (*image.Range, error) {
	name, err := blobName(blob.Digest)
	if err != nil {
		return nil, fmt.Errorf("open blob: %w", err)
	}
	rng, err := r.files.OpenRange(ctx, name, blob, off, n)
	if err != nil {
		return nil, fmt.Errorf("open blob %s: %w", blob.Digest, r.why(blob.Digest, err))
	}
	return rng, nil
}

// BlobSize is the size of a blob's file, in bytes, whose bytes are not verified.
func (r *Reader) BlobSize(_ context.Context, d digest.Digest) (int64, error) {
	name, err := blobName(d)
	if err != nil {
		return 0, fmt.Errorf("open blob: %w", err)
	}
	size, err := r.files.Size(name)
	if err != nil {
		return 0, fmt.Errorf("open blob %s: %w", d, r.why(d, err))
	}
	return size, nil
}

// Expected tells in which base a blob is that was left out of the layout, as
// index.json says. It is part of image.DeltaTeller.
func (r *Reader) Expected(d digest.Digest) (base string, ok bool) { return r.delta.Expected(d) }

// why is the error of a blob, which may be expected in a base.
func (r *Reader) why(d digest.Digest, err error) error {
	if errors.Is(err, image.ErrNotFound) {
		return r.delta.Missing(d, err)
	}
	return err
}

// Blobs are the digests of all that stands in blobs under a digest's name,
// whoever names it, sorted. Nothing of it is read.
func (r *Reader) Blobs() ([]digest.Digest, error) {
	var all []digest.Digest
	for _, a := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
		names, err := r.files.Names(path.Join(blobsName, a.String()))
		if err != nil {
			return nil, fmt.Errorf("list blobs: %w", err)
		}
		for _, name := range names {
			if d := digest.NewDigestFromEncoded(a, name); image.CheckDigest(d) == nil {
				all = append(all, d)
			}
		}
	}
	return all, nil
}

// blobName is a blob's file below the layout.
func blobName(d digest.Digest) (string, error) {
	if err := image.CheckDigest(d); err != nil {
		return "", err
	}
	return path.Join(blobsName, d.Algorithm().String(), d.Encoded()), nil
}

// Close gives the layout up. Ranges that are open stay open.
func (r *Reader) Close() error { return r.files.Close() }
