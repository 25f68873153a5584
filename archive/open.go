package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/tarindex"
)

// ErrNoArchive: a tar that is none of an image.
var ErrNoArchive = errors.New("it holds no image")

// Reader is an archive that is read: a tar with an image layout, or one as
// docker save wrote it up to version 24 and others still do. Its methods may be
// called from many goroutines at once.
type Reader struct {
	path   string
	file   *tarFile
	tar    *tarindex.Index
	images []image.Stored

	// listed are the entries of index.json, and delta tells what it says was
	// left out.
	listed map[digest.Digest]image.Descriptor
	delta  image.Delta
	// made and blobs are of an archive without a layout: the manifests that it
	// would have, and where the configs and layers stand that they name.
	made  map[digest.Digest]image.Content
	blobs map[digest.Digest]tarindex.Entry
}

var (
	_ image.Store       = (*Reader)(nil)
	_ image.DeltaTeller = (*Reader)(nil)
)

// OpenOptions of Open. The zero value works.
type OpenOptions struct {
	// Events receives a stage where the archive is decompressed. May be nil.
	Events image.EventFunc
}

// Open opens the archive at path, whichever tool wrote it, also one in parts: by
// the path of the first, x.tar.001, or by x.tar where that is not there itself.
// Parts must all be there, and all but the last be of one size; where x.tar.sha256
// is there, it tells how many, and how many bytes. It reads the tar's
// headers and its small documents, and what it cannot name otherwise: the
// compressed layers of an archive without a layout, to hash them. The archive
// may be compressed as a whole, with gzip or zstd; then it is decompressed into
// a temporary file (os.TempDir) that is gone after Close. Both end when ctx
// does; what is opened outlives it.
//
// Errors name the path. They wrap image.ErrNotFound where there is no such
// file, or a layer or config is missing without which there is no manifest;
// image.ErrVerification where it is no tar or is cut off, or its documents are
// not what they must be; ErrNoArchive where it is a tar of something else.
func Open(ctx context.Context, path string, opts OpenOptions) (*Reader, error) {
	r := &Reader{path: path}
	err := r.open(ctx, opts)
	if err != nil {
		if r.file != nil {
			err = errors.Join(err, r.file.Close())
		}
		return nil, fmt.Errorf("open archive %s: %w", path, err)
	}
	return r, nil
}

func (r *Reader) open(ctx context.Context, opts OpenOptions) (err error) {
	if r.file, err = openTar(ctx, r.path, opts.Events); err != nil {
		return err
	}
	r.tar, err = tarindex.Read(r.file, r.file.size)
	if why := r.file.noTar(r.tar, err); why != nil {
		return why
	}
	if err != nil {
		return err
	}
	layout, docker := r.holds(ocispec.ImageIndexFile), r.holds(dockerManifest)
	if layout {
		if err := r.readLayout(docker); err != nil {
			return err
		}
	}
	if docker && len(r.images) == 0 {
		if err := r.readDocker(ctx); err != nil {
			return err
		}
	}
	switch {
	case !layout && !docker && !r.tar.Ended:
		return fmt.Errorf("%w: it has neither %s nor %s, and no end: it is cut off", image.ErrVerification, ocispec.ImageIndexFile, dockerManifest)
	case !layout && !docker:
		return fmt.Errorf("%w: neither %s nor %s", ErrNoArchive, ocispec.ImageIndexFile, dockerManifest)
	case len(r.images) == 0:
		return fmt.Errorf("%w: its list of images is empty", ErrNoArchive)
	}
	return nil
}

// holds says whether the archive has an entry, also where it leads nowhere.
func (r *Reader) holds(name string) bool {
	return slices.ContainsFunc(r.tar.Entries, func(e tarindex.Entry) bool { return e.Name == name })
}

// document reads a small file of the archive.
func (r *Reader) document(name string, limit int64) ([]byte, error) {
	e, err := r.lookup(name)
	if err != nil {
		return nil, err
	}
	return r.read(e, limit)
}

// lookup is where a file of the archive stands.
func (r *Reader) lookup(name string) (tarindex.Entry, error) {
	e, err := r.tar.Find(name)
	if errors.Is(err, image.ErrNotFound) && !r.tar.Ended {
		err = fmt.Errorf("%w; the tar has no end: it may be cut off", err)
	}
	return e, err
}

// read reads an entry whole.
func (r *Reader) read(e tarindex.Entry, limit int64) ([]byte, error) {
	content, err := r.tar.Section(e)
	if err != nil {
		return nil, err
	}
	if e.Size > limit {
		return nil, fmt.Errorf("%w: it has %d bytes, more than %d", image.ErrVerification, e.Size, limit)
	}
	b := make([]byte, e.Size) // no more than the file has
	_, err = io.ReadFull(content, b)
	return b, err
}

// Images are those that index.json names, in its order, or without it those of
// manifest.json, whose manifests are made. It is part of image.Store.
func (r *Reader) Images() []image.Stored { return slices.Clone(r.images) }

