package davit

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/image"
)

// InspectOptions tell Inspect what to look at. The zero value works.
type InspectOptions struct {
	LookOptions
	// NoReferrers does not ask what refers to the image.
	NoReferrers bool
}

// Inspection is what is known of an image without its layers. Its JSON is the
// command line's --json. What an image has not got is not there.
type Inspection struct {
	// Name is the image's full name, with the tag that was taken. It is empty
	// for an image on disk that is given none.
	Name string `json:"name,omitempty"`
	// Digest and MediaType are what the name names, an index or a manifest.
	Digest    digest.Digest `json:"digest,omitempty"`
	MediaType string        `json:"media_type"`
	// Platforms are those of the index.
	Platforms []string `json:"platforms,omitempty"`

	// Platform is the one that the rest is about.
	Platform string `json:"platform,omitempty"`
	// Manifest is its manifest, ImageID the digest of its config.
	Manifest digest.Digest `json:"manifest,omitempty"`
	ImageID  digest.Digest `json:"image_id,omitempty"`
	// ArtifactType is there for what is no container image.
	ArtifactType string     `json:"artifact_type,omitempty"`
	Created      *time.Time `json:"created,omitempty"`
	Author       string     `json:"author,omitempty"`
	// Size is that of config and layers as served, each once, in bytes.
	Size int64 `json:"size"`
	// Unpacked is that of the layers' tars, where the manifest tells it of
	// every layer.
	Unpacked int64 `json:"unpacked,omitempty"`
	// Layers, the lowest first.
	Layers []InspectedLayer `json:"layers"`
	// History are the lines that made the image, the oldest first.
	History []HistoryLine `json:"history,omitempty"`
	// Config is what a container of it runs.
	Config *RunConfig `json:"config,omitempty"`
	// Annotations are those of the manifest.
	Annotations map[string]string `json:"annotations,omitempty"`
	// Base is the image that it was built upon.
	Base *BaseImage `json:"base,omitempty"`
	// Referrers are signatures, SBOMs, attestations and whatever else refers
	// to the image, and attestations in its index.
	Referrers []Referrer `json:"referrers,omitempty"`
}

// InspectedLayer is a layer as its manifest and config tell of it.
type InspectedLayer struct {
	Digest    digest.Digest `json:"digest"`
	MediaType string        `json:"media_type"`
	// Size is in bytes, as served.
	Size   int64         `json:"size"`
	DiffID digest.Digest `json:"diff_id,omitempty"`
	// Unpacked is the size of its tar, where the manifest tells it.
	Unpacked int64    `json:"unpacked,omitempty"`
	URLs     []string `json:"urls,omitempty"`
}

// HistoryLine is what made a layer, or changed the config alone.
type HistoryLine struct {
	// Layer is the number of the layer that it made, from 1; 0 for none.
	Layer     int        `json:"layer,omitempty"`
	Created   *time.Time `json:"created,omitempty"`
	CreatedBy string     `json:"created_by,omitempty"`
	Comment   string     `json:"comment,omitempty"`
}

