package layout_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit"
	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/registrytest"
	"github.com/davit-cli/davit/layout"
	"github.com/davit-cli/davit/ref"
)

func open(t *testing.T, dir string) *layout.Reader {
	t.Helper()
	r, err := layout.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

var twoPlatforms = registrytest.Index{Images: []registrytest.Image{
	{Platform: image.Platform{OS: "linux", Architecture: "amd64"}, Layers: []registrytest.Layer{registrytest.RandomLayer(1, 300_000)}},
	{Platform: image.Platform{OS: "linux", Architecture: "arm64"}, NoMediaType: true, Layers: []registrytest.Layer{
		registrytest.RandomLayer(2, 1000), {Files: []registrytest.File{registrytest.Text("motd", "hello\n")}},
	}},
}}

// pull writes a layout of a registry's one:1, an image, and two:1, an index.
func pull(t *testing.T) (dir string, one registrytest.Pushed, two registrytest.PushedIndex) {
	t.Helper()
	server := registrytest.Start(t, registrytest.Options{})
	one = server.Push("one", "1", registrytest.Image{Docker: true, Algorithm: digest.SHA512, Layers: []registrytest.Layer{registrytest.RandomLayer(3, 1000)}})
	two = server.PushIndex("two", "1", twoPlatforms)
	dir = filepath.Join(t.TempDir(), "layout")
	_, err := davit.PullAll(t.Context(), []string{server.Host() + "/one@" + one.Manifest.Digest.String(), server.Host() + "/two:1"},
		davit.PullOptions{Format: davit.OCI, Output: dir, Platforms: []string{image.AllPlatforms}})
	if err != nil {
		t.Fatal(err)
	}
	return dir, one, two
}

// readLayers reads an image's layers by ranges, and compares them.
func readLayers(t *testing.T, src image.Source, p registrytest.Pushed) {
	t.Helper()
	for i, d := range p.Layers {
		want := p.LayerBytes(i)
		var got []byte
		for off := int64(0); off < d.Size; off += 70_000 {
			rng, err := src.OpenRange(t.Context(), d, off, 70_000)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(rng.Body)
			if err := errors.Join(err, rng.Body.Close()); err != nil || rng.Start != off || rng.Total != d.Size || rng.Len != int64(len(b)) {
				t.Fatalf("%+v has %d bytes: %v", rng, len(b), err)
			}
			got = append(got, b...)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("layer %s is another one", d.Digest)
		}
	}
}

func TestOpen(t *testing.T) {
	dir, one, two := pull(t)
	r := open(t, dir)
	type entry struct {
		Digest        digest.Digest
		Name, RefName string
	}
	var got []entry
	for _, s := range r.Images() {
		_, name, _ := strings.Cut(s.Name, "/") // its host has any port
		got = append(got, entry{s.Digest, name, s.RefName})
	}
	want := []entry{{one.Manifest.Digest, "one@" + one.Manifest.Digest.String(), ""}, {two.Index.Digest, "two:1", "1"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("images (-want +got):\n%s", diff)
	}

	img, err := image.Resolve(t.Context(), r, ref.Reference{Registry: "x", Repository: "two", Digest: two.Index.Digest}, image.Platforms{All: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(img.Root().Bytes, two.Bytes) || len(img.Manifests) != 2 {
		t.Errorf("it is another index, with %d manifests", len(img.Manifests))
	}
	for i, m := range img.Manifests {
		if p := two.Images[i]; m.Digest != p.Manifest.Digest || !bytes.Equal(m.Config.Bytes, p.ConfigBytes) || !cmp.Equal(m.Layers, p.Layers) {
			t.Errorf("manifest %d is %s with %v", i, m.Digest, m.Layers)
		}
		readLayers(t, r, two.Images[i])
	}
	if img, err = image.Resolve(t.Context(), r, ref.Reference{Registry: "x", Repository: "one", Digest: one.Manifest.Digest}, image.Platforms{}, nil); err != nil || img.Root().MediaType != one.Manifest.MediaType {
		t.Errorf("a manifest: %s, %v", img.Reference, err)
	}
	readLayers(t, r, one)
	if size, err := r.BlobSize(t.Context(), one.Layers[0].Digest); err != nil || size != one.Layers[0].Size {
		t.Errorf("a layer has %d bytes, %v", size, err)
	}
}

func TestBlobs(t *testing.T) {
	dir, one, two := pull(t)
	want := []digest.Digest{two.Index.Digest}
	for _, p := range append(two.Images, one) {
		want = append(want, p.Manifest.Digest, p.Config.Digest)
		for _, d := range p.Layers {
			want = append(want, d.Digest)
		}
	}
	slices.Sort(want)
	if err := os.WriteFile(filepath.Join(dir, "blobs", "sha256", "notes"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	got, err := open(t, dir).Blobs()
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

func TestReaderIsSafeForConcurrentUse(t *testing.T) {
	dir, one, two := pull(t)
	r := open(t, dir)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			if _, err := r.Manifest(t.Context(), two.Index.Digest.String()); err != nil {
				t.Error(err)
			}
			if _, err := r.Blob(t.Context(), one.Config); err != nil {
				t.Error(err)
			}
			rng, err := r.OpenRange(t.Context(), one.Layers[0], 0, 10)
			if err != nil {
				t.Error(err)
				return
			}
			_ = rng.Body.Close()
		})
	}
	group.Wait()
}

func TestMissingParts(t *testing.T) {
	dir, one, _ := pull(t)
	r := open(t, dir)
	layer := one.Layers[0]
	if err := os.Remove(filepath.Join(dir, "blobs", "sha512", layer.Digest.Encoded())); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Blob(t.Context(), one.Config); err != nil {
		t.Errorf("what is there: %v", err)
	}
	if _, err := r.OpenRange(t.Context(), layer, 0, 1); !errors.Is(err, image.ErrNotFound) {
		t.Errorf("a layer that is not there: %v", err)
	}
	for _, what := range []string{"latest", digest.FromString("x").String()} {
		if _, err := r.Manifest(t.Context(), what); !errors.Is(err, image.ErrNotFound) {
			t.Errorf("the manifest %s: %v", what, err)
		}
	}
}

// What stands in the place of a blob and is another one is not given out.
func TestHostileBlobs(t *testing.T) {
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
		dir, one, _ := pull(t)
		r := open(t, dir)
		for _, d := range []digest.Digest{one.Manifest.Digest, one.Config.Digest, one.Layers[0].Digest} {
			if err := plant(filepath.Join(dir, "blobs", "sha512", d.Encoded())); err != nil {
				t.Skipf("no symbolic links here: %v", err)
			}
		}
		if _, err := r.Manifest(t.Context(), one.Manifest.Digest.String()); !errors.Is(err, image.ErrVerification) {
			t.Errorf("%s: manifest: %v", name, err)
		}
		if _, err := r.Blob(t.Context(), one.Config); !errors.Is(err, image.ErrVerification) {
			t.Errorf("%s: config: %v", name, err)
		}
		// Of a layer's bytes only the whole can be verified.
		if _, err := r.OpenRange(t.Context(), one.Layers[0], 0, 1); !errors.Is(err, image.ErrVerification) && name != "wrong bytes" {
			t.Errorf("%s: layer: %v", name, err)
		}
	}
}

func TestLinksInPlaceOfDirectories(t *testing.T) {
	for _, name := range []string{"blobs", "blobs/sha512"} {
		dir, one, _ := pull(t)
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := errors.Join(os.Rename(path, path+"x"), os.Symlink(filepath.Base(path)+"x", path)); err != nil {
			t.Skipf("no symbolic links here: %v", err)
		}
		r := open(t, dir)
		if _, err := r.Blob(t.Context(), one.Config); !errors.Is(err, image.ErrVerification) {
			t.Errorf("%s: %v", name, err)
		}
		if blobs, err := r.Blobs(); !errors.Is(err, image.ErrVerification) {
			t.Errorf("%s: %v, %v", name, blobs, err)
		}
	}
}

func TestHostileDigests(t *testing.T) {
	dir, _, _ := pull(t)
	r := open(t, dir)
	d := image.Descriptor{Digest: "sha256:../../index.json", Size: 1}
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

func TestWhatCannotBeOpened(t *testing.T) {
	const version = `{"imageLayoutVersion":"1.0.0"}`
	entry := fmt.Sprintf(`{"mediaType":"x/y","digest":%q,"size":1}`, digest.FromString("x"))
	index := func(entries string) map[string]string {
		return map[string]string{"oci-layout": version, "index.json": `{"schemaVersion":2,"manifests":[` + entries + `]}`}
	}
	for name, c := range map[string]struct {
		files map[string]string
		want  error
	}{
		"files":           {map[string]string{"notes.txt": "mine"}, layout.ErrNoLayout},
		"empty":           {nil, layout.ErrNoLayout},
		"no oci-layout":   {map[string]string{"index.json": "{}"}, layout.ErrNoLayout},
		"no version":      {map[string]string{"oci-layout": `[]`}, image.ErrVerification},
		"no index":        {map[string]string{"oci-layout": version}, image.ErrNotFound},
		"no images":       {index(""), image.ErrNotFound},
		"torn":            {map[string]string{"oci-layout": version, "index.json": `{"schemaVersion":2,"mani`}, image.ErrVerification},
		"garbage":         {map[string]string{"oci-layout": version, "index.json": "\x00\xff"}, image.ErrVerification},
		"two fields":      {map[string]string{"oci-layout": version, "index.json": `{"schemaVersion":2,"manifests":[],"Manifests":[]}`}, image.ErrVerification},
		"deep":            {index(strings.Repeat("[", 1<<20)), image.ErrVerification},
		"many":            {index(strings.Repeat("{},", 1<<17) + "{}"), image.ErrVerification},
		"huge":            {index(entry + strings.Repeat(" ", image.MaxManifestSize)), image.ErrVerification},
		"no descriptors":  {index(`"x"`), image.ErrVerification},
		"no digest":       {index(`{"size":1}`), image.ErrVerification},
		"another case":    {index(strings.Replace(entry, "digest", "Digest", 1)), image.ErrVerification},
		"hostile digest":  {index(`{"digest":"sha256:../../x","size":1}`), image.ErrVerification},
		"no size":         {index(strings.Replace(entry, `,"size":1`, "", 1)), image.ErrVerification},
		"negative size":   {index(strings.Replace(entry, `:1}`, ":-1}", 1)), image.ErrVerification},
		"no annotations":  {index(strings.Replace(entry, `:1}`, `:1,"annotations":{"a":1}}`, 1)), image.ErrVerification},
		"huge oci-layout": {map[string]string{"oci-layout": version + strings.Repeat(" ", 1<<20)}, image.ErrVerification},
	} {
		dir := t.TempDir()
		for file, b := range c.files {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(b), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := layout.Open(dir); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	// A later version, whatever else is there.
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"2.0.0"}`), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := layout.Open(dir); err == nil || !strings.Contains(err.Error(), `version "2.0.0"`) {
		t.Errorf("another version: %v", err)
	}
	if _, err := layout.Open(filepath.Join(dir, "x")); !errors.Is(err, image.ErrNotFound) {
		t.Errorf("nothing: %v", err)
	}
	if _, err := layout.Open(filepath.Join(dir, "oci-layout")); !errors.Is(err, layout.ErrNoLayout) {
		t.Errorf("a file: %v", err)
	}
}

func TestIndexThatIsALink(t *testing.T) {
	dir, _, _ := pull(t)
	path := filepath.Join(dir, "index.json")
	if err := errors.Join(os.Rename(path, path+"x"), os.Symlink("index.jsonx", path)); err != nil {
		t.Skipf("no symbolic links here: %v", err)
	}
	if _, err := layout.Open(dir); !errors.Is(err, image.ErrVerification) {
		t.Errorf("index.json may be a link: %v", err)
	}
	if err := errors.Join(os.Remove(path), os.Rename(path+"x", path), os.Symlink(dir, dir+"-link")); err != nil {
		t.Skipf("no symbolic links here: %v", err)
	}
	open(t, dir+"-link")
}
