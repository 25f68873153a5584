package image

import (
	"context"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/ref"
)

// Store is a Source on disk that holds whole images: an archive, a layout, a
// directory of components. Of what it holds, Manifest takes only digests; it
// and Blob verify what they read, OpenRange does not, as of any Source. Errors
// name the step and the file; what is not there wraps ErrNotFound.
type Store interface {
	Source
	// Images are the images that it holds, in its order, at least one.
	Images() []Stored
	// Close gives up the files that are open. Nothing is read afterwards.
	io.Closer
}

// Stored is an image that a Store holds. One image with several names is there
// once for each.
type Stored struct {
	// Descriptor is of its root, an index or a manifest.
	Descriptor
	// Name is the full name that the store gives it, with tag or digest:
	// docker.io/library/alpine:3.20. Empty where it gives none.
	Name string
	// RefName is the store's own short name for it, where it has one: the
	// annotation org.opencontainers.image.ref.name.
	RefName string
	// Subject is what it refers to, where the store keeps it for that alone. What
	// its manifest says is not looked at.
	Subject digest.Digest
	// Made says that the store has no manifest and the Source makes one, as of
	// an archive of docker save: no registry knows its digest.
	Made bool
}

// Tag is the tag by which the store knows it, that of its name or else its short
// name as it is; empty where it has none.
func (s Stored) Tag() string {
	if r, err := ref.Parse(s.Name); s.Name != "" && err == nil {
		return r.Tag
	}
	return s.RefName
}

// StoredOf is the image that an entry of an image layout's index.json names
// (OCI image-spec, image-layout.md). Its name is containerd's, or the entry's
// own where that is a full one, as davit and others write it where two images
// share a tag. A name that is no full one is none.
func StoredOf(d Descriptor) Stored {
	s := Stored{Descriptor: d, RefName: d.Annotations[ocispec.AnnotationRefName]}
	for _, name := range []string{d.Annotations[AnnotationImageName], s.RefName} {
		if s.Name == "" && isFullName(name) {
			s.Name = name
		}
	}
	s.refer(d.Annotations)
	return s
}

// isFullName says whether a name is written in full, with tag or digest.
func isFullName(name string) bool {
	r, err := ref.Parse(name)
	return err == nil && r.TagOrDigest() != "" && r.String() == name
}

// Describer is a Source that can tell what a tag or digest names without
// giving the manifest.
type Describer interface {
	// Describe returns media type, digest and size, as the source tells them:
	// nothing of it is verified. Errors are those of Source.Manifest.
	Describe(ctx context.Context, tagOrDigest string) (Descriptor, error)
}

// BlobSizer is a Source that tells the size of a blob of which nothing but the
// digest is known. All Stores are.
type BlobSizer interface {
	// BlobSize is the size in bytes, as the source tells it: nothing of it is
	// verified. Errors are those of Source.Blob.
	BlobSize(ctx context.Context, d digest.Digest) (int64, error)
}

// ReferrerLister is a Source that knows what refers to a manifest or index:
// signatures, SBOMs, attestations.
type ReferrerLister interface {
	// Referrers are the descriptors of the manifests whose subject it is (OCI
	// distribution-spec, "Listing Referrers"), with artifact type and
	// annotations, in the source's order. None is no error.
	Referrers(ctx context.Context, subject digest.Digest) ([]Descriptor, error)
}
