package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// CosignTags are the tags under which cosign keeps what it makes for an image
// where it does not use referrers: ReferrersTag with a suffix. Their artifact
// types are those that it gives the same things as referrers.
var CosignTags = [...]struct{ Suffix, ArtifactType string }{
	{".sig", "application/vnd.dev.cosign.artifact.sig.v1+json"},
	{".att", "application/vnd.dev.cosign.artifact.att.v1+json"},
	{".sbom", "application/vnd.dev.cosign.artifact.sbom.v1+json"},
}

// referrersTagDigits is how much of a digest a referrers tag has.
const referrersTagDigits = 64

// ReferrersTag is the tag of the index of referrers where no list of them is to
// be had (OCI distribution-spec, "Referrers Tag Schema"): the algorithm, and 64
// characters of the digest, which is one that CheckDigest takes.
func ReferrersTag(subject digest.Digest) string {
	return subject.Algorithm().String() + "-" + subject.Encoded()[:referrersTagDigits]
}

// IsReferrersTag says whether a tag is written as one that keeps what refers to
// an image: the referrers tag of a digest, also where that is not cut, or one of
// cosign's.
func IsReferrersTag(tag string) bool {
	for _, c := range CosignTags {
		if of, ok := strings.CutSuffix(tag, c.Suffix); ok {
			tag = of
			break
		}
	}
	algorithm, digits, ok := strings.Cut(tag, "-")
	if !ok {
		return false
	}
	if CheckDigest(digest.Digest(algorithm+":"+digits)) == nil {
		return true
	}
	// The first half of a sha512, twice, is written as one.
	return len(digits) == referrersTagDigits && CheckDigest(digest.Digest(algorithm+":"+digits+digits)) == nil
}

// WithoutReferrers are the images that are not kept as what refers to others; all
// of them where each is.
func WithoutReferrers(images []Stored) []Stored {
	if others := slices.DeleteFunc(slices.Clone(images), Stored.IsReferrer); len(others) > 0 {
		return others
	}
	return images
}

// maxStoredBytes is of all manifests that are read to find an image's referrers.
const maxStoredBytes = 64 << 20

// ReferrerSearch finds what refers to what among the images of a Store, whose
// manifests it reads once, when it is first asked. It may be asked by many
// goroutines at once.
type ReferrerSearch struct {
	source Source
	tagged map[string][]Stored
	images []Stored

	mu        sync.Mutex
	read      bool
	bySubject map[digest.Digest][]Descriptor
}

// NewReferrerSearch is for images that source reads. It reads nothing yet.
func NewReferrerSearch(source Source, images []Stored) *ReferrerSearch {
	r := &ReferrerSearch{source: source, images: images, tagged: map[string][]Stored{}}
	for _, img := range images {
		if tag := img.Tag(); tag != "" {
			r.tagged[tag] = append(r.tagged[tag], img)
		}
	}
	return r
}

