package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/ref"
)

// TagLister is a Source that can list its tags.
type TagLister interface {
	// Tags calls fn with one page of tags after the other, in the source's
	// order, until it has no more or fn returns an error, which Tags returns.
	Tags(ctx context.Context, fn func(page []string) error) error
}

const (
	maxIndexDepth   = 4  // indexes within one another
	maxIndexFetches = 16 // indexes fetched to look for a platform
	shownTags       = 20 // tags that an error lists
)

// Resolve finds the image that r names in src, for one platform: it fetches
// the manifest, through indexes where there are any, and the config, and
// verifies them. It fetches no layer.
//
// Without tag and digest r means latest or, where that does not exist and src
// is a TagLister, the newest release by semantic version. Without want it
// takes DefaultPlatform from an index (on 32-bit ARM also an older variant),
// and whatever platform a single manifest has. With want, an image of another
// platform is an error that wraps ErrNotFound, as a *PlatformError where there
// is a choice. The image may be an artifact: see Image.IsArtifact.
//
// Errors name the image and the step; they wrap ErrNotFound, ErrUnauthorized,
// ErrVerification, ErrSchema1 or ErrMediaType where one of them is the cause.
func Resolve(ctx context.Context, src Source, r ref.Reference, want *Platform, events EventFunc) (Image, error) {
	v := &resolver{src: src, ref: r, want: want, events: events, seen: make(map[digest.Digest]bool), parents: make(map[digest.Digest]Content)}
	img, err := v.resolve(ctx)
	if err != nil {
		return Image{}, fmt.Errorf("%s: %w", v.ref, err)
	}
	return img, nil
}

// resolver is one Resolve.
type resolver struct {
	src    Source
	ref    ref.Reference
	want   *Platform
	events EventFunc

	seen    map[digest.Digest]bool    // indexes that were read
	parents map[digest.Digest]Content // the index in which a descriptor was met first
	told    *Platform                 // what an index told about the manifest
}

func (v *resolver) resolve(ctx context.Context) (Image, error) {
	root, err := v.fetchRoot(ctx)
	if err != nil {
		return Image{}, err
	}
	content, err := v.descend(ctx, root)
	if err != nil {
		return Image{}, err
	}
	manifest, err := ParseManifest(content)
	if err != nil {
		return Image{}, fmt.Errorf("read manifest %s: %w", content.Digest, err)
	}
	config, err := v.fetchConfig(ctx, manifest.Config)
	if err != nil {
		return Image{}, fmt.Errorf("fetch config %s: %w", manifest.Config.Digest, err)
	}
	img := Image{
		Reference: v.ref,
		Indexes:   v.indexes(content.Digest),
		Manifest:  content,
		Config:    config,
		Layers:    manifest.Layers,
		Source:    v.src,
	}
	if img.IsArtifact() {
		if v.want != nil && v.told == nil {
			return Image{}, fmt.Errorf("choose platform: %w: it is no container image but an artifact (%s), which has no platform: ask for it without one", ErrNotFound, clean(config.MediaType))
		}
		return img, nil
	}
	platform, err := v.readConfig(config, len(manifest.Layers))
	if err != nil {
		return Image{}, fmt.Errorf("read config %s: %w", config.Digest, err)
	}
	img.Platform = v.settle(platform)
	return img, v.checkPlatform(platform)
}

// indexes are those that lead to a manifest, the root first.
func (v *resolver) indexes(d digest.Digest) []Content {
	var indexes []Content
	for parent, ok := v.parents[d]; ok; parent, ok = v.parents[parent.Digest] {
		indexes = slices.Insert(indexes, 0, parent)
	}
	return indexes
}

