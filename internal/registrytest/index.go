package registrytest

import (
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/memregistry"
)

// Index is an index to build of images, of further indexes after them, and
// where wanted of one attestation an image at the end, as buildkit makes it: a
// manifest of the platform unknown/unknown.
type Index struct {
	Images       []Image
	Indexes      []Index
	Attestations bool
	// Docker makes it a manifest list. The images have a Docker of their own.
	Docker      bool
	NoMediaType bool
	Annotations map[string]string
	// Algorithm is that of the index's own descriptor, "" for sha256.
	Algorithm digest.Algorithm
}

// PushedIndex is an index as built.
type PushedIndex struct {
	Index        image.Descriptor
	Bytes        []byte
	Images       []Pushed
	Indexes      []PushedIndex
	Attestations []Pushed
}

// BuildIndex makes an index without a registry. It panics where Build does.
func BuildIndex(x Index) PushedIndex {
	var p PushedIndex
	mediaType := ocispec.MediaTypeImageIndex
	if x.Docker {
		mediaType = DockerManifestList
	}
	index := ocispec.Index{
		Versioned:   specs.Versioned{SchemaVersion: 2},
		MediaType:   mediaType,
		Manifests:   []image.Descriptor{},
		Annotations: x.Annotations,
	}
	if x.NoMediaType {
		index.MediaType = ""
	}
	for _, img := range x.Images {
		built := Build(img)
		p.Images = append(p.Images, built)
		d := built.Manifest
		platform := built.image.Platform
		d.Platform = &platform
		index.Manifests = append(index.Manifests, d)
	}
	for _, inner := range x.Indexes {
		built := BuildIndex(inner)
		p.Indexes = append(p.Indexes, built)
		index.Manifests = append(index.Manifests, built.Index)
	}
	if x.Attestations {
		for _, img := range p.Images {
			built := attestation(img.Manifest.Digest)
			p.Attestations = append(p.Attestations, built)
			d := built.Manifest
			d.Platform = &image.Platform{OS: "unknown", Architecture: "unknown"}
			d.Annotations = map[string]string{
				"vnd.docker.reference.digest": img.Manifest.Digest.String(),
				"vnd.docker.reference.type":   "attestation-manifest",
			}
			index.Manifests = append(index.Manifests, d)
		}
	}
	algorithm := x.Algorithm
	if algorithm == "" {
		algorithm = digest.SHA256
	}
	p.Bytes = encode(index)
	p.Index = describe(algorithm, mediaType, p.Bytes)
	return p
}

// attestation is an image as buildkit's attestations are: a statement as its
// one layer.
func attestation(of digest.Digest) Pushed {
	statement := encode(map[string]any{
		"_type":         "https://in-toto.io/Statement/v0.1",
		"predicateType": "https://slsa.dev/provenance/v0.2",
		"subject":       []map[string]any{{"digest": map[string]string{of.Algorithm().String(): of.Encoded()}}},
		"predicate":     map[string]any{},
	})
	return Build(Image{
		Platform: image.Platform{OS: "unknown", Architecture: "unknown"},
		Layers: []Layer{{
			Tar:         statement,
			Compression: None,
			MediaType:   "application/vnd.in-toto+json",
			Annotations: map[string]string{"in-toto.io/predicate-type": "https://slsa.dev/provenance/v0.2"},
		}},
	})
}

// PushIndex builds an index and adds it, with all that it holds, to a
// repository: the index under a tag or (tag "") by digest only, the rest by
// digest. It panics where Build does.
func (s *Server) PushIndex(repository, tag string, x Index) PushedIndex {
	p := BuildIndex(x)
	p.AddTo(s.Content, repository, tag)
	return p
}

// AddTo adds the index, with all that it holds, to a registry's content.
func (p PushedIndex) AddTo(g *memregistry.Registry, repository, tag string) {
	for _, img := range p.Images {
		img.AddTo(g, repository, "")
	}
	for _, inner := range p.Indexes {
		inner.AddTo(g, repository, "")
	}
	for _, a := range p.Attestations {
		a.AddTo(g, repository, "")
	}
	g.AddManifest(repository, tag, p.Index.MediaType, p.Bytes)
}
