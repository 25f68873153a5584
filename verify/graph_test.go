package verify_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/verify"
)

// Indexes that name each other many times over are looked at once each: else
// these would take for ever.
func TestIndexesOverAndOver(t *testing.T) {
	dir := t.TempDir()
	blobs := filepath.Join(dir, "blobs", "sha256")
	if err := os.MkdirAll(blobs, 0o777); err != nil {
		t.Fatal(err)
	}
	absent := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("absent"), Size: 6}
	index := func(manifests ...ocispec.Descriptor) []byte {
		b, err := json.Marshal(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: manifests})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	names := []ocispec.Descriptor{absent}
	for range 12 {
		b := index(names...)
		d := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: digest.FromBytes(b), Size: int64(len(b))}
		write(t, filepath.Join(blobs, d.Digest.Encoded()), b)
		names = []ocispec.Descriptor{absent}
		for range 100 {
			names = append(names, d)
		}
	}
	write(t, filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`))
	write(t, filepath.Join(dir, "index.json"), index(names[1]))
	r := check(t, dir)
	if len(r.Problems) != 12 || r.Problems[0].What != verify.Missing {
		t.Errorf("%d problems, want one of each index: %+v", len(r.Problems), r.Problems)
	}
}