// RunConfig is how a container of the image runs (OCI image-spec, config.md).
type RunConfig struct {
	Entrypoint []string          `json:"entrypoint,omitempty"`
	Command    []string          `json:"command,omitempty"`
	WorkingDir string            `json:"working_dir,omitempty"`
	User       string            `json:"user,omitempty"`
	Env        []string          `json:"env,omitempty"`
	Ports      []string          `json:"ports,omitempty"`
	Volumes    []string          `json:"volumes,omitempty"`
	StopSignal string            `json:"stop_signal,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
}

// BaseImage is what the annotations org.opencontainers.image.base.* tell.
type BaseImage struct {
	Name   string `json:"name,omitempty"`
	Digest string `json:"digest,omitempty"`
}

// Inspect tells what there is to know of an image, in a registry or on disk,
// without its layers. Without a platform it takes this machine's, or where the
// image is not there for that, the first that is, with a note. What the
// registry knows to refer to the image may be unknown; a warning tells why.
//
// Errors wrap image.ErrNotFound, image.ErrUnauthorized or
// image.ErrVerification where one of them is the cause.
func Inspect(ctx context.Context, name string, opts InspectOptions) (Inspection, error) {
	l, err := openLook(ctx, name, opts.LookOptions)
	if err != nil {
		return Inspection{}, err
	}
	defer l.close()
	img, err := l.resolveAny(ctx)
	if err != nil {
		return Inspection{}, err
	}
	x := newInspection(img, l.stored.Made)
	if x.Platforms, err = l.platforms(ctx, img); err != nil {
		return Inspection{}, err
	}
	if !opts.NoReferrers {
		x.Referrers = l.referrers(ctx, img)
	}
	return x, context.Cause(ctx)
}

// resolveAny resolves also where nothing is there for this machine.
func (l *look) resolveAny(ctx context.Context) (image.Image, error) {
	img, err := l.resolve(ctx)
	var none *image.PlatformError
	if l.opts.Platform != "" || !errors.As(err, &none) || len(none.Available) == 0 {
		return img, err
	}
	return l.find.Image(ctx, l.instead(*none.Available[0].Platform))
}

// platforms are those of the image's index, as the index tells them.
func (l *look) platforms(ctx context.Context, img image.Image) ([]string, error) {
	if len(img.Indexes) == 0 {
		return nil, nil
	}
	listing, err := l.find.List(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, d := range listing.Manifests {
		if d.Platform == nil || image.IsAttestation(d) {
			continue
		}
		if name := image.FormatPlatform(*d.Platform); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names, nil
}

// newInspection is what an image's documents tell. Of one that was made from
// an archive without manifest, the digests that nobody else knows are left out.
func newInspection(img image.Image, made bool) Inspection {
	m := img.Manifests[0]
	root := img.Root()
	x := Inspection{MediaType: root.MediaType, Platform: platformOf(m), ImageID: m.Config.Digest}
	if img.Name.Repository != "" {
		x.Name = img.Name.String()
	}
	if !made {
		x.Digest, x.Manifest = root.Digest, m.Digest
	}
	x.Size, x.Unpacked = servedSize(m.Config.Descriptor, m.Layers), unpackedSize(m.Layers)
	for _, d := range m.Layers {
		x.Layers = append(x.Layers, InspectedLayer{Digest: d.Digest, MediaType: d.MediaType, Size: d.Size, Unpacked: unpacked(d), URLs: d.URLs})
	}
	if parsed, err := image.ParseManifest(m.Content); err == nil {
		x.Annotations = parsed.Annotations
		if !m.IsImage() {
			x.ArtifactType = artifactType(parsed)
			x.ImageID = ""
		}
	}
	if m.IsImage() {
		x.readConfig(m)
	}
	x.Base = baseImage(x.Annotations, x.Config)
	return x
}

func artifactType(m ocispec.Manifest) string {
	if m.ArtifactType != "" {
		return m.ArtifactType
	}
	return m.Config.MediaType
}

// servedSize is the bytes of config and layers as served, each once.
func servedSize(config image.Descriptor, layers []image.Descriptor) int64 {
	size := config.Size
	seen := map[digest.Digest]bool{config.Digest: true}
	for _, d := range layers {
		if !seen[d.Digest] {
			size += d.Size
		}
		seen[d.Digest] = true
	}
	return size
}

// unpackedSize is the bytes of all layers' tars; 0 where the manifest does not
// tell it of each.
func unpackedSize(layers []image.Descriptor) int64 {
	var size int64
	for _, d := range layers {
		n := unpacked(d)
		if n == 0 {
			return 0
		}
		size += n
	}
	return size
}

// annotationUnpacked tells the size of an eStargz layer's tar.
const annotationUnpacked = "io.containers.estargz.uncompressed-size"

// unpacked is the size of a layer's tar where the manifest tells it, else 0.
func unpacked(layer image.Descriptor) int64 {
	switch layer.MediaType {
	case ocispec.MediaTypeImageLayer, image.MediaTypeDockerLayer:
		return layer.Size
	}
	size, err := strconv.ParseInt(layer.Annotations[annotationUnpacked], 10, 64)
	if err != nil || size < 0 || size > image.MaxImageSize {
		return 0
	}
	return size
}

// readConfig takes over what the config tells.
func (x *Inspection) readConfig(m image.Manifest) {
	config, err := image.ParseConfig(m.Config)
	if err != nil {
		return // Resolve has read it: it cannot be
	}
	x.Created, x.Author = config.Created, config.Author
	for i, id := range config.RootFS.DiffIDs {
		if i < len(x.Layers) {
			x.Layers[i].DiffID = id
		}
	}
	layer := 0
	for _, h := range config.History {
		line := HistoryLine{Created: h.Created, CreatedBy: h.CreatedBy, Comment: h.Comment}
		if !h.EmptyLayer && layer < len(x.Layers) {
			layer++
			line.Layer = layer
		}
		x.History = append(x.History, line)
	}
	c := config.Config
	x.Config = &RunConfig{
		Entrypoint: c.Entrypoint, Command: c.Cmd, WorkingDir: c.WorkingDir, User: c.User, Env: c.Env,
		Ports: slices.Sorted(maps.Keys(c.ExposedPorts)), Volumes: slices.Sorted(maps.Keys(c.Volumes)),
		StopSignal: c.StopSignal, Labels: c.Labels,
	}
}

func baseImage(annotations map[string]string, config *RunConfig) *BaseImage {
	base := BaseImage{annotations[ocispec.AnnotationBaseImageName], annotations[ocispec.AnnotationBaseImageDigest]}
	if base == (BaseImage{}) && config != nil {
		base = BaseImage{config.Labels[ocispec.AnnotationBaseImageName], config.Labels[ocispec.AnnotationBaseImageDigest]}
	}
	if base == (BaseImage{}) {
		return nil
	}
	return &base
}
