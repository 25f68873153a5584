package recode

import (
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/image"
)

// family are the media types of one kind of layer.
type family struct{ plain, gzip, zstd string }

// families are the tars of image layers (OCI image-spec, layer.md), with those
// that are not to be given away, and Docker's.
var families = []family{
	{ocispec.MediaTypeImageLayer, ocispec.MediaTypeImageLayerGzip, ocispec.MediaTypeImageLayerZstd},
	{
		"application/vnd.oci.image.layer.nondistributable.v1.tar",
		"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
		"application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
	},
	{image.MediaTypeDockerLayer, image.MediaTypeDockerLayerGzip, image.MediaTypeDockerLayerZstd},
	{
		"application/vnd.docker.image.rootfs.foreign.diff.tar",
		image.MediaTypeDockerForeignLayer,
		"application/vnd.docker.image.rootfs.foreign.diff.tar.zstd",
	},
}

// as is the media type of a layer once it is as wanted; it is empty for what
// is no tar of an image's layer.
func as(mediaType string, want Compression) string {
	for _, f := range families {
		if mediaType != f.plain && mediaType != f.gzip && mediaType != f.zstd {
			continue
		}
		if want == None {
			return f.plain
		}
		return f.gzip
	}
	return ""
}

// needs says whether a layer of a manifest is not as wanted. One that is left
// out stays what it is.
func needs(m image.Manifest, layer image.Descriptor, want Compression) bool {
	to := as(layer.MediaType, want)
	return m.IsImage() && !m.LeavesOut(layer.Digest) && to != "" && to != layer.MediaType
}
