package davit

import (
	"context"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
)

// counted gives manifests of a size, and counts them.
type counted struct {
	image.Source
	size  int
	asked int
}

func (c *counted) Manifest(_ context.Context, tagOrDigest string) (image.Content, error) {
	c.asked++
	d := image.Descriptor{Digest: digest.FromString(tagOrDigest), Size: int64(c.size)}
	return image.Content{Descriptor: d, Bytes: make([]byte, c.size)}, nil
}

// A manifest is fetched once, by whichever name, as long as there is room.
func TestDocumentsAreKept(t *testing.T) {
	src := &counted{size: maxKept / 2}
	d := newDocuments(src)
	for _, name := range []string{"a", digest.FromString("a").String(), "a", "b", "c", "a", "b"} {
		if c, err := d.Manifest(t.Context(), name); err != nil || len(c.Bytes) != src.size {
			t.Fatalf("%s: %d bytes, %v", name, len(c.Bytes), err)
		}
	}
	if src.asked != 3 {
		t.Errorf("%d manifests were fetched, want 3", src.asked)
	}
	if _, err := d.Manifest(t.Context(), "c"); err != nil || src.asked != 4 {
		t.Errorf("what there is no room for was kept: %v", err)
	}
}