// fetchRoot fetches what the reference names, and settles its tag.
func (v *resolver) fetchRoot(ctx context.Context) (Content, error) {
	if v.ref.Digest != "" {
		return v.fetch(ctx, Descriptor{Digest: v.ref.Digest, Size: -1})
	}
	if v.ref.Tag != "" {
		return v.fetchTag(ctx, v.ref.Tag)
	}
	v.ref = v.ref.WithTag("latest")
	root, err := v.fetchTag(ctx, "latest")
	lister, ok := v.src.(TagLister)
	if err == nil || !ok || !errors.Is(err, ErrNotFound) {
		return root, err
	}
	v.step("no tag latest: list tags")
	tag, listErr := newestTag(ctx, lister)
	if errors.Is(listErr, errNoTags) {
		return Content{}, err // nothing is there
	}
	v.ref = v.ref.WithTag("")
	if listErr != nil {
		return Content{}, fmt.Errorf("no tag was given and there is no tag latest; %w", listErr)
	}
	v.events.Send(Event{Kind: EventNote, Text: fmt.Sprintf("%s has no tag latest; taking %s, the newest version", v.ref, tag)})
	v.ref = v.ref.WithTag(tag)
	return v.fetchTag(ctx, tag)
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
	return checkContent(c, c.Descriptor)
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
	return checkContent(c, d)
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
		if err := checkBytes(c.Descriptor, c.Bytes); err != nil {
			return Content{}, fmt.Errorf("fetch manifest: %w", err)
		}
	}
	if err != nil {
		return Content{}, fmt.Errorf("read manifest %s: %w", c.Digest, err)
	}
	c.MediaType = mediaType
	if !isVague(d.MediaType) && !strings.EqualFold(mediaTypeOnly(d.MediaType), c.MediaType) {
		return Content{}, fmt.Errorf("read manifest %s: %w: the index calls it %s, but it is %s", c.Digest, ErrVerification, clean(d.MediaType), c.MediaType)
	}
	return c, nil
}

// descend goes from the root through indexes to the manifest of the platform.
func (v *resolver) descend(ctx context.Context, c Content) (Content, error) {
	for depth := 1; IsIndex(c.MediaType); depth++ {
		manifests, err := v.open(c, depth)
		if err != nil {
			return Content{}, err
		}
		d, err := v.choose(ctx, manifests, depth)
		if err != nil {
			return Content{}, err
		}
		if hasPlatform(d) {
			v.told = d.Platform
		}
		if c, err = v.fetch(ctx, d); err != nil {
			return Content{}, err
		}
	}
	return c, nil
}

// open reads an index at a depth, the root's being 1.
func (v *resolver) open(c Content, depth int) ([]Descriptor, error) {
	if depth > maxIndexDepth {
		return nil, fmt.Errorf("read index %s: %w: more than %d indexes within one another", c.Digest, ErrVerification, maxIndexDepth)
	}
	if v.seen[c.Digest] {
		return nil, fmt.Errorf("read index %s: %w: the index contains itself", c.Digest, ErrVerification)
	}
	v.seen[c.Digest] = true
	index, err := ParseIndex(c)
	if err != nil {
		return nil, fmt.Errorf("read index %s: %w", c.Digest, err)
	}
	for _, d := range index.Manifests {
		if _, met := v.parents[d.Digest]; !met {
			v.parents[d.Digest] = c
		}
	}
	return index.Manifests, nil
}

// choose chooses a platform from an index. Only where its own descriptors have
// no match it looks into nested indexes that tell no platform.
func (v *resolver) choose(ctx context.Context, manifests []Descriptor, depth int) (Descriptor, error) {
	d, err := v.pick(manifests)
	var none *PlatformError
	if errors.As(err, &none) && !none.Several {
		flat, expandErr := v.expand(ctx, manifests, depth)
		if expandErr != nil {
			return Descriptor{}, expandErr
		}
		if len(flat) > 0 {
			d, err = v.pick(flat)
		}
	}
	if err != nil {
		return Descriptor{}, fmt.Errorf("choose platform: %w", err)
	}
	return d, nil
}

