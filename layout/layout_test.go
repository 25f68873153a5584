package layout

import (
	"context"
	"encoding/json"
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
	"github.com/davit-cli/davit/ref"
)

func content(mediaType, s string) image.Content {
	return image.Content{
		Descriptor: image.Descriptor{MediaType: mediaType, Digest: digest.FromString(s), Size: int64(len(s))},
		Bytes:      []byte(s),
	}
}

// named is an image of that name, with layers of these contents.
func named(name string, layers ...string) image.Image {
	n, err := ref.Parse(name)
	if err != nil {
		panic(err)
	}
	m := image.Manifest{
		Content:  content(ocispec.MediaTypeImageManifest, `{"of":"`+name+strings.Join(layers, "")+`"}`),
		Config:   content(ocispec.MediaTypeImageConfig, `{"config":"`+name+`"}`),
		Platform: image.Platform{OS: "linux", Architecture: "amd64"},
	}
	for _, s := range layers {
		m.Layers = append(m.Layers, content(ocispec.MediaTypeImageLayerGzip, s).Descriptor)
	}
	return image.Image{Reference: n, Name: n, Manifests: []image.Manifest{m}}
}

// blobs are what test layers hold, by digest.
var blobs = map[digest.Digest]string{}

func init() {
	for _, s := range []string{"", "a", "b", strings.Repeat("large", 1<<20)} {
		blobs[digest.FromString(s)] = s
	}
}

// write writes images and tells how many blobs were fetched.
func write(t *testing.T, dir string, opts Options, images ...image.Image) (fetched int) {
	t.Helper()
	w, err := Create(dir, images, opts)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	seen := map[digest.Digest]bool{}
	for _, img := range images {
		for _, blob := range img.Blobs() {
			if seen[blob.Digest] {
				continue
			}
			seen[blob.Digest] = true
			p, err := w.Place(t.Context(), blob)
			if err != nil {
				t.Fatal(err)
			}
			if p == nil {
				continue
			}
			fetched++
			if _, err := p.WriteAt([]byte(blobs[blob.Digest]), 0); err != nil {
				t.Fatal(err)
			}
			if err := w.Done(blob); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	return fetched
}

func indexOf(t *testing.T, dir string) ocispec.Index {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	var x ocispec.Index
	if err := json.Unmarshal(b, &x); err != nil {
		t.Fatal(err)
	}
	return x
}

// names are the entries as "full name=ref name".
func names(t *testing.T, dir string) (all []string) {
	t.Helper()
	for _, d := range indexOf(t, dir).Manifests {
		all = append(all, d.Annotations[image.AnnotationImageName]+"="+d.Annotations[ocispec.AnnotationRefName])
	}
	return all
}

// verify checks a finished layout against image-layout.md: its files, and that
// each blob is what its name says.
func verify(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		parts := strings.Split(filepath.ToSlash(name), "/")
		switch {
		case name == "oci-layout", name == "index.json", name == "blobs", len(parts) == 2 && parts[0] == "blobs":
			return nil
		case len(parts) != 3 || parts[0] != "blobs":
			t.Errorf("%s is there", name)
			return nil
		}
		b, err := os.ReadFile(path)
		if got := digest.Algorithm(parts[1]).FromBytes(b); err != nil || got.Encoded() != parts[2] {
			t.Errorf("%s has the digest %s (%v)", name, got, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "oci-layout")); err != nil || string(b) != `{"imageLayoutVersion":"1.0.0"}` {
		t.Errorf("oci-layout has %q (%v)", b, err)
	}
	for _, d := range indexOf(t, dir).Manifests {
		if info, err := os.Stat(filepath.Join(dir, "blobs", "sha256", d.Digest.Encoded())); err != nil || info.Size() != d.Size {
			t.Errorf("%s is not there as told: %v", d.Digest, err)
		}
	}
}

func TestNewLayout(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "layout")
	img := named("alpine:3", "a", "", "a")
	if n := write(t, dir, Options{}, img); n != 2 {
		t.Errorf("%d blobs were fetched, want 2", n)
	}
	verify(t, dir)
	want := `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[` +
		`{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"` + img.Manifests[0].Digest.String() + `","size":19,` +
		`"annotations":{"io.containerd.image.name":"docker.io/library/alpine:3","org.opencontainers.image.ref.name":"3"},` +
		`"platform":{"architecture":"amd64","os":"linux"}}]}`
	got, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil || string(got) != want {
		t.Errorf("index.json (%v):\n%s\nwant\n%s", err, got, want)
	}
	// The same again changes nothing and fetches nothing.
	if n := write(t, dir, Options{}, img); n != 0 {
		t.Errorf("%d blobs were fetched again", n)
	}
	if again, _ := os.ReadFile(filepath.Join(dir, "index.json")); string(again) != want {
		t.Errorf("index.json is now:\n%s", again)
	}
}

func TestAddAndReplace(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, Options{}, named("b:1", "a"))
	write(t, dir, Options{}, named("a:1", "a", "b"))
	write(t, dir, Options{}, named("c:2"), named("b@"+digest.FromString("x").String()))
	verify(t, dir)
	want := []string{
		"docker.io/library/a:1=docker.io/library/a:1",
		"docker.io/library/b:1=docker.io/library/b:1",
		"docker.io/library/b@" + digest.FromString("x").String() + "=",
		"docker.io/library/c:2=2",
	}
	if diff := cmp.Diff(want, names(t, dir)); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	moved := named("b:1", "b")
	if n := write(t, dir, Options{}, moved); n != 0 {
		t.Errorf("%d blobs were fetched, want none", n)
	}
	if diff := cmp.Diff(want, names(t, dir)); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	if got := indexOf(t, dir).Manifests[1].Digest; got != moved.Manifests[0].Digest {
		t.Errorf("b:1 is %s, want %s", got, moved.Manifests[0].Digest)
	}
}

