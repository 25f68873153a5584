package image

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Annotations of an index.json whose images lack blobs that a base has.
const (
	// AnnotationDelta is of index.json itself. Its value is JSON: a list of
	// objects with the base's name, base, and the digests of the blobs that it
	// has, blobs.
	AnnotationDelta = "dev.davit.delta"
	// AnnotationDocuments is of an entry that is an index: the digests of the
	// indexes below it and then of the manifests that belong to the image, in its
	// order, with a space between two. So whoever joins the delta with its bases
	// has the image as it was pulled.
	AnnotationDocuments = "dev.davit.documents"
)

// maxDelta is how many bytes the value of AnnotationDelta may have. With it
// index.json is still no larger than MaxManifestSize.
const maxDelta = 3 << 20

// Delta tells of blobs that images name and that are not where the images are,
// since a base has them: each with the base's name, which is shown and never
// opened.
type Delta map[digest.Digest]string

// DeltaTeller is a Store that may hold a delta.
type DeltaTeller interface {
	// Expected tells in which base a blob is that was left out. What the store
	// really has is not looked at.
	Expected(d digest.Digest) (base string, ok bool)
}

// DeltaOf tells what the images leave out for a base has it, unless one of them
// carries it.
func DeltaOf(images ...Image) Delta {
	delta := Delta{}
	for _, img := range images {
		for _, m := range img.Manifests {
			for d, base := range m.LeftOut {
				if known, met := delta[d]; base != "" && (!met || base < known) {
					delta[d] = base
				}
			}
		}
	}
	if len(delta) == 0 {
		return delta
	}
	for _, img := range images {
		for _, c := range img.Documents() {
			delete(delta, c.Digest)
		}
		for _, blob := range img.Blobs() {
			delete(delta, blob.Digest)
		}
	}
	return delta
}

// deltaBase is an object of AnnotationDelta.
type deltaBase struct {
	Base  string          `json:"base"`
	Blobs []digest.Digest `json:"blobs"`
}

// Encode is the value of AnnotationDelta, sorted by base and digest; empty where
// nothing is left out.
func (d Delta) Encode() (string, error) {
	if len(d) == 0 {
		return "", nil
	}
	at := map[string]int{}
	var bases []deltaBase
	for _, blob := range slices.Sorted(maps.Keys(d)) {
		base := clean(d[blob])
		i, met := at[base]
		if !met {
			i = len(bases)
			at[base] = i
			bases = append(bases, deltaBase{Base: base})
		}
		bases[i].Blobs = append(bases[i].Blobs, blob)
	}
	slices.SortFunc(bases, func(a, b deltaBase) int { return strings.Compare(a.Base, b.Base) })
	b, err := encode(bases)
	if err == nil && len(b) > maxDelta {
		err = fmt.Errorf("the list of %d blobs that are left out has %d bytes, more than %d", len(d), len(b), maxDelta)
	}
	if err != nil {
		return "", fmt.Errorf("encode %s: %w", AnnotationDelta, err)
	}
	return string(b), nil
}

// ParseDelta reads the annotations of an index.json; where it is none of a
// delta, nothing is left out. An error wraps ErrVerification.
func ParseDelta(annotations map[string]string) (Delta, error) {
	value, ok := annotations[AnnotationDelta]
	if !ok {
		return nil, nil
	}
	delta, err := parseDelta(value)
	if err != nil {
		return nil, fmt.Errorf("annotation %s: %w: %w", AnnotationDelta, ErrVerification, err)
	}
	return delta, nil
}

func parseDelta(value string) (Delta, error) {
	if len(value) > maxDelta {
		return nil, fmt.Errorf("it has %d bytes, more than %d", len(value), maxDelta)
	}
	var bases []deltaBase
	if err := json.Unmarshal([]byte(value), &bases); err != nil {
		return nil, fmt.Errorf("it is no JSON document as it must be: %w", err)
	}
	delta := Delta{}
	for _, b := range bases {
		base := clean(b.Base)
		if base == "" {
			return nil, fmt.Errorf("a base has no name")
		}
		for _, d := range b.Blobs {
			if err := CheckDigest(d); err != nil {
				return nil, err
			}
			if _, met := delta[d]; !met {
				delta[d] = base
			}
		}
	}
	return delta, nil
}

// Expected is part of DeltaTeller.
func (d Delta) Expected(blob digest.Digest) (base string, ok bool) {
	base, ok = d[blob]
	return base, ok
}

// Missing is the error of a blob that is not there: where it is expected in a
// base, an ExpectedError, else err.
func (d Delta) Missing(blob digest.Digest, err error) error {
	if base, ok := d[blob]; ok {
		return &ExpectedError{Digest: blob, Base: base}
	}
	return err
}

// ExpectedError says that a delta has not got a blob, and in which base it is
// expected. It wraps ErrNotFound.
type ExpectedError struct {
	Digest digest.Digest
	// Base is the base's name as it was called when the delta was made.
	Base string
}

func (e *ExpectedError) Error() string {
	return fmt.Sprintf("%v: it is expected in %s, as this is a delta", ErrNotFound, e.Base)
}

func (e *ExpectedError) Unwrap() error { return ErrNotFound }

// WithoutBlobs leaves the layers out of an image that a base has, by the base's
// name, and tells which they are, each once. Documents stay, configs too, also
// where a manifest names one as a layer. What is left out already stays so.
func WithoutBlobs(img Image, base func(layer Descriptor) (name string, ok bool)) (Image, []Descriptor) {
	seen := map[digest.Digest]bool{}
	for _, c := range img.Documents() {
		seen[c.Digest] = true
	}
	out := map[digest.Digest]string{}
	var layers []Descriptor
	for _, m := range img.Manifests {
		for _, layer := range m.Carried() {
			if seen[layer.Digest] {
				continue
			}
			seen[layer.Digest] = true
			if name, ok := base(layer); ok {
				out[layer.Digest] = name
				layers = append(layers, layer)
			}
		}
	}
	return leaveOut(img, out), layers
}

// leaveOut is the image without some layers more.
func leaveOut(img Image, out map[digest.Digest]string) Image {
	if len(out) == 0 {
		return img
	}
	img.Manifests = slices.Clone(img.Manifests)
	for i, m := range img.Manifests {
		all := maps.Clone(out)
		maps.Copy(all, m.LeftOut)
		img.Manifests[i].LeftOut = all
	}
	return img
}

// Entry is the image's entry in the index.json of a layout with these blobs left
// out: see Image.Named.
func (d Delta) Entry(img Image, refName string) Descriptor {
	entry := img.Named(refName)
	if len(d) == 0 || !img.KeepIndexes || len(img.Indexes) == 0 {
		return entry
	}
	var documents []string
	for _, c := range img.Indexes[1:] {
		documents = append(documents, c.Digest.String())
	}
	for _, m := range img.Manifests {
		documents = append(documents, m.Digest.String())
	}
	entry.Annotations[AnnotationDocuments] = strings.Join(documents, " ")
	return entry
}

// Annotate notes what is left out in an index.json.
func (d Delta) Annotate(index *ocispec.Index) error {
	value, err := d.Encode()
	if err != nil || value == "" {
		return err
	}
	if index.Annotations == nil {
		index.Annotations = map[string]string{}
	}
	index.Annotations[AnnotationDelta] = value
	return nil
}
