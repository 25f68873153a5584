package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/image"
)

// maxReferrerBytes is of all pages of referrers: their annotations are kept.
const maxReferrerBytes = 16 << 20

// Referrers lists what refers to a manifest or index (OCI distribution-spec,
// "Listing Referrers"): in the registry's order what its API tells, or where it
// has none, the index under the referrers tag ("Referrers Tag Schema"); then
// what cosign keeps under tags. All that is asked at the same time. No referrers
// are no error, nor is a registry that knows nothing of them.
//
// Nothing is verified. A descriptor whose digest or size is none is left out,
// with a warning. More than image.MaxDescriptors are an error that wraps
// image.ErrVerification; others wrap image.ErrUnauthorized or a sentinel of this
// package, or an image.RetryError.
func (r *Repository) Referrers(ctx context.Context, subject digest.Digest) ([]image.Descriptor, error) {
	if err := image.CheckDigest(subject); err != nil {
		return nil, fmt.Errorf("list referrers in %s: %w", r.name, err)
	}
	s := referrerSearch{repository: r, subject: subject, step: "list referrers of " + r.name + "@" + subject.String()}
	var (
		listed          []image.Descriptor
		tagged          *image.Descriptor
		byCosign        = make([]*image.Descriptor, len(image.CosignTags))
		listErr, tagErr error
		cosignErrs      = make([]error, len(image.CosignTags))
		tagOfIndex      = image.ReferrersTag(subject)
		all             sync.WaitGroup
	)
	all.Go(func() { listed, listErr = s.byAPI(ctx) })
	all.Go(func() { tagged, tagErr = s.probe(ctx, tagOfIndex) })
	if subject.Algorithm() == digest.SHA256 { // cosign knows no other, and the tag would be too long
		for i, c := range image.CosignTags {
			all.Go(func() { byCosign[i], cosignErrs[i] = s.probe(ctx, tagOfIndex+c.Suffix) })
		}
	}
	all.Wait()
	if errors.Is(listErr, errNoReferrers) {
		if listErr = tagErr; listErr == nil && tagged != nil {
			listed, listErr = s.byTag(ctx, tagOfIndex)
		}
	}
	if listErr != nil {
		return nil, listErr
	}
	for i, d := range byCosign {
		if cosignErrs[i] != nil {
			return nil, cosignErrs[i]
		}
		if d != nil {
			d.ArtifactType = image.CosignTags[i].ArtifactType
			listed = append(listed, *d)
		}
	}
	return s.once(listed), nil
}

// errNoReferrers is a registry that has not got the API.
var errNoReferrers = errors.New("its answer is no list of referrers")

// referrerSearch is one search for the referrers of a subject.
type referrerSearch struct {
	repository *Repository
	subject    digest.Digest
	step       string
	warned     sync.Once
}

// byAPI asks the API. The error wraps errNoReferrers where there is none: where
// the endpoint is unknown, or answers with something else than an index, or
// leads to where nobody knows of referrers.
func (s *referrerSearch) byAPI(ctx context.Context) ([]image.Descriptor, error) {
	r := s.repository
	pages := list{client: r.client, auth: r.auth, step: s.step, check: checkReferrers, limit: maxReferrerBytes}
	repository := r.through(func(req *http.Request) (*http.Response, error) {
		resp, err := pages.page(req)
		if err != nil {
			return nil, err
		}
		resp.Header.Set("Content-Type", ocispec.MediaTypeImageIndex)
		return resp, nil
	})
	if err := repository.SetReferrersCapability(true); err != nil { // the tag is ours to ask for
		return nil, fmt.Errorf("%s: %w", s.step, err)
	}
	var found []image.Descriptor
	err := repository.Referrers(ctx, image.Descriptor{Digest: s.subject}, "", func(page []image.Descriptor) (err error) {
		found, err = s.add(found, page)
		return err
	})
	if err != nil && !pages.begun() && (errors.Is(err, errNoReferrers) || r.mayBeOfMethod(err, s.step)) {
		return nil, fmt.Errorf("%w: %w", errNoReferrers, err)
	}
	return found, err
}

