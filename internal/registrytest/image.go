package registrytest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/memregistry"
)

// Docker's media types (image manifest version 2, schema 2).
const (
	DockerManifest     = "application/vnd.docker.distribution.manifest.v2+json"
	DockerManifestList = "application/vnd.docker.distribution.manifest.list.v2+json"
	DockerConfig       = "application/vnd.docker.container.image.v1+json"
)

// Image is an image to build. The zero value is an image of linux/amd64 without
// layers. The same Image gives the same bytes, always.
type Image struct {
	Platform image.Platform // zero: linux/amd64
	Layers   []Layer
	// Config is what the image runs, and its labels.
	Config ocispec.ImageConfig
	// RawConfig is served as the config in place of a made one.
	RawConfig []byte
	// Docker uses Docker's media types in place of OCI's.
	Docker bool
	// NoMediaType leaves mediaType out of the manifest's body.
	NoMediaType bool
	Annotations map[string]string
	// Algorithm is that of the blobs' and the manifest's digests in the
	// descriptors, "" for sha256. diffIDs are always sha256.
	Algorithm digest.Algorithm
}

// Pushed is an image as built.
type Pushed struct {
	Manifest, Config image.Descriptor
	Layers           []image.Descriptor
	DiffIDs          []digest.Digest
	ManifestBytes    []byte
	ConfigBytes      []byte
	LayerContent     []io.ReaderAt // the layers' bytes as served

	image Image
}

// LayerBytes returns a layer's bytes as served.
func (p Pushed) LayerBytes(i int) []byte {
	data, err := io.ReadAll(io.NewSectionReader(p.LayerContent[i], 0, p.Layers[i].Size))
	if err != nil {
		panic(err) // the content is in memory, or computed
	}
	return data
}

// Size returns the bytes of all blobs: the config and each layer once.
func (p Pushed) Size() int64 {
	seen := map[digest.Digest]bool{}
	total := int64(0)
	for _, d := range append([]image.Descriptor{p.Config}, p.Layers...) {
		if !seen[d.Digest] {
			seen[d.Digest] = true
			total += d.Size
		}
	}
	return total
}

// Build makes an image without a registry. It panics where the image cannot be
// encoded (a name that no tar can hold, for example): the test is wrong then.
func Build(img Image) Pushed {
	if img.Algorithm == "" {
		img.Algorithm = digest.SHA256
	}
	if img.Platform.OS == "" {
		img.Platform.OS = "linux"
	}
	if img.Platform.Architecture == "" {
		img.Platform.Architecture = "amd64"
	}
	p := Pushed{image: img}
	for i, l := range img.Layers {
		built, err := l.build(img.Docker, img.Algorithm)
		if err != nil {
			panic(fmt.Sprintf("registrytest: build layer %d: %v", i, err))
		}
		p.Layers = append(p.Layers, built.descriptor)
		p.DiffIDs = append(p.DiffIDs, built.diffID)
		p.LayerContent = append(p.LayerContent, built.content)
	}
	p.ConfigBytes = img.RawConfig
	if p.ConfigBytes == nil {
		p.ConfigBytes = encode(config(img, p.DiffIDs))
	}
	manifestType, configType := ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig
	if img.Docker {
		manifestType, configType = DockerManifest, DockerConfig
	}
	p.Config = describe(img.Algorithm, configType, p.ConfigBytes)
	manifest := ocispec.Manifest{
		Versioned:   specs.Versioned{SchemaVersion: 2},
		MediaType:   manifestType,
		Config:      p.Config,
		Layers:      p.Layers,
		Annotations: img.Annotations,
	}
	if img.NoMediaType {
		manifest.MediaType = ""
	}
	if manifest.Layers == nil {
		manifest.Layers = []image.Descriptor{}
	}
	p.ManifestBytes = encode(manifest)
	p.Manifest = describe(img.Algorithm, manifestType, p.ManifestBytes)
	return p
}

// config returns the config of an image, with one line of history a layer and
// one of the kind that has none.
func config(img Image, diffIDs []digest.Digest) ocispec.Image {
	created := Time
	c := ocispec.Image{
		Created:  &created,
		Platform: img.Platform,
		Config:   img.Config,
		RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: diffIDs},
	}
	if c.RootFS.DiffIDs == nil {
		c.RootFS.DiffIDs = []digest.Digest{}
	}
	for i := range diffIDs {
		c.History = append(c.History, ocispec.History{Created: &created, CreatedBy: fmt.Sprintf("layer %d", i)})
	}
	c.History = append(c.History, ocispec.History{Created: &created, CreatedBy: "CMD", EmptyLayer: true})
	return c
}

// Push builds an image and adds it to a repository, under a tag or (tag "") by
// digest only. It panics where Build does.
func (s *Server) Push(repository, tag string, img Image) Pushed {
	p := Build(img)
	p.AddTo(s.Content, repository, tag)
	return p
}

// PushRaw adds any bytes as a manifest or index.
func (s *Server) PushRaw(repository, tag, mediaType string, raw []byte) image.Descriptor {
	return s.Content.AddManifest(repository, tag, mediaType, raw)
}

// AddBlob adds any bytes as a blob.
func (s *Server) AddBlob(data []byte) image.Descriptor { return s.Content.AddBlob(data) }

// AddTo adds the image to a registry's content.
func (p Pushed) AddTo(g *memregistry.Registry, repository, tag string) {
	g.AddBlobAt(p.Config, bytes.NewReader(p.ConfigBytes))
	for i, d := range p.Layers {
		if !p.image.Layers[i].Absent {
			g.AddBlobAt(d, p.LayerContent[i])
		}
	}
	g.AddManifest(repository, tag, p.Manifest.MediaType, p.ManifestBytes)
}

func describe(algorithm digest.Algorithm, mediaType string, raw []byte) image.Descriptor {
	return image.Descriptor{MediaType: mediaType, Digest: algorithm.FromBytes(raw), Size: int64(len(raw))}
}

func encode(v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err) // the specification's types always encode
	}
	return raw
}
