package image

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/davit-cli/davit/ref"
)

// Resolve finds the image that r names in src, for the wanted platforms: it
// fetches the manifests, through indexes where there are any, and the configs,
// and verifies them. It fetches no layer.
//
// Without tag and digest r means latest or, where that does not exist and src
// is a TagLister, the newest release by semantic version. Without wanted
// platforms it takes DefaultPlatform from an index (on 32-bit ARM also an older
// variant), and whatever platform a single manifest has. With them, an image of
// another platform is an error that wraps ErrNotFound, as a *PlatformError
// where there is a choice. The image may be an artifact: see Image.IsArtifact.
//
// The indexes are kept where several platforms are wanted, and where r names
// one by its digest. The image's Name is r, with the tag that was taken and
// without a digest where there is a tag.
//
// Errors name the image and the step; they wrap ErrNotFound, ErrUnauthorized,
// ErrVerification, ErrSchema1 or ErrMediaType where one of them is the cause;
// with the latter two they are an *UnknownError.
func Resolve(ctx context.Context, src Source, r ref.Reference, want Platforms, events EventFunc) (Image, error) {
	return NewFinder(src, r, events).Image(ctx, want)
}

// UnknownError says that a document is no manifest or index that davit reads.
// It wraps ErrSchema1 or ErrMediaType.
type UnknownError struct {
	// Content is the document as served. That of schema 1 is not verified:
	// its digest leaves out the signatures in it.
	Content Content
	Err     error
}

func (e *UnknownError) Error() string { return e.Err.Error() }

func (e *UnknownError) Unwrap() error { return e.Err }

// maxMetadata bounds the manifests, indexes and configs of one image together:
// they are held in memory.
const maxMetadata = 256 << 20

// resolveJobs is how many manifests are fetched at once.
const resolveJobs = 8

// resolver is one search of a Finder.
type resolver struct {
	*Finder
	want Platforms

	opened   []Content                       // indexes that were read
	parents  map[digest.Digest]digest.Digest // the index in which a descriptor was met first
	met      map[digest.Digest]bool          // what walk has met
	metadata atomic.Int64                    // bytes of documents
}

func newResolver(f *Finder, want Platforms) *resolver {
	return &resolver{
		Finder: f, want: want,
		parents: make(map[digest.Digest]digest.Digest),
		met:     make(map[digest.Digest]bool),
	}
}

func (v *resolver) image(ctx context.Context) (Image, error) {
	root, err := v.fetchRoot(ctx)
	if err != nil {
		return Image{}, err
	}
	chosen, err := v.choose(ctx, root)
	if err != nil {
		return Image{}, err
	}
	if v.want.Present {
		if chosen, err = v.present(ctx, chosen); err != nil {
			return Image{}, err
		}
	}
	img := Image{Reference: v.ref, Label: v.name(), Name: v.ref, Source: v.src}
	if v.ref.Tag != "" {
		img.Name = v.ref.WithDigest("")
	}
	if img.Manifests, err = v.load(ctx, chosen); err != nil {
		return Image{}, err
	}
	img.Indexes = v.leading(img.Manifests)
	img.KeepIndexes = len(img.Indexes) > 0 && (v.ref.Digest != "" || v.want.several())
	if v.want.All {
		putDefaultFirst(img.Manifests)
	}
	return img, checkSizes(img)
}

// load fetches the manifests and their configs, side by side.
func (v *resolver) load(ctx context.Context, chosen []choice) ([]Manifest, error) {
	manifests := make([]Manifest, len(chosen))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(resolveJobs)
	for i, c := range chosen {
		group.Go(func() (err error) {
			manifests[i], err = v.loadOne(ctx, c)
			return err
		})
	}
	return manifests, group.Wait()
}