// checkReferrers says whether an answer is a page of referrers: an index. The
// error wraps errNoReferrers where it is something else, and
// image.ErrVerification where it only says that it is one.
func checkReferrers(resp *http.Response, body []byte) error {
	served := resp.Header.Get("Content-Type")
	is, err := image.MediaTypeOf(image.Content{Descriptor: image.Descriptor{MediaType: served}, Bytes: body})
	if err == nil && is == ocispec.MediaTypeImageIndex {
		var index ocispec.Index
		if err = json.Unmarshal(body, &index); err == nil {
			return nil
		}
		return fmt.Errorf("%w: its list of referrers is malformed", image.ErrVerification)
	}
	if mediaType, _, _ := strings.Cut(served, ";"); err != nil && strings.EqualFold(strings.TrimSpace(mediaType), ocispec.MediaTypeImageIndex) {
		return err
	}
	return errNoReferrers
}

// byTag reads the index that stands under the referrers tag. Some registries
// lead from there to the subject itself, which lists no referrers.
func (s *referrerSearch) byTag(ctx context.Context, tag string) ([]image.Descriptor, error) {
	content, err := s.repository.Manifest(ctx, tag)
	switch {
	case errors.Is(err, image.ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("%s: %w", s.step, err)
	case content.MediaType != ocispec.MediaTypeImageIndex, content.Digest == s.subject:
		return nil, nil
	}
	var index ocispec.Index
	if json.Unmarshal(content.Bytes, &index) != nil {
		return nil, fmt.Errorf("%s: %w: the index under the tag %s is malformed", s.step, image.ErrVerification, tag)
	}
	return s.add(nil, index.Manifests)
}

// probe describes what a tag names; nil where there is no such tag, as most
// often. A 404 is believed: else each would cost a second request.
func (s *referrerSearch) probe(ctx context.Context, tag string) (*image.Descriptor, error) {
	d, err := s.repository.describe(ctx, tag, true)
	switch {
	case err == nil:
		return &d, nil
	case ctx.Err() == nil && errors.Is(err, image.ErrVerification):
		s.warn(err.Error())
		return nil, nil
	case ctx.Err() == nil && isUnknown(statusOf(err)):
		return nil, nil
	}
	return nil, fmt.Errorf("%s: %w", s.step, err)
}

// add adds a page of descriptors, but for those that are none.
func (s *referrerSearch) add(found, page []image.Descriptor) ([]image.Descriptor, error) {
	for _, d := range page {
		if err := image.CheckDigest(d.Digest); err != nil {
			s.warn("a referrer is left out: " + s.repository.client.public(err.Error(), 200))
			continue
		}
		if d.Size < 0 || d.Size > image.MaxImageSize {
			s.warn(fmt.Sprintf("a referrer is left out: %s is to have %d bytes", d.Digest, d.Size))
			continue
		}
		if len(found) == image.MaxDescriptors {
			return nil, fmt.Errorf("%s from %s: %w: there are more than %d", s.step, s.repository.client.host, image.ErrVerification, image.MaxDescriptors)
		}
		found = append(found, image.Descriptor{
			MediaType: d.MediaType, Digest: d.Digest, Size: d.Size, ArtifactType: d.ArtifactType, Annotations: d.Annotations,
		})
	}
	return found, nil
}

// warn tells the first thing that is wrong.
func (s *referrerSearch) warn(text string) {
	s.warned.Do(func() {
		s.repository.client.opts.Events.Send(image.Event{Kind: image.EventWarning, Text: s.step + ": " + text})
	})
}

// once leaves out what was listed before, and the subject itself.
func (s *referrerSearch) once(listed []image.Descriptor) []image.Descriptor {
	seen := map[digest.Digest]bool{s.subject: true}
	var found []image.Descriptor
	for _, d := range listed {
		if !seen[d.Digest] {
			seen[d.Digest] = true
			found = append(found, d)
		}
	}
	return found
}