func TestForeignEntriesAreKept(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, Options{}, named("a:1", "a"))
	d := `"mediaType":"x/y","digest":"` + digest.FromString("x").String() + `","size":1`
	foreign := []string{
		`{` + d + `,"z":{"later":[1, 2.50]},"annotations":{"org.opencontainers.image.ref.name":"1","b":"<&>"}}`,
		`{` + d + `,"annotations":{"io.containerd.image.name":"docker.io/library/z:9","org.opencontainers.image.ref.name":"chosen"}}`,
		`{` + d + `}`,
	}
	mine := `{` + d + `,"x":1,"annotations":{"k":"v","io.containerd.image.name":"docker.io/library/m:1","org.opencontainers.image.ref.name":"1"}}`
	old := `{"unknown": "<", "schemaVersion": 2, "manifests": [` + mine + "," + strings.Join(foreign, ",\n") + `], "annotations":{"q":"r"}}`
	if err := os.WriteFile(filepath.Join(dir, "index.json"), []byte(old), 0o666); err != nil {
		t.Fatal(err)
	}
	img := named("a:1", "a")
	write(t, dir, Options{}, img)
	got, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	entry, err := json.Marshal(img.Named("docker.io/library/a:1"))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"unknown":"<","schemaVersion":2,"manifests":[` +
		strings.ReplaceAll(strings.Join(foreign, ","), ", 2.50", ",2.50") + `,` + string(entry) + `,` +
		`{` + d + `,"x":1,"annotations":{"k":"v","io.containerd.image.name":"docker.io/library/m:1","org.opencontainers.image.ref.name":"docker.io/library/m:1"}}` +
		`],"annotations":{"q":"r"}}`
	if string(got) != want {
		t.Errorf("index.json:\n%s\nwant\n%s", got, want)
	}
}

func TestWhatIsNoLayout(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"files":           {"notes.txt": "mine"},
		"no oci-layout":   {"index.json": emptyIndex},
		"another version": {"oci-layout": `{"imageLayoutVersion":"2.0.0"}`},
		"no version":      {"oci-layout": `[]`},
		"torn index":      {"oci-layout": `{"imageLayoutVersion":"1.0.0"}`, "index.json": `{"schemaVersion":2,"mani`},
		"no index":        {"oci-layout": `{"imageLayoutVersion":"1.0.0"}`, "index.json": `{"schemaVersion":1,"manifests":[]}`},
		"two fields":      {"oci-layout": `{"imageLayoutVersion":"1.0.0"}`, "index.json": `{"schemaVersion":2,"manifests":[],"Manifests":[]}`},
		"no descriptors":  {"oci-layout": `{"imageLayoutVersion":"1.0.0"}`, "index.json": `{"schemaVersion":2,"manifests":["x"]}`},
	} {
		dir := t.TempDir()
		for file, b := range files {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(b), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := Create(dir, []image.Image{named("a:1")}, Options{}); err == nil {
			t.Errorf("%s: it is taken for a layout", name)
		}
		left, err := os.ReadDir(dir)
		if err != nil || len(left) != len(files) {
			t.Errorf("%s: the directory was touched: %v", name, left)
		}
		for file, b := range files {
			if got, _ := os.ReadFile(filepath.Join(dir, file)); string(got) != b {
				t.Errorf("%s: %s was touched", name, file)
			}
		}
	}
}

func TestPlantedLinks(t *testing.T) {
	for _, name := range []string{"blobs", "blobs/sha256", ".davit-part", "index.json"} {
		dir, outside := t.TempDir(), t.TempDir()
		write(t, dir, Options{}, named("a:1"))
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join(outside, "x"), path); err != nil {
			t.Skipf("no symbolic links here: %v", err)
		}
		if _, err := Create(dir, []image.Image{named("a:1")}, Options{}); err == nil {
			t.Errorf("%s may be a link", name)
		}
		if left, err := os.ReadDir(outside); err != nil || len(left) > 0 {
			t.Errorf("%s: something was written outside: %v", name, left)
		}
	}
}