// present are the choices whose manifests the source has.
func (v *resolver) present(ctx context.Context, chosen []choice) ([]choice, error) {
	var present []choice
	for _, c := range chosen {
		content, err := v.contentOf(ctx, c)
		switch {
		case errors.Is(err, ErrNotFound):
			continue
		case err != nil:
			return nil, err
		}
		c.content = content
		present = append(present, c)
	}
	if len(present) == 0 {
		return nil, fmt.Errorf("choose platform: %w: of the index's manifests none is there", ErrNotFound)
	}
	return present, nil
}

// isUntold says that nothing but its config tells whether a manifest is that of
// the wanted platform.
func (v *resolver) isUntold(c choice) bool { return len(v.want.List) > 0 && c.told == nil }

// contentOf is the manifest that was chosen, fetched unless it is there.
func (v *resolver) contentOf(ctx context.Context, c choice) (Content, error) {
	if c.content.Bytes != nil {
		return c.content, nil
	}
	return v.fetch(ctx, c.Descriptor)
}

func (v *resolver) loadOne(ctx context.Context, c choice) (Manifest, error) {
	content, err := v.contentOf(ctx, c)
	if err != nil {
		return Manifest{}, err
	}
	parsed, err := ParseManifest(content)
	if err != nil {
		return Manifest{}, fmt.Errorf("read manifest %s: %w", c.Digest, err)
	}
	config, err := v.fetchConfig(ctx, parsed.Config)
	if err != nil {
		return Manifest{}, fmt.Errorf("fetch config %s: %w", parsed.Config.Digest, err)
	}
	m := Manifest{Content: content, Config: config, Layers: parsed.Layers, Attestation: isAttestation(c.Descriptor)}
	if !m.IsImage() {
		if v.isUntold(c) {
			return Manifest{}, fmt.Errorf("choose platform: %w: it is no container image but an artifact (%s), which has no platform: ask for it without one", ErrNotFound, clean(config.MediaType))
		}
		return m, nil
	}
	platform, err := readConfig(config, len(parsed.Layers), c.told)
	if err != nil {
		return Manifest{}, fmt.Errorf("read config %s: %w", config.Digest, err)
	}
	m.Platform = settle(platform, c.told)
	return m, v.checkPlatform(platform, c.told)
}

// putDefaultFirst moves the image for linux/amd64 to the front, or else the
// first image.
func putDefaultFirst(manifests []Manifest) {
	first := slices.IndexFunc(manifests, func(m Manifest) bool {
		return m.IsImage() && matchPlatform(m.Platform, Platform{OS: "linux", Architecture: "amd64"}, false)
	})
	if first < 0 {
		first = slices.IndexFunc(manifests, Manifest.IsImage)
	}
	if first > 0 {
		m := manifests[first]
		copy(manifests[1:first+1], manifests[:first])
		manifests[0] = m
	}
}

// checkSizes refuses an image in which a digest has two sizes, or which is too
// large on the whole.
func checkSizes(img Image) error {
	sizes := map[digest.Digest]int64{}
	var total int64
	add := func(d Descriptor) error {
		size, met := sizes[d.Digest]
		if met && size != d.Size {
			return fmt.Errorf("%w: %s has two sizes: %d and %d", ErrVerification, d.Digest, size, d.Size)
		}
		if sizes[d.Digest] = d.Size; !met {
			total += d.Size
		}
		if total > MaxImageSize {
			return fmt.Errorf("%w: the image is larger than %d bytes", ErrVerification, int64(MaxImageSize))
		}
		return nil
	}
	for _, m := range img.Manifests {
		for _, d := range append([]Descriptor{m.Descriptor, m.Config.Descriptor}, m.Layers...) {
			if err := add(d); err != nil {
				return fmt.Errorf("read manifest %s: %w", m.Digest, err)
			}
		}
	}
	return nil
}

// fetchRoot fetches what the reference names, and settles its tag.
func (v *resolver) fetchRoot(ctx context.Context) (Content, error) {
	switch {
	case v.root != nil:
		return v.fetch(ctx, *v.root)
	case v.ref.Digest != "":
		return v.fetch(ctx, Descriptor{Digest: v.ref.Digest, Size: -1})
	}
	return settleTag(ctx, v, v.fetchTag)
}

