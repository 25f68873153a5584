package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/ref"
)

// Media types of Docker's manifests.
const (
	dockerList      = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerManifest  = "application/vnd.docker.distribution.manifest.v2+json"
	dockerSchema1   = "application/vnd.docker.distribution.manifest.v1+json"
	dockerSchema1JS = "application/vnd.docker.distribution.manifest.v1+prettyjws"
)

// manifestTypes is what we say that we accept. Schema 1 stands there so that a
// registry which has nothing else says so, and does not say 404.
var manifestTypes = []string{
	ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageManifest,
	dockerList, dockerManifest,
	dockerSchema1JS, dockerSchema1,
}

// Manifest returns the bytes of the manifest or index that a tag or digest
// names, in one round trip once the registry's challenge is answered, with
// retries of what may pass. It takes at most 4 MiB.
//
// The bytes have the asked digest and the one that the registry tells of, and
// their media type is undisputed between the registry's header and the
// document itself; else the error wraps image.ErrVerification. Only a schema 1
// manifest by tag, which signs a part of itself, comes with the digest of its
// bytes whatever the registry says: nobody takes it anyway. Other errors wrap
// image.ErrNotFound, image.ErrUnauthorized or a sentinel of this package.
func (r *Repository) Manifest(ctx context.Context, tagOrDigest string) (image.Content, error) {
	var asked digest.Digest
	if strings.Contains(tagOrDigest, ":") {
		asked = digest.Digest(tagOrDigest)
		if err := ref.CheckDigest(asked); err != nil {
			return image.Content{}, fmt.Errorf("get manifest of %s: %w", r.name, err)
		}
	} else if !ref.ValidTag(tagOrDigest) {
		return image.Content{}, fmt.Errorf("get manifest of %s: %q is no tag", r.name, clean(tagOrDigest, 128))
	}
	step := "get manifest " + r.name + separator(asked) + tagOrDigest
	repository := r.through(func(req *http.Request) (*http.Response, error) {
		resp, body, err := r.fetch(step, req)
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

func separator(asked digest.Digest) string {
	if asked != "" {
		return "@"
	}
	return ":"
}

// verifyManifest checks what a registry has sent and describes it.
func verifyManifest(header http.Header, body []byte, asked digest.Digest) (image.Descriptor, error) {
	if asked != "" {
		if actual := asked.Algorithm().FromBytes(body); actual != asked {
			return image.Descriptor{}, fmt.Errorf("%w: the registry sends content with the digest %s", image.ErrVerification, actual)
		}
	}
	mediaType, err := mediaTypeOf(header.Get("Content-Type"), body)
	if err != nil {
		return image.Descriptor{}, err
	}
	described := image.Descriptor{MediaType: mediaType, Digest: asked, Size: int64(len(body))}
	told := digest.Digest(header.Get("Docker-Content-Digest"))
	if ref.CheckDigest(told) == nil && mediaType != dockerSchema1 && mediaType != dockerSchema1JS {
		if actual := told.Algorithm().FromBytes(body); actual != told {
			return image.Descriptor{}, fmt.Errorf("%w: the registry announces %s and sends content with the digest %s", image.ErrVerification, told, actual)
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

// mediaTypeOf says what a document is. What it says of itself and what the
// header says must not contradict each other, nor its fields: else two tools
// could read two different images from one digest (CVE-2021-41190).
func mediaTypeOf(contentType string, body []byte) (string, error) {
	var fields map[string]json.RawMessage
	if json.Unmarshal(body, &fields) != nil || fields == nil {
		what := "what is no JSON object"
		if contentType != "" {
			what += " (" + clean(contentType, 80) + ")"
		}
		return "", fmt.Errorf("%w: the registry sends %s for a manifest", image.ErrVerification, what)
	}
	var own string
	if raw, ok := fields["mediaType"]; ok && json.Unmarshal(raw, &own) != nil {
		return "", fmt.Errorf("%w: the manifest's mediaType is no string", image.ErrVerification)
	}
	told := specificType(contentType)
	if own != "" && told != "" && own != told {
		return "", fmt.Errorf("%w: the manifest is %s by itself, but %s by the registry's Content-Type",
			image.ErrVerification, clean(own, 100), clean(told, 100))
	}
	_, manifests := fields["manifests"]
	_, layers := fields["layers"]
	_, config := fields["config"]
	_, fsLayers := fields["fsLayers"]
	if manifests && (layers || config || fsLayers) {
		return "", fmt.Errorf("%w: the document is an index and a manifest at once", image.ErrVerification)
	}
	mediaType := own
	if mediaType == "" {
		mediaType = told
	}
	switch mediaType {
	case ocispec.MediaTypeImageIndex, dockerList:
		if layers || config || fsLayers {
			return "", fmt.Errorf("%w: the document has a manifest's fields, but is said to be an index", image.ErrVerification)
		}
	case ocispec.MediaTypeImageManifest, dockerManifest:
		if manifests || fsLayers {
			return "", fmt.Errorf("%w: the document has other fields than the manifest that it is said to be", image.ErrVerification)
		}
	case "":
		var schema int
		_ = json.Unmarshal(fields["schemaVersion"], &schema)
		_, signed := fields["signatures"]
		switch {
		case schema == 1 && signed:
			return dockerSchema1JS, nil
		case schema == 1:
			return dockerSchema1, nil
		case manifests:
			return ocispec.MediaTypeImageIndex, nil
		default:
			return ocispec.MediaTypeImageManifest, nil
		}
	}
	return mediaType, nil
}

// specificType is the header's media type, or empty where it only says that
// there are bytes, as servers of files do.
func specificType(contentType string) string {
	mediaType, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return ""
	}
	switch mediaType {
	case "application/json", "application/octet-stream", "binary/octet-stream", "text/plain", "text/json":
		return ""
	}
	return mediaType
}