// Of lists what refers to a manifest or index: what the index under the referrers
// tag names, then the images whose subject it is (OCI image-spec, manifest.md,
// "subject"), then what cosign keeps under tags. Each is there once. None is no
// error.
//
// A descriptor whose digest or size is none is left out, and so is an image that
// cannot be read. The error wraps ErrVerification where the index is malformed,
// or where more than MaxDescriptors images or 64 MiB would have to be read.
func (r *ReferrerSearch) Of(ctx context.Context, subject digest.Digest) ([]Descriptor, error) {
	s := storedSearch{ReferrerSearch: r, subject: subject, left: maxStoredBytes, seen: map[digest.Digest]bool{subject: true}}
	err := CheckDigest(subject)
	for _, find := range []func(context.Context) error{s.byTag, s.byManifest, s.byCosign} {
		if err == nil {
			err = find(ctx)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("list referrers of %s: %w", subject, err)
	}
	return s.found, nil
}

// storedSearch is one search for the referrers of a subject.
type storedSearch struct {
	*ReferrerSearch
	subject digest.Digest
	left    int64                  // bytes that may be read
	seen    map[digest.Digest]bool // what was found, and the subject
	found   []Descriptor
}

// byTag reads the index that stands under the referrers tag.
func (s *storedSearch) byTag(ctx context.Context) error {
	tag := ReferrersTag(s.subject)
	for _, img := range s.tagged[tag] {
		if img.Digest == s.subject {
			continue
		}
		c, err := s.manifest(ctx, img, &s.left)
		if errors.Is(err, ErrNotFound) || err == nil && !IsIndex(c.MediaType) {
			continue
		}
		if err != nil {
			return err
		}
		var index ocispec.Index
		if json.Unmarshal(c.Bytes, &index) != nil {
			return fmt.Errorf("%w: the index under the tag %s is malformed", ErrVerification, tag)
		}
		for _, d := range index.Manifests {
			if err := s.add(d); err != nil {
				return err
			}
		}
	}
	return nil
}

// byManifest takes the images that name the subject.
func (s *storedSearch) byManifest(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.read {
		if err := s.readAll(ctx); err != nil {
			return err
		}
		s.read = true
	}
	for _, d := range s.bySubject[s.subject] {
		if err := s.add(d); err != nil {
			return err
		}
	}
	return nil
}

// readAll reads the images, to find those that name a subject.
func (r *ReferrerSearch) readAll(ctx context.Context) error {
	r.bySubject = map[digest.Digest][]Descriptor{}
	left := int64(maxStoredBytes)
	met := map[digest.Digest]bool{}
	for _, img := range r.images {
		vague := isVague(img.MediaType)
		if met[img.Digest] || img.Made || img.Size > MaxManifestSize || !vague && !IsIndex(img.MediaType) && !IsManifest(img.MediaType) {
			continue
		}
		if len(met) == MaxDescriptors {
			return fmt.Errorf("%w: there are more than %d images", ErrVerification, MaxDescriptors)
		}
		met[img.Digest] = true
		c, err := r.manifest(ctx, img, &left)
		switch {
		case ctx.Err() != nil, errors.Is(err, errStoredBytes):
			return err
		case err != nil:
			continue // it may be no referrer at all
		}
		if d, subject, ok := DescribeReferrer(c); ok {
			r.bySubject[subject] = append(r.bySubject[subject], d)
		}
	}
	return nil
}

// byCosign takes what stands under cosign's tags.
func (s *storedSearch) byCosign(context.Context) error {
	for _, c := range CosignTags {
		for _, img := range s.tagged[ReferrersTag(s.subject)+c.Suffix] {
			if err := s.add(Descriptor{MediaType: img.MediaType, Digest: img.Digest, Size: img.Size, ArtifactType: c.ArtifactType}); err != nil {
				return err
			}
		}
	}
	return nil
}

// errStoredBytes: too much would have to be read.
var errStoredBytes = fmt.Errorf("%w: the manifests have more than %d bytes together", ErrVerification, maxStoredBytes)

// manifest reads an image's manifest or index, of the bytes that are left.
func (r *ReferrerSearch) manifest(ctx context.Context, img Stored, left *int64) (Content, error) {
	if *left -= max(0, img.Size); *left < 0 {
		return Content{}, errStoredBytes
	}
	return r.source.Manifest(ctx, img.Digest.String())
}

// add adds what was not found before.
func (s *storedSearch) add(d Descriptor) error {
	if CheckDigest(d.Digest) != nil || d.Size < 0 || d.Size > MaxImageSize || s.seen[d.Digest] {
		return nil
	}
	if len(s.found) == MaxDescriptors {
		return fmt.Errorf("%w: there are more than %d", ErrVerification, MaxDescriptors)
	}
	s.seen[d.Digest] = true
	s.found = append(s.found, Descriptor{
		MediaType: d.MediaType, Digest: d.Digest, Size: d.Size, ArtifactType: d.ArtifactType, Annotations: d.Annotations,
	})
	return nil
}
