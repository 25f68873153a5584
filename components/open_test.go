package components_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit"
	"github.com/davit-cli/davit/components"
	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/registrytest"
	"github.com/davit-cli/davit/ref"
)

func open(t *testing.T, dir string) *components.Reader {
	t.Helper()
	r, err := components.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// server has app:1, an index within an index, and one:1, an image.
func server(t *testing.T) (host string, app registrytest.PushedIndex, one registrytest.Pushed) {
	t.Helper()
	s := registrytest.Start(t, registrytest.Options{})
	app = s.PushIndex("app", "1", registrytest.Index{
		Images: []registrytest.Image{{Layers: []registrytest.Layer{registrytest.RandomLayer(1, 200_000)}}},
		Indexes: []registrytest.Index{{Images: []registrytest.Image{{
			Platform: image.Platform{OS: "linux", Architecture: "arm64"},
			Layers:   []registrytest.Layer{registrytest.RandomLayer(2, 1000), {Files: []registrytest.File{registrytest.Text("motd", "hello\n")}}},
		}}}},
	})
	one = s.Push("one", "1", registrytest.Image{Docker: true, Algorithm: digest.SHA512, Layers: []registrytest.Layer{registrytest.RandomLayer(3, 1000)}})
	return s.Host(), app, one
}

func pull(t *testing.T, dir, name string, opts davit.PullOptions) {
	t.Helper()
	opts.Format, opts.Output, opts.Platforms = davit.Components, dir, []string{image.AllPlatforms}
	if _, err := davit.Pull(t.Context(), name, opts); err != nil {
		t.Fatal(err)
	}
}

func resolve(t *testing.T, r *components.Reader) image.Image {
	t.Helper()
	root := r.Images()[0]
	img, err := image.Resolve(t.Context(), r, ref.Reference{Registry: "x", Repository: "x", Digest: root.Digest}, image.Platforms{All: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func checkLayers(t *testing.T, r *components.Reader, p registrytest.Pushed) {
	t.Helper()
	for i, d := range p.Layers {
		rng, err := r.OpenRange(t.Context(), d, 1, d.Size)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(rng.Body)
		if err := errors.Join(err, rng.Body.Close()); err != nil || !bytes.Equal(b, p.LayerBytes(i)[1:]) || rng.Total != d.Size {
			t.Errorf("layer %s: %v", d.Digest, err)
		}
		if size, err := r.BlobSize(t.Context(), d.Digest); err != nil || size != d.Size {
			t.Errorf("layer %s has %d bytes, %v", d.Digest, size, err)
		}
	}
}

func TestOpen(t *testing.T) {
	host, app, one := server(t)
	dir := t.TempDir()
	pull(t, dir, host+"/app:1", davit.PullOptions{})
	r := open(t, dir)
	if diff := cmp.Diff([]image.Stored{{Descriptor: image.Descriptor{MediaType: app.Index.MediaType, Digest: app.Index.Digest, Size: app.Index.Size}}}, r.Images()); diff != "" {
		t.Errorf("images (-want +got):\n%s", diff)
	}
	pushed := []registrytest.Pushed{app.Images[0], app.Indexes[0].Images[0]}
	for i, m := range resolve(t, r).Manifests {
		if p := pushed[i]; m.Digest != p.Manifest.Digest || !bytes.Equal(m.Config.Bytes, p.ConfigBytes) || !cmp.Equal(m.Layers, p.Layers) {
			t.Errorf("manifest %d is %s with %v", i, m.Digest, m.Layers)
		}
		checkLayers(t, r, pushed[i])
	}

	dir = t.TempDir()
	pull(t, dir, host+"/one@"+one.Manifest.Digest.String(), davit.PullOptions{})
	r = open(t, dir)
	img := resolve(t, r)
	if m := img.Manifests[0]; len(img.Manifests) != 1 || m.MediaType != one.Manifest.MediaType || m.Digest != digest.FromBytes(m.Bytes) {
		t.Errorf("a manifest: %+v", m.Descriptor)
	}
	if c, err := r.Manifest(t.Context(), one.Manifest.Digest.String()); err != nil || c.Digest != one.Manifest.Digest {
		t.Errorf("by the digest that it was pulled by: %s, %v", c.Digest, err)
	}
	checkLayers(t, r, one)
}

// Where two images were pulled into one directory, it is the index.
func TestTwoRoots(t *testing.T) {
	host, app, _ := server(t)
	dir := t.TempDir()
	for _, name := range []string{"/one:1", "/app:1", "/one:1"} {
		pull(t, dir, host+name, davit.PullOptions{})
	}
	if got := open(t, dir).Images(); len(got) != 1 || got[0].Digest != app.Index.Digest {
		t.Errorf("images: %v", got)
	}
}

func TestManifestOnly(t *testing.T) {
	host, app, _ := server(t)
	dir := t.TempDir()
	pull(t, dir, host+"/app:1", davit.PullOptions{ManifestOnly: true})
	r := open(t, dir)
	for _, m := range resolve(t, r).Manifests {
		for _, layer := range m.Layers {
			if _, err := r.OpenRange(t.Context(), layer, 0, 1); !errors.Is(err, image.ErrNotFound) {
				t.Errorf("a layer: %v", err)
			}
		}
	}
	if files, err := r.Files(); err != nil || len(files) != 5 {
		t.Errorf("files: %v, %v", files, err)
	}
	if err := os.Remove(filepath.Join(dir, strings.Replace(app.Images[0].Manifest.Digest.String(), ":", "_", 1)+"_manifest.json")); err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{app.Images[0].Manifest.Digest.String(), "1"} {
		if _, err := r.Manifest(t.Context(), what); !errors.Is(err, image.ErrNotFound) {
			t.Errorf("the manifest %s: %v", what, err)
		}
	}
}

func TestLayersAreFoundWhateverTheyEndWith(t *testing.T) {
	host, _, one := server(t)
	dir := t.TempDir()
	pull(t, dir, host+"/one:1", davit.PullOptions{})
	r := open(t, dir)
	path := filepath.Join(dir, "layers", strings.Replace(one.Layers[0].Digest.String(), ":", "_", 1))
	before := ".tar.gz"
	for _, e := range []string{".tar.zst", ".tar", ".blob"} {
		if err := os.Rename(path+before, path+e); err != nil {
			t.Fatal(err)
		}
		before = e
		checkLayers(t, r, one)
	}
}

func TestFiles(t *testing.T) {
	host, app, _ := server(t)
	dir := t.TempDir()
	pull(t, dir, host+"/app:1", davit.PullOptions{})
	for _, name := range []string{"notes.json", "sha256_abc.json", "sha999_" + strings.Repeat("a", 64) + ".json", "layers/sha256_" + strings.Repeat("a", 64) + ".txt"} {
		if err := os.WriteFile(filepath.Join(dir, filepath.FromSlash(name)), nil, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	r := open(t, dir)
	files, err := r.Files()
	if err != nil {
		t.Fatal(err)
	}
	want := map[digest.Digest]bool{app.Indexes[0].Index.Digest: true}
	for _, p := range []registrytest.Pushed{app.Images[0], app.Indexes[0].Images[0]} {
		want[p.Manifest.Digest], want[p.Config.Digest] = true, true
		for _, d := range p.Layers {
			want[d.Digest] = true
		}
	}
	got := map[digest.Digest]bool{}
	for _, f := range files {
		got[f.Digest] = true
		body, size, err := r.OpenFile(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(body)
		if err := errors.Join(err, body.Close()); err != nil || digest.FromBytes(b) != f.Digest || int64(len(b)) != size {
			t.Errorf("%s: %v", f.Name, err)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" || len(files) != len(want) {
		t.Errorf("%d files (-want +got):\n%s", len(files), diff)
	}
}

func TestHostileFiles(t *testing.T) {
	for name, plant := range map[string]func(path string) error{
		"wrong bytes": func(path string) error {
			b, err := os.ReadFile(path)
			b[0] ^= 1
			return errors.Join(err, os.WriteFile(path, b, 0o666))
		},
		"shorter":     func(path string) error { return os.Truncate(path, 3) },
		"longer":      func(path string) error { return os.Truncate(path, 1<<20) },
		"a directory": func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o777)) },
		"a link": func(path string) error {
			return errors.Join(os.Rename(path, path+"x"), os.Symlink(filepath.Base(path)+"x", path))
		},
	} {
		host, app, _ := server(t)
		dir := t.TempDir()
		pull(t, dir, host+"/app:1", davit.PullOptions{})
		r := open(t, dir)
		files, err := r.Files()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if err := plant(filepath.Join(dir, filepath.FromSlash(f.Name))); err != nil {
				t.Skipf("no symbolic links here: %v", err)
			}
		}
		p := app.Images[0]
		if _, err := r.Manifest(t.Context(), p.Manifest.Digest.String()); !errors.Is(err, image.ErrVerification) {
			t.Errorf("%s: manifest: %v", name, err)
		}
		if _, err := r.Blob(t.Context(), p.Config); !errors.Is(err, image.ErrVerification) {
			t.Errorf("%s: config: %v", name, err)
		}
		if _, err := r.Blob(t.Context(), p.Layers[0]); !errors.Is(err, image.ErrVerification) {
			t.Errorf("%s: layer: %v", name, err)
		}
		// Of a layer's bytes only the whole can be verified.
		if _, err := r.OpenRange(t.Context(), p.Layers[0], 0, 1); !errors.Is(err, image.ErrVerification) && name != "wrong bytes" {
			t.Errorf("%s: layer: %v", name, err)
		}
	}
}

func TestLayersThatAreALink(t *testing.T) {
	host, _, one := server(t)
	dir := t.TempDir()
	pull(t, dir, host+"/one:1", davit.PullOptions{})
	path := filepath.Join(dir, "layers")
	if err := errors.Join(os.Rename(path, path+"x"), os.Symlink("layersx", path)); err != nil {
		t.Skipf("no symbolic links here: %v", err)
	}
	r := open(t, dir)
	if _, err := r.OpenRange(t.Context(), one.Layers[0], 0, 1); !errors.Is(err, image.ErrVerification) {
		t.Errorf("a layer: %v", err)
	}
	if files, err := r.Files(); !errors.Is(err, image.ErrVerification) {
		t.Errorf("files: %v, %v", files, err)
	}
}

func TestWhatCannotBeOpened(t *testing.T) {
	_, app, one := server(t)
	for name, c := range map[string]struct {
		files map[string]string
		want  error
	}{
		"empty":                {nil, components.ErrNoComponents},
		"files":                {map[string]string{"notes.txt": "mine", "unknown_manifest.json": "{}"}, components.ErrNoComponents},
		"garbage":              {map[string]string{"image_manifest.json": "\x00"}, image.ErrVerification},
		"torn":                 {map[string]string{"manifest_list.json": `{"manifests":[`}, image.ErrVerification},
		"deep":                 {map[string]string{"image_manifest.json": `{"layers":` + strings.Repeat("[", 1<<20)}, image.ErrVerification},
		"huge":                 {map[string]string{"image_manifest.json": string(one.ManifestBytes) + strings.Repeat(" ", image.MaxManifestSize)}, image.ErrVerification},
		"no manifest":          {map[string]string{"image_manifest.json": string(app.Bytes)}, image.ErrVerification},
		"no index":             {map[string]string{"manifest_list.json": string(one.ManifestBytes)}, image.ErrVerification},
		"unknown":              {map[string]string{"image_manifest.json": `{"mediaType":"x/y"}`}, image.ErrMediaType},
		"schema 1":             {map[string]string{"image_manifest.json": `{"schemaVersion":1}`}, image.ErrSchema1},
		"garbage, and another": {map[string]string{"manifest_list.json": "", "image_manifest.json": string(one.ManifestBytes)}, image.ErrVerification},
	} {
		dir := t.TempDir()
		for file, b := range c.files {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(b), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := components.Open(dir); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	dir := t.TempDir()
	if _, err := components.Open(filepath.Join(dir, "x")); !errors.Is(err, image.ErrNotFound) {
		t.Errorf("nothing: %v", err)
	}
	file := filepath.Join(dir, "real")
	if err := errors.Join(os.WriteFile(file, one.ManifestBytes, 0o666), os.Symlink("real", filepath.Join(dir, "image_manifest.json"))); err != nil {
		t.Skipf("no symbolic links here: %v", err)
	}
	if _, err := components.Open(dir); !errors.Is(err, image.ErrVerification) {
		t.Errorf("a link: %v", err)
	}
	if _, err := components.Open(file); !errors.Is(err, components.ErrNoComponents) {
		t.Errorf("a file: %v", err)
	}
}

func TestHostileDigests(t *testing.T) {
	host, _, _ := server(t)
	dir := t.TempDir()
	pull(t, dir, host+"/one:1", davit.PullOptions{})
	r := open(t, dir)
	d := image.Descriptor{Digest: "sha256:../../x", Size: 1}
	if _, err := r.Manifest(t.Context(), d.Digest.String()); !errors.Is(err, image.ErrVerification) {
		t.Errorf("manifest: %v", err)
	}
	if _, err := r.Blob(t.Context(), d); !errors.Is(err, image.ErrVerification) {
		t.Errorf("blob: %v", err)
	}
	if _, err := r.OpenRange(t.Context(), d, 0, 1); !errors.Is(err, image.ErrVerification) {
		t.Errorf("range: %v", err)
	}
}
