// Package ref reads the names that people write for images.
package ref

import (
	"github.com/opencontainers/go-digest"
)

// Reference names an image in a registry.
type Reference struct {
	// Registry is the registry as names are written: docker.io, localhost:5000.
	Registry string
	// Repository is the path in the registry: library/alpine.
	Repository string
	// Tag is empty where none was written.
	Tag string
	// Digest is empty where none was written. Where both are there, the digest wins.
	Digest digest.Digest
	// Scheme is "http" or "https" where a URL was written, else empty.
	Scheme string
}
