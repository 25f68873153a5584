package davit

import (
	"context"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/davit-cli/davit/image"
)

// PlatformResult is a manifest of an image, and the platform that it is for.
// Its JSON is the command line's --json.
type PlatformResult struct {
	// Platform is the platform, ready for --platform. It and the fields that it
	// is made of are empty for what is no container image.
	Platform     string   `json:"platform"`
	OS           string   `json:"os"`
	Architecture string   `json:"architecture"`
	Variant      string   `json:"variant,omitempty"`
	OSVersion    string   `json:"os_version,omitempty"`
	OSFeatures   []string `json:"os_features,omitempty"`
	// Digest is the manifest's; empty where that was made from an archive
	// without one.
	Digest digest.Digest `json:"digest"`
	// Size is that of config and layers in bytes, compressed as they are, each
	// blob once. 0: the manifest could not be had, Err tells why.
	Size int64 `json:"size,omitempty"`
	Err  error `json:"-"`
	// Error is the text of Err.
	Error string `json:"error,omitempty"`
}

// ListPlatforms lists the manifests of an image in the index's order, without
// attestations; of an image without an index it is one. A manifest that cannot
// be had has an error of its own, and a platform if the index tells it: of an
// image on disk that is of one platform, the others are image.ErrNotFound.
//
// Errors wrap image.ErrNotFound, image.ErrUnauthorized or
// image.ErrVerification where one of them is the cause.
func ListPlatforms(ctx context.Context, name string, opts LookOptions) ([]PlatformResult, error) {
	l, err := openLook(ctx, name, opts)
	if err != nil {
		return nil, err
	}
	defer l.close()
	listing, err := l.find.List(ctx)
	if err != nil {
		return nil, err
	}
	manifests := slices.DeleteFunc(listing.Manifests, image.IsAttestation)
	results := make([]PlatformResult, len(manifests))
	var group errgroup.Group
	group.SetLimit(resolveJobs)
	for i, d := range manifests {
		group.Go(func() error {
			results[i] = l.platform(ctx, listing.Root, d)
			return nil
		})
	}
	_ = group.Wait() // each has its own error
	return results, context.Cause(ctx)
}

// platform tells what there is to tell of one manifest.
func (l *look) platform(ctx context.Context, root image.Content, d image.Descriptor) PlatformResult {
	r := PlatformResult{Digest: d.Digest}
	if p := d.Platform; p != nil && p.OS != "" && p.Architecture != "" {
		r.tell(*p)
	}
	content, err := root, error(nil)
	if d.Digest != root.Digest {
		content, err = l.fetchManifest(ctx, d)
	}
	if l.stored.Made {
		r.Digest = "" // no registry knows it
	}
	if err == nil {
		err = l.measure(ctx, content, &r)
	}
	if err != nil {
		r.Err, r.Error = err, err.Error()
	}
	return r
}

// fetchManifest fetches what an index names.
func (l *look) fetchManifest(ctx context.Context, d image.Descriptor) (image.Content, error) {
	c, err := l.source.Manifest(ctx, d.Digest.String())
	if err != nil {
		return image.Content{}, err // it names the step
	}
	if err := image.CheckBytes(d, c.Bytes); err != nil {
		return image.Content{}, fmt.Errorf("get manifest %s: %w", d.Digest, err)
	}
	return c, nil
}

// measure adds the size, and the platform where the index has not told it.
func (l *look) measure(ctx context.Context, content image.Content, r *PlatformResult) error {
	manifest, err := image.ParseManifest(content)
	if err != nil {
		return fmt.Errorf("read manifest %s: %w", content.Digest, err)
	}
	r.Size = servedSize(manifest.Config, manifest.Layers)
	if r.Platform != "" {
		return nil
	}
	platform, err := image.FetchPlatform(ctx, l.source, manifest)
	if err == nil && platform != nil {
		r.tell(*platform)
	}
	return err
}

func (r *PlatformResult) tell(p image.Platform) {
	r.Platform = image.FormatPlatform(p)
	r.OS, r.Architecture, r.Variant = p.OS, p.Architecture, p.Variant
	r.OSVersion, r.OSFeatures = p.OSVersion, p.OSFeatures
}
