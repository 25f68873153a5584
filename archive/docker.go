package archive

import (
	"encoding/json"
	"fmt"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/ref"
)

// dockerManifest is the file of docker save's classic format.
const dockerManifest = "manifest.json"

// Limits of manifest.json.
const (
	maxDockerManifest = 4 << 20 // bytes
	maxDockerNames    = 1 << 18 // tags and layers together
)

// DockerImage is an image as docker load reads it in manifest.json (Docker's
// image specification 1.2, "Combined Image JSON + Filesystem Changeset Format").
type DockerImage struct {
	// Config is the path of the config in the tar.
	Config string
	// RepoTags are the image's names, with tags. They may be short: alpine:3.
	RepoTags []string
	// Layers are the paths of the layers in the tar, the lowest first. They may
	// be compressed.
	Layers []string
}

// ReadDockerManifest reads manifest.json and bounds what it lists. Whether the
// files are there, and the paths lead anywhere, it does not know. An error wraps
// image.ErrVerification.
func ReadDockerManifest(b []byte) ([]DockerImage, error) {
	if len(b) > maxDockerManifest {
		return nil, fmt.Errorf("%w: it has %d bytes, more than %d", image.ErrVerification, len(b), maxDockerManifest)
	}
	var images []DockerImage
	if err := json.Unmarshal(b, &images); err != nil {
		return nil, fmt.Errorf("%w: it is no JSON document as it must be: %w", image.ErrVerification, err)
	}
	if len(images) > image.MaxDescriptors {
		return nil, fmt.Errorf("%w: it has %d images, more than %d", image.ErrVerification, len(images), image.MaxDescriptors)
	}
	names := 0
	for i, img := range images {
		names += len(img.RepoTags) + len(img.Layers)
		switch {
		case img.Config == "":
			return nil, fmt.Errorf("%w: image %d has no config", image.ErrVerification, i+1)
		case len(img.Layers) > image.MaxDescriptors:
			return nil, fmt.Errorf("%w: image %d has %d layers, more than %d", image.ErrVerification, i+1, len(img.Layers), image.MaxDescriptors)
		case names > maxDockerNames:
			return nil, fmt.Errorf("%w: it has more than %d tags and layers", image.ErrVerification, maxDockerNames)
		}
	}
	return images, nil
}

// nameOfTag is the full name that an entry of RepoTags means; empty where it is
// no name.
func nameOfTag(tag string) string {
	r, err := ref.ParseName(tag)
	if err != nil {
		return ""
	}
	return r.String()
}
