package image

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Media types of Docker's image manifest version 2, schemas 2 and 1. OCI's
// stand in the image-spec's Go package.
const (
	MediaTypeDockerList         = "application/vnd.docker.distribution.manifest.list.v2+json"
	MediaTypeDockerManifest     = "application/vnd.docker.distribution.manifest.v2+json"
	MediaTypeDockerConfig       = "application/vnd.docker.container.image.v1+json"
	MediaTypeDockerLayer        = "application/vnd.docker.image.rootfs.diff.tar"
	MediaTypeDockerLayerGzip    = "application/vnd.docker.image.rootfs.diff.tar.gzip"
	MediaTypeDockerLayerZstd    = "application/vnd.docker.image.rootfs.diff.tar.zstd"
	MediaTypeDockerForeignLayer = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
	MediaTypeDockerSchema1      = "application/vnd.docker.distribution.manifest.v1+json"
	MediaTypeDockerSchema1JWS   = "application/vnd.docker.distribution.manifest.v1+prettyjws"
)

// Limits on what a source may send. What exceeds them is refused.
const (
	MaxManifestSize = 4 << 20  // bytes of a manifest or index (OCI distribution-spec, "Pushing Manifests")
	MaxConfigSize   = 8 << 20  // bytes of a config
	MaxDescriptors  = 4096     // layers of a manifest, manifests of an index
	MaxImageSize    = 16 << 40 // bytes of a blob, and of an image's config and layers together
	MaxURLs         = 16       // URLs of a descriptor
	MaxURLSize      = 4096     // bytes of each
)

var (
	// ErrSchema1: a manifest of Docker's schema 1, which davit does not read.
	ErrSchema1 = errors.New("manifest of schema 1")
	// ErrMediaType: a document of a media type that davit does not read.
	ErrMediaType = errors.New("unsupported media type")
)

// IsIndex says whether a media type is an OCI index's or a Docker manifest list's.
func IsIndex(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageIndex || mediaType == MediaTypeDockerList
}

// IsManifest says whether a media type is an OCI manifest's or a Docker
// schema 2 manifest's.
func IsManifest(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageManifest || mediaType == MediaTypeDockerManifest
}

// isImageConfig says whether a manifest with a config of this media type is an
// image. As Docker does, it takes the wrong types that old registries wrote.
func isImageConfig(mediaType string) bool {
	switch mediaType {
	case ocispec.MediaTypeImageConfig, MediaTypeDockerConfig,
		"", "application/octet-stream", "application/json", "text/html":
		return true
	}
	return false
}

// MediaTypeOf tells what a document is: its Content's media type, which must
// not contradict the mediaType in its bytes (CVE-2021-41190); where the
// Content's says nothing (application/json, say), the one in the bytes; where
// there is none, what its fields say. It is the type of an index or a
// manifest. Errors wrap ErrVerification, ErrSchema1 or ErrMediaType; with the
// latter two the type is told too.
func MediaTypeOf(c Content) (string, error) {
	doc, err := readDocument(c)
	return doc.mediaType, err
}

// ParseIndex reads an index or manifest list as it was served, and checks all
// that can be checked without its manifests: that it is one (OCI image-spec,
// image-index.md), and every descriptor. Errors wrap ErrVerification, ErrSchema1
// or ErrMediaType.
func ParseIndex(c Content) (ocispec.Index, error) {
	var index ocispec.Index
	doc, err := readDocument(c)
	if err != nil {
		return index, err
	}
	if !IsIndex(doc.mediaType) {
		return index, fmt.Errorf("%w: the document is no index: its media type is %s", ErrVerification, doc.mediaType)
	}
	if err := json.Unmarshal(c.Bytes, &index); err != nil {
		return ocispec.Index{}, fmt.Errorf("%w: the index is malformed: %w", ErrVerification, err)
	}
	if n := len(index.Manifests); n > MaxDescriptors {
		return ocispec.Index{}, fmt.Errorf("%w: the index has %d manifests, more than %d", ErrVerification, n, MaxDescriptors)
	}
	for i, d := range index.Manifests {
		if err := checkDescriptor(d); err != nil {
			return ocispec.Index{}, fmt.Errorf("manifest %d of the index: %w", i+1, err)
		}
	}
	return index, nil
}

