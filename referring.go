package davit

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/ref"
)

// What goes along with one image at most. What is beyond is left out, with a
// warning.
const (
	maxReferrers      = 1000
	maxReferrerLevels = 4         // a signature of an SBOM of an image is on the second
	maxReferrerBytes  = 256 << 20 // of their documents, which are held in memory
)

// referring finds what refers to one image, and to that.
type referring struct {
	*look
	label string                  // the image's
	name  ref.Reference           // of the image where it goes
	sizes map[digest.Digest]int64 // of all that is named by what goes along
	met   map[digest.Digest]bool  // subjects, which what goes along are too
	found []image.Image
	room  int64 // bytes that are left for its documents
	full  bool  // there was not enough room
}

// listed is what a source lists as something that refers to a subject.
type listed struct {
	image.Descriptor
	subject digest.Digest

	found image.Image
	err   error
}

// attached are what refers to an image that goes somewhere, to its indexes where
// they go along and to its manifests, and what refers to that: each after its
// subject, in the order of the source. root is what the image was before it was
// trimmed.
//
// What is listed but is not there, or is nothing that davit reads, or does not
// refer to what it is listed with, is left out with a warning. Any other error
// ends it.
func (l *look) attached(ctx context.Context, img image.Image, root digest.Digest) ([]image.Image, error) {
	s := &referring{
		look: l, label: img.Label, name: img.Name,
		sizes: map[digest.Digest]int64{}, met: map[digest.Digest]bool{}, room: maxReferrerBytes,
	}
	s.fits(img)
	subjects := partsOf(img)
	if !slices.Contains(subjects, root) {
		s.tellLeftOut(ctx, root)
	}
	for level := 1; len(subjects) > 0; level++ {
		for _, d := range subjects {
			s.met[d] = true
		}
		all, err := s.list(ctx, subjects)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", img.Label, err)
		}
		if level > maxReferrerLevels && len(all) > 0 {
			s.warn("what refers to it by more than %d others is left out: %s for one", maxReferrerLevels, all[0].Digest)
			break
		}
		before := len(s.found)
		if err := s.take(ctx, all); err != nil {
			return nil, fmt.Errorf("%s: %w", img.Label, err)
		}
		subjects = nil
		if s.full {
			break
		}
		for _, found := range s.found[before:] {
			subjects = append(subjects, partsOf(found)...)
		}
	}
	return s.found, nil
}

// partsOf are the digests of an image's indexes, where they go along, and of its
// manifests.
func partsOf(img image.Image) []digest.Digest {
	var parts []digest.Digest
	if img.KeepIndexes {
		for _, c := range img.Indexes {
			parts = append(parts, c.Digest)
		}
	}
	for _, m := range img.Manifests {
		parts = append(parts, m.Digest)
	}
	return parts
}

// tellLeftOut tells what refers to an index that does not go along.
func (s *referring) tellLeftOut(ctx context.Context, root digest.Digest) {
	left, err := s.source.Referrers(ctx, root)
	if err == nil && len(left) > 0 {
		s.opts.Events.Send(image.Event{Kind: image.EventNote, Text: fmt.Sprintf(
			"%s: what refers to its index %s is left out (%d): the index goes along as it is with all platforms alone", s.label, root, len(left))})
	}
}

