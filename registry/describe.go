package registry

import (
	"context"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
)

// Describe returns media type, digest and size of the manifest or index that a
// tag or digest names, by one HEAD (OCI distribution-spec, "Checking if content
// exists in the registry"), which registries do not count as a pull. They are
// what the registry tells: nothing is verified, but that it names no other
// digest than the asked one.
//
// Where the answer lacks one of the three, or is a refusal that may be due to
// the method (400, 404, 405, 501), it is Manifest that gives the answer, and the
// error: several registries have been met that answer 404 or 405 to any HEAD,
// and a refusal of one has no text. Other errors are as Manifest's.
func (r *Repository) Describe(ctx context.Context, tagOrDigest string) (image.Descriptor, error) {
	return r.describe(ctx, tagOrDigest, false)
}

// describe is Describe; with believe it takes the registry at its word where
// that answers 404.
func (r *Repository) describe(ctx context.Context, tagOrDigest string, believe bool) (image.Descriptor, error) {
	asked, err := digestOf(tagOrDigest)
	if err != nil {
		return image.Descriptor{}, fmt.Errorf("describe manifest of %s: %w", r.name, err)
	}
	step := "describe manifest " + r.name + separator(asked) + tagOrDigest
	header := http.Header{"Accept": {strings.Join(manifestTypes, ", ")}}
	resp, err := r.head(ctx, step, r.at("/v2/"+r.name+"/manifests/"+tagOrDigest), header, true)
	if err == nil {
		var described image.Descriptor
		described, err = describedBy(resp.Header, resp.ContentLength, asked)
		switch {
		case err == nil:
			return described, nil
		case !errors.Is(err, errIncomplete):
			return image.Descriptor{}, fmt.Errorf("%s from %s: %w", step, resp.Request.URL.Host, err)
		}
	} else if ctx.Err() != nil || !r.mayBeOfMethod(err, step) || believe && statusOf(err) == http.StatusNotFound {
		return image.Descriptor{}, err
	}
	content, err := r.Manifest(ctx, tagOrDigest)
	return content.Descriptor, err
}

// errIncomplete is an answer that tells not all that there is to tell.
var errIncomplete = errors.New("the answer is incomplete")

// describedBy is what the answer to a HEAD of a manifest tells, or
// errIncomplete, or an error that wraps image.ErrVerification.
func describedBy(header http.Header, size int64, asked digest.Digest) (image.Descriptor, error) {
	told := digest.Digest(header.Get("Docker-Content-Digest"))
	if image.CheckDigest(told) != nil {
		told = ""
	}
	if err := checkTold(told, asked); err != nil {
		return image.Descriptor{}, err
	}
	if size > maxMetadata {
		return image.Descriptor{}, tooLargeError(maxMetadata)
	}
	mediaType, _, _ := mime.ParseMediaType(header.Get("Content-Type"))
	described := image.Descriptor{MediaType: mediaType, Digest: asked, Size: size}
	if asked == "" {
		described.Digest = told
	}
	switch {
	case !image.IsIndex(mediaType) && !image.IsManifest(mediaType), // the bytes may tell more
		described.Digest == "",
		asked != "" && told != "" && asked != told, // of another algorithm
		size <= 0, header.Get("Content-Encoding") != "":
		return image.Descriptor{}, errIncomplete
	}
	return described, nil
}

// checkTold says whether the digest that a registry tells, if any, can be the
// one that was asked for, if one was. The error wraps image.ErrVerification.
func checkTold(told, asked digest.Digest) error {
	if asked != "" && told != "" && told != asked && told.Algorithm() == asked.Algorithm() {
		return fmt.Errorf("%w: it announces content with the digest %s", image.ErrVerification, told)
	}
	return nil
}

// head sends a HEAD, with retries. Its answer is a 200, without a body.
func (r *Repository) head(ctx context.Context, step string, where location, header http.Header, strict bool) (*http.Response, error) {
	c := r.client
	var resp *http.Response
	err := c.retry(ctx, func() error {
		var at location
		var err error
		if resp, at, err = c.follow(ctx, step, http.MethodHead, c.registryURL(where.url.Path, where.auth), header, strict, nil); err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK {
			return c.refusal(step, resp, at)
		}
		discard(resp)
		return nil
	})
	return resp, err
}

// mayBeOfMethod tells whether the refusal of a HEAD, in a step, says nothing of
// a GET: the method is not known, or so it seems, or it was redirected to a URL
// that is signed for GET alone. A realm's refusal is none of the HEAD.
func (r *Repository) mayBeOfMethod(err error, step string) bool {
	var e *Error
	if !errors.As(err, &e) || e.Step != step || e.Status == 0 || mayPass(e.Status) {
		return false
	}
	return isUnknown(e.Status) || !strings.EqualFold(e.Host, r.client.host)
}

// isUnknown tells whether a refusal may mean that the server does not know what
// it was asked for, the endpoint or the method.
func isUnknown(status int) bool {
	switch status {
	case http.StatusBadRequest, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotAcceptable,
		http.StatusGone, http.StatusUnsupportedMediaType, http.StatusNotImplemented:
		return true
	}
	return false
}

// statusOf is the status of the refusal that an error is; 0 for other errors.
func statusOf(err error) int {
	var e *Error
	if errors.As(err, &e) {
		return e.Status
	}
	return 0
}