// settleTag asks for what the reference's tag names; where none is written, for
// latest, or the newest version if that is not there.
func settleTag[T any](ctx context.Context, v *resolver, ask func(ctx context.Context, tag string) (T, error)) (T, error) {
	if v.ref.Tag != "" {
		return ask(ctx, v.ref.Tag)
	}
	v.ref = v.ref.WithTag("latest")
	found, err := ask(ctx, "latest")
	lister, ok := v.src.(TagLister)
	if err == nil || !ok || !errors.Is(err, ErrNotFound) {
		return found, err
	}
	v.step("no tag latest: list tags")
	tag, listErr := newestTag(ctx, lister)
	if errors.Is(listErr, errNoTags) {
		return found, err // nothing is there
	}
	v.ref = v.ref.WithTag("")
	if listErr != nil {
		return found, fmt.Errorf("no tag was given and there is no tag latest; %w", listErr)
	}
	v.events.Send(Event{Kind: EventNote, Text: fmt.Sprintf("%s has no tag latest; taking %s, the newest version", v.ref, tag)})
	v.ref = v.ref.WithTag(tag)
	return ask(ctx, tag)
}

func (v *resolver) fetchTag(ctx context.Context, tag string) (Content, error) {
	if !ref.ValidTag(tag) {
		return Content{}, fmt.Errorf("fetch manifest: %q is no tag", clean(tag))
	}
	v.step("fetch manifest of tag " + tag)
	c, err := v.src.Manifest(ctx, tag)
	if err != nil {
		return Content{}, err // it names the step
	}
	return v.take(c, c.Descriptor)
}

// fetch fetches the manifest or index that d names. d's size may be unknown
// (-1), its media type too.
func (v *resolver) fetch(ctx context.Context, d Descriptor) (Content, error) {
	if err := CheckDigest(d.Digest); err != nil {
		return Content{}, fmt.Errorf("fetch manifest: %w", err)
	}
	if d.Size > MaxManifestSize {
		return Content{}, fmt.Errorf("fetch manifest %s: %w: it has %d bytes, more than %d", d.Digest, ErrVerification, d.Size, MaxManifestSize)
	}
	v.step("fetch manifest " + d.Digest.String())
	c, err := v.src.Manifest(ctx, d.Digest.String())
	if err != nil {
		return Content{}, err // it names the step
	}
	return v.take(c, d)
}

// take counts and checks what a source returned for d.
func (v *resolver) take(c Content, d Descriptor) (Content, error) {
	if err := v.count(len(c.Bytes)); err != nil {
		return Content{}, err
	}
	return checkContent(c, d)
}

// count adds to the bytes that the image's documents take in memory.
func (v *resolver) count(n int) error {
	if v.metadata.Add(int64(n)) > maxMetadata {
		return fmt.Errorf("%w: the image's manifests and configs are larger than %d bytes together", ErrVerification, maxMetadata)
	}
	return nil
}

// checkContent checks what a source returned for d, and settles its media type.
func checkContent(c Content, d Descriptor) (Content, error) {
	if isVague(c.MediaType) && d.MediaType != "" {
		c.MediaType = d.MediaType
	}
	c.Descriptor = Descriptor{MediaType: c.MediaType, Digest: d.Digest, Size: d.Size}
	if d.Size < 0 {
		c.Size = int64(len(c.Bytes))
	}
	mediaType, err := MediaTypeOf(c)
	// Schema 1 comes first: its digest leaves out the signatures in its bytes.
	if !errors.Is(err, ErrSchema1) {
		if err := CheckBytes(c.Descriptor, c.Bytes); err != nil {
			return Content{}, fmt.Errorf("fetch manifest: %w", err)
		}
	}
	if err != nil {
		if mediaType != "" {
			err = &UnknownError{c, err}
		}
		return Content{}, fmt.Errorf("read manifest %s: %w", c.Digest, err)
	}
	c.MediaType = mediaType
	if !isVague(d.MediaType) && !strings.EqualFold(mediaTypeOnly(d.MediaType), c.MediaType) {
		return Content{}, fmt.Errorf("read manifest %s: %w: the index calls it %s, but it is %s", c.Digest, ErrVerification, clean(d.MediaType), c.MediaType)
	}
	return c, nil
}

