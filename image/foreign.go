package image

import "github.com/opencontainers/go-digest"

// IsForeign says whether a layer is one that its registry need not hold: it
// has URLs where it stands (OCI image-spec, descriptor.md). The media types of
// layers that are not to be given away say nothing of where they stand.
func IsForeign(layer Descriptor) bool { return len(layer.URLs) > 0 }

// WithoutForeign leaves the foreign layers out of an image, and tells which
// they are, each once. Documents stay byte for byte, so that manifests name the
// layers still. A layer that one of the manifests names without a URL is the
// registry's to give, and stays.
func WithoutForeign(img Image) (Image, []Descriptor) {
	stays := map[digest.Digest]bool{}
	for _, c := range img.Documents() {
		stays[c.Digest] = true
	}
	for _, m := range img.Manifests {
		for _, layer := range m.Layers {
			if !IsForeign(layer) {
				stays[layer.Digest] = true
			}
		}
	}
	out := map[digest.Digest]string{}
	var foreign []Descriptor
	for _, m := range img.Manifests {
		for _, layer := range m.Layers {
			if _, met := out[layer.Digest]; !met && !stays[layer.Digest] {
				out[layer.Digest] = ""
				foreign = append(foreign, layer)
			}
		}
	}
	return leaveOut(img, out), foreign
}
