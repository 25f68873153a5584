package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/oneline"
	"github.com/davit-cli/davit/ref"
)

// manifestTypes is what we say that we accept. Schema 1 stands there so that a
// registry which has nothing else says so, and does not say 404.
var manifestTypes = []string{
	ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageManifest,
	image.MediaTypeDockerList, image.MediaTypeDockerManifest,
	image.MediaTypeDockerSchema1JWS, image.MediaTypeDockerSchema1,
}

// Manifest returns the bytes of the manifest or index that a tag or digest
// names, in one round trip once the registry's challenge is answered, with
// retries of what may pass. It takes at most 4 MiB.
//
// The bytes have the asked digest and the one that the registry tells of, and
// their media type is image.MediaTypeOf's, undisputed between the registry's
// header and the document itself; else the error wraps image.ErrVerification.
// It may be a type that davit does not read. A schema 1 manifest by tag, which
// signs a part of itself, comes with the digest of its bytes whatever the
// registry says: nobody takes it anyway. Other errors wrap image.ErrNotFound,
// image.ErrUnauthorized or a sentinel of this package.
func (r *Repository) Manifest(ctx context.Context, tagOrDigest string) (image.Content, error) {
	asked, err := digestOf(tagOrDigest)
	if err != nil {
		return image.Content{}, fmt.Errorf("get manifest of %s: %w", r.name, err)
	}
	step := "get manifest " + r.name + separator(asked) + tagOrDigest
	repository := r.through(func(req *http.Request) (*http.Response, error) {
		resp, body, err := r.client.fetch(step, req, r.auth)
		if err != nil {
			return nil, err
		}
		descriptor, err := verifyManifest(resp.Header, body, asked)
		if err != nil {
			return nil, fmt.Errorf("%s from %s: %w", step, resp.Request.URL.Host, err)
		}
		return asWhole(req, http.Header{
			"Content-Type":          {descriptor.MediaType},
			"Docker-Content-Digest": {descriptor.Digest.String()},
		}, body), nil
	})
	descriptor, body, err := repository.Manifests().FetchReference(ctx, tagOrDigest)
	if err != nil {
		return image.Content{}, err
	}
	defer func() { _ = body.Close() }()
	content, err := io.ReadAll(body)
	if err != nil {
		return image.Content{}, fmt.Errorf("%s: %w", step, err)
	}
	return image.Content{Descriptor: descriptor, Bytes: content}, nil
}

// digestOf is the digest that is asked for; empty for a tag.
func digestOf(tagOrDigest string) (digest.Digest, error) {
	switch asked := digest.Digest(tagOrDigest); {
	case strings.Contains(tagOrDigest, ":"):
		return asked, image.CheckDigest(asked)
	case !ref.ValidTag(tagOrDigest):
		return "", fmt.Errorf("%q is no tag", oneline.Clean(tagOrDigest, 128))
	}
	return "", nil
}

func separator(asked digest.Digest) string {
	if asked != "" {
		return "@"
	}
	return ":"
}

// verifyManifest checks what a registry has sent and describes it. What davit
// does not read, as schema 1, is the caller's to refuse.
func verifyManifest(header http.Header, body []byte, asked digest.Digest) (image.Descriptor, error) {
	if asked != "" {
		if err := checkBytes(asked, body); err != nil {
			return image.Descriptor{}, err
		}
	}
	described := image.Descriptor{MediaType: header.Get("Content-Type"), Digest: asked, Size: int64(len(body))}
	mediaType, err := image.MediaTypeOf(image.Content{Descriptor: described, Bytes: body})
	schema1 := errors.Is(err, image.ErrSchema1)
	if err != nil && !schema1 && !errors.Is(err, image.ErrMediaType) {
		return image.Descriptor{}, err
	}
	described.MediaType = mediaType
	told := digest.Digest(header.Get("Docker-Content-Digest"))
	if image.CheckDigest(told) == nil && !schema1 {
		if err := checkBytes(told, body); err != nil {
			return image.Descriptor{}, fmt.Errorf("the registry announces %s: %w", told, err)
		}
		if asked == "" {
			described.Digest = told
		}
	}
	if described.Digest == "" {
		described.Digest = digest.FromBytes(body)
	}
	return described, nil
}

// checkBytes says whether body has a digest. The error wraps
// image.ErrVerification.
func checkBytes(want digest.Digest, body []byte) error {
	if actual := want.Algorithm().FromBytes(body); actual != want {
		return fmt.Errorf("%w: it sends content with the digest %s", image.ErrVerification, actual)
	}
	return nil
}
