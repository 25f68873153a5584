// Package demo makes the image that "davit demo" pulls: a small
// multi-platform image, built in memory without a compiler or a network, with
// the same bytes on every machine. Its program prints Greeting.
package demo

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/image"
)

// The name that AddTo gives the image in a registry.
const (
	Repository = "davit/demo"
	Tag        = "latest"
)

// cargoSize is the size of the layer that makes the image worth pulling: large
// enough for several ranges and for progress to be seen.
const cargoSize = 12 << 20

// created is every time in the image.
var created = time.Date(2026, time.November, 1, 0, 0, 0, 0, time.UTC)

// platforms are what the image runs on, in the order of its index.
var platforms = []image.Platform{
	{OS: "linux", Architecture: "amd64"},
	{OS: "linux", Architecture: "arm64", Variant: "v8"},
	{OS: "linux", Architecture: "arm", Variant: "v7"},
	{OS: "linux", Architecture: "arm", Variant: "v6"},
	{OS: "linux", Architecture: "386"},
	{OS: "linux", Architecture: "riscv64"},
	{OS: "linux", Architecture: "ppc64le"},
	{OS: "linux", Architecture: "s390x"},
}

// Greeting is what the image prints when it runs on an architecture, named as
// an image's platform names it.
func Greeting(architecture string) string {
	return "Hello from davit!\n" +
		"This image was carried without Docker; architecture: " + architecture + "\n"
}

// Content is everything that a registry holds of the image.
type Content struct {
	// Index is the root, an OCI index.
	Index image.Content
	// Manifests are what the index names, in its order: one for each
	// platform, then an attestation as buildkit adds one, whose platform is
	// unknown/unknown.
	Manifests []image.Content
	// Blobs are the configs and layers that the manifests name, each once.
	Blobs []image.Content
}

// Registry is what AddTo fills.
type Registry interface {
	// AddBlob keeps a blob for every repository.
	AddBlob(raw []byte) image.Descriptor
	// AddManifest keeps a manifest or an index under its digest, and under
	// tag where that is not empty.
	AddManifest(repository, tag, mediaType string, raw []byte) image.Descriptor
}

// AddTo puts the image into a registry as Repository:Tag, and returns the
// index's descriptor. The registry may keep the slices.
func (c Content) AddTo(registry Registry) image.Descriptor {
	for _, blob := range c.Blobs {
		registry.AddBlob(blob.Bytes)
	}
	for _, m := range c.Manifests {
		registry.AddManifest(Repository, "", m.MediaType, m.Bytes)
	}
	return registry.AddManifest(Repository, Tag, c.Index.MediaType, c.Index.Bytes)
}

// Build makes the image. The same version of davit gives the same bytes,
// always and everywhere.
func Build() (Content, error) {
	base, err := newLayer(baseEntries()...)
	if err != nil {
		return Content{}, fmt.Errorf("make base layer: %w", err)
	}
	cargo, err := newLayer(cargoEntries()...)
	if err != nil {
		return Content{}, fmt.Errorf("make cargo layer: %w", err)
	}
	programLayers := map[string]layer{}
	out := Content{Blobs: []image.Content{base.Content, cargo.Content}}
	for _, p := range programs {
		executable, err := p.file(Greeting(p.architecture))
		if err != nil {
			return Content{}, err
		}
		l, err := newLayer(file("hello", 0o755, string(executable)))
		if err != nil {
			return Content{}, fmt.Errorf("make program layer for %s: %w", p.architecture, err)
		}
		programLayers[p.architecture] = l
		out.Blobs = append(out.Blobs, l.Content)
	}

	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for _, platform := range platforms {
		layers := []layer{base, cargo, programLayers[platform.Architecture]}
		config, err := document(ocispec.MediaTypeImageConfig, imageConfig(platform, layers))
		if err != nil {
			return Content{}, err
		}
		m, err := manifest(config, layers)
		if err != nil {
			return Content{}, err
		}
		out.Blobs = append(out.Blobs, config)
		out.Manifests = append(out.Manifests, m)
		listed := m.Descriptor
		listed.Platform = &platform
		index.Manifests = append(index.Manifests, listed)
	}

	subject := out.Manifests[0].Descriptor
	m, blobs, err := attestation(subject, platforms[0])
	if err != nil {
		return Content{}, err
	}
	out.Blobs = append(out.Blobs, blobs...)
	out.Manifests = append(out.Manifests, m)
	listed := m.Descriptor
	listed.Platform = &image.Platform{OS: "unknown", Architecture: "unknown"}
	listed.Annotations = map[string]string{
		"vnd.docker.reference.digest": subject.Digest.String(),
		"vnd.docker.reference.type":   "attestation-manifest",
	}
	index.Manifests = append(index.Manifests, listed)

	out.Index, err = document(ocispec.MediaTypeImageIndex, index)
	return out, err
}