// list asks the source what refers to subjects, and gives what is none of those
// that were met before.
func (s *referring) list(ctx context.Context, subjects []digest.Digest) ([]listed, error) {
	found := make([][]image.Descriptor, len(subjects))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(resolveJobs)
	for i, subject := range subjects {
		group.Go(func() (err error) {
			found[i], err = s.source.Referrers(ctx, subject)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var all []listed
	for i, subject := range subjects {
		for _, d := range found[i] {
			if !s.met[d.Digest] {
				all = append(all, listed{Descriptor: d, subject: subject})
			}
		}
	}
	if room := maxReferrers - len(s.found); len(all) > room {
		s.warn("%d of what refers to it are left out: no more than %d go along with an image", len(all)-room, maxReferrers)
		all = all[:room]
	}
	return all, nil
}

// take resolves what is listed, some side by side, and keeps what can go along,
// until there is no more room for its documents.
func (s *referring) take(ctx context.Context, all []listed) error {
	for len(all) > 0 {
		n := min(len(all), resolveJobs)
		if err := s.takeSome(ctx, all[:n]); err != nil {
			return err
		}
		all = all[n:]
		if s.full {
			if len(all) > 0 {
				s.warn("%d more of what refers to it are left out", len(all))
			}
			return nil
		}
	}
	return nil
}

func (s *referring) takeSome(ctx context.Context, all []listed) error {
	var group errgroup.Group
	for i := range all {
		group.Go(func() error {
			all[i].found, all[i].err = s.resolveListed(ctx, all[i])
			return nil
		})
	}
	_ = group.Wait() // each has its own error
	if err := context.Cause(ctx); err != nil {
		return err
	}
	for _, one := range all {
		if s.met[one.Digest] {
			continue // it was listed with another one too
		}
		var unknown *image.UnknownError
		switch err := one.err; {
		case errors.Is(err, image.ErrNotFound), errors.Is(err, image.ErrVerification), errors.As(err, &unknown):
			s.warn("a referrer is left out: %v", err)
			continue
		case err != nil:
			return err
		}
		size := int64(0)
		for _, c := range one.found.Documents() {
			size += c.Size
		}
		switch {
		case size > s.room:
			s.full = true
			s.warn("a referrer is left out: %s: the documents of all have more than %d bytes", one.found.Label, maxReferrerBytes)
		case !s.fits(one.found):
			s.warn("a referrer is left out: %s tells another size of a blob than others do", one.found.Label)
		default:
			s.met[one.Digest] = true
			s.room -= size
			s.found = append(s.found, one.found)
		}
	}
	return nil
}

// fits notes the sizes of what an image names, unless one contradicts those of
// the others.
func (s *referring) fits(img image.Image) bool {
	named := map[digest.Digest]int64{}
	for _, c := range img.Documents() {
		named[c.Digest] = c.Size
	}
	for _, d := range img.Blobs() {
		named[d.Digest] = d.Size
	}
	for d, size := range named {
		if known, met := s.sizes[d]; met && known != size {
			return false
		}
	}
	for d, size := range named {
		s.sizes[d] = size
	}
	return true
}

// resolveListed finds what is listed, and makes sure that it refers to what it is
// listed with: by its subject, or by one of cosign's tags.
func (s *referring) resolveListed(ctx context.Context, one listed) (image.Image, error) {
	label, find := s.finder(one.Descriptor)
	img, err := find.Image(ctx, image.Platforms{All: true})
	if err != nil {
		return image.Image{}, err
	}
	tag, err := s.cosignTag(ctx, one)
	if err != nil {
		return image.Image{}, err
	}
	_, subject, _ := image.DescribeReferrer(img.Entry())
	if subject != one.subject && tag == "" {
		return image.Image{}, fmt.Errorf("%s: %w: it is listed as one of %s, but does not refer to that", label, image.ErrVerification, one.subject)
	}
	img.Label, img.Subject = label, one.subject
	img.Source, img.Mirrors = layerSources(s.source.Source)
	img.Name = s.name.WithTag(tag).WithDigest("")
	if tag == "" && s.name.Repository != "" {
		img.Name = img.Name.WithDigest(one.Digest)
	}
	return img, nil
}

// finder finds one referrer, which messages call by the label.
func (s *referring) finder(d image.Descriptor) (label string, find *image.Finder) {
	if s.store != nil {
		label = Location{Path: s.at.Path, Image: d.Digest.String()}.String()
		return label, image.NewStoredFinder(s.source, image.Stored{Descriptor: d}, label, s.opts.Events)
	}
	r := s.find.Reference().WithTag("").WithDigest(d.Digest)
	return r.String(), image.NewFinder(s.source, r, s.opts.Events)
}

// cosignTag is the one of cosign's tags under which a referrer stands; empty
// where it does not.
func (s *referring) cosignTag(ctx context.Context, one listed) (string, error) {
	for _, c := range image.CosignTags {
		if one.ArtifactType != c.ArtifactType || one.subject.Algorithm() != digest.SHA256 {
			continue
		}
		tag := image.ReferrersTag(one.subject) + c.Suffix
		if s.store != nil {
			if slices.ContainsFunc(s.store.Images(), func(img image.Stored) bool { return img.Tag() == tag && img.Digest == one.Digest }) {
				return tag, nil
			}
			continue
		}
		d, err := s.source.Describe(ctx, tag)
		switch {
		case err == nil && d.Digest == one.Digest:
			return tag, nil
		case err != nil && !errors.Is(err, image.ErrNotFound) && !errors.Is(err, image.ErrVerification):
			return "", err
		}
	}
	return "", nil
}

func (s *referring) warn(format string, args ...any) {
	s.opts.Events.Send(image.Event{Kind: image.EventWarning, Text: s.label + ": " + fmt.Sprintf(format, args...)})
}
