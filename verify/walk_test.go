package verify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/image"
)

// A check that is ended reads no further document, however many are named.
func TestWalkEnds(t *testing.T) {
	ctx, end := context.WithCancel(t.Context())
	opened := 0
	document := func(b []byte) *file {
		return &file{size: int64(len(b)), open: func() (io.ReadCloser, error) {
			if opened++; opened == 4 {
				end()
			}
			return io.NopCloser(bytes.NewReader(b)), nil
		}}
	}
	index := ocispec.Index{}
	index.SchemaVersion = 2
	blobs := map[digest.Digest]*file{}
	for i := range 20 {
		manifest := fmt.Appendf(nil, `{"schemaVersion":2,"annotations":{"n":"%d"}}`, i)
		d := image.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(manifest), Size: int64(len(manifest))}
		index.Manifests = append(index.Manifests, d)
		blobs[d.Digest] = document(manifest)
	}
	b, err := json.Marshal(index)
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]*file{ocispec.ImageLayoutFile: document([]byte(`{"imageLayoutVersion":"1.0.0"}`)), ocispec.ImageIndexFile: document(b)}
	c := &checker{ctx: ctx, report: Report{Format: OCI}, tree: &tree{blobs: blobs, layers: blobs, find: func(name string) (*file, error) {
		if f := named[name]; f != nil {
			return f, nil
		}
		return nil, errors.New("not asked for")
	}}}
	c.walk()
	if opened != 4 {
		t.Errorf("%d documents were read, of which the fourth ended the check", opened)
	}
}
