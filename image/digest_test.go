package image

import (
	"errors"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

func TestCheckDigest(t *testing.T) {
	for _, d := range []digest.Digest{digest.FromString("x"), digest.SHA512.FromString("x")} {
		if err := CheckDigest(d); err != nil {
			t.Error(err)
		}
	}
	for _, d := range []digest.Digest{"", "sha256:../x", "sha384:" + digest.Digest(strings.Repeat("a", 96)), "md5:d41d8cd98f00b204e9800998ecf8427e"} {
		if err := CheckDigest(d); !errors.Is(err, ErrVerification) {
			t.Errorf("CheckDigest(%q) = %v", d, err)
		}
	}
}

func TestClean(t *testing.T) {
	if got := clean("a\x1b[31m\r\nb\u202ec é"); got != "a[31mbc é" {
		t.Errorf("clean: %q", got)
	}
	if got := clean(strings.Repeat("é", 300)); len(got) > 260 {
		t.Errorf("clean leaves %d bytes", len(got))
	}
}
