// Package ref reads the names that people write for images.
package ref

import (
	"strings"

	"github.com/opencontainers/go-digest"
)

// Docker Hub's name in references, and the host that serves its API.
const (
	hubName = "docker.io"
	hubHost = "registry-1.docker.io"
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

// Host is where the registry's API is: host or host:port. Docker Hub's is
// registry-1.docker.io.
func (r Reference) Host() string {
	if r.Registry == hubName {
		return hubHost
	}
	return r.Registry
}

// Name is the fully qualified repository, without tag and digest:
// docker.io/library/alpine.
func (r Reference) Name() string {
	return r.Registry + "/" + r.Repository
}

// String is the full name, with the tag and the digest that are there:
// docker.io/library/alpine:3.20@sha256:…. Parse reads it back as the same
// reference, but for the Scheme. It is empty for the zero Reference.
func (r Reference) String() string {
	if r == (Reference{}) {
		return ""
	}
	s := r.Name()
	if r.Tag != "" {
		s += ":" + r.Tag
	}
	if r.Digest != "" {
		s += "@" + r.Digest.String()
	}
	return s
}

// WithTag is r with another tag; the digest stays. It does not check the tag:
// see ValidTag.
func (r Reference) WithTag(tag string) Reference {
	r.Tag = tag
	return r
}

// WithDigest is r with another digest; the tag stays. It does not check the
// digest: see CheckDigest.
func (r Reference) WithDigest(d digest.Digest) Reference {
	r.Digest = d
	return r
}

// TagOrDigest is what to ask the registry for: the digest, else the tag, else
// nothing.
func (r Reference) TagOrDigest() string {
	if r.Digest != "" {
		return r.Digest.String()
	}
	return r.Tag
}

// Base is the last part of the repository: alpine.
func (r Reference) Base() string {
	return r.Repository[strings.LastIndexByte(r.Repository, '/')+1:]
}