// expand replaces nested indexes that tell no platform by their manifests; it
// is empty where there is none.
func (v *resolver) expand(ctx context.Context, manifests []Descriptor, depth int) ([]Descriptor, error) {
	var flat []Descriptor
	nested := false
	for _, d := range manifests {
		if !IsIndex(d.MediaType) || hasPlatform(d) || isAttestation(d) || v.seen[d.Digest] {
			flat = append(flat, d)
			continue
		}
		nested = true
		if len(v.seen) >= maxIndexFetches {
			return nil, fmt.Errorf("choose platform: %w: more than %d nested indexes", ErrVerification, maxIndexFetches)
		}
		c, err := v.fetch(ctx, d)
		if err != nil {
			return nil, err
		}
		inner, err := v.open(c, depth+1)
		if err != nil {
			return nil, err
		}
		more, err := v.expand(ctx, inner, depth+1)
		if err != nil {
			return nil, err
		}
		if more == nil {
			more = inner
		}
		flat = append(flat, more...)
	}
	if !nested {
		return nil, nil
	}
	return flat, nil
}

// pick chooses the wanted platform, or this machine's.
func (v *resolver) pick(manifests []Descriptor) (Descriptor, error) {
	if v.want != nil {
		return ChoosePlatform(manifests, *v.want)
	}
	d, err := ChoosePlatform(manifests, DefaultPlatform())
	var none *PlatformError
	for _, older := range olderARM(DefaultPlatform()) {
		if !errors.As(err, &none) || none.Several {
			break
		}
		if other, otherErr := ChoosePlatform(manifests, older); otherErr == nil {
			return other, nil
		}
	}
	return d, err
}

// olderARM are the variants of 32-bit ARM that a machine runs besides its own.
func olderARM(p Platform) []Platform {
	var older []Platform
	if p.Architecture != "arm" {
		return nil
	}
	for _, variant := range []string{"v7", "v6", "v5"} {
		if variant < p.Variant {
			p.Variant = variant
			older = append(older, p)
		}
	}
	return older
}

// readConfig reads the platform from an image's config (OCI image-spec,
// config.md) and checks that it fits the manifest's layers. What the config
// leaves out is taken from the index, and the operating system is linux.
func (v *resolver) readConfig(config Content, layers int) (Platform, error) {
	var c struct {
		ocispec.Platform
		RootFS ocispec.RootFS `json:"rootfs"`
	}
	if err := json.Unmarshal(config.Bytes, &c); err != nil {
		return Platform{}, fmt.Errorf("%w: it is no JSON document as a config must be: %w", ErrVerification, err)
	}
	if n := len(c.RootFS.DiffIDs); n != layers {
		return Platform{}, fmt.Errorf("%w: it has %d diff_ids, but the manifest has %d layers", ErrVerification, n, layers)
	}
	for i, d := range c.RootFS.DiffIDs {
		if err := CheckDigest(d); err != nil {
			return Platform{}, fmt.Errorf("diff_id %d: %w", i+1, err)
		}
	}
	p := c.Platform
	if p.Architecture == "" && v.told != nil {
		p = *v.told
	}
	if p.OS == "" {
		p.OS = "linux"
	}
	return p, nil
}

// settle is the platform that an image is called by: the variant that its
// config leaves out is the index's, and arm64/v8 is arm64.
func (v *resolver) settle(p Platform) Platform {
	if p.Variant == "" && v.told != nil && normalize(*v.told).Architecture == normalize(p).Architecture {
		p.Variant = v.told.Variant
	}
	if p.Variant == "" {
		return p // containerd's normal form of arm would be arm/v7
	}
	return normalize(p)
}

