package davit

import (
	"strings"

	"github.com/davit-cli/davit/image"
)

// DefaultOutput is the file that an image is written to where none is named:
// the repository's last part and the tag (or the first 12 digits of the
// digest), with the platform where it was asked for:
//
//	alpine_latest.tar  alpine_3.20_linux-arm64.tar  alpine_6ba4bfe1449a.tar
//
// It is a legal name on Windows too.
func DefaultOutput(img image.Image, withPlatform bool) string {
	r := img.Reference
	name := r.Base() + "_"
	switch {
	case r.Tag != "":
		name += r.Tag
	case len(r.Digest.Encoded()) >= 12:
		name += r.Digest.Encoded()[:12]
	}
	if withPlatform && !img.IsArtifact() {
		name += "_" + strings.Map(fileRune, image.FormatPlatform(img.Manifests[0].Platform))
	}
	return name + ".tar"
}

// fileRune makes a platform part of a file's name.
func fileRune(r rune) rune {
	switch {
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '_':
		return r
	case r == ')':
		return -1
	}
	return '-'
}