// ParseManifest reads an image's or artifact's manifest as it was served, and
// checks all that can be checked without its blobs: that it is one (OCI
// image-spec, manifest.md), every descriptor, and the sum of their sizes.
// Errors wrap ErrVerification, ErrSchema1 or ErrMediaType.
func ParseManifest(c Content) (ocispec.Manifest, error) {
	var manifest ocispec.Manifest
	doc, err := readDocument(c)
	if err != nil {
		return manifest, err
	}
	if !IsManifest(doc.mediaType) {
		return manifest, fmt.Errorf("%w: the document is no manifest: its media type is %s", ErrVerification, doc.mediaType)
	}
	if err := json.Unmarshal(c.Bytes, &manifest); err != nil {
		return ocispec.Manifest{}, fmt.Errorf("%w: the manifest is malformed: %w", ErrVerification, err)
	}
	if manifest.Config.Digest == "" {
		return ocispec.Manifest{}, fmt.Errorf("%w: the manifest has no config", ErrVerification)
	}
	if n := len(manifest.Layers); n > MaxDescriptors {
		return ocispec.Manifest{}, fmt.Errorf("%w: the manifest has %d layers, more than %d", ErrVerification, n, MaxDescriptors)
	}
	if err := checkDescriptor(manifest.Config); err != nil {
		return ocispec.Manifest{}, fmt.Errorf("config of the manifest: %w", err)
	}
	total := manifest.Config.Size
	sizes := map[digest.Digest]int64{manifest.Config.Digest: manifest.Config.Size}
	for i, d := range manifest.Layers {
		if err := checkDescriptor(d); err != nil {
			return ocispec.Manifest{}, fmt.Errorf("layer %d of the manifest: %w", i+1, err)
		}
		if size, met := sizes[d.Digest]; met && size != d.Size {
			return ocispec.Manifest{}, fmt.Errorf("%w: layer %d of the manifest, %s, has two sizes: %d and %d", ErrVerification, i+1, d.Digest, size, d.Size)
		}
		sizes[d.Digest] = d.Size
		// Each is within the limit, so that the sum cannot overflow.
		if total += d.Size; total > MaxImageSize {
			return ocispec.Manifest{}, fmt.Errorf("%w: the manifest's layers are larger than %d bytes together", ErrVerification, int64(MaxImageSize))
		}
	}
	return manifest, nil
}

// ParseConfig reads an image's config (OCI image-spec, config.md). An error
// wraps ErrVerification. What Resolve returned has as many diffIDs as layers.
func ParseConfig(c Content) (ocispec.Image, error) {
	var config ocispec.Image
	if err := json.Unmarshal(c.Bytes, &config); err != nil {
		return ocispec.Image{}, fmt.Errorf("%w: it is no JSON document as a config must be: %w", ErrVerification, err)
	}
	return config, nil
}

// DiffIDs are those of an image's layers, as its config tells them; what is no
// image has none. An error wraps ErrVerification.
func (m Manifest) DiffIDs() ([]digest.Digest, error) {
	if !m.IsImage() {
		return nil, nil
	}
	config, err := ParseConfig(m.Config)
	if err == nil {
		err = checkDiffIDs(config.RootFS.DiffIDs, len(m.Layers))
	}
	if err != nil {
		return nil, fmt.Errorf("read config %s: %w", m.Config.Digest, err)
	}
	return config.RootFS.DiffIDs, nil
}

// checkDiffIDs checks that there is a diffID for each layer.
func checkDiffIDs(ids []digest.Digest, layers int) error {
	if n := len(ids); n != layers {
		return fmt.Errorf("%w: it has %d diff_ids, but the manifest has %d layers", ErrVerification, n, layers)
	}
	for i, d := range ids {
		if err := CheckDigest(d); err != nil {
			return fmt.Errorf("diff_id %d: %w", i+1, err)
		}
	}
	return nil
}

// checkDescriptor checks a descriptor that a source sent: digest, size, how
// many URLs there are and how long, and the content where it is embedded.
// Whether a URL is one to go to, whoever goes there decides.
func checkDescriptor(d Descriptor) error {
	if err := CheckDigest(d.Digest); err != nil {
		return err
	}
	if d.Size < 0 {
		return fmt.Errorf("%w: %s has the negative size %d", ErrVerification, d.Digest, d.Size)
	}
	if d.Size > MaxImageSize {
		return fmt.Errorf("%w: %s has the size %d, more than %d", ErrVerification, d.Digest, d.Size, int64(MaxImageSize))
	}
	if n := len(d.URLs); n > MaxURLs {
		return fmt.Errorf("%w: %s has %d URLs, more than %d", ErrVerification, d.Digest, n, MaxURLs)
	}
	for _, u := range d.URLs {
		if len(u) > MaxURLSize {
			return fmt.Errorf("%w: %s has a URL of %d bytes, more than %d", ErrVerification, d.Digest, len(u), MaxURLSize)
		}
	}
	if len(d.Data) > 0 {
		if err := CheckBytes(d, d.Data); err != nil {
			return fmt.Errorf("embedded data: %w", err)
		}
	}
	return nil
}

// document is the outside of an index or manifest.
type document struct {
	mediaType string
	fields    map[string]json.RawMessage
}

// has says whether a field is there and says something.
func (d document) has(field string) bool {
	raw, ok := d.fields[field]
	return ok && string(raw) != "null"
}

