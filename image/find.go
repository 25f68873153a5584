package image

import (
	"context"
	"fmt"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/ref"
)

// Finder finds an image in a source, or single documents of it, by the rules of
// Resolve, and fetches no more than leads to what it is asked for. Where no tag
// is written, it chooses one once. Its errors are Resolve's. It may be asked
// often, by one goroutine at a time.
type Finder struct {
	src    Source
	ref    ref.Reference
	root   *Descriptor // what the reference names, where that is known
	label  string      // what messages call what has no reference
	events EventFunc
}

// NewFinder is for what r names in src.
func NewFinder(src Source, r ref.Reference, events EventFunc) *Finder {
	return &Finder{src: src, ref: r, events: events}
}

// NewStoredFinder is for an image that a Store holds, which src reads. Its
// reference is the stored name; where it has none, errors call it by label.
func NewStoredFinder(src Source, stored Stored, label string, events EventFunc) *Finder {
	f := &Finder{src: src, root: &stored.Descriptor, label: label, events: events}
	if r, err := ref.Parse(stored.Name); stored.Name != "" && err == nil {
		f.ref = r
	}
	return f
}

// Reference is the image's name with the tag that was chosen, once something
// was found; empty for a stored image without a name.
func (f *Finder) Reference() ref.Reference { return f.ref }

// Image is the image for the wanted platforms, as Resolve finds it.
func (f *Finder) Image(ctx context.Context, want Platforms) (Image, error) {
	return search(ctx, f, want, (*resolver).image)
}

// Root is what the reference names, an index or a manifest, as served. Where
// davit does not read it, the error is an *UnknownError that holds it.
func (f *Finder) Root(ctx context.Context) (Content, error) {
	return search(ctx, f, Platforms{}, (*resolver).fetchRoot)
}

// Manifest is the manifest of the wanted platform. The config is fetched only
// where nothing else tells whether it is that platform's.
func (f *Finder) Manifest(ctx context.Context, want Platforms) (Content, error) {
	return search(ctx, f, want, (*resolver).manifest)
}

// Config is the config of the wanted platform's manifest, of whatever media
// type. It is verified by its digest, and read only where nothing else tells
// whether it is that platform's.
func (f *Finder) Config(ctx context.Context, want Platforms) (Content, error) {
	return search(ctx, f, want, (*resolver).config)
}

// search calls the image by its name where it fails.
func search[T any](ctx context.Context, f *Finder, want Platforms, how func(*resolver, context.Context) (T, error)) (T, error) {
	found, err := how(newResolver(f, want), ctx)
	if err != nil {
		var none T
		return none, fmt.Errorf("%s: %w", f.name(), err)
	}
	return found, nil
}

// name is what messages call the image.
func (f *Finder) name() string {
	if f.ref.Repository == "" {
		return f.label
	}
	return f.ref.String()
}

// one is the manifest of the wanted platform, which may still have to be fetched.
func (v *resolver) one(ctx context.Context) (choice, error) {
	root, err := v.fetchRoot(ctx)
	if err != nil {
		return choice{}, err
	}
	chosen, err := v.choose(ctx, root)
	if err != nil {
		return choice{}, err
	}
	return chosen[0], nil
}

func (v *resolver) manifest(ctx context.Context) (Content, error) {
	c, err := v.one(ctx)
	switch {
	case err != nil:
		return Content{}, err
	case v.isUntold(c):
		m, err := v.loadOne(ctx, c)
		return m.Content, err
	}
	return v.contentOf(ctx, c)
}

func (v *resolver) config(ctx context.Context) (Content, error) {
	c, err := v.one(ctx)
	switch {
	case err != nil:
		return Content{}, err
	case v.isUntold(c):
		m, err := v.loadOne(ctx, c)
		return m.Config, err
	}
	content, err := v.contentOf(ctx, c)
	if err != nil {
		return Content{}, err
	}
	manifest, err := ParseManifest(content)
	if err != nil {
		return Content{}, fmt.Errorf("read manifest %s: %w", content.Digest, err)
	}
	config, err := v.fetchConfig(ctx, manifest.Config)
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
	v := newResolver(NewFinder(src, ref.Reference{}, nil), Platforms{})
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
