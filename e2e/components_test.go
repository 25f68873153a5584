package e2e

import (
	"bytes"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/internal/registrytest"
)

// components is what a components directory is to hold: the URL's path of each
// file, below /v2/REPOSITORY/.
type components map[string]string

// fileOf is a digest as a file is named after it.
func fileOf(d digest.Digest) string { return d.Algorithm().String() + "_" + d.Encoded() }

// add adds the config and the layers of an image.
func (c components) add(m *ociImage, suffixes ...string) {
	c[fileOf(m.config.Digest)+".json"] = "blobs/" + m.config.Digest.String()
	for i, l := range m.layers {
		d := l.descriptor.Digest
		c["layers/"+fileOf(d)+suffixes[i]] = "blobs/" + d.String()
	}
}

// equal checks that a directory has exactly these files, and that each is what
// curl gets of its URL.
func (c components) equal(t *testing.T, dir string, r *registry, repository string) {
	t.Helper()
	files := filesIn(t, dir)
	if want := slices.Sorted(maps.Keys(c)); !slices.Equal(files, want) {
		t.Errorf("the components are\n%q\nwant\n%q", files, want)
	}
	fetched := workDir(t)
	for name, path := range c {
		// curl's own file, compared by cmp: nothing of ours comes between.
		file := filepath.Join(fetched, filepath.Base(name))
		args := []string{"--silent", "--show-error", "--fail", "--noproxy", "*", "--output", file}
		for _, accepted := range []string{ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageManifest} {
			args = append(args, "--header", "Accept: "+accepted)
		}
		run(t, exec.Command(debian(t, "curl"), append(args, "http://"+r.host+"/v2/"+repository+"/"+path)...))
		run(t, exec.Command(debian(t, "cmp"), file, filepath.Join(dir, filepath.FromSlash(name))))
	}
}

func filesIn(t testing.TB, dir string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		files = append(files, filepath.ToSlash(name))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(files)
	return files
}

// TestComponents compares what davit writes with what curl gets.
func TestComponents(t *testing.T) {
	enabled(t)
	r := startRegistry(t)
	multi := multiImage(t)
	own, other := multi.own, multi.images[0]
	r.push(t, "davit/multi", "1", multi.index)
	mixed := mixedImage(t)
	r.push(t, "davit/mixed", "1.0", single(mixed))
	chart := helmChart(t)
	r.push(t, "charts/hello", "0.1.0", single(chart))

	t.Run("single manifest", func(t *testing.T) {
		cmd := davitCommand(t, "pull", "--quiet", r.host+"/davit/mixed:1.0", "--format", "components")
		run(t, cmd)
		want := components{"image_manifest.json": "manifests/1.0"}
		want.add(mixed, ".tar.gz", ".tar.zst", ".tar")
		want.equal(t, filepath.Join(cmd.Dir, "mixed_1.0"), r, "davit/mixed") // the default directory
	})
	t.Run("index", func(t *testing.T) {
		out := filepath.Join(workDir(t), "new", "parts")
		runDavit(t, "pull", r.host+"/davit/multi:1", "-f", "components", "-o", out).exits(t, 0)
		want := components{"manifest_list.json": "manifests/1"}
		want[fileOf(own.manifest.Digest)+"_manifest.json"] = "manifests/" + own.manifest.Digest.String()
		want.add(own, ".tar.gz", ".tar.gz")
		want.equal(t, out, r, "davit/multi")
		// The other platform goes beside it.
		runDavit(t, "pull", r.host+"/davit/multi:1", "-f", "components", "-o", out, "-p", platformName(otherPlatform)).exits(t, 0)
		want[fileOf(other.manifest.Digest)+"_manifest.json"] = "manifests/" + other.manifest.Digest.String()
		want.add(other, ".tar.gz", ".tar.gz")
		want.equal(t, out, r, "davit/multi")
	})
	t.Run("all platforms", func(t *testing.T) {
		out := filepath.Join(workDir(t), "parts")
		runDavit(t, "pull", r.host+"/davit/multi:1", "-f", "components", "-o", out, "-p", "all").exits(t, 0)
		want := components{"manifest_list.json": "manifests/1"}
		for i, m := range multi.images {
			want[fileOf(m.manifest.Digest)+"_manifest.json"] = "manifests/" + m.manifest.Digest.String()
			want.add(m, [][]string{{".tar.gz", ".tar.gz"}, {".tar.gz", ".tar.gz"}, {".blob"}, {".blob"}}[i]...)
		}
		want.equal(t, out, r, "davit/multi")
	})
	t.Run("manifest only", func(t *testing.T) {
		out := filepath.Join(workDir(t), "parts")
		runDavit(t, "pull", r.host+"/davit/multi:1", "-f", "components", "-o", out, "--manifest-only").exits(t, 0)
		want := components{"manifest_list.json": "manifests/1"}
		want[fileOf(own.manifest.Digest)+"_manifest.json"] = "manifests/" + own.manifest.Digest.String()
		want[fileOf(own.config.Digest)+".json"] = "blobs/" + own.config.Digest.String()
		want.equal(t, out, r, "davit/multi")
		absent(t, filepath.Join(out, "layers"))
	})
	t.Run("artifact", func(t *testing.T) {
		out := filepath.Join(workDir(t), "parts")
		runDavit(t, "pull", r.host+"/charts/hello:0.1.0", "-f", "components", "-o", out).exits(t, 0)
		want := components{"image_manifest.json": "manifests/0.1.0"}
		want.add(chart, ".tar.gz")
		want.equal(t, out, r, "charts/hello")
	})
}

// TestComponentsUnknown saves a manifest of a type that nobody knows.
func TestComponentsUnknown(t *testing.T) {
	enabled(t)
	const mediaType = "application/vnd.example.manifest.v9+json"
	manifest := []byte(`{"schemaVersion": 9, "mediaType": "` + mediaType + `", "parts": [] }` + "\n")
	s := registrytest.Start(t, registrytest.Options{})
	s.PushRaw("team/odd", "1", mediaType, manifest)
	out := filepath.Join(workDir(t), "parts")
	r := runDavit(t, "pull", s.Host()+"/team/odd:1", "-f", "components", "-o", out)
	r.exits(t, 1)
	r.says(t, mediaType, filepath.Join(out, "unknown_manifest.json"))
	if files := filesIn(t, out); !slices.Equal(files, []string{"unknown_manifest.json"}) {
		t.Errorf("the components are %q", files)
	}
	got, err := os.ReadFile(filepath.Join(out, "unknown_manifest.json"))
	if err != nil || !bytes.Equal(got, manifest) {
		t.Errorf("unknown_manifest.json is %q, want %q, %v", got, manifest, err)
	}
}

// mixedImage has a layer of each compression, of real files.
func mixedImage(t testing.TB) *ociImage {
	t.Helper()
	var layers []layer
	for _, c := range []compression{gzipped, zstandard, plain} {
		l, _ := treeLayer(t, c, goroot(t), "opt/go"+string(c), "doc")
		layers = append(layers, l)
	}
	return makeImage(t, thisPlatform, ocispec.ImageConfig{}, layers...)
}
