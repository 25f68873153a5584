// Package archive writes the universal archive: one tar that is an OCI image
// layout (OCI image-spec, image-layout.md) and has the manifest.json of
// docker save beside it, so that docker load, podman, containerd and skopeo
// all take it. Layers and configs stand in it byte for byte as the registry
// gave them. It reads archives of these tools too: see Open.
package archive

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/ref"
)

// Layout is an archive before its layers are there: every header and every
// document is known, and each blob has its place. The same images have the
// same layout, whenever and wherever it is made.
type Layout struct {
	entries []entry
	size    int64
}

// entry is one file of the archive.
type entry struct {
	offset int64  // of the header
	header []byte // as it stands in the tar
	blob   image.Descriptor
	// document is the content where the archive knows it before any blob is
	// fetched, padded as in the tar; nil for a blob that is fetched.
	document []byte
}

// start is the offset of the entry's content.
func (e entry) start() int64 { return e.offset + int64(len(e.header)) }

const (
	blockSize = 512           // what a tar's members are padded to
	endSize   = 2 * blockSize // the empty blocks that end it
)

// NewLayout lays an archive of images out: documents first, then every layer
// once, in the order in which they are first named.
func NewLayout(images ...image.Image) (*Layout, error) {
	l := &Layout{}
	documents, err := documents(images)
	if err != nil {
		return nil, err
	}
	for _, d := range documents {
		if err := l.add(d.name, d.data, image.Descriptor{Size: int64(len(d.data))}); err != nil {
			return nil, err
		}
	}
	seen := map[digest.Digest]bool{}
	for _, img := range images {
		for _, c := range img.Documents() {
			if seen[c.Digest] {
				continue
			}
			seen[c.Digest] = true
			if err := l.add(blobName(c.Digest), c.Bytes, c.Descriptor); err != nil {
				return nil, err
			}
		}
	}
	for _, img := range images {
		for _, layer := range img.Blobs() {
			if seen[layer.Digest] {
				continue
			}
			seen[layer.Digest] = true
			if err := l.add(blobName(layer.Digest), nil, layer); err != nil {
				return nil, err
			}
		}
	}
	l.size += endSize
	return l, nil
}

// add appends a file: a document, or where data is nil a blob that is fetched.
func (l *Layout) add(name string, data []byte, blob image.Descriptor) error {
	header, err := encodeHeader(name, blob.Size, tar.FormatUnknown)
	if err != nil {
		return fmt.Errorf("lay out %s: %w", name, err)
	}
	e := entry{offset: l.size, header: header, blob: blob}
	if data != nil {
		e.document = make([]byte, padded(e.start()+blob.Size)-e.start())
		copy(e.document, data)
	}
	l.entries = append(l.entries, e)
	l.size = padded(e.start() + blob.Size)
	return nil
}

// encodeHeader is a file's header as it stands in the tar. In FormatUnknown it
// is longer than a block for long names and for 8 GiB and more.
func encodeHeader(name string, size int64, format tar.Format) ([]byte, error) {
	var header bytes.Buffer
	err := tar.NewWriter(&header).WriteHeader(&tar.Header{
		Format:   format,
		Typeflag: tar.TypeReg,
		Name:     name,
		Size:     size,
		Mode:     0o644,
		ModTime:  time.Unix(0, 0).UTC(),
	})
	return header.Bytes(), err
}

// padded is the next offset at which a header may stand.
func padded(n int64) int64 { return (n + blockSize - 1) / blockSize * blockSize }

// Size is the archive's size in bytes.
func (l *Layout) Size() int64 { return l.size }

// blobs are the entries that are fetched.
func (l *Layout) blobs() []entry {
	return slices.DeleteFunc(slices.Clone(l.entries), func(e entry) bool { return e.document != nil })
}

// Blobs are the blobs to be fetched, in the archive's order.
func (l *Layout) Blobs() []image.Descriptor {
	var blobs []image.Descriptor
	for _, e := range l.blobs() {
		blobs = append(blobs, e.blob)
	}
	return blobs
}

// blobName is a blob's path in an image layout. Digests are checked before
// they come here.
func blobName(d digest.Digest) string {
	return "blobs/" + d.Algorithm().String() + "/" + d.Encoded()
}

// document is a small file that the archive makes itself.
type document struct {
	name string
	data []byte
}

// documents are oci-layout, index.json and manifest.json.
func documents(images []image.Image) ([]document, error) {
	index := ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageIndex,
		Manifests: []image.Descriptor{},
	}
	entries := []DockerImage{}
	var names []ref.Reference
	for _, img := range images {
		if img.Subject == "" {
			names = append(names, img.Name)
		}
	}
	refNames := image.RefNames(names)
	delta := image.DeltaOf(images...)
	if err := delta.Annotate(&index); err != nil {
		return nil, err
	}
	for _, img := range images {
		if img.Subject != "" {
			index.Manifests = append(index.Manifests, delta.Entry(img, ""))
			continue
		}
		index.Manifests = append(index.Manifests, delta.Entry(img, refNames[0]))
		refNames = refNames[1:]
		if img.Manifests[0].IsImage() {
			entries = append(entries, manifestEntry(img))
		}
	}
	var documents []document
	for _, d := range []struct {
		name  string
		value any
	}{
		{ocispec.ImageLayoutFile, ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion}},
		{ocispec.ImageIndexFile, index},
		{dockerManifest, entries},
	} {
		data, err := json.Marshal(d.value)
		if err != nil {
			return nil, fmt.Errorf("encode %s: %w", d.name, err)
		}
		documents = append(documents, document{d.name, data})
	}
	return documents, nil
}

// manifestEntry names an image for classic Docker, which has one platform of
// it. A name with a digest stands there as no name: docker load refuses it.
//
// Every layer is named, also one that is left out: docker load wants as many as
// there are diffIDs, and opens only those that it does not have. LayerSources,
// in which docker save tells foreign layers' URLs, is not written: no loader
// fetches a layer by it.
func manifestEntry(img image.Image) DockerImage {
	first := img.Manifests[0]
	e := DockerImage{Config: blobName(first.Config.Digest)}
	if img.Name.Tag != "" {
		e.RepoTags = []string{img.Name.String()}
	}
	for _, layer := range first.Layers {
		e.Layers = append(e.Layers, blobName(layer.Digest))
	}
	return e
}
