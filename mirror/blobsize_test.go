package mirror

import (
	"context"
	"errors"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
)

// sized is a fake that tells sizes.
type sized struct {
	*fake
	size int64
}

func (s sized) BlobSize(ctx context.Context, d digest.Digest) (int64, error) {
	_, err := s.answer(ctx, d.String())
	return s.size, err
}

// The size of a blob is asked of the mirrors first; one that cannot tell, or has
// not got it, is passed over.
func TestBlobSize(t *testing.T) {
	origin := sized{&fake{name: "origin"}, 1}
	lacks, mute, has := sized{&fake{name: "lacks", err: image.ErrNotFound}, 2}, &fake{name: "mute"}, sized{&fake{name: "has"}, 3}
	s := New(Mirror{Source: origin, Name: "origin"}, []Mirror{{Source: lacks}, {Source: mute}, {Source: has}}, nil)
	if n, err := s.BlobSize(t.Context(), someID); n != 3 || err != nil || len(origin.asked) > 0 {
		t.Errorf("the size is %d, %v; the origin was asked %q", n, err, origin.asked)
	}
	has.err, origin.err = errDown, image.ErrNotFound
	if _, err := s.BlobSize(t.Context(), someID); !errors.Is(err, image.ErrNotFound) {
		t.Errorf("the error is %v", err)
	}
}
