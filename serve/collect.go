package serve

import (
	"context"
	"errors"
	"fmt"
	"mime"
	"regexp"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
)

// collector reads the documents of all stores, each once, and finds blobs.
type collector struct {
	ctx       context.Context
	from      []From
	events    image.EventFunc
	documents map[digest.Digest]*document
	blobs     map[blobKey]*blob
	kept      int // bytes of annotations
}

// maxKept bounds the annotations and types of referrers that are kept in memory.
const maxKept = 16 << 20

// document is a manifest or an index that a store has.
type document struct {
	image.Descriptor // media type, digest, size; artifact type and annotations of a referrer
	store            image.Store

	children []image.Descriptor // that it names as manifests
	blobs    []image.Descriptor
	subject  digest.Digest
}

// blob is one that a store has, if only by its name and size.
type blob struct {
	image.Descriptor
	store image.Store
}

// blobKey keeps a manifest that tells a wrong size from hiding a blob from
// those that tell the right one.
type blobKey struct {
	digest digest.Digest
	size   int64
}

// document reads a manifest or index, of the preferred store if that has it.
// The error wraps image.ErrNotFound where no store has it.
func (c *collector) document(d digest.Digest, prefer int) (*document, error) {
	if known, met := c.documents[d]; met {
		if known == nil {
			return nil, fmt.Errorf("%w: manifest %s", image.ErrNotFound, d)
		}
		return known, nil
	}
	if err := c.ctx.Err(); err != nil {
		return nil, context.Cause(c.ctx)
	}
	var content image.Content
	var err error
	for _, i := range c.order(prefer) {
		content, err = c.from[i].Store.Manifest(c.ctx, d.String())
		if errors.Is(err, image.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		doc, err := c.read(content)
		if err != nil {
			return nil, fmt.Errorf("read manifest %s of %s: %w", d, c.from[i].Path, err)
		}
		doc.store = c.from[i].Store
		c.documents[d] = doc
		return doc, nil
	}
	c.documents[d] = nil
	return nil, err
}

// order is that in which the stores are asked.
func (c *collector) order(prefer int) []int {
	order := []int{prefer}
	for i := range c.from {
		if i != prefer {
			order = append(order, i)
		}
	}
	return order
}

// read reads what a document names. One of a kind that davit does not read
// names nothing.
func (c *collector) read(content image.Content) (*document, error) {
	mediaType, err := image.MediaTypeOf(content)
	unread := errors.Is(err, image.ErrMediaType) || errors.Is(err, image.ErrSchema1)
	if err != nil && !unread {
		return nil, err
	}
	doc := &document{Descriptor: image.Descriptor{MediaType: headerType(mediaType), Digest: content.Digest, Size: content.Size}}
	content.MediaType = mediaType
	var annotations map[string]string
	var subject *image.Descriptor
	switch {
	case unread:
		return doc, nil
	case image.IsIndex(mediaType):
		index, err := image.ParseIndex(content)
		if err != nil {
			return nil, err
		}
		for _, d := range index.Manifests {
			if isDocument(d.MediaType) {
				doc.children = append(doc.children, bare(d))
			} else {
				doc.blobs = append(doc.blobs, bare(d)) // as buildkit's caches have layers there
			}
		}
		doc.ArtifactType, annotations, subject = index.ArtifactType, index.Annotations, index.Subject
	default:
		manifest, err := image.ParseManifest(content)
		if err != nil {
			return nil, err
		}
		for _, d := range append([]image.Descriptor{manifest.Config}, manifest.Layers...) {
			doc.blobs = append(doc.blobs, bare(d))
		}
		doc.ArtifactType, annotations, subject = manifest.ArtifactType, manifest.Annotations, manifest.Subject
		if doc.ArtifactType == "" {
			doc.ArtifactType = manifest.Config.MediaType
		}
	}
	if subject == nil || image.CheckDigest(subject.Digest) != nil {
		doc.ArtifactType = ""
		return doc, nil
	}
	doc.subject, doc.Annotations = subject.Digest, annotations
	return doc, c.keep(doc)
}

// keep counts what stays in memory of a referrer.
func (c *collector) keep(doc *document) error {
	c.kept += len(doc.ArtifactType)
	for key, value := range doc.Annotations {
		c.kept += len(key) + len(value)
	}
	if c.kept > maxKept {
		return fmt.Errorf("%w: the annotations of all that refers to an image have more than %d bytes", image.ErrVerification, maxKept)
	}
	return nil
}

// bare is what is kept of a descriptor.
func bare(d image.Descriptor) image.Descriptor {
	return image.Descriptor{Digest: d.Digest, Size: d.Size, URLs: d.URLs}
}

// mediaTypeArtifact is of manifests that a draft of OCI's image-spec had.
const mediaTypeArtifact = "application/vnd.oci.artifact.manifest.v1+json"

// isDocument says whether an index names a manifest or index by a descriptor
// of that media type.
func isDocument(mediaType string) bool {
	switch mediaType {
	case "", mediaTypeArtifact, image.MediaTypeDockerSchema1, image.MediaTypeDockerSchema1JWS:
		return true
	}
	return image.IsIndex(mediaType) || image.IsManifest(mediaType)
}

// plainType is a media type (RFC 6838, section 4.2).
var plainType = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}$`)

// headerType is a media type as it may stand in a header.
func headerType(mediaType string) string {
	if plain, _, err := mime.ParseMediaType(mediaType); err == nil && plainType.MatchString(plain) {
		return plain
	}
	return octetStream
}

// blob finds a blob of that digest and size, nil where no store has it.
func (c *collector) blob(d image.Descriptor, prefer int) *blob {
	key := blobKey{d.Digest, d.Size}
	if known, met := c.blobs[key]; met {
		return known
	}
	c.blobs[key] = nil
	for _, i := range c.order(prefer) {
		if size, ok := sizeOf(c.ctx, c.from[i].Store, d.Digest); ok && size == d.Size {
			c.blobs[key] = &blob{Descriptor: image.Descriptor{MediaType: octetStream, Digest: d.Digest, Size: d.Size}, store: c.from[i].Store}
			break
		}
	}
	return c.blobs[key]
}

func sizeOf(ctx context.Context, store image.Store, d digest.Digest) (int64, bool) {
	sizer, ok := store.(image.BlobSizer)
	if !ok {
		return 0, false
	}
	size, err := sizer.BlobSize(ctx, d)
	return size, err == nil
}

// reached is what became of a document and all that it leads to.
type reached struct {
	added   []digest.Digest // manifests and indexes that are new to the repository
	missing []digest.Digest // blobs that no store has
}

// reach puts into a repository what can be reached from a document of it, as
// far as it is there.
func (c *collector) reach(r *repository, root *document, prefer int) (reached, error) {
	var got reached
	waiting := []*document{root}
	for len(waiting) > 0 {
		doc := waiting[len(waiting)-1]
		waiting = waiting[:len(waiting)-1]
		if r.manifests[doc.Digest] != nil {
			continue
		}
		r.manifests[doc.Digest] = doc
		got.added = append(got.added, doc.Digest)
		for _, d := range doc.blobs {
			if found := c.blob(d, prefer); found != nil {
				r.blobs[d.Digest] = found
			} else if !image.IsForeign(d) {
				got.missing = append(got.missing, d.Digest)
			}
		}
		for _, d := range doc.children {
			child, err := c.document(d.Digest, prefer)
			if errors.Is(err, image.ErrNotFound) {
				continue
			}
			if err != nil {
				return got, err
			}
			waiting = append(waiting, child)
		}
	}
	return got, nil
}

// within adds to all the manifests and indexes that a document leads to, of
// those that were read.
func (c *collector) within(root *document, all map[digest.Digest]bool) {
	waiting := []*document{root}
	for len(waiting) > 0 {
		doc := waiting[len(waiting)-1]
		waiting = waiting[:len(waiting)-1]
		for _, d := range doc.children {
			if child := c.documents[d.Digest]; child != nil && !all[d.Digest] {
				all[d.Digest] = true
				waiting = append(waiting, child)
			}
		}
	}
}
