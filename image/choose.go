package image

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
)

const (
	maxIndexDepth   = 4  // indexes within one another
	maxIndexFetches = 16 // indexes fetched to look for one platform
)

// choice is a manifest that was chosen, before it is fetched.
type choice struct {
	Descriptor
	// told is the platform that an index tells of it, nil where none does.
	told *Platform
	// content is there where the manifest was fetched to find out what it is.
	content Content
}

// choose finds the manifests of the wanted platforms below the root.
func (v *resolver) choose(ctx context.Context, root Content) ([]choice, error) {
	if !IsIndex(root.MediaType) {
		return []choice{{Descriptor: root.Descriptor, content: root}}, nil
	}
	if v.want.All {
		all, err := v.walk(ctx, root, 1)
		if err == nil && len(all) == 0 {
			err = fmt.Errorf("choose platform: %w: the index names no manifest", ErrNotFound)
		}
		return all, err
	}
	wants := []*Platform{nil}
	if len(v.want.List) > 0 {
		wants = nil
		for i := range v.want.List {
			wants = append(wants, &v.want.List[i])
		}
	}
	var chosen []choice
	for _, want := range wants {
		d := descent{resolver: v, want: want, seen: map[digest.Digest]bool{}}
		c, err := d.descend(ctx, root)
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(chosen, func(o choice) bool { return o.Digest == c.Digest }) {
			chosen = append(chosen, c)
		}
	}
	return chosen, nil
}

// walk gathers all manifests below an index at a depth, the root's being 1,
// each once and in the order of the indexes.
func (v *resolver) walk(ctx context.Context, index Content, depth int) ([]choice, error) {
	manifests, err := v.open(index, depth)
	if err != nil {
		return nil, err
	}
	var all []choice
	for _, d := range manifests {
		if v.met[d.Digest] {
			continue
		}
		if v.met[d.Digest] = true; len(v.met) > MaxDescriptors {
			return nil, fmt.Errorf("read index %s: %w: more than %d manifests", index.Digest, ErrVerification, MaxDescriptors)
		}
		c := choice{Descriptor: d}
		if hasPlatform(d) && !isAttestation(d) {
			c.told = d.Platform
		}
		mediaType := mediaTypeOnly(d.MediaType)
		if isVague(mediaType) || IsIndex(mediaType) {
			if c.content, err = v.fetch(ctx, d); v.want.Present && errors.Is(err, ErrNotFound) {
				continue
			}
			if err != nil {
				return nil, err
			}
			mediaType = c.content.MediaType
		}
		switch {
		case IsIndex(mediaType):
			inner, err := v.walk(ctx, c.content, depth+1)
			if err != nil {
				return nil, err
			}
			all = append(all, inner...)
		case IsManifest(mediaType):
			all = append(all, c)
		default:
			v.events.Send(Event{Kind: EventWarning, Text: fmt.Sprintf("%s: the index names %s, which is left out: davit does not read its media type %s", v.name(), d.Digest, clean(mediaType))})
		}
	}
	return all, nil
}

// open reads an index at a depth, the root's being 1, and remembers it.
func (v *resolver) open(c Content, depth int) ([]Descriptor, error) {
	if depth > maxIndexDepth {
		return nil, fmt.Errorf("read index %s: %w: more than %d indexes within one another", c.Digest, ErrVerification, maxIndexDepth)
	}
	index, err := ParseIndex(c)
	if err != nil {
		return nil, fmt.Errorf("read index %s: %w", c.Digest, err)
	}
	if slices.ContainsFunc(v.opened, func(o Content) bool { return o.Digest == c.Digest }) {
		return index.Manifests, nil
	}
	v.opened = append(v.opened, c)
	for _, d := range index.Manifests {
		if _, met := v.parents[d.Digest]; !met {
			v.parents[d.Digest] = c.Digest
		}
	}
	return index.Manifests, nil
}

// leading are the indexes that lead to the manifests, each after the one that
// it was met in: where all are wanted, all indexes.
func (v *resolver) leading(manifests []Manifest) []Content {
	if v.want.All {
		return v.opened
	}
	lead := map[digest.Digest]bool{}
	for _, m := range manifests {
		for d, ok := v.parents[m.Digest]; ok && !lead[d]; d, ok = v.parents[d] {
			lead[d] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(v.opened), func(c Content) bool { return !lead[c.Digest] })
}

// descent is the way from the root to the manifest of one platform.
type descent struct {
	*resolver
	want *Platform
	seen map[digest.Digest]bool // indexes that were read
}

// descend goes from the root through indexes to the manifest of the platform.
func (v *descent) descend(ctx context.Context, c Content) (choice, error) {
	var told *Platform
	for depth := 1; IsIndex(c.MediaType); depth++ {
		manifests, err := v.openOnce(c, depth)
		if err != nil {
			return choice{}, err
		}
		d, err := v.pickIn(ctx, manifests, depth)
		if err != nil {
			return choice{}, err
		}
		if hasPlatform(d) {
			told = d.Platform
		}
		if IsManifest(mediaTypeOnly(d.MediaType)) {
			return choice{Descriptor: d, told: told}, nil
		}
		if c, err = v.fetch(ctx, d); err != nil {
			return choice{}, err
		}
	}
	return choice{Descriptor: c.Descriptor, told: told, content: c}, nil
}

func (v *descent) openOnce(c Content, depth int) ([]Descriptor, error) {
	if v.seen[c.Digest] {
		return nil, fmt.Errorf("read index %s: %w: the index contains itself", c.Digest, ErrVerification)
	}
	v.seen[c.Digest] = true
	return v.open(c, depth)
}

// pickIn chooses a platform from an index. Only where its own descriptors have
// no match it looks into nested indexes that tell no platform.
func (v *descent) pickIn(ctx context.Context, manifests []Descriptor, depth int) (Descriptor, error) {
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
func (v *descent) expand(ctx context.Context, manifests []Descriptor, depth int) ([]Descriptor, error) {
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
		inner, err := v.openOnce(c, depth+1)
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
func (v *descent) pick(manifests []Descriptor) (Descriptor, error) {
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
