package registrytest

import (
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/image"
)

// Referrer is an artifact without content that refers to a manifest or index.
type Referrer struct {
	Subject      digest.Digest
	ArtifactType string
	Annotations  map[string]string
	// Tag is the tag that it gets, "" for none: one of cosign's, for example.
	Tag string
	// Untold leaves the subject out, as cosign's tags do: only the tag tells it.
	Untold bool
}

// PushReferrer builds a referrer and adds it to a repository. The descriptor has
// its artifact type and its annotations, as lists of referrers have them.
func (s *Server) PushReferrer(repository string, x Referrer) image.Descriptor {
	m := ocispec.Manifest{
		Versioned:    specs.Versioned{SchemaVersion: 2},
		MediaType:    ocispec.MediaTypeImageManifest,
		ArtifactType: x.ArtifactType,
		Config:       ocispec.DescriptorEmptyJSON,
		Layers:       []image.Descriptor{ocispec.DescriptorEmptyJSON},
		Annotations:  x.Annotations,
	}
	if !x.Untold {
		subject, ok := s.Content.Describe(repository, x.Subject.String())
		if !ok {
			subject = image.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: x.Subject}
		}
		m.Subject = &subject
	}
	s.Content.AddBlob(ocispec.DescriptorEmptyJSON.Data)
	d := s.Content.AddManifest(repository, x.Tag, m.MediaType, encode(m))
	d.ArtifactType, d.Annotations = x.ArtifactType, x.Annotations
	return d
}

// PushReferrersTag puts the index of a subject's referrers under the tag that
// stands for the list where a registry has none (distribution spec, "Referrers
// Tag Schema").
func (s *Server) PushReferrersTag(repository string, subject digest.Digest) image.Descriptor {
	index := ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageIndex,
		Manifests: append([]image.Descriptor{}, s.Content.Referrers(repository, subject)...),
	}
	tag := subject.Algorithm().String() + "-" + subject.Encoded()[:64]
	return s.Content.AddManifest(repository, tag, index.MediaType, encode(index))
}

// PushTags points many tags to the manifest that a tag names.
func (s *Server) PushTags(repository, tag string, tags ...string) {
	d, _ := s.Content.Describe(repository, tag) // none: they lead nowhere
	s.Content.AddTags(repository, d.Digest, tags...)
}
