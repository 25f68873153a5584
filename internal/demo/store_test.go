package demo

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/davit-cli/davit/image"
)

func TestStore(t *testing.T) {
	c := build(t)
	s := c.Store()
	if images := s.Images(); len(images) != 1 || images[0].Digest != c.Index.Digest || images[0].Name != "docker.io/davit/demo:latest" {
		t.Errorf("images are %+v", images)
	}
	for _, want := range append([]image.Content{c.Index}, c.Manifests...) {
		if got, err := s.Manifest(t.Context(), want.Digest.String()); err != nil || !bytes.Equal(got.Bytes, want.Bytes) || got.MediaType != want.MediaType {
			t.Errorf("manifest %s: %v", want.Digest, err)
		}
	}
	for _, want := range c.Blobs {
		got, err := s.Blob(t.Context(), want.Descriptor)
		if err != nil || !bytes.Equal(got, want.Bytes) {
			t.Errorf("blob %s: %v", want.Digest, err)
		}
		r, err := s.OpenRange(t.Context(), want.Descriptor, 1, want.Size)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r.Body); err != nil || !bytes.Equal(got, want.Bytes[1:]) || r.Start != 1 || r.Len != want.Size-1 {
			t.Errorf("range of %s: %+v, %v", want.Digest, r, err)
		}
	}
	none := content("x", []byte("none")).Descriptor
	_, noManifest := s.Manifest(t.Context(), none.Digest.String())
	_, noBlob := s.Blob(t.Context(), none)
	_, noRange := s.OpenRange(t.Context(), none, 0, 1)
	for _, err := range []error{noManifest, noBlob, noRange} {
		if !errors.Is(err, image.ErrNotFound) {
			t.Errorf("what is not there: %v", err)
		}
	}
}
