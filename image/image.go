// Package image holds davit's vocabulary: descriptors, manifests, indexes,
// configs and platforms as the OCI image specification names them, the small
// interfaces between the rooms, and the events that tell of progress.
package image

import (
	"slices"

	"github.com/opencontainers/go-digest"
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

// Image is what a reference names, resolved: all that must be known before
// its layers are fetched.
type Image struct {
	// Reference is the name that the image was asked for by, with the tag
	// that was chosen where none was written.
	// Empty for an image on disk that has no name.
	Reference ref.Reference
	// Label is what messages call it: its reference, or where it is on disk.
	Label string
	// Name is what the image is called where it goes: a name with a tag, or
	// with a digest where there is no tag. Empty where it has none.
	Name ref.Reference
	// Indexes are those that lead from what the reference names to the
	// manifests, each after one that names it. There are none where the
	// reference names a manifest itself.
	Indexes []Content
	// KeepIndexes says that the indexes belong to the image where it goes. Else
	// its one manifest stands for itself there.
	KeepIndexes bool
	// Manifests are those that were chosen, at least one, each once. The first
	// is the one for loaders that know only one.
	Manifests []Manifest
	// Source is where the layers are fetched from.
	Source Source
	// Mirrors are asked for layers before Source is, all at once.
	Mirrors []Source
	// Subject is what the image refers to, where it goes along with that: a
	// signature or an SBOM. Its Name's tag, if any, is one of cosign's.
	Subject digest.Digest
}

// Manifest is one manifest of an image, with what it names: an image of one
// platform, an attestation, or an artifact.
type Manifest struct {
	Content
	// Config is the manifest's config; its digest is the image ID of classic
	// Docker and podman.
	Config Content
	// Layers are the manifest's layers, the lowest first. One layer may stand
	// there more than once.
	Layers []Descriptor
	// Platform is the image's platform as its config tells it, in containerd's
	// normal form. It is empty for what is no container image.
	Platform Platform
	// Attestation says that the manifest tells about the build of another one
	// of the same index (provenance, SBOM).
	Attestation bool
	// LeftOut are the layers that are not fetched and are missing where the
	// image goes, although the manifest names them: each with the name of the
	// base that has it (WithoutBlobs), or without one (WithoutForeign).
	LeftOut map[digest.Digest]string
}

// LeavesOut says whether a layer is left out.
func (m Manifest) LeavesOut(layer digest.Digest) bool {
	_, out := m.LeftOut[layer]
	return out
}

// IsImage says whether the manifest is one of a container image, rather than
// of an artifact, a Helm chart for example, or an attestation.
func (m Manifest) IsImage() bool { return !m.Attestation && isImageConfig(m.Config.MediaType) }

// Root is what the reference names: an index, or the manifest itself.
func (img Image) Root() Content {
	if len(img.Indexes) > 0 {
		return img.Indexes[0]
	}
	return img.Manifests[0].Content
}

// Entry is what names the image where it goes: its root where the indexes are
// kept, else its one manifest.
func (img Image) Entry() Content {
	if img.KeepIndexes {
		return img.Root()
	}
	return img.Manifests[0].Content
}

// IsArtifact says whether the image is something else than a container image,
// a Helm chart for example.
func (img Image) IsArtifact() bool { return !slices.ContainsFunc(img.Manifests, Manifest.IsImage) }

// Documents are what belongs to the image and is known before its layers are,
// each once: indexes where they are kept, manifests, configs.
func (img Image) Documents() []Content {
	var all []Content
	if img.KeepIndexes {
		all = append(all, img.Indexes...)
	}
	for _, m := range img.Manifests {
		all = append(all, m.Content, m.Config)
	}
	seen := map[digest.Digest]bool{}
	return slices.DeleteFunc(all, func(c Content) bool {
		met := seen[c.Digest]
		seen[c.Digest] = true
		return met
	})
}

// Carried are the manifest's layers that go along, the lowest first: all but
// those that are left out.
func (m Manifest) Carried() []Descriptor {
	return slices.DeleteFunc(slices.Clone(m.Layers), func(d Descriptor) bool { return m.LeavesOut(d.Digest) })
}

// Blobs are the image's layers that go along and are no documents already,
// each once, in the order in which they are first named. One has the URLs of
// the first descriptor that has any.
func (img Image) Blobs() []Descriptor {
	known := map[digest.Digest]bool{}
	for _, c := range img.Documents() {
		known[c.Digest] = true
	}
	var blobs []Descriptor
	at := map[digest.Digest]int{}
	for _, m := range img.Manifests {
		for _, layer := range m.Carried() {
			i, met := at[layer.Digest]
			switch {
			case known[layer.Digest]:
			case !met:
				at[layer.Digest] = len(blobs)
				blobs = append(blobs, layer)
			case len(blobs[i].URLs) == 0:
				blobs[i].URLs = layer.URLs
			}
		}
	}
	return blobs
}
