package image

import (
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/ref"
)

// AnnotationImageName is where containerd looks for an image's full name in an
// image layout's index.json.
const AnnotationImageName = "io.containerd.image.name"

// RefNames are what images of these names are called within one image layout
// (OCI image-spec, annotations.md, org.opencontainers.image.ref.name): the
// tag, as other tools expect it; where different names share a tag, or it is
// among those taken by others, the full name. A name without a tag gets none.
// The order of the names changes nothing.
func RefNames(names []ref.Reference, taken ...string) []string {
	holder := map[string]string{} // of a tag, empty where there are several
	for _, tag := range taken {
		holder[tag] = ""
	}
	for _, n := range names {
		if name, met := holder[n.Tag]; met && name != n.String() {
			holder[n.Tag] = ""
		} else {
			holder[n.Tag] = n.String()
		}
	}
	refNames := make([]string, len(names))
	for i, n := range names {
		switch {
		case n.Tag == "":
		case holder[n.Tag] == n.String():
			refNames[i] = n.Tag
		default:
			refNames[i] = n.String()
		}
	}
	return refNames
}

// Named is the image's entry in an image layout's index.json, by its full name
// and by refName where there is one. What refers to another image has no name
// that loaders know.
func (img Image) Named(refName string) Descriptor {
	if img.Subject != "" {
		return img.referring()
	}
	entry := img.Entry()
	d := Descriptor{
		MediaType:   entry.MediaType,
		Digest:      entry.Digest,
		Size:        entry.Size,
		Annotations: map[string]string{},
	}
	if img.Name.Repository != "" {
		d.Annotations[AnnotationImageName] = img.Name.String()
	}
	if refName != "" {
		d.Annotations[ocispec.AnnotationRefName] = refName
	}
	if first := img.Manifests[0]; first.IsImage() && entry.Digest == first.Digest {
		d.Platform = &first.Platform
	}
	return d
}

// referring is Named for what refers to another image.
func (img Image) referring() Descriptor {
	entry := img.Entry()
	described, _, _ := DescribeReferrer(entry)
	d := Descriptor{
		MediaType: entry.MediaType, Digest: entry.Digest, Size: entry.Size,
		ArtifactType: described.ArtifactType,
		Annotations:  map[string]string{AnnotationSubject: img.Subject.String()},
	}
	switch {
	case img.Name.Tag != "" && img.Name.Repository != "":
		d.Annotations[AnnotationReferrerName] = img.Name.String()
	case img.Name.Tag != "":
		d.Annotations[AnnotationReferrerName] = img.Name.Tag
	}
	return d
}
