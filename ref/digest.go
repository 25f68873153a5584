package ref

import (
	_ "crypto/sha256" // digests that Parse and its callers check
	_ "crypto/sha512"
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
)

// CheckDigest says whether d is a digest that davit takes: sha256: with 64 or
// sha512: with 128 lowercase hexadecimal digits, and nothing else (OCI
// image-spec, descriptor.md, "Registered algorithms"). Only what passes may
// become part of a path or a URL.
func CheckDigest(d digest.Digest) error {
	algorithm, encoded, ok := strings.Cut(string(d), ":")
	if !ok {
		return fmt.Errorf("digest %q: want sha256: or sha512: and hexadecimal digits", short(string(d)))
	}
	var digits int
	switch digest.Algorithm(algorithm) {
	case digest.SHA256:
		digits = 64
	case digest.SHA512:
		digits = 128
	default:
		return fmt.Errorf("digest %q: the algorithm %q is not supported: want sha256 or sha512", short(string(d)), short(algorithm))
	}
	if len(encoded) != digits {
		return fmt.Errorf("digest %q: want %d hexadecimal digits after %s:, not %d characters", short(string(d)), digits, algorithm, len(encoded))
	}
	err := d.Validate()
	if errors.Is(err, digest.ErrDigestInvalidFormat) {
		return fmt.Errorf("digest %q: what follows %s is not as it must be: want lowercase hexadecimal digits", short(string(d)), algorithm)
	}
	if err != nil {
		return fmt.Errorf("digest %q: %w", short(string(d)), err)
	}
	return nil
}

// short keeps what a stranger wrote from filling the screen.
func short(s string) string {
	const most = 160
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}
