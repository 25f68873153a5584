package archive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/compress"
	"github.com/davit-cli/davit/internal/tarindex"
)

// readDocker reads manifest.json, and makes the manifests that the archive has
// not got.
func (r *Reader) readDocker(ctx context.Context) error {
	b, err := r.document(dockerManifest, maxDockerManifest)
	if err != nil {
		return fmt.Errorf("read %s: %w", dockerManifest, err)
	}
	images, err := ReadDockerManifest(b)
	if err != nil {
		return fmt.Errorf("read %s: %w", dockerManifest, err)
	}
	m := &maker{Reader: r, configs: map[int64]madeConfig{}, layers: map[int64]image.Descriptor{}}
	r.made = map[digest.Digest]image.Content{}
	r.blobs = map[digest.Digest]tarindex.Entry{}
	for i, img := range images {
		c, err := m.manifest(ctx, img)
		if err != nil {
			return fmt.Errorf("read image %d of %s: %w", i+1, dockerManifest, err)
		}
		r.made[c.Digest] = c
		s := image.Stored{Descriptor: c.Descriptor, Made: true}
		if len(img.RepoTags) == 0 {
			r.images = append(r.images, s)
		}
		for _, tag := range img.RepoTags {
			if s.Name, s.RefName = nameOfTag(tag), ""; s.Name == "" {
				s.RefName = tag
			}
			r.images = append(r.images, s)
		}
	}
	return nil
}

// maker makes manifests for an archive that has none. Files that several
// images share are read once.
type maker struct {
	*Reader
	configs map[int64]madeConfig       // by where they stand in the tar
	layers  map[int64]image.Descriptor // compressed ones, likewise
}

type madeConfig struct {
	image.Descriptor
	diffIDs []digest.Digest
}

// manifest is the manifest that docker push would make of an image, with the
// layers as they are in the archive. The same archive gives the same bytes.
func (m *maker) manifest(ctx context.Context, img DockerImage) (image.Content, error) {
	config, err := m.config(img.Config)
	if err != nil {
		return image.Content{}, fmt.Errorf("read config %q: %w", img.Config, err)
	}
	if have, want := len(img.Layers), len(config.diffIDs); have != want {
		return image.Content{}, fmt.Errorf("%w: it has %d layers, but its config has %d diff_ids", image.ErrVerification, have, want)
	}
	made := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: image.MediaTypeDockerManifest,
		Config:    config.Descriptor,
		Layers:    []image.Descriptor{},
	}
	for i, name := range img.Layers {
		layer, err := m.layer(ctx, name, config.diffIDs[i])
		if err != nil {
			return image.Content{}, fmt.Errorf("read layer %q: %w", name, err)
		}
		made.Layers = append(made.Layers, layer)
	}
	b, err := json.Marshal(made)
	if err != nil {
		return image.Content{}, fmt.Errorf("encode the manifest: %w", err)
	}
	c := image.Content{
		Descriptor: image.Descriptor{MediaType: made.MediaType, Digest: digest.FromBytes(b), Size: int64(len(b))},
		Bytes:      b,
	}
	// The digests and sizes are the archive's word.
	_, err = image.ParseManifest(c)
	return c, err
}

func (m *maker) config(name string) (madeConfig, error) {
	e, err := m.lookup(path.Clean(name))
	if err != nil {
		return madeConfig{}, err
	}
	if c, met := m.configs[e.Offset]; met {
		return c, nil
	}
	b, err := m.read(e, image.MaxConfigSize)
	if err != nil {
		return madeConfig{}, err
	}
	parsed, err := image.ParseConfig(image.Content{Bytes: b})
	if err != nil {
		return madeConfig{}, err
	}
	c := madeConfig{
		Descriptor: image.Descriptor{MediaType: image.MediaTypeDockerConfig, Digest: digest.FromBytes(b), Size: e.Size},
		diffIDs:    parsed.RootFS.DiffIDs,
	}
	m.configs[e.Offset] = c
	m.blobs[c.Digest] = e
	return c, nil
}

// layer describes a layer as it is in the archive. That of a plain tar has its
// diffID's digest, which whoever reads the layer verifies.
func (m *maker) layer(ctx context.Context, name string, diffID digest.Digest) (image.Descriptor, error) {
	e, err := m.lookup(path.Clean(name))
	if err != nil {
		return image.Descriptor{}, err
	}
	content, err := m.tar.Section(e)
	if err != nil {
		return image.Descriptor{}, err
	}
	d, met := m.layers[e.Offset]
	if !met {
		if d, err = compressedLayer(ctx, content); err != nil {
			return image.Descriptor{}, err
		}
		m.layers[e.Offset] = d
	}
	if d.Digest == "" {
		d.Digest = diffID
	}
	if known, met := m.blobs[d.Digest]; met && known.Size != e.Size {
		return image.Descriptor{}, fmt.Errorf("%w: %s has two sizes: %d and %d", image.ErrVerification, d.Digest, known.Size, e.Size)
	} else if !met {
		m.blobs[d.Digest] = e
	}
	return d, nil
}

// compressedLayer is the descriptor of a layer's bytes. That of a plain tar has
// no digest.
func compressedLayer(ctx context.Context, content *io.SectionReader) (image.Descriptor, error) {
	d := image.Descriptor{MediaType: image.MediaTypeDockerLayer, Size: content.Size()}
	var head [6]byte
	n, err := content.ReadAt(head[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return d, err
	}
	kind, err := compress.Detect(head[:n])
	if err != nil {
		return d, err
	}
	switch kind {
	case compress.Plain:
		return d, nil
	case compress.Gzip:
		d.MediaType = image.MediaTypeDockerLayerGzip
	case compress.Zstd:
		d.MediaType = image.MediaTypeDockerLayerZstd
	}
	d.Digest, err = digest.FromReader(body{ctx, content})
	return d, err
}
