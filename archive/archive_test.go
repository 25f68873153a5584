package archive

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/ref"
)

func content(mediaType, s string) image.Content {
	return image.Content{
		Descriptor: image.Descriptor{MediaType: mediaType, Digest: digest.FromString(s), Size: int64(len(s))},
		Bytes:      []byte(s),
	}
}

func layer(d digest.Digest, size int64) image.Descriptor {
	return image.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: d, Size: size}
}

// testImage has two layers, of which the first stands there twice.
func testImage(t *testing.T, name string) (image.Image, map[digest.Digest]string) {
	t.Helper()
	n, err := ref.Parse(name)
	if err != nil {
		t.Fatal(err)
	}
	blobs := map[digest.Digest]string{}
	var layers []image.Descriptor
	for _, s := range []string{strings.Repeat("x", 700), strings.Repeat("y", 1024)} {
		d := digest.FromString(s)
		blobs[d] = s
		layers = append(layers, layer(d, int64(len(s))))
	}
	manifest := content(ocispec.MediaTypeImageManifest, `{"manifest":"\u003c"}`)
	return image.Image{
		Reference: n, Name: n,
		Manifests: []image.Manifest{{
			Content:  manifest,
			Config:   content(ocispec.MediaTypeImageConfig, `{"config":"\u003cü"}`),
			Layers:   append(layers, layers[0]),
			Platform: image.Platform{OS: "linux", Architecture: "amd64"},
		}},
	}, blobs
}

func place(t *testing.T, f *File, d image.Descriptor) image.Place {
	t.Helper()
	p, err := f.Place(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func readTar(t *testing.T, r io.Reader) (names []string, files map[string]string) {
	t.Helper()
	files = map[string]string{}
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return names, files
		}
		if err != nil {
			t.Fatalf("read the tar: %v", err)
		}
		b, err := io.ReadAll(tr)
		if err != nil {
			t.Fatalf("read %s: %v", h.Name, err)
		}
		if h.ModTime.Unix() != 0 || h.Uid != 0 || h.Mode != 0o644 {
			t.Errorf("%s: time %s, owner %d, mode %o", h.Name, h.ModTime, h.Uid, h.Mode)
		}
		names = append(names, h.Name)
		files[h.Name] = string(b)
	}
}

