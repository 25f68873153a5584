// Package image holds davit's vocabulary: descriptors, manifests, indexes,
// configs and platforms as the OCI image specification names them, the small
// interfaces between the rooms, and the events that tell of progress.
package image

import (
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/ref"
)

// Descriptor names content by media type, digest and size (OCI image-spec, descriptor.md).
type Descriptor = ocispec.Descriptor

// Platform is an operating system and a processor architecture (OCI image-spec, image-index.md).
type Platform = ocispec.Platform

// Content is a small document, with the descriptor that its bytes were
// verified against. Bytes are exactly what the source served.
type Content struct {
	Descriptor
	Bytes []byte
}

// Image is one image of one platform, resolved: all that must be known before
// its layers are fetched.
type Image struct {
	// Reference is the name that the image was asked for by, with the tag
	// that was chosen where none was written.
	Reference ref.Reference
	// Name is what the image is called where it goes: a name with a tag, or
	// with a digest where there is no tag.
	Name ref.Reference
	// Indexes lead from what the reference names to the manifest, each naming
	// the next. There are none where the reference names the manifest itself.
	Indexes []Content
	// Manifest is the image's manifest.
	Manifest Content
	// Config is the image's config; its digest is the image ID of classic
	// Docker and podman.
	Config Content
	// Layers are the manifest's layers, the lowest first. One layer may stand
	// there more than once.
	Layers []Descriptor
	// Platform is the image's platform as its config tells it, in containerd's
	// normal form.
	Platform Platform
	// Source is where the layers are fetched from.
	Source Source
}

// Root is what the reference names: an index, or the manifest itself.
func (img Image) Root() Content {
	if len(img.Indexes) > 0 {
		return img.Indexes[0]
	}
	return img.Manifest
}
