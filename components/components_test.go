package components

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/image"
)

func content(mediaType, s string) image.Content {
	return image.Content{
		Descriptor: image.Descriptor{MediaType: mediaType, Digest: digest.FromString(s), Size: int64(len(s))},
		Bytes:      []byte(s),
	}
}

func layer(mediaType, s string) image.Descriptor { return content(mediaType, s).Descriptor }

// tree are a directory's files with their contents.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		files[filepath.ToSlash(name)] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// fetch writes the blobs that are not there, and tells how many these are.
func fetch(t *testing.T, w *Writer, img image.Image, blobs ...string) (n int) {
	t.Helper()
	for _, blob := range img.Blobs() {
		p, err := w.Place(t.Context(), blob)
		if err != nil {
			t.Fatal(err)
		}
		if p == nil {
			continue
		}
		n++
		for _, s := range blobs {
			if digest.FromString(s) == blob.Digest {
				if _, err := p.WriteAt([]byte(s), 0); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := w.Done(blob); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

func write(t *testing.T, dir string, img image.Image, opts Options, blobs ...string) int {
	t.Helper()
	w, err := Create(dir, img, opts)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	n := 0
	if !opts.ManifestOnly {
		n = fetch(t, w, img, blobs...)
	}
	if err := w.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	return n
}

func hex(s string) string { return "sha256_" + digest.FromString(s).Encoded() }

func single() image.Image {
	return image.Image{Manifests: []image.Manifest{{
		Content: content(ocispec.MediaTypeImageManifest, "{ \"m\":1}\n"),
		Config:  content(ocispec.MediaTypeImageConfig, "{ \"c\":\"<\"}"),
		Layers: []image.Descriptor{
			layer(ocispec.MediaTypeImageLayerGzip, "a"), layer(ocispec.MediaTypeImageLayerZstd, "b"),
			layer(ocispec.MediaTypeImageLayer, "a"), layer("application/wasm", ""),
		},
	}}}
}

func TestSingleManifest(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "parts")
	if n := write(t, dir, single(), Options{}, "a", "b"); n != 3 {
		t.Errorf("%d layers were fetched, want 3", n)
	}
	want := map[string]string{
		"image_manifest.json":             "{ \"m\":1}\n",
		hex("{ \"c\":\"<\"}") + ".json":   "{ \"c\":\"<\"}",
		"layers/" + hex("a") + ".tar.gz":  "a", // its first media type rules
		"layers/" + hex("b") + ".tar.zst": "b",
		"layers/" + hex("") + ".blob":     "",
	}
	if diff := cmp.Diff(want, tree(t, dir)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	// Once more: nothing is fetched, a wrong layer anew, others are left alone.
	for name, b := range map[string]string{"notes.txt": "mine", "layers/" + hex("b") + ".tar.zst": "X"} {
		if err := os.WriteFile(filepath.Join(dir, filepath.FromSlash(name)), []byte(b), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	warnings := 0
	count := func(e image.Event) {
		if e.Kind == image.EventWarning {
			warnings++
		}
	}
	if n := write(t, dir, single(), Options{Events: count}, "a", "b"); n != 1 || warnings != 1 {
		t.Errorf("%d layers were fetched, want the wrong one; %d warnings", n, warnings)
	}
	want["notes.txt"] = "mine"
	if diff := cmp.Diff(want, tree(t, dir)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

func TestIndex(t *testing.T) {
	root, nested := content(ocispec.MediaTypeImageIndex, "root"), content(ocispec.MediaTypeImageIndex, "nested")
	img := single()
	img.Indexes = []image.Content{root, nested}
	other := single().Manifests[0]
	other.Content, other.Config = content(ocispec.MediaTypeImageManifest, "m2"), content(ocispec.MediaTypeImageConfig, "c2")
	img.Manifests = append(img.Manifests, other)
	for _, kept := range []bool{true, false} {
		img.KeepIndexes = kept
		dir := t.TempDir()
		write(t, dir, img, Options{ManifestOnly: true})
		want := map[string]string{
			"manifest_list.json":                   "root",
			hex("nested") + "_manifest_list.json":  "nested",
			hex("{ \"m\":1}\n") + "_manifest.json": "{ \"m\":1}\n",
			hex("m2") + "_manifest.json":           "m2",
			hex("{ \"c\":\"<\"}") + ".json":        "{ \"c\":\"<\"}",
			hex("c2") + ".json":                    "c2",
		}
		if diff := cmp.Diff(want, tree(t, dir)); diff != "" {
			t.Errorf("files (-want +got):\n%s", diff)
		}
		if _, err := os.Stat(filepath.Join(dir, "layers")); !os.IsNotExist(err) {
			t.Errorf("layers is there: %v", err)
		}
	}
}

func TestManifestOnlyGivesNoPlace(t *testing.T) {
	w, err := Create(t.TempDir(), single(), Options{ManifestOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	if p, err := w.Place(t.Context(), single().Blobs()[0]); p != nil || err == nil {
		t.Errorf("Place: %v, %v, want an error", p, err)
	}
}

func TestLayerThatIsTheConfig(t *testing.T) {
	img := single()
	img.Manifests[0].Config = content("application/vnd.oci.empty.v1+json", "{}")
	img.Manifests[0].Layers = []image.Descriptor{layer("application/vnd.oci.empty.v1+json", "{}")}
	dir := t.TempDir()
	write(t, dir, img, Options{})
	want := map[string]string{
		"image_manifest.json":           "{ \"m\":1}\n",
		hex("{}") + ".json":             "{}",
		"layers/" + hex("{}") + ".blob": "{}",
	}
	if diff := cmp.Diff(want, tree(t, dir)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

func TestExtensions(t *testing.T) {
	for mediaType, want := range map[string]string{
		"application/vnd.oci.image.layer.v1.tar":                       ".tar",
		"application/vnd.oci.image.layer.v1.tar+gzip":                  ".tar.gz",
		"application/vnd.oci.image.layer.v1.tar+zstd":                  ".tar.zst",
		"application/vnd.oci.image.layer.nondistributable.v1.tar":      ".tar",
		"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip": ".tar.gz",
		"application/vnd.oci.image.layer.nondistributable.v1.tar+zstd": ".tar.zst",
		"application/vnd.docker.image.rootfs.diff.tar":                 ".tar",
		"application/vnd.docker.image.rootfs.diff.tar.gzip":            ".tar.gz",
		"application/vnd.docker.image.rootfs.diff.tar.zstd":            ".tar.zst",
		"application/vnd.docker.image.rootfs.foreign.diff.tar":         ".tar",
		"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip":    ".tar.gz",
		"application/vnd.cncf.helm.chart.content.v1.tar+gzip":          ".tar.gz",
		"application/vnd.oci.image.layer.v1.tar+gzip+encrypted":        ".blob",
		"application/vnd.in-toto+json":                                 ".blob",
		"":                                                             ".blob",
		"x/../../..":                                                   ".blob",
	} {
		if got := extension(mediaType); got != want {
			t.Errorf("%s gets %s, want %s", mediaType, got, want)
		}
	}
}

// Manifests say that the rest is there.
func TestNothingIsSaidBeforeItIsThere(t *testing.T) {
	dir := t.TempDir()
	w, err := Create(dir, single(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(t.Context()); err == nil {
		t.Error("Commit takes missing layers")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	fetch(t, w, single(), "a", "b")
	if err := w.Commit(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Commit: %v", err)
	}
	for name := range tree(t, dir) {
		if strings.Contains(name, "manifest") {
			t.Errorf("%s is there", name)
		}
	}
}

func TestClosedIsResumed(t *testing.T) {
	dir := t.TempDir()
	w, err := Create(dir, single(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	a := single().Blobs()[0]
	p, err := w.Place(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.WriteAt([]byte("a"), 0); err != nil {
		t.Fatal(err)
	}
	other, err := Create(dir, single(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Place(t.Context(), a); !errors.Is(err, image.ErrBusy) {
		t.Errorf("another's Place: %v, want ErrBusy", err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if p, err = other.Place(t.Context(), a); err != nil || len(p.Written()) != 1 {
		t.Errorf("what was written is lost: %v", err)
	}
	other.Close()
}

func TestHostileNames(t *testing.T) {
	img := single()
	img.Manifests[0].Layers[0].Digest = "sha256:../../x"
	if _, err := Create(t.TempDir(), img, Options{}); !errors.Is(err, image.ErrVerification) {
		t.Errorf("Create: %v", err)
	}
}

func TestPlantedLinks(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	if err := os.Symlink(outside, filepath.Join(dir, "layers")); err != nil {
		t.Skipf("no symbolic links here: %v", err)
	}
	if _, err := Create(dir, single(), Options{}); err == nil {
		t.Error("a link is taken for layers")
	}
	write(t, dir, single(), Options{ManifestOnly: true})
	if files := tree(t, outside); len(files) > 0 {
		t.Errorf("files outside: %v", files)
	}
}

func TestSaveUnknown(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	path, err := SaveUnknown(dir, content("application/x", "{ what}"))
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "{ what}" || path != filepath.Join(dir, "unknown_manifest.json") {
		t.Errorf("%s has %q (%v)", path, b, err)
	}
}

func TestForeignLayerIsLeftOut(t *testing.T) {
	dir := t.TempDir()
	img := single()
	for i := range img.Manifests[0].Layers {
		if img.Manifests[0].Layers[i].Digest == digest.FromString("a") {
			img.Manifests[0].Layers[i].URLs = []string{"https://files.example/a"}
		}
	}
	img, _ = image.WithoutForeign(img)
	if n := write(t, dir, img, Options{}, "b"); n != 2 {
		t.Errorf("%d layers were fetched, want 2", n)
	}
	want := map[string]string{
		"image_manifest.json":             "{ \"m\":1}\n",
		hex("{ \"c\":\"<\"}") + ".json":   "{ \"c\":\"<\"}",
		"layers/" + hex("b") + ".tar.zst": "b",
		"layers/" + hex("") + ".blob":     "",
	}
	if diff := cmp.Diff(want, tree(t, dir)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}
