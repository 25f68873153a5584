package image

import (
	"context"
	"fmt"
)

// DescribeRoot is the descriptor of what the reference names. Where the source
// is a Describer no manifest is fetched, and nothing is verified but that it
// names no other digest than the asked one.
func (f *Finder) DescribeRoot(ctx context.Context) (Descriptor, error) {
	return search(ctx, f, Platforms{}, (*resolver).describeRoot)
}

// DescribeManifest is the descriptor of the wanted platform's manifest, as the
// index names it. The manifest is fetched only where no index tells its platform.
func (f *Finder) DescribeManifest(ctx context.Context, want Platforms) (Descriptor, error) {
	return search(ctx, f, want, (*resolver).describeManifest)
}

func (v *resolver) describeRoot(ctx context.Context) (Descriptor, error) {
	describer, ok := v.src.(Describer)
	switch {
	case v.root != nil:
		return *v.root, nil
	case !ok:
		root, err := v.fetchRoot(ctx)
		return root.Descriptor, err
	case v.ref.Digest == "":
		return settleTag(ctx, v, func(ctx context.Context, tag string) (Descriptor, error) {
			v.step("ask for the descriptor of tag " + tag)
			return describer.Describe(ctx, tag)
		})
	}
	asked := v.ref.Digest
	v.step("ask for the descriptor of " + asked.String())
	d, err := describer.Describe(ctx, asked.String())
	if err == nil && d.Digest != asked {
		err = fmt.Errorf("describe %s: %w: the source tells of %s", asked, ErrVerification, d.Digest)
	}
	return d, err
}

func (v *resolver) describeManifest(ctx context.Context) (Descriptor, error) {
	c, err := v.one(ctx)
	if err != nil || !v.isUntold(c) {
		return c.Descriptor, err
	}
	m, err := v.loadOne(ctx, c)
	return m.Descriptor, err
}
