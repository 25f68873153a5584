package davit

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/ref"
)

// copyJob is one image that is copied.
type copyJob struct {
	from      Location
	to        Destination
	platforms image.Platforms
	referring bool // what refers to it goes along

	image  image.Image // once it is resolved
	target *copyTarget // where it goes into a registry
	disk   *PullResult // where it went onto the disk
	label  string      // what messages call it, where that is not the image's own

	parent    *copyJob               // of what goes along with an image: the image's
	after     *copyJob               // likewise: what brings what it refers to
	referrers []*copyJob             // what goes along
	unlisted  map[digest.Digest]bool // manifests that the target does not list itself

	missing       int // blobs that the target does not have yet
	sent, mounted int64
	same, done    bool
	err           error
	digest        digest.Digest // where same
	stored        bool          // an archive on the disk has an image of its name
}

// newCopyJob reads what is to be copied where.
func newCopyJob(item CopyItem, opts CopyOptions) (*copyJob, error) {
	j := &copyJob{platforms: image.Platforms{All: true}, referring: opts.Referrers || item.Referrers}
	if j.referring && opts.Layers != "" {
		return nil, errReferring
	}
	var err error
	if j.from, err = ParseLocation(item.Source); err != nil {
		return nil, err
	}
	if j.to, err = ParseDestination(item.Destination); err != nil {
		return nil, err
	}
	platforms := item.Platforms
	if len(platforms) == 0 {
		platforms = opts.Platforms
	}
	if len(platforms) > 0 {
		if j.platforms, err = image.ParsePlatforms(platforms...); err != nil {
			return nil, err
		}
	}
	j.platforms.Present = j.platforms.All && j.from.Path != ""
	return j, nil
}

// resolve finds the image and what it is called at its destination. With
// SkipSame it is done where the destination has it.
func (c *copying) resolve(ctx context.Context, j *copyJob) error {
	l, err := c.look(ctx, j)
	if err != nil {
		return err
	}
	if j.target, err = c.target(j.to.Reference); err != nil {
		return err
	}
	whole := j.platforms.All && !j.platforms.Present
	if c.opts.SkipSame && whole && !j.referring {
		if err := c.skip(ctx, l, j); err != nil || j.done {
			return err
		}
	}
	if j.image, err = l.resolve(ctx); err != nil {
		return err
	}
	j.image.Source, j.image.Mirrors = layerSources(l.source.Source)
	j.image.Label = cmp.Or(j.label, j.image.Label)
	root := j.image.Root().Digest
	if err := c.trim(j); err != nil {
		return err
	}
	if c.opts.NoForeign {
		j.image = leaveOutForeign(j.image, "", c.opts.Events)
	}
	if err := j.name(j.image.Entry().Digest, l.tag(j.image)); err != nil {
		return err
	}
	if c.opts.SkipSame && (!whole || j.referring) && c.names(ctx, j, j.image.Entry().Digest) {
		j.same, j.done, j.digest = true, true, j.image.Entry().Digest
	}
	return c.refer(ctx, l, j, root)
}

// tag is the tag that an image has where it is; empty where it has none.
func (l *look) tag(img image.Image) string {
	if tag := l.stored.Tag(); img.Name.Tag == "" && ref.ValidTag(tag) {
		return tag
	}
	return img.Name.Tag
}

// skip finds out by one request on each side whether the image is there.
func (c *copying) skip(ctx context.Context, l *look, j *copyJob) error {
	d, err := l.find.DescribeRoot(ctx)
	if err != nil {
		return err
	}
	if err := j.name(d.Digest, l.find.Reference().Tag); err != nil {
		return err
	}
	if c.names(ctx, j, d.Digest) {
		j.same, j.done, j.digest = true, true, d.Digest
		j.image.Label = l.find.Reference().String()
	}
	return nil
}

// names says whether the destination's name means a digest already. Where that
// cannot be found out it does not.
func (c *copying) names(ctx context.Context, j *copyJob, want digest.Digest) bool {
	d, err := j.target.Describe(ctx, cmp.Or(j.to.Reference.Tag, j.to.Reference.Digest.String()))
	return err == nil && d.Digest == want
}

// trim takes out of the indexes what is not copied: a registry wants all that
// they name.
func (c *copying) trim(j *copyJob) error {
	img := j.image
	if !img.KeepIndexes || j.platforms.All && !j.platforms.Present {
		return nil
	}
	root := img.Root().Digest
	trimmed, err := image.Trim(img)
	if err != nil {
		return fmt.Errorf("%s: trim the index: %w", img.Label, err)
	}
	if d := trimmed.Root().Digest; d != root {
		c.note("%s: the index is trimmed to what is copied (%d of its manifests): its digest is %s, not %s", img.Label, len(trimmed.Manifests), d, root)
	}
	j.image = trimmed
	return nil
}

// ErrOtherDigest is an image that is not the one that its destination names by a
// digest. It comes beside image.ErrVerification.
var ErrOtherDigest = errors.New("the source has another digest")

// name settles what an image is called at its destination in a registry.
func (j *copyJob) name(d digest.Digest, tag string) error {
	switch want := j.to.Reference.Digest; {
	case want != "" && want != d:
		return fmt.Errorf("copy to %s: %w: %w: it is %s", j.to, image.ErrVerification, ErrOtherDigest, d)
	case j.to.Reference.TagOrDigest() != "":
	case tag != "":
		j.to.Reference = j.to.Reference.WithTag(tag)
	default:
		j.to.Reference = j.to.Reference.WithDigest(d)
	}
	return nil
}

// failure is what went wrong on the way to the destination.
func (j *copyJob) failure(err error) error {
	return fmt.Errorf("copy %s to %s: %w", j.image.Label, j.to, err)
}

// count counts a blob that has come to the destination for the image.
func (j *copyJob) count(d image.Descriptor, how image.EventKind) {
	switch how {
	case image.EventBlobMounted:
		j.mounted += d.Size
	case image.EventBlobSent:
		j.sent += d.Size
	}
}

// result tells what was copied.
func (j *copyJob) result() CopyResult {
	r := CopyResult{
		Source: j.image.Label, Destination: j.to.String(), Digest: j.digest, Same: j.same,
		Sent: j.sent, Mounted: j.mounted,
	}
	switch {
	case j.disk != nil:
		r.Source, r.Path, r.Digest = j.disk.Reference, j.disk.Path, digest.Digest(j.disk.Digest)
		r.Size = j.disk.Size
	case !j.same:
		r.Digest, r.Size = j.image.Entry().Digest, contentSize([]image.Image{j.image})
	}
	r.addReferrers(j)
	return r
}

func (c *copying) note(format string, args ...any) {
	c.opts.Events.Send(image.Event{Kind: image.EventNote, Text: fmt.Sprintf(format, args...)})
}
