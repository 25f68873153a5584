package registry

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
)

// AddReferrers adds to the list of a subject's referrers that stands under a tag
// (OCI distribution-spec, "Referrers Tag Schema"), where the registry keeps none
// itself: see image.PushedManifest. What others have put there stays, and what is
// there already is not pushed again. Calls for one repository wait for each
// other; another client's change between reading and writing is lost.
//
// What stands under the tag and is no such index, or would be too large for one,
// is left as it is; the error wraps image.ErrVerification then. Others are those
// of Manifest and PushManifest.
func (r *Repository) AddReferrers(ctx context.Context, subject digest.Digest, add []image.Descriptor) error {
	if err := image.CheckDigest(subject); err != nil {
		return fmt.Errorf("list referrers in %s: %w", r.name, err)
	}
	tag := image.ReferrersTag(subject)
	step := "list referrers of " + r.name + "@" + subject.String() + " under the tag " + tag
	r.pushes.listing.Lock()
	defer r.pushes.listing.Unlock()
	before, err := r.Manifest(ctx, tag)
	switch {
	case errors.Is(err, image.ErrNotFound):
		before = image.Content{}
	case err != nil:
		return fmt.Errorf("%s: %w", step, err)
	case before.Digest == subject:
		return fmt.Errorf("%s: %w: the tag leads to the subject itself", step, image.ErrVerification)
	}
	after, err := image.AddReferrers(before, add...)
	if err != nil {
		return fmt.Errorf("%s: the index there: %w", step, err)
	}
	if after.Digest == before.Digest {
		return nil
	}
	if _, err := r.PushManifest(ctx, after, tag); err != nil {
		return fmt.Errorf("%s: %w", step, err)
	}
	return nil
}