// baseEntries are the layer that would be an operating system's.
func baseEntries() []entry {
	return []entry{
		{name: "dev/", mode: 0o755},
		{name: "etc/", mode: 0o755},
		file("etc/group", 0o644, "root:x:0:\nnogroup:x:65534:\n"),
		file("etc/os-release", 0o644, `NAME="davit demo"
ID=davit-demo
VERSION_ID=1
PRETTY_NAME="davit demo"
HOME_URL="https://github.com/davit-cli/davit"
`),
		file("etc/passwd", 0o644, "root:x:0:0:root:/root:/hello\nnobody:x:65534:65534:nobody:/:/hello\n"),
		{name: "proc/", mode: 0o555},
		{name: "root/", mode: 0o700},
		{name: "run/", mode: 0o755},
		{name: "sys/", mode: 0o555},
		{name: "tmp/", mode: 0o1777},
		{name: "usr/", mode: 0o755},
		{name: "usr/share/", mode: 0o755},
		{name: "var/", mode: 0o755},
		{name: "var/run", mode: 0o777, link: "/run"},
		{name: "var/tmp/", mode: 0o1777},
	}
}

// cargoEntries are the layer with the bytes that nobody can compress:
// ChaCha8, whose output for a seed is fixed by C2SP's chacha8rand.
func cargoEntries() []entry {
	random := rand.NewChaCha8([32]byte([]byte("davit carries cargo sans Docker.")))
	return []entry{
		{name: "usr/", mode: 0o755},
		{name: "usr/share/", mode: 0o755},
		{name: "usr/share/davit/", mode: 0o755},
		{name: "usr/share/davit/cargo.bin", mode: 0o644, size: cargoSize, data: random},
	}
}

func imageConfig(platform image.Platform, layers []layer) ocispec.Image {
	config := ocispec.Image{
		Created:  &created,
		Platform: platform,
		Config: ocispec.ImageConfig{
			Env:        []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
			Cmd:        []string{"/hello"},
			WorkingDir: "/",
			Labels: map[string]string{
				ocispec.AnnotationTitle:       "davit demo",
				ocispec.AnnotationDescription: "A small image that greets you, made by davit demo",
				ocispec.AnnotationSource:      "https://github.com/davit-cli/davit",
			},
		},
		RootFS: ocispec.RootFS{Type: "layers"},
		History: []ocispec.History{
			{Created: &created, CreatedBy: "davit demo: base", Comment: "directories, os-release, passwd, group"},
			{Created: &created, CreatedBy: "davit demo: cargo", Comment: "/usr/share/davit/cargo.bin, random bytes"},
			{Created: &created, CreatedBy: "davit demo: program", Comment: "/hello, for " + platform.Architecture},
			{Created: &created, CreatedBy: `CMD ["/hello"]`, EmptyLayer: true},
		},
	}
	for _, l := range layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, l.diffID)
	}
	return config
}

func manifest(config image.Content, layers []layer) (image.Content, error) {
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    config.Descriptor,
	}
	for _, l := range layers {
		m.Layers = append(m.Layers, l.Descriptor)
	}
	return document(ocispec.MediaTypeImageManifest, m)
}

// attestation makes what buildkit puts into an index beside an image: a
// manifest whose one layer is a statement about subject, the image's manifest.
func attestation(subject image.Descriptor, platform image.Platform) (image.Content, []image.Content, error) {
	const predicateType = "https://slsa.dev/provenance/v0.2"
	statement, err := document("application/vnd.in-toto+json", map[string]any{
		"_type":         "https://in-toto.io/Statement/v0.1",
		"predicateType": predicateType,
		"subject": []any{map[string]any{
			"name":   fmt.Sprintf("pkg:docker/%s@%s?platform=%s%%2F%s", Repository, Tag, platform.OS, platform.Architecture),
			"digest": map[string]string{"sha256": subject.Digest.Encoded()},
		}},
		"predicate": map[string]any{
			"builder":   map[string]string{"id": ""},
			"buildType": "https://github.com/davit-cli/davit/internal/demo",
		},
	})
	if err != nil {
		return image.Content{}, nil, err
	}
	config, err := document(ocispec.MediaTypeImageConfig, ocispec.Image{
		Platform: image.Platform{OS: "unknown", Architecture: "unknown"},
		RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{statement.Digest}},
	})
	if err != nil {
		return image.Content{}, nil, err
	}
	only := layer{Content: statement, diffID: statement.Digest}
	only.Annotations = map[string]string{"in-toto.io/predicate-type": predicateType}
	m, err := manifest(config, []layer{only})
	return m, []image.Content{config, statement}, err
}

// document encodes v as the JSON that a descriptor of mediaType names.
func document(mediaType string, v any) (image.Content, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return image.Content{}, fmt.Errorf("encode %s: %w", mediaType, err)
	}
	return content(mediaType, raw), nil
}

func content(mediaType string, raw []byte) image.Content {
	return image.Content{
		Descriptor: image.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))},
		Bytes:      raw,
	}
}