// A link in the place of a blob gives way to the blob; a wrong file too.
func TestWrongBlobsAreReplaced(t *testing.T) {
	victim := filepath.Join(t.TempDir(), "victim")
	for name, plant := range map[string]func(path string) error{
		"link":       func(path string) error { return os.Symlink(victim, path) },
		"wrong":      func(path string) error { return os.WriteFile(path, []byte("X"), 0o666) },
		"wrong size": func(path string) error { return os.WriteFile(path, []byte("Xa"), 0o666) },
	} {
		dir := t.TempDir()
		img := named("a:1", "a")
		write(t, dir, Options{}, img)
		for _, d := range []digest.Digest{img.Blobs()[0].Digest, img.Manifests[0].Config.Digest} {
			if err := os.WriteFile(victim, []byte("a"), 0o666); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, "blobs", "sha256", d.Encoded())
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if err := plant(path); err != nil {
				t.Skipf("no symbolic links here: %v", err)
			}
			var warned []string
			write(t, dir, Options{Events: func(e image.Event) { warned = append(warned, e.Text) }}, img)
			if len(warned) != 1 || !strings.Contains(warned[0], d.Encoded()) {
				t.Errorf("%s: warnings: %q", name, warned)
			}
			if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() {
				t.Errorf("%s: %v is there (%v)", name, info.Mode(), err)
			}
			verify(t, dir)
			if b, _ := os.ReadFile(victim); string(b) != "a" {
				t.Errorf("%s: the link's target has %q", name, b)
			}
		}
	}
}

func TestMissingBlob(t *testing.T) {
	dir := t.TempDir()
	w, err := Create(dir, []image.Image{named("a:1", "a")}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(t.Context()); err == nil {
		t.Error("Commit takes a missing blob")
	}
	if _, err := os.Stat(filepath.Join(dir, "index.json")); !os.IsNotExist(err) {
		t.Error("index.json is there")
	}
}

func TestEndedContext(t *testing.T) {
	dir := t.TempDir()
	large := strings.Repeat("large", 1<<20)
	img := named("a:1", large)
	write(t, dir, Options{}, img)
	w, err := Create(dir, []image.Image{img}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.Place(ctx, img.Blobs()[0]); !errors.Is(err, context.Canceled) {
		t.Errorf("Place: %v", err)
	}
}

func TestResumeAndRestart(t *testing.T) {
	for _, restart := range []bool{false, true} {
		dir := t.TempDir()
		img := named("a:1", strings.Repeat("large", 1<<20))
		w, err := Create(dir, []image.Image{img}, Options{})
		if err != nil {
			t.Fatal(err)
		}
		p, err := w.Place(t.Context(), img.Blobs()[0])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.WriteAt([]byte(strings.Repeat("large", 1<<17)), 0); err != nil {
			t.Fatal(err)
		}
		w.Close()
		if w, err = Create(dir, []image.Image{img}, Options{Restart: restart}); err != nil {
			t.Fatal(err)
		}
		if p, err = w.Place(t.Context(), img.Blobs()[0]); err != nil || (len(p.Written()) == 0) != restart {
			t.Errorf("restart %v: %v are there (%v)", restart, p.Written(), err)
		}
		w.Close()
		write(t, dir, Options{Restart: restart}, img)
		verify(t, dir)
	}
}

func TestHostileDigest(t *testing.T) {
	img := named("a:1", "a")
	img.Manifests[0].Layers[0].Digest = "sha256:../../x"
	if _, err := Create(t.TempDir(), []image.Image{img}, Options{}); !errors.Is(err, image.ErrVerification) {
		t.Errorf("Create: %v", err)
	}
}

func TestForeignLayerIsLeftOut(t *testing.T) {
	dir := t.TempDir()
	img := named("app:1", "a", "b")
	img.Manifests[0].Layers[0].URLs = []string{"https://files.example/a"}
	without, foreign := image.WithoutForeign(img)
	if n := write(t, dir, Options{}, without); n != 1 || len(foreign) != 1 {
		t.Errorf("%d blobs were fetched, %d are left out", n, len(foreign))
	}
	for s, want := range map[string]bool{"a": false, "b": true, string(img.Manifests[0].Bytes): true} {
		_, err := os.Stat(filepath.Join(dir, "blobs", "sha256", digest.FromString(s).Encoded()))
		if (err == nil) != want {
			t.Errorf("blob %q: %v", s, err)
		}
	}
	w, err := Create(dir, []image.Image{without}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if p, err := w.Place(t.Context(), foreign[0]); err == nil {
		t.Errorf("it got the place %v", p)
	}
	// Pulled again with all its layers, the layout gets what it lacks.
	if n := write(t, dir, Options{}, img); n != 1 {
		t.Errorf("%d blobs were fetched, want the one that was left out", n)
	}
}
