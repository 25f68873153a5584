package image

import "github.com/opencontainers/go-digest"

// Trim takes out of the image's indexes what the image does not have, other
// platforms for example, so that they name its manifests alone. Whatever else
// stands in them stays; nested indexes are trimmed likewise, and dropped where
// they lead to nothing. The root's digest changes with that, and the Name
// where it is by that digest. Where nothing is absent, img is returned as it is.
func Trim(img Image) (Image, error) {
	have := map[digest.Digest]bool{}
	for _, m := range img.Manifests {
		have[m.Digest] = true
	}
	return Derive(img, Change{Drop: func(entry Descriptor) bool { return !have[entry.Digest] }})
}