// checkPlatform compares the platform that the config tells with the wanted
// one, and says which was taken.
func (v *resolver) checkPlatform(have Platform) error {
	host := DefaultPlatform()
	fits := func(want Platform) bool {
		// Many configs of 32-bit ARM name no variant: that contradicts none.
		anyVariant := want.Variant == "" || have.Architecture == "arm" && have.Variant == ""
		return matchPlatform(have, want, !anyVariant)
	}
	switch {
	case v.told != nil:
		if told := normalize(*v.told); told.OS != normalize(have).OS || told.Architecture != normalize(have).Architecture {
			v.events.Send(Event{Kind: EventWarning, Text: fmt.Sprintf("%s: the index says that the image is for %s, its config says %s",
				v.ref, FormatPlatform(*v.told), FormatPlatform(have))})
		}
		why := ""
		if v.want == nil {
			why = " (this machine's architecture; choose another with --platform)"
		}
		v.events.Send(Event{Kind: EventNote, Text: fmt.Sprintf("%s for %s%s", v.ref, FormatPlatform(*v.told), why)})
	case v.want != nil && !fits(*v.want):
		return fmt.Errorf("choose platform: %w: it is an image for %s, not for %s: ask for it without a platform, or with --platform %s",
			ErrNotFound, FormatPlatform(have), FormatPlatform(*v.want), quoteValue(FormatPlatform(have)))
	case v.want == nil && !fits(Platform{OS: host.OS, Architecture: host.Architecture}):
		v.events.Send(Event{Kind: EventWarning, Text: fmt.Sprintf("%s is there for %s only (this machine is %s)",
			v.ref, FormatPlatform(have), FormatPlatform(host))})
	default:
		v.events.Send(Event{Kind: EventNote, Text: fmt.Sprintf("%s for %s", v.ref, FormatPlatform(have))})
	}
	return nil
}

func (v *resolver) step(text string) {
	v.events.Send(Event{Kind: EventStep, Text: v.ref.String() + ": " + text})
}

// errNoTags: a repository without tags, or none at all.
var errNoTags = errors.New("no tags")

// newestTag is the newest of the tags that are semantic versions; a pre-release
// only where there is no release. Error: errNoTags where the source has none,
// one that wraps ErrNotFound and lists tags where none is a version.
func newestTag(ctx context.Context, lister TagLister) (string, error) {
	var best candidate
	var shown []string
	count := 0
	err := lister.Tags(ctx, func(page []string) error {
		for _, tag := range page {
			if !ref.ValidTag(tag) {
				continue
			}
			if count++; len(shown) < shownTags {
				shown = append(shown, tag)
			}
			if c, ok := newCandidate(tag); ok && c.newer(best) {
				best = c
			}
		}
		return nil
	})
	switch {
	case err != nil && errors.Is(err, ErrNotFound), err == nil && count == 0:
		return "", errNoTags
	case err != nil:
		return "", fmt.Errorf("list tags: %w", err)
	case best.version != nil:
		return best.tag, nil
	}
	list := strings.Join(shown, ", ")
	if more := count - len(shown); more > 0 {
		list += fmt.Sprintf(" and %d more", more)
	}
	return "", fmt.Errorf("choose tag: %w: no tag is a version; write one of: %s", ErrNotFound, list)
}

// candidate is a tag that is a version.
type candidate struct {
	tag     string
	version *semver.Version
	rank    int // releases before dates and build numbers before pre-releases
}

func newCandidate(tag string) (candidate, bool) {
	version, err := semver.NewVersion(tag)
	if err != nil {
		return candidate{}, false
	}
	c := candidate{tag: tag, version: version, rank: 3}
	switch {
	case version.Prerelease() != "":
		c.rank = 1
	case version.Major() >= 100000: // 20240131: no version to compare with 1.2.3
		c.rank = 2
	}
	return c, true
}

// newer orders candidates; of the same version the one that says it most
// exactly wins (1.2.0 before 1.2), then v1.2.0 loses to 1.2.0.
func (c candidate) newer(o candidate) bool {
	if o.version == nil || c.rank != o.rank {
		return o.version == nil || c.rank > o.rank
	}
	if n := c.version.Compare(o.version); n != 0 {
		return n > 0
	}
	if n := strings.Count(c.tag, ".") - strings.Count(o.tag, "."); n != 0 {
		return n > 0
	}
	return c.tag < o.tag
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
	c.Data = nil
	if len(c.Bytes) > 0 {
		return c, nil
	}
	v.step("fetch config " + d.Digest.String())
	var err error
	if c.Bytes, err = v.src.Blob(ctx, c.Descriptor); err != nil {
		return Content{}, err
	}
	if err := checkBytes(d, c.Bytes); err != nil {
		return Content{}, err
	}
	return c, nil
}