// Manifest returns a manifest or index by its digest; tags are not known here.
// It is part of image.Source.
func (r *Reader) Manifest(ctx context.Context, tagOrDigest string) (image.Content, error) {
	if err := ctx.Err(); err != nil {
		return image.Content{}, err
	}
	c, err := r.manifest(digest.Digest(tagOrDigest))
	if err != nil {
		return image.Content{}, fmt.Errorf("read manifest %s of %s: %w", tagOrDigest, r.path, err)
	}
	return c, nil
}

func (r *Reader) manifest(d digest.Digest) (image.Content, error) {
	if image.CheckDigest(d) != nil {
		return image.Content{}, fmt.Errorf("%w: an archive has manifests by digest", image.ErrNotFound)
	}
	if c, ok := r.made[d]; ok {
		return c, nil
	}
	e, err := r.find(d)
	if err != nil {
		return image.Content{}, err
	}
	c := image.Content{Descriptor: image.Descriptor{Digest: d, Size: e.Size}}
	if listed, ok := r.listed[d]; ok {
		c.MediaType, c.Size = listed.MediaType, listed.Size
	}
	if c.Bytes, err = r.read(e, image.MaxManifestSize); err != nil {
		return image.Content{}, err
	}
	if err := image.CheckBytes(c.Descriptor, c.Bytes); err != nil {
		return image.Content{}, err
	}
	if c.MediaType == "" {
		// A type that davit does not read is the reader's to refuse.
		if c.MediaType, err = image.MediaTypeOf(c); c.MediaType == "" {
			return image.Content{}, err
		}
	}
	return c, nil
}

// Blob returns a blob whole and verified. It is part of image.Source.
func (r *Reader) Blob(ctx context.Context, d image.Descriptor) ([]byte, error) {
	b, err := r.blob(ctx, d)
	if err != nil {
		return nil, fmt.Errorf("read blob %s of %s: %w", d.Digest, r.path, err)
	}
	return b, nil
}

func (r *Reader) blob(ctx context.Context, d image.Descriptor) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	e, err := r.sized(d)
	if err != nil {
		return nil, err
	}
	b, err := r.read(e, d.Size)
	if err != nil {
		return nil, err
	}
	return b, image.CheckBytes(d, b)
}

// OpenRange opens a part of a blob. The range ends where the blob does. It is
// part of image.Source.
func (r *Reader) OpenRange(ctx context.Context, blob image.Descriptor, off, n int64) (*image.Range, error) {
	part, err := r.part(ctx, blob, off, n)
	if err != nil {
		return nil, fmt.Errorf("open blob %s of %s: %w", blob.Digest, r.path, err)
	}
	return &image.Range{Body: body{ctx, part}, Start: off, Total: blob.Size, Len: part.Size(), Host: r.path}, nil
}

func (r *Reader) part(ctx context.Context, blob image.Descriptor, off, n int64) (*io.SectionReader, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	e, err := r.sized(blob)
	if err != nil {
		return nil, err
	}
	if off < 0 || off > e.Size || n < 0 {
		return nil, fmt.Errorf("it has no range of %d bytes from %d", n, off)
	}
	content, err := r.tar.Section(e)
	if err != nil {
		return nil, err
	}
	return io.NewSectionReader(content, off, min(n, e.Size-off)), nil
}

// Expected tells in which base a blob is that was left out of the archive, as
// index.json says. It is part of image.DeltaTeller.
func (r *Reader) Expected(d digest.Digest) (base string, ok bool) { return r.delta.Expected(d) }

// BlobSize is the size of a blob in bytes, as the tar tells it.
func (r *Reader) BlobSize(_ context.Context, d digest.Digest) (int64, error) {
	e, err := r.find(d)
	if err != nil {
		return 0, fmt.Errorf("open blob %s of %s: %w", d, r.path, err)
	}
	return e.Size, nil
}

// body is a range that ends with its context.
type body struct {
	ctx context.Context
	io.Reader
}

func (b body) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	return b.Reader.Read(p)
}

func (b body) Close() error { return nil }

// find is where a blob stands.
func (r *Reader) find(d digest.Digest) (tarindex.Entry, error) {
	if err := image.CheckDigest(d); err != nil {
		return tarindex.Entry{}, err
	}
	if r.blobs == nil {
		e, err := r.lookup(blobName(d))
		if errors.Is(err, image.ErrNotFound) {
			err = r.delta.Missing(d, err)
		}
		return e, err
	}
	e, ok := r.blobs[d]
	if !ok {
		return tarindex.Entry{}, fmt.Errorf("%w: no image of the archive names it", image.ErrNotFound)
	}
	return e, nil
}

// sized is where a blob of that size stands.
func (r *Reader) sized(d image.Descriptor) (tarindex.Entry, error) {
	e, err := r.find(d.Digest)
	if err == nil && e.Size != d.Size {
		err = fmt.Errorf("%w: it has %d bytes, not %d", image.ErrVerification, e.Size, d.Size)
	}
	return e, err
}

// Close closes the archive's file.
func (r *Reader) Close() error { return r.file.Close() }
