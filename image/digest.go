package image

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/ref"
)

// CheckDigest says whether d is a digest that davit takes: sha256 or sha512
// with exactly its lowercase hexadecimal digits. Every digest that a source
// names passes here before it becomes part of a path or a URL (CVE-2024-3727).
// The error wraps ErrVerification.
func CheckDigest(d digest.Digest) error {
	if err := ref.CheckDigest(d); err != nil {
		return fmt.Errorf("%w: %w", ErrVerification, err)
	}
	return nil
}

// CheckBytes says whether b is what the descriptor names, by size and digest.
// The error wraps ErrVerification.
func CheckBytes(d Descriptor, b []byte) error {
	if err := CheckDigest(d.Digest); err != nil {
		return err
	}
	if int64(len(b)) != d.Size {
		return fmt.Errorf("%w: %s has %d bytes, not %d", ErrVerification, d.Digest, len(b), d.Size)
	}
	if got := d.Digest.Algorithm().FromBytes(b); got != d.Digest {
		return fmt.Errorf("%w: the bytes of %s have the digest %s", ErrVerification, d.Digest, got)
	}
	return nil
}

// clean makes what a registry sent fit for a line of text: printable and short.
func clean(s string) string {
	const most = 256
	s = strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) {
			return -1
		}
		return c
	}, s)
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
