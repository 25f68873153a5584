package image

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/ref"
)

// Listing is what a reference names and all manifests below it, of every
// platform, before any of them is fetched.
type Listing struct {
	// Reference is the name with the tag that was chosen where none was written.
	Reference ref.Reference
	Root      Content
	// Manifests are the manifest itself, or those of the index and of indexes
	// within it, each once, in their order. Platform is there where an index
	// tells it.
	Manifests []Descriptor
}

// List finds what r names in src, as Resolve does, and fetches indexes only.
func List(ctx context.Context, src Source, r ref.Reference, events EventFunc) (Listing, error) {
	return newResolver(src, r, Platforms{All: true}, events).list(ctx)
}

// ListStored is List for an image that a Store holds, which src reads.
func ListStored(ctx context.Context, src Source, stored Stored, label string, events EventFunc) (Listing, error) {
	return newStoredResolver(src, stored, label, Platforms{All: true}, events).list(ctx)
}

func (v *resolver) list(ctx context.Context) (Listing, error) {
	root, err := v.fetchRoot(ctx)
	if err != nil {
		return Listing{}, fmt.Errorf("%s: %w", v.name(), err)
	}
	chosen, err := v.choose(ctx, root)
	if err != nil {
		return Listing{}, fmt.Errorf("%s: %w", v.name(), err)
	}
	l := Listing{Reference: v.ref, Root: root}
	for _, c := range chosen {
		l.Manifests = append(l.Manifests, c.Descriptor)
	}
	return l, nil
}

// IsAttestation says whether an index's descriptor is of a manifest that tells
// about the build of another one.
func IsAttestation(d Descriptor) bool { return isAttestation(d) }

// Describe finds what r names in src, as Resolve does, and returns its
// descriptor with the tag that was chosen. Where src is a Describer no manifest
// is fetched, and nothing is verified.
func Describe(ctx context.Context, src Source, r ref.Reference, events EventFunc) (Descriptor, ref.Reference, error) {
	v := newResolver(src, r, Platforms{}, events)
	d, err := v.describe(ctx)
	if err != nil {
		return Descriptor{}, v.ref, fmt.Errorf("%s: %w", v.name(), err)
	}
	return d, v.ref, nil
}

func (v *resolver) describe(ctx context.Context) (Descriptor, error) {
	describer, ok := v.src.(Describer)
	if !ok {
		root, err := v.fetchRoot(ctx)
		return root.Descriptor, err
	}
	asked := v.ref.TagOrDigest()
	if asked == "" {
		asked = "latest"
	}
	v.step("ask for the descriptor of " + asked)
	d, err := describer.Describe(ctx, asked)
	if errors.Is(err, ErrNotFound) && v.ref.TagOrDigest() == "" {
		root, err := v.fetchRoot(ctx) // it finds the newest version
		return root.Descriptor, err
	}
	if err == nil && strings.Contains(asked, ":") && d.Digest != digest.Digest(asked) {
		return Descriptor{}, fmt.Errorf("describe %s: %w: the source tells of %s", asked, ErrVerification, d.Digest)
	}
	if err == nil && v.ref.TagOrDigest() == "" {
		v.ref = v.ref.WithTag(asked)
	}
	return d, err
}
