package rootfs

import (
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
)

// tarHash hashes a layer's tar, or the content of a file, where somebody wants
// to know.
type tarHash struct {
	want digest.Digest
	got  digest.Digester // nil where want is empty
}

func newTarHash(want digest.Digest) (*tarHash, error) {
	if want == "" {
		return &tarHash{}, nil
	}
	if err := image.CheckDigest(want); err != nil {
		return nil, fmt.Errorf("check the diffID: %w", err)
	}
	return &tarHash{want, want.Algorithm().Digester()}, nil
}

// tee hashes what is read of r, while it is hot in the processor's cache.
func (h *tarHash) tee(r io.Reader) io.Reader {
	if h.got == nil {
		return r
	}
	return io.TeeReader(r, h.got.Hash())
}

// check comes after the last byte.
func (h *tarHash) check() error {
	if h.got == nil || h.got.Digest() == h.want {
		return nil
	}
	return fmt.Errorf("check the diffID: %w: the tar has the digest %s, not %s", image.ErrVerification, h.got.Digest(), h.want)
}

// checkContent comes after the last byte of a file.
func (h *tarHash) checkContent() error {
	if h.got == nil || h.got.Digest() == h.want {
		return nil
	}
	return fmt.Errorf("%w: the content has the digest %s, not %s", image.ErrVerification, h.got.Digest(), h.want)
}