// readConfig reads the platform from an image's config (OCI image-spec,
// config.md) and checks that it fits the manifest's layers. What the config
// leaves out is taken from the index, and the operating system is linux.
func readConfig(config Content, layers int, told *Platform) (Platform, error) {
	c, err := ParseConfig(config)
	if err != nil {
		return Platform{}, err
	}
	if err := checkDiffIDs(c.RootFS.DiffIDs, layers); err != nil {
		return Platform{}, err
	}
	p := c.Platform
	if p.Architecture == "" && told != nil {
		p = *told
	}
	return withOS(p), nil
}

// withOS is the platform with linux where it names no operating system.
func withOS(p Platform) Platform {
	if p.OS == "" {
		p.OS = "linux"
	}
	return p
}

// PlatformOf is the platform that an image is called by whose config tells that
// one, and of which no index tells another.
func PlatformOf(config ocispec.Image) Platform { return settle(withOS(config.Platform), nil) }

// settle is the platform that an image is called by: the variant that its
// config leaves out is the index's, and arm64/v8 is arm64.
func settle(p Platform, told *Platform) Platform {
	if p.Variant == "" && told != nil && normalize(*told).Architecture == normalize(p).Architecture {
		p.Variant = told.Variant
	}
	if p.Variant == "" {
		return p // containerd's normal form of arm would be arm/v7
	}
	return normalize(p)
}

// checkPlatform compares the platform that the config tells with what an index
// told, or else with the wanted ones.
func (v *resolver) checkPlatform(have Platform, told *Platform) error {
	if told != nil {
		if t := normalize(*told); t.OS != normalize(have).OS || t.Architecture != normalize(have).Architecture {
			v.events.Send(Event{Kind: EventWarning, Text: fmt.Sprintf("%s: the index says that the image is for %s, its config says %s",
				v.name(), FormatPlatform(*told), FormatPlatform(have))})
		}
		return nil
	}
	for _, want := range v.want.List {
		if !fits(have, want) {
			return fmt.Errorf("choose platform: %w: it is an image for %s, not for %s: ask for it without a platform, or with --platform %s",
				ErrNotFound, FormatPlatform(have), FormatPlatform(want), QuotePlatform(FormatPlatform(have)))
		}
	}
	return nil
}

// fits says whether an image's config contradicts no wanted platform.
func fits(have, want Platform) bool {
	// Many configs of 32-bit ARM name no variant: that contradicts none.
	anyVariant := want.Variant == "" || have.Architecture == "arm" && have.Variant == ""
	return matchPlatform(have, want, !anyVariant)
}

func (v *resolver) step(text string) {
	v.events.Send(Event{Kind: EventStep, Text: v.name() + ": " + text})
}

// fetchConfig fetches a config into memory and verifies it.
func (v *resolver) fetchConfig(ctx context.Context, d Descriptor) (Content, error) {
	if err := checkDescriptor(d); err != nil {
		return Content{}, err
	}
	if d.Size > MaxConfigSize {
		return Content{}, fmt.Errorf("%w: it has %d bytes, more than %d", ErrVerification, d.Size, MaxConfigSize)
	}
	c := Content{Descriptor: d, Bytes: d.Data} // embedded data is verified already
	c.Data, c.URLs = nil, nil                  // a config is its registry's to give
	if len(c.Bytes) > 0 {
		return c, nil
	}
	v.step("fetch config " + d.Digest.String())
	var err error
	if c.Bytes, err = v.src.Blob(ctx, c.Descriptor); err != nil {
		return Content{}, err
	}
	if err := v.count(len(c.Bytes)); err != nil {
		return Content{}, err
	}
	if err := CheckBytes(d, c.Bytes); err != nil {
		return Content{}, err
	}
	return c, nil
}
