package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/registrytest"
	"github.com/davit-cli/davit/ref"
)

// built is an image of three layers, one of them twice.
func built(seed string) registrytest.Pushed {
	first := registrytest.Layer{Files: []registrytest.File{registrytest.Text("etc/motd", seed)}}
	return registrytest.Build(registrytest.Image{Layers: []registrytest.Layer{
		first,
		{Files: []registrytest.File{registrytest.Text("etc/hosts", "localhost")}, Compression: registrytest.Zstd},
		first,
	}})
}

func manifestOf(p registrytest.Pushed) image.Manifest {
	return image.Manifest{
		Content:  image.Content{Descriptor: p.Manifest, Bytes: p.ManifestBytes},
		Config:   image.Content{Descriptor: p.Config, Bytes: p.ConfigBytes},
		Layers:   p.Layers,
		Platform: image.Platform{OS: "linux", Architecture: "amd64"},
	}
}

func named(t testing.TB, name string) ref.Reference {
	t.Helper()
	r, err := ref.Parse(name)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// written is the archive that davit writes.
func written(t testing.TB, blobs map[digest.Digest][]byte, images ...image.Image) []byte {
	t.Helper()
	l, err := NewLayout(images...)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	s := NewStream(&b, l)
	for _, d := range l.Blobs() {
		if err := s.Blob(bytes.NewReader(blobs[d.Digest])); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func layersOf(images ...registrytest.Pushed) map[digest.Digest][]byte {
	blobs := map[digest.Digest][]byte{}
	for _, p := range images {
		for i, d := range p.Layers {
			blobs[d.Digest] = p.LayerBytes(i)
		}
	}
	return blobs
}

// ours is an archive of one image, as davit writes it.
func ours(t testing.TB) []byte {
	p := built("one")
	return written(t, layersOf(p), image.Image{Name: named(t, "alpine:3.20"), Manifests: []image.Manifest{manifestOf(p)}})
}

// file is an entry of a tar that is made by hand; with link a symbolic one.
type file struct{ name, content, link string }

func tarOf(t testing.TB, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Linkname: f.link, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(f.content))}
		switch {
		case f.link != "":
			h.Typeflag = tar.TypeSymlink
		case strings.HasSuffix(f.name, "/"):
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatalf("write %s: %v", f.name, err)
		}
		if _, err := io.WriteString(w, f.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func saved(t testing.TB, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.tar")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// opened is the archive of these bytes.
func opened(t testing.TB, b []byte) *Reader {
	t.Helper()
	r, err := Open(t.Context(), saved(t, b), OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// readBlob reads a blob through OpenRange.
func readBlob(r image.Source, d image.Descriptor) ([]byte, error) {
	part, err := r.OpenRange(context.Background(), d, 0, d.Size)
	if err != nil {
		return nil, err
	}
	defer part.Body.Close()
	return io.ReadAll(part.Body)
}

// checkImage resolves an image as a pull does, and compares it with the one
// that was built.
func checkImage(t *testing.T, r *Reader, s image.Stored, want registrytest.Pushed) {
	t.Helper()
	img, err := image.Resolve(t.Context(), r, named(t, "stored@"+s.Digest.String()), image.Platforms{}, nil)
	if err != nil {
		t.Error(err)
		return
	}
	m := img.Manifests[0]
	if !bytes.Equal(m.Config.Bytes, want.ConfigBytes) {
		t.Errorf("config of %s: %s\nwant %s", s.Name, m.Config.Bytes, want.ConfigBytes)
	}
	if len(m.Layers) != len(want.Layers) {
		t.Fatalf("%s has %d layers, want %d", s.Name, len(m.Layers), len(want.Layers))
	}
	for i, d := range m.Layers {
		got, err := readBlob(r, d)
		if err != nil || d.Digest.Algorithm().FromBytes(got) != d.Digest {
			t.Errorf("layer %d: %d bytes, %v; want those of %s", i+1, len(got), err, d.Digest)
		}
	}
}

// listing is what Images are called.
func listing(r *Reader) []string {
	var got []string
	for _, s := range r.Images() {
		got = append(got, s.Name+" "+s.RefName)
	}
	return got
}

func TestOpenOwnArchive(t *testing.T) {
	one, two := built("one"), built("two")
	x := registrytest.BuildIndex(registrytest.Index{Images: []registrytest.Image{
		{Layers: []registrytest.Layer{{Files: []registrytest.File{registrytest.Text("a", "a")}}}},
		{Platform: image.Platform{OS: "linux", Architecture: "arm64"}},
	}})
	b := written(t, layersOf(one, two, x.Images[0]),
		image.Image{Name: named(t, "alpine:3.20"), Manifests: []image.Manifest{manifestOf(one)}},
		image.Image{Name: named(t, "localhost:5000/app:3.20"), Manifests: []image.Manifest{manifestOf(two)}},
		image.Image{Name: named(t, "quay.io/a/b@"+x.Index.Digest.String()), KeepIndexes: true,
			Indexes:   []image.Content{{Descriptor: x.Index, Bytes: x.Bytes}},
			Manifests: []image.Manifest{manifestOf(x.Images[0])}},
	)
	r := opened(t, b)
	want := []string{
		"docker.io/library/alpine:3.20 docker.io/library/alpine:3.20",
		"localhost:5000/app:3.20 localhost:5000/app:3.20",
		"quay.io/a/b@" + x.Index.Digest.String() + " ",
	}
	if diff := cmp.Diff(want, listing(r)); diff != "" {
		t.Errorf("images (-want +got):\n%s", diff)
	}
	images := r.Images()
	for i, d := range []image.Descriptor{one.Manifest, two.Manifest, x.Index} {
		if s := images[i]; s.Digest != d.Digest || s.Size != d.Size || s.MediaType != d.MediaType || s.Made {
			t.Errorf("image %d is %+v, want %+v", i, s, d)
		}
	}
	checkImage(t, r, images[0], one)
	checkImage(t, r, images[1], two)

	c, err := r.Manifest(t.Context(), x.Index.Digest.String())
	if err != nil || !bytes.Equal(c.Bytes, x.Bytes) || c.MediaType != x.Index.MediaType {
		t.Errorf("the index: %s, %v", c.Bytes, err)
	}
	// A manifest that only the index names, whose type the index tells, and one
	// whose blob was left out.
	c, err = r.Manifest(t.Context(), x.Images[0].Manifest.Digest.String())
	if err != nil || !bytes.Equal(c.Bytes, x.Images[0].ManifestBytes) || c.MediaType != ocispec.MediaTypeImageManifest {
		t.Errorf("a manifest of the index: %s, %v", c.Bytes, err)
	}
	if _, err := r.Manifest(t.Context(), x.Images[1].Manifest.Digest.String()); !errors.Is(err, image.ErrNotFound) {
		t.Errorf("a manifest that is not there: %v", err)
	}
	for _, tag := range []string{"3.20", "", "sha256:../../etc/passwd"} {
		if _, err := r.Manifest(t.Context(), tag); !errors.Is(err, image.ErrNotFound) {
			t.Errorf("Manifest(%q): %v, want not found", tag, err)
		}
	}
}

// layoutOf is an image layout in a tar, with an index.json as written.
func layoutOf(t testing.TB, index string, files ...file) []byte {
	return tarOf(t, append([]file{{name: "oci-layout", content: `{"imageLayoutVersion":"1.0.0"}`}, {name: "index.json", content: index}}, files...)...)
}

// blobFile is a blob of a layout.
func blobFile(content []byte) file {
	return file{name: blobName(digest.FromBytes(content)), content: string(content)}
}

// listed is an entry of an index.json.
func listed(p registrytest.Pushed, annotations string) string {
	return `{"mediaType":"` + p.Manifest.MediaType + `","digest":"` + p.Manifest.Digest.String() + `","size":` + itoa(p.Manifest.Size) + `,"annotations":{` + annotations + `}}`
}

func indexOf(entries ...string) string {
	return `{"schemaVersion":2,"manifests":[` + strings.Join(entries, ",") + `]}`
}

func TestNamesThatOnlyManifestJSONTells(t *testing.T) {
	one, two, three := built("one"), built("two"), built("three")
	b := layoutOf(t,
		indexOf(listed(one, `"org.opencontainers.image.ref.name":"v1"`), listed(two, `"io.containerd.image.name":"docker.io/library/two:1"`), listed(three, ``)),
		file{name: "manifest.json", content: `[
			{"Config":"` + blobName(one.Config.Digest) + `","RepoTags":["alpine:3","localhost/x:1","not a name","two:1"],"Layers":[]},
			{"Config":"` + blobName(two.Config.Digest) + `","RepoTags":["other:1"],"Layers":[]},
			{"Config":"config.json","RepoTags":["third:1"],"Layers":[]}]`},
		blobFile(one.ManifestBytes), blobFile(two.ManifestBytes), blobFile(three.ManifestBytes))
	want := []string{"docker.io/library/alpine:3 v1", "localhost/x:1 v1", "docker.io/library/two:1 ", " "}
	if diff := cmp.Diff(want, listing(opened(t, b))); diff != "" {
		t.Errorf("images (-want +got):\n%s", diff)
	}
	// Of several platforms, manifest.json has one.
	x := registrytest.BuildIndex(registrytest.Index{Images: []registrytest.Image{{}, {Platform: image.Platform{OS: "linux", Architecture: "arm64"}}}})
	b = layoutOf(t,
		indexOf(`{"mediaType":"`+x.Index.MediaType+`","digest":"`+x.Index.Digest.String()+`","size":`+itoa(x.Index.Size)+`}`),
		file{name: "manifest.json", content: `[{"Config":"` + blobName(x.Images[1].Config.Digest) + `","RepoTags":["alpine:3"],"Layers":[]}]`},
		blobFile(x.Bytes), blobFile(x.Images[1].ManifestBytes))
	if diff := cmp.Diff([]string{"docker.io/library/alpine:3 "}, listing(opened(t, b))); diff != "" {
		t.Errorf("images of the index (-want +got):\n%s", diff)
	}
	// What is wrong there is no matter to a layout.
	b = layoutOf(t, indexOf(listed(one, ``)), file{name: "manifest.json", content: `{"Config":1}`}, blobFile(one.ManifestBytes))
	if diff := cmp.Diff([]string{" "}, listing(opened(t, b))); diff != "" {
		t.Errorf("images beside a wrong manifest.json (-want +got):\n%s", diff)
	}
}

func TestOpenRange(t *testing.T) {
	p := built("one")
	r := opened(t, ours(t))
	d, want := p.Layers[0], p.LayerBytes(0)
	for _, tt := range []struct{ off, n, end int64 }{
		{0, d.Size, d.Size}, {3, 5, 8}, {d.Size - 1, 1, d.Size}, {0, 0, 0}, {d.Size, 9, d.Size}, {2, 1 << 62, d.Size},
	} {
		part, err := r.OpenRange(t.Context(), d, tt.off, tt.n)
		if err != nil {
			t.Errorf("from %d, %d bytes: %v", tt.off, tt.n, err)
			continue
		}
		got, err := io.ReadAll(part.Body)
		if err != nil || !bytes.Equal(got, want[tt.off:tt.end]) {
			t.Errorf("from %d, %d bytes: got %d, %v", tt.off, tt.n, len(got), err)
		}
		if part.Start != tt.off || part.Total != d.Size || part.Len != tt.end-tt.off {
			t.Errorf("from %d, %d bytes: %+v", tt.off, tt.n, part)
		}
		if err := part.Body.Close(); err != nil {
			t.Error(err)
		}
	}
	for _, tt := range []struct{ off, n int64 }{{-1, 1}, {d.Size + 1, 1}, {0, -1}} {
		if _, err := r.OpenRange(t.Context(), d, tt.off, tt.n); err == nil {
			t.Errorf("from %d, %d bytes: no error", tt.off, tt.n)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	part, err := r.OpenRange(ctx, d, 0, d.Size)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := part.Body.Read(make([]byte, 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("read after the end of the context: %v", err)
	}
	if _, err := r.OpenRange(ctx, d, 0, d.Size); !errors.Is(err, context.Canceled) {
		t.Errorf("OpenRange after the end of the context: %v", err)
	}
	if _, err := r.Blob(ctx, d); !errors.Is(err, context.Canceled) {
		t.Errorf("Blob after the end of the context: %v", err)
	}
	if _, err := r.Manifest(ctx, p.Manifest.Digest.String()); !errors.Is(err, context.Canceled) {
		t.Errorf("Manifest after the end of the context: %v", err)
	}
}

func TestBlobsThatAreNotWhatTheyMustBe(t *testing.T) {
	p := built("one")
	wrong := bytes.Clone(p.ManifestBytes)
	wrong[20] ^= 1
	b := layoutOf(t, indexOf(listed(p, ``)),
		file{name: blobName(p.Manifest.Digest), content: string(wrong)},
		file{name: blobName(p.Config.Digest), content: strings.Repeat("x", int(p.Config.Size))},
		file{name: blobName(p.Layers[0].Digest), content: "short"},
		file{name: blobName(p.Layers[1].Digest), link: "../../../etc/passwd"})
	r := opened(t, b) // nothing of this is read to open it
	ctx := t.Context()
	if _, err := r.Manifest(ctx, p.Manifest.Digest.String()); !errors.Is(err, image.ErrVerification) {
		t.Errorf("a manifest with a wrong byte: %v", err)
	}
	if _, err := r.Blob(ctx, p.Config); !errors.Is(err, image.ErrVerification) {
		t.Errorf("a config with wrong bytes: %v", err)
	}
	for i, d := range p.Layers[:2] {
		if _, err := r.OpenRange(ctx, d, 0, 1); !errors.Is(err, image.ErrVerification) || !strings.Contains(err.Error(), "x.tar") {
			t.Errorf("layer %d: %v", i+1, err)
		}
		if _, err := r.Blob(ctx, d); !errors.Is(err, image.ErrVerification) || !strings.Contains(err.Error(), "x.tar") {
			t.Errorf("layer %d: %v", i+1, err)
		}
	}
	absent := image.Descriptor{Digest: digest.FromString("absent"), Size: 6, URLs: []string{"https://example.com/layer"}}
	if _, err := r.OpenRange(ctx, absent, 0, 1); !errors.Is(err, image.ErrNotFound) {
		t.Errorf("a blob that is not there: %v", err)
	}
	if _, err := r.Blob(ctx, absent); !errors.Is(err, image.ErrNotFound) {
		t.Errorf("a blob that is not there: %v", err)
	}
	if _, err := r.Blob(ctx, image.Descriptor{Digest: "sha256:../../index.json"}); !errors.Is(err, image.ErrVerification) {
		t.Errorf("a digest that is none: %v", err)
	}
}

func TestTheLastFileOfANameCounts(t *testing.T) {
	one, two := built("one"), built("two")
	b := tarOf(t,
		file{name: "index.json", content: indexOf(listed(one, ``))},
		file{name: blobName(two.Manifest.Digest), content: "wrong"},
		blobFile(two.ManifestBytes),
		file{name: "./index.json", content: indexOf(listed(two, ``))})
	r := opened(t, b)
	if got := r.Images(); len(got) != 1 || got[0].Digest != two.Manifest.Digest {
		t.Errorf("images: %+v", got)
	}
	if _, err := r.Manifest(t.Context(), two.Manifest.Digest.String()); err != nil {
		t.Error(err)
	}
}

// zipped are ways to compress an archive as a whole.
func zipped(t testing.TB, b []byte) map[string][]byte {
	t.Helper()
	var gz, zst bytes.Buffer
	z := gzip.NewWriter(&gz)
	s, err := zstd.NewWriter(&zst)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range []io.WriteCloser{z, s} {
		if _, err := w.Write(b); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return map[string][]byte{"gzip": gz.Bytes(), "zstd": zst.Bytes()}
}

// ownTemp is a directory for temporary files of this test alone.
func ownTemp(t *testing.T) string {
	dir := t.TempDir()
	for _, name := range []string{"TMPDIR", "TMP", "TEMP"} {
		t.Setenv(name, dir)
	}
	return dir
}

func checkEmpty(t *testing.T, dir string) {
	t.Helper()
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left in the directory for temporary files: %v, %v", left, err)
	}
}

func TestOpenCompressed(t *testing.T) {
	for kind, b := range zipped(t, ours(t)) {
		dir := ownTemp(t)
		r, err := Open(t.Context(), saved(t, b), OpenOptions{})
		if err != nil {
			t.Errorf("%s: %v", kind, err)
			continue
		}
		if diff := cmp.Diff([]string{"docker.io/library/alpine:3.20 3.20"}, listing(r)); diff != "" {
			t.Errorf("%s: images (-want +got):\n%s", kind, diff)
		}
		checkImage(t, r, r.Images()[0], built("one"))
		if err := r.Close(); err != nil {
			t.Errorf("%s: close: %v", kind, err)
		}
		checkEmpty(t, dir)

		for _, cut := range []int{8, len(b) / 2, len(b) - 1} {
			if _, err := Open(t.Context(), saved(t, b[:cut]), OpenOptions{}); !errors.Is(err, image.ErrVerification) || !strings.Contains(err.Error(), "decompress") {
				t.Errorf("%s cut off at %d of %d bytes: %v", kind, cut, len(b), err)
			}
		}
		checkEmpty(t, dir)
	}
}

// Where ctx has ended nothing is decompressed or hashed, and nothing remains. A
// stage tells of the decompressing.
func TestOpenEndsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for kind, b := range map[string][]byte{
		"gzip": zipped(t, ours(t))["gzip"], "zstd": zipped(t, ours(t))["zstd"], "compressed layers": cranePull(t, built("one")),
	} {
		dir := ownTemp(t)
		path := saved(t, b)
		if _, err := Open(ctx, path, OpenOptions{}); !errors.Is(err, context.Canceled) || !strings.HasPrefix(err.Error(), "open archive "+path+": ") {
			t.Errorf("%s: %v", kind, err)
		}
		checkEmpty(t, dir)
		var stages []string
		r, err := Open(t.Context(), path, OpenOptions{Events: func(e image.Event) { stages = append(stages, e.Text) }})
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		var want []string
		if kind != "compressed layers" {
			want = []string{"decompress the archive"}
		}
		if diff := cmp.Diff(want, slices.Compact(stages)); diff != "" {
			t.Errorf("%s: stages (-want +got):\n%s", kind, diff)
		}
	}
}

func TestManyAtOnce(t *testing.T) {
	p := built("one")
	r := opened(t, ours(t))
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			if _, err := r.Manifest(t.Context(), p.Manifest.Digest.String()); err != nil {
				t.Error(err)
			}
			if got, err := r.Blob(t.Context(), p.Config); err != nil || !bytes.Equal(got, p.ConfigBytes) {
				t.Errorf("config: %s, %v", got, err)
			}
			for i, d := range p.Layers {
				if got, err := readBlob(r, d); err != nil || !bytes.Equal(got, p.LayerBytes(i)) {
					t.Errorf("layer %d: %v", i+1, err)
				}
			}
		})
	}
	group.Wait()
}
