package image

import (
	"context"
	"fmt"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/ref"
)

// Finder finds single documents of one image by the rules of Resolve, and
// fetches no more than leads to them. Its errors are Resolve's. A Finder is
// used once, from one goroutine.
type Finder struct{ v *resolver }

// NewFinder is for what r names in src.
func NewFinder(src Source, r ref.Reference, want Platforms, events EventFunc) Finder {
	return Finder{newResolver(src, r, want, events)}
}

// NewStoredFinder is for an image that a store holds, which errors call by
// label where it has no name.
func NewStoredFinder(store Store, stored Stored, label string, want Platforms, events EventFunc) Finder {
	return Finder{newStoredResolver(store, stored, label, want, events)}
}

// Reference is the image's name with the tag that was chosen, once something
// was found; empty for a stored image without a name.
func (f Finder) Reference() ref.Reference { return f.v.ref }

// Root is what the reference names, an index or a manifest, as served. Where
// davit does not read it, the error is an *UnknownError that holds it.
func (f Finder) Root(ctx context.Context) (Content, error) {
	c, err := f.v.fetchRoot(ctx)
	return c, f.named(err)
}

// Manifest is the manifest of the wanted platform. The config is fetched only
// where nothing else tells whether it is that platform's.
func (f Finder) Manifest(ctx context.Context) (Content, error) {
	c, err := f.manifest(ctx)
	return c, f.named(err)
}

// Config is the config of the wanted platform's manifest, of whatever media
// type. It is verified by its digest and not read.
func (f Finder) Config(ctx context.Context) (Content, error) {
	c, err := f.config(ctx)
	return c, f.named(err)
}

func (f Finder) named(err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", f.v.name(), err)
	}
	return nil
}

func (f Finder) manifest(ctx context.Context) (Content, error) {
	root, err := f.v.fetchRoot(ctx)
	if err != nil {
		return Content{}, err
	}
	chosen, err := f.v.choose(ctx, root)
	if err != nil {
		return Content{}, err
	}
	if len(f.v.want.List) > 0 && chosen[0].told == nil {
		_, err = f.v.loadOne(ctx, chosen[0])
	}
	return chosen[0].content, err
}

func (f Finder) config(ctx context.Context) (Content, error) {
	c, err := f.manifest(ctx)
	if err != nil {
		return Content{}, err
	}
	manifest, err := ParseManifest(c)
	if err != nil {
		return Content{}, fmt.Errorf("read manifest %s: %w", c.Digest, err)
	}
	config, err := f.v.fetchConfig(ctx, manifest.Config)
	if err != nil {
		return Content{}, fmt.Errorf("fetch config %s: %w", manifest.Config.Digest, err)
	}
	return config, nil
}

// FetchPlatform is the platform that the config of a manifest tells, with linux
// where it names no operating system. It is nil for what is no container image.
// Errors are those of Source.Blob, or wrap ErrVerification.
func FetchPlatform(ctx context.Context, src Source, m ocispec.Manifest) (*Platform, error) {
	if !isImageConfig(m.Config.MediaType) {
		return nil, nil
	}
	v := newResolver(src, ref.Reference{}, Platforms{}, nil)
	config, err := v.fetchConfig(ctx, m.Config)
	if err != nil {
		return nil, fmt.Errorf("fetch config %s: %w", m.Config.Digest, err)
	}
	platform, err := readConfig(config, len(m.Layers), nil)
	if err != nil {
		return nil, fmt.Errorf("read config %s: %w", config.Digest, err)
	}
	platform = settle(platform, nil)
	return &platform, nil
}