// readDocument finds out what a document is and that its fields fit together.
// Errors wrap ErrVerification, ErrSchema1 or ErrMediaType; with the latter two
// the media type is told too.
func readDocument(c Content) (document, error) {
	var doc document
	if len(c.Bytes) > MaxManifestSize {
		return doc, fmt.Errorf("%w: the manifest has %d bytes, more than %d", ErrVerification, len(c.Bytes), MaxManifestSize)
	}
	served := mediaTypeOnly(c.MediaType)
	if isSchema1(served) {
		return refuseSchema1(served)
	}

	fields, err := readFields(c.Bytes)
	if err != nil {
		return doc, fmt.Errorf("%w: the manifest is no JSON document as it must be: %w", ErrVerification, err)
	}
	doc.fields = fields
	var version int
	var written string
	if err := unmarshal(fields["schemaVersion"], &version); err != nil {
		return doc, fmt.Errorf("%w: the manifest's schemaVersion: %w", ErrVerification, err)
	}
	if err := unmarshal(fields["mediaType"], &written); err != nil {
		return doc, fmt.Errorf("%w: the manifest's mediaType: %w", ErrVerification, err)
	}
	switch {
	case isSchema1(written):
		return refuseSchema1(written)
	case version == 1 && doc.has("signatures"):
		return refuseSchema1(MediaTypeDockerSchema1JWS)
	case version == 1:
		return refuseSchema1(MediaTypeDockerSchema1)
	}

	mediaType := served
	if isVague(served) {
		mediaType = written
	} else if written != "" && written != served {
		return doc, fmt.Errorf("%w: the manifest was served as %s but says that it is %s", ErrVerification, clean(served), clean(written))
	}
	index := doc.has("manifests")
	image := doc.has("config") || doc.has("layers")
	if mediaType == "" {
		switch {
		case index && !image:
			mediaType = ocispec.MediaTypeImageIndex
		case image && !index:
			mediaType = ocispec.MediaTypeImageManifest
		}
	}
	switch {
	case index && image, doc.has("fsLayers"):
		return doc, fmt.Errorf("%w: the manifest contradicts itself: it has the fields of two kinds of manifest", ErrVerification)
	case mediaType == "":
		return doc, fmt.Errorf("%w: the document is neither a manifest nor an index", ErrVerification)
	case IsIndex(mediaType) && image, IsManifest(mediaType) && index:
		return doc, fmt.Errorf("%w: the manifest contradicts itself: its media type %s does not fit its fields", ErrVerification, mediaType)
	case !IsIndex(mediaType) && !IsManifest(mediaType):
		doc.mediaType = mediaType
		return doc, fmt.Errorf("%w: the document is of media type %s, but davit reads manifests and indexes of OCI and of Docker's schema 2", ErrMediaType, clean(mediaType))
	case version != 0 && version != 2:
		return doc, fmt.Errorf("%w: the manifest has the unknown schemaVersion %d", ErrVerification, version)
	}
	doc.mediaType = mediaType
	return doc, nil
}

func isSchema1(mediaType string) bool {
	return mediaType == MediaTypeDockerSchema1 || mediaType == MediaTypeDockerSchema1JWS
}

func refuseSchema1(mediaType string) (document, error) {
	return document{mediaType: mediaType}, fmt.Errorf("%w (%s): davit reads OCI and Docker's schema 2; the image must be pushed again by a current tool", ErrSchema1, mediaType)
}

// mediaTypeOnly is a media type without parameters, in lower case.
func mediaTypeOnly(s string) string {
	s, _, _ = strings.Cut(s, ";")
	return strings.ToLower(strings.TrimSpace(s))
}

// isVague says whether a server's media type says nothing about a document.
func isVague(mediaType string) bool {
	switch mediaTypeOnly(mediaType) {
	case "", "application/json", "text/json", "application/octet-stream", "binary/octet-stream", "text/plain", "text/html":
		return true
	}
	return false
}

// readFields reads the fields of a JSON object. It refuses what two readers
// might understand differently: a field that is there twice, or known fields
// in another case, which Go's decoder would take too.
func readFields(b []byte) (map[string]json.RawMessage, error) {
	known := []string{"schemaVersion", "mediaType", "artifactType", "config", "layers", "manifests", "subject", "annotations", "fsLayers"}
	dec := json.NewDecoder(bytes.NewReader(b))
	if t, err := dec.Token(); err != nil {
		return nil, err
	} else if t != json.Delim('{') {
		return nil, errors.New("it is no object")
	}
	fields := make(map[string]json.RawMessage)
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return nil, err
		}
		key, _ := t.(string)
		if _, twice := fields[key]; twice {
			return nil, fmt.Errorf("the field %q is there twice", clean(key))
		}
		if slices.ContainsFunc(known, func(k string) bool { return key != k && strings.EqualFold(key, k) }) {
			return nil, fmt.Errorf("the field %q is misspelt", clean(key))
		}
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return nil, err
		}
		fields[key] = raw
	}
	if _, err := dec.Token(); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the object")
	}
	return fields, nil
}

// unmarshal reads a field that may be absent.
func unmarshal(raw json.RawMessage, v any) error {
	if raw == nil {
		return nil
	}
	return json.Unmarshal(raw, v)
}
