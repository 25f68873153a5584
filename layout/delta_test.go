package layout

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
)

// since leaves out of an image what a base has.
func since(base string, img image.Image, contents ...string) image.Image {
	img, _ = image.WithoutBlobs(img, func(layer image.Descriptor) (string, bool) {
		for _, s := range contents {
			if layer.Digest == digest.FromString(s) {
				return base, true
			}
		}
		return "", false
	})
	return img
}

func deltaOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	delta, err := image.ParseDelta(indexOf(t, dir).Annotations)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for d, base := range delta {
		all[blobs[d]] = base
	}
	return all
}

// What a layout lacks is told until it is there, whoever brings it.
func TestDelta(t *testing.T) {
	dir := t.TempDir()
	one, two := named("one:1", "a", "b"), named("two:1", "b", "a", "")
	if n := write(t, dir, Options{}, since("may.tar", one, "a", "b")); n != 0 {
		t.Errorf("%d blobs were fetched", n)
	}
	if diff := cmp.Diff(map[string]string{"a": "may.tar", "b": "may.tar"}, deltaOf(t, dir)); diff != "" {
		t.Errorf("delta (-want +got):\n%s", diff)
	}
	before, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, Options{}, since("may.tar", one, "b", "a"))
	if again, err := os.ReadFile(filepath.Join(dir, "index.json")); err != nil || string(again) != string(before) {
		t.Errorf("written again it is\n%s\nnot\n%s", again, before)
	}

	r, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	a := one.Manifests[0].Layers[0]
	_, blobErr := r.Blob(t.Context(), a)
	_, rangeErr := r.OpenRange(t.Context(), a, 0, 1)
	_, sizeErr := r.BlobSize(t.Context(), a.Digest)
	for _, err := range []error{blobErr, rangeErr, sizeErr} {
		expected, ok := errors.AsType[*image.ExpectedError](err)
		if !ok || expected.Base != "may.tar" || !errors.Is(err, image.ErrNotFound) || !strings.Contains(err.Error(), a.Digest.String()) {
			t.Errorf("a blob that is left out: %v", err)
		}
	}
	if base, ok := r.Expected(digest.FromString("x")); ok {
		t.Errorf("what is no blob of it is expected in %s", base)
	}
	r.Close()

	// Another image leaves one of them out too, and brings the other.
	write(t, dir, Options{}, since("april.tar", two, "a"))
	if diff := cmp.Diff(map[string]string{"a": "april.tar"}, deltaOf(t, dir)); diff != "" {
		t.Errorf("delta (-want +got):\n%s", diff)
	}
	write(t, dir, Options{}, one)
	if x := indexOf(t, dir); x.Annotations != nil {
		t.Errorf("the whole layout has %v", x.Annotations)
	}
	verify(t, dir)
}

// Other annotations of the layout are nobody's to change, and a delta's is read
// before anything is written.
func TestDeltaBesideOthers(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, Options{}, named("one:1", "b"))
	path := filepath.Join(dir, "index.json")
	plain, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	annotate := func(annotations string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(strings.Replace(string(plain), `"manifests"`, `"annotations":`+annotations+`,"manifests"`, 1)), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	annotate(`{"theirs":"<1>"}`)
	two := since("may.tar", named("two:1", "a"), "a")
	write(t, dir, Options{}, two)
	if got := indexOf(t, dir).Annotations; got["theirs"] != "<1>" || got[image.AnnotationDelta] == "" {
		t.Errorf("annotations: %v", got)
	}
	write(t, dir, Options{}, named("two:1", "a"))
	if diff := cmp.Diff(map[string]string{"theirs": "<1>"}, indexOf(t, dir).Annotations); diff != "" {
		t.Errorf("annotations (-want +got):\n%s", diff)
	}
	for _, bad := range []string{`7`, `{"dev.davit.delta":7}`, `{"dev.davit.delta":"["}`, `{"dev.davit.delta":"[{\"base\":\"x\",\"blobs\":[\"sha256:../x\"]}]"}`} {
		annotate(bad)
		if _, err := Create(dir, []image.Image{two}, Options{}); err == nil {
			t.Errorf("%s: it is added to", bad)
		}
		if _, err := Open(dir); !errors.Is(err, image.ErrVerification) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}
