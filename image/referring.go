package image

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Annotations of entries of an image layout's index.json that hold what refers
// to another image.
const (
	// AnnotationSubject is the digest of what the entry refers to, as containerd
	// and Docker write it. They, from containerd 2.3 on, take such an entry for no
	// image.
	AnnotationSubject = "io.containerd.manifest.subject"
	// AnnotationReferrerName is the name by which cosign finds the entry: a full
	// one, or a tag. It is davit's own, so that loaders take it for no image's.
	AnnotationReferrerName = "dev.davit.referrer.name"
)

// IsReferrer says whether the image is kept as one that refers to another: its
// store says so, or its tag is a referrers tag.
func (s Stored) IsReferrer() bool { return s.Subject != "" || IsReferrersTag(s.Tag()) }

// refer takes from an entry of index.json what it refers to, and by which name.
func (s *Stored) refer(annotations map[string]string) {
	if subject := digest.Digest(annotations[AnnotationSubject]); CheckDigest(subject) == nil {
		s.Subject = subject
	}
	name := annotations[AnnotationReferrerName]
	switch {
	case s.Subject == "" || s.Name != "" || s.RefName != "":
	case isFullName(name) && IsReferrersTag((Stored{Name: name}).Tag()):
		s.Name = name
	case IsReferrersTag(name):
		s.RefName = name
	}
}

// DescribeReferrer describes a manifest or index as lists of referrers do (OCI
// distribution-spec, "Listing Referrers"), and tells its subject. It is false
// where there is none, or where the document is malformed.
func DescribeReferrer(c Content) (d Descriptor, subject digest.Digest, ok bool) {
	d = Descriptor{MediaType: c.MediaType, Digest: c.Digest, Size: int64(len(c.Bytes))}
	var of *Descriptor
	var err error
	if IsIndex(c.MediaType) {
		var index ocispec.Index
		index, err = ParseIndex(c)
		of, d.ArtifactType, d.Annotations = index.Subject, index.ArtifactType, index.Annotations
	} else {
		var m ocispec.Manifest
		m, err = ParseManifest(c)
		of, d.ArtifactType, d.Annotations = m.Subject, cmp.Or(m.ArtifactType, m.Config.MediaType), m.Annotations
	}
	if err != nil || of == nil || CheckDigest(of.Digest) != nil {
		return d, "", false
	}
	return d, of.Digest, true
}

// AddReferrers is the index of a subject's referrers (OCI distribution-spec,
// "Referrers Tag Schema") with more of them behind those that it has, each
// digest once. Without bytes, c is none yet. What else stands in it stays; where
// nothing is new, c is returned as it is. The error wraps ErrVerification where
// c is no such index, or where it would be too large for one.
func AddReferrers(c Content, add ...Descriptor) (Content, error) {
	if c.Bytes == nil {
		return newReferrers(add)
	}
	index, err := ParseIndex(c)
	if err == nil && c.MediaType != ocispec.MediaTypeImageIndex {
		err = fmt.Errorf("%w: its media type is %s", ErrVerification, clean(c.MediaType))
	}
	if err != nil {
		return Content{}, err
	}
	fields, err := readFields(c.Bytes)
	if err != nil {
		return Content{}, fmt.Errorf("%w: %w", ErrVerification, err)
	}
	var all []json.RawMessage
	if err := unmarshal(fields["manifests"], &all); err != nil {
		return Content{}, fmt.Errorf("%w: its manifests: %w", ErrVerification, err)
	}
	before := len(all)
	for _, d := range add {
		if slices.ContainsFunc(index.Manifests, func(o Descriptor) bool { return o.Digest == d.Digest }) {
			continue
		}
		index.Manifests = append(index.Manifests, d)
		raw, err := encode(d)
		if err != nil {
			return Content{}, err
		}
		all = append(all, raw)
	}
	if len(all) == before {
		return c, nil
	}
	if fields["manifests"], err = encode(all); err != nil {
		return Content{}, err
	}
	return referrersOf(fields, len(all))
}

func newReferrers(add []Descriptor) (Content, error) {
	index := ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageIndex,
		Manifests: []Descriptor{},
	}
	for _, d := range add {
		if !slices.ContainsFunc(index.Manifests, func(o Descriptor) bool { return o.Digest == d.Digest }) {
			index.Manifests = append(index.Manifests, d)
		}
	}
	return referrersOf(index, len(index.Manifests))
}

// referrersOf writes an index of so many referrers.
func referrersOf(index any, n int) (Content, error) {
	b, err := encode(index)
	switch {
	case err != nil:
		return Content{}, err
	case n > MaxDescriptors:
		return Content{}, fmt.Errorf("%w: it would have %d referrers, more than %d", ErrVerification, n, MaxDescriptors)
	case len(b) > MaxManifestSize:
		return Content{}, fmt.Errorf("%w: it would have %d bytes, more than %d", ErrVerification, len(b), MaxManifestSize)
	}
	return Content{Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: digest.FromBytes(b), Size: int64(len(b))}, b}, nil
}