// build writes the archive to a file, its blobs in reverse order.
func build(t *testing.T, l *Layout, blobs map[digest.Digest]string) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.tar")
	f, err := Create(path, l, CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, d := range slices.Backward(l.Blobs()) {
		if _, err := place(t, f, d).WriteAt([]byte(blobs[d.Digest]), 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestArchive(t *testing.T) {
	img, blobs := testImage(t, "alpine:3.20")
	l, err := NewLayout(img)
	if err != nil {
		t.Fatal(err)
	}
	got := build(t, l, blobs)
	if int64(len(got)) != l.Size() {
		t.Errorf("the archive has %d bytes, its layout says %d", len(got), l.Size())
	}
	names, files := readTar(t, bytes.NewReader(got))
	manifest, config := blobName(img.Manifests[0].Digest), blobName(img.Manifests[0].Config.Digest)
	x, y := blobName(img.Manifests[0].Layers[0].Digest), blobName(img.Manifests[0].Layers[1].Digest)
	want := []string{"oci-layout", "index.json", "manifest.json", manifest, config, x, y}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	wantFiles := map[string]string{
		"oci-layout": `{"imageLayoutVersion":"1.0.0"}`,
		"index.json": `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[` +
			`{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"` + img.Manifests[0].Digest.String() + `","size":21,` +
			`"annotations":{"io.containerd.image.name":"docker.io/library/alpine:3.20","org.opencontainers.image.ref.name":"3.20"},` +
			`"platform":{"architecture":"amd64","os":"linux"}}]}`,
		"manifest.json": `[{"Config":"` + config + `","RepoTags":["docker.io/library/alpine:3.20"],"Layers":["` + x + `","` + y + `","` + x + `"]}]`,
		manifest:        `{"manifest":"\u003c"}`,
		config:          `{"config":"\u003cü"}`,
		x:               blobs[img.Manifests[0].Layers[0].Digest],
		y:               blobs[img.Manifests[0].Layers[1].Digest],
	}
	if diff := cmp.Diff(wantFiles, files); diff != "" {
		t.Errorf("contents (-want +got):\n%s", diff)
	}
	if again := build(t, l, blobs); !bytes.Equal(got, again) {
		t.Error("the same image gives other bytes")
	}
}

// Whatever an earlier run, or somebody else, has left in the partial: what no
// digest vouches for is written anew.
func TestNothingIsBelievedOfAPartial(t *testing.T) {
	img, blobs := testImage(t, "alpine:3.20")
	l, err := NewLayout(img)
	if err != nil {
		t.Fatal(err)
	}
	want := build(t, l, blobs)
	path := filepath.Join(t.TempDir(), "a.tar")
	f, err := Create(path, l, CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	junk := bytes.Repeat([]byte{0xff}, int(l.Size()))
	if err := os.WriteFile(filepath.Join(path+".davit-part", "data"), junk, 0o666); err != nil {
		t.Fatal(err)
	}
	if f, err = Create(path, l, CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, d := range l.Blobs() {
		if _, err := place(t, f, d).WriteAt([]byte(blobs[d.Digest]), 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("the archive has bytes that nobody verified (%v)", err)
	}
}

func TestStreamEqualsFile(t *testing.T) {
	img, blobs := testImage(t, "localhost:5000/a/b:c")
	l, err := NewLayout(img)
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	s := NewStream(&got, l)
	for _, d := range l.Blobs() {
		if err := s.Blob(strings.NewReader(blobs[d.Digest])); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), build(t, l, blobs)) {
		t.Error("the stream differs from the file")
	}
	s = NewStream(io.Discard, l)
	if err := s.Blob(strings.NewReader("too short")); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a short blob: %v", err)
	}
}

func TestNameByDigest(t *testing.T) {
	name := "alpine@" + digest.FromString("x").String()
	img, _ := testImage(t, name)
	l, err := NewLayout(img)
	if err != nil {
		t.Fatal(err)
	}
	index, manifest := string(l.entries[1].document), string(l.entries[2].document)
	if want := `"annotations":{"io.containerd.image.name":"docker.io/library/` + name + `"},`; !strings.Contains(index, want) {
		t.Errorf("index.json %s has no %s", index, want)
	}
	if !strings.Contains(manifest, `"RepoTags":null`) {
		t.Errorf("manifest.json %s has a tag", manifest)
	}
}

// Two repositories, one tag: each image can be named by its full name.
func TestSharedTag(t *testing.T) {
	a, _ := testImage(t, "a:1")
	b, _ := testImage(t, "b:1")
	l, err := NewLayout(a, b)
	if err != nil {
		t.Fatal(err)
	}
	index := string(l.entries[1].document)
	for _, name := range []string{"docker.io/library/a:1", "docker.io/library/b:1"} {
		if want := `"org.opencontainers.image.ref.name":"` + name + `"`; !strings.Contains(index, want) {
			t.Errorf("index.json %s has no %s", index, want)
		}
	}
}

func TestIndexesAreKept(t *testing.T) {
	index := content(ocispec.MediaTypeImageIndex, `{"index":1}`)
	for _, kept := range []bool{true, false} {
		name := "alpine:3.20"
		img, blobs := testImage(t, name)
		img.Indexes, img.KeepIndexes = []image.Content{index}, kept
		want := img.Manifests[0].Content
		if kept {
			want = index
		}
		l, err := NewLayout(img)
		if err != nil {
			t.Fatal(err)
		}
		_, files := readTar(t, bytes.NewReader(build(t, l, blobs)))
		if _, there := files[blobName(index.Digest)]; there != kept {
			t.Errorf("%s: the index is there: %v, want %v", name, there, kept)
		}
		if start := `"manifests":[{"mediaType":"` + want.MediaType + `","digest":"` + want.Digest.String() + `",`; !strings.Contains(files["index.json"], start) {
			t.Errorf("%s: index.json %s does not name %s", name, files["index.json"], want.Digest)
		}
		if !strings.Contains(files["manifest.json"], blobName(img.Manifests[0].Config.Digest)) {
			t.Errorf("%s: manifest.json %s does not name the image", name, files["manifest.json"])
		}
	}
}

func TestArtifactIsNotOfferedToDocker(t *testing.T) {
	img, _ := testImage(t, "chart:1")
	img.Manifests[0].Config.MediaType = "application/vnd.cncf.helm.config.v1+json"
	l, err := NewLayout(img)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimRight(string(l.entries[2].document), "\x00"); got != "[]" {
		t.Errorf("manifest.json is %s, want none in it", got)
	}
}

// Headers grow for what the old format cannot say.
func TestLongHeaders(t *testing.T) {
	img, _ := testImage(t, "big:1")
	long := layer(digest.SHA512.FromString("x"), 10)
	huge := layer(digest.FromString("huge"), 9<<30)
	last := layer(digest.FromString("last"), 1)
	img.Manifests[0].Layers = []image.Descriptor{long, huge, last}
	l, err := NewLayout(img)
	if err != nil {
		t.Fatal(err)
	}
	blobs := l.blobs()
	for i, wantHeader := range []int{3 * blockSize, 3 * blockSize, blockSize} {
		h, err := tar.NewReader(bytes.NewReader(blobs[i].header)).Next()
		if err != nil {
			t.Fatal(err)
		}
		if len(blobs[i].header) != wantHeader || h.Name != blobName(blobs[i].blob.Digest) || h.Size != blobs[i].blob.Size {
			t.Errorf("header of %d bytes says %s, %d", len(blobs[i].header), h.Name, h.Size)
		}
	}
	if got, want := blobs[2].offset, blobs[1].start()+9<<30; got != want {
		t.Errorf("the blob behind 9 GiB stands at %d, want %d", got, want)
	}
}

// A layer that is left out is named by what names layers, and is not there.
func TestForeignLayerIsLeftOut(t *testing.T) {
	img, blobs := testImage(t, "alpine:3.20")
	img.Manifests[0].Layers[1].URLs = []string{"https://files.example/layer"}
	whole, err := NewLayout(img)
	if err != nil {
		t.Fatal(err)
	}
	without, foreign := image.WithoutForeign(img)
	l, err := NewLayout(without)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := whole.Size()-l.Size(), foreign[0].Size+blockSize; len(foreign) != 1 || got != want {
		t.Errorf("the archive is smaller by %d bytes, want %d", got, want)
	}
	_, all := readTar(t, bytes.NewReader(build(t, whole, blobs)))
	_, files := readTar(t, bytes.NewReader(build(t, l, blobs)))
	delete(all, blobName(foreign[0].Digest))
	if diff := cmp.Diff(all, files); diff != "" { // so manifest.json has both layers
		t.Errorf("the other files (-want +got):\n%s", diff)
	}

	// The other way to write it.
	f := create(t)
	a := NewAppend(f)
	for _, d := range without.Blobs() {
		appendBlob(t, a, d, blobs[d.Digest])
	}
	if err := a.Finish(without); err != nil {
		t.Fatal(err)
	}
	if _, appended := readTar(t, f); !cmp.Equal(files, appended) {
		t.Errorf("appended it has other files:\n%s", cmp.Diff(files, appended))
	}
}
