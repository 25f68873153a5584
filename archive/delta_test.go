package archive

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/davit-cli/davit/image"
)

// A blob that a base has is named by what names layers, and index.json says where
// it is; however the archive is written.
func TestDelta(t *testing.T) {
	img, blobs := testImage(t, "alpine:3.20")
	left := img.Manifests[0].Layers[0]
	delta, _ := image.WithoutBlobs(img, func(layer image.Descriptor) (string, bool) { return "may.tar", layer.Digest == left.Digest })
	l, err := NewLayout(delta)
	if err != nil {
		t.Fatal(err)
	}
	tarred := build(t, l, blobs)
	_, files := readTar(t, bytes.NewReader(tarred))
	if _, there := files[blobName(left.Digest)]; there || !strings.Contains(files["manifest.json"], blobName(left.Digest)) {
		t.Errorf("the layer is there: %t; manifest.json: %s", there, files["manifest.json"])
	}
	f := create(t)
	a := NewAppend(f)
	for _, d := range delta.Blobs() {
		appendBlob(t, a, d, blobs[d.Digest])
	}
	if err := a.Finish(delta); err != nil {
		t.Fatal(err)
	}
	if _, appended := readTar(t, f); !cmp.Equal(files, appended) {
		t.Errorf("appended it has other files:\n%s", cmp.Diff(files, appended))
	}

	path := filepath.Join(t.TempDir(), "june.tar")
	if err := os.WriteFile(path, tarred, 0o666); err != nil {
		t.Fatal(err)
	}
	r, err := Open(t.Context(), path, OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	_, blobErr := r.Blob(t.Context(), left)
	_, rangeErr := r.OpenRange(t.Context(), left, 0, 1)
	_, sizeErr := r.BlobSize(t.Context(), left.Digest)
	for _, err := range []error{blobErr, rangeErr, sizeErr} {
		expected, ok := errors.AsType[*image.ExpectedError](err)
		if !ok || expected.Base != "may.tar" || !strings.Contains(err.Error(), left.Digest.String()) || !strings.Contains(err.Error(), path) {
			t.Errorf("a blob that is left out: %v", err)
		}
	}
	if base, ok := r.Expected(left.Digest); !ok || base != "may.tar" {
		t.Errorf("it is expected in %q, %t", base, ok)
	}

	// Whoever changes index.json is found out.
	for _, bad := range []string{"]", `[{\"base\":\"x\",\"blobs\":[\"sha256:../x\"]}]`} {
		index := strings.Replace(files["index.json"], `[{\"base`, bad+`[{\"base`, 1)
		if index == files["index.json"] {
			t.Fatal("index.json has no delta")
		}
		l, err := NewLayout(delta)
		if err != nil {
			t.Fatal(err)
		}
		other := &Layout{}
		for _, e := range l.entries {
			data := e.document
			if bytes.Contains(e.header, []byte("index.json")) {
				data, e.blob.Size = []byte(index), int64(len(index))
			}
			if err := other.add(strings.TrimRight(string(e.header[:100]), "\x00"), data, e.blob); err != nil {
				t.Fatal(err)
			}
		}
		other.size += endSize
		changed := filepath.Join(t.TempDir(), "changed.tar")
		if err := os.WriteFile(changed, build(t, other, blobs), 0o666); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), changed, OpenOptions{}); !errors.Is(err, image.ErrVerification) || !strings.Contains(err.Error(), image.AnnotationDelta) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}
