package verify_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"github.com/davit-cli/davit"
	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/registrytest"
	"github.com/davit-cli/davit/verify"
)

func componentName(d image.Descriptor, end string) string {
	return d.Digest.Algorithm().String() + "_" + d.Digest.Encoded() + end
}

// TestDirectoryFaults has the same faults in an image layout and in components.
func TestDirectoryFaults(t *testing.T) {
	for _, format := range []davit.Format{davit.OCI, davit.Components} {
		whole, p := pulled(t, twoLayers(), davit.PullOptions{Format: format})
		layer, config := blobName(p.Layers[1].Digest), blobName(p.Config.Digest)
		if format == davit.Components {
			layer, config = "layers/"+componentName(p.Layers[1], ".tar.gz"), componentName(p.Config, ".json")
		}
		for _, tt := range []struct {
			name   string
			change func(t *testing.T, dir string)
			wants  []want
		}{
			{"right", func(*testing.T, string) {}, nil},
			{"a flipped byte", func(t *testing.T, dir string) {
				write(t, filepath.Join(dir, layer), flip(30)(read(t, filepath.Join(dir, layer))))
			}, []want{{verify.Digest, p.Layers[1].Digest.String(), "another digest"}}},
			{"same-size garbage", func(t *testing.T, dir string) {
				write(t, filepath.Join(dir, layer), registrytest.RandomBytes(1, int(p.Layers[1].Size)))
			}, []want{{verify.Digest, p.Layers[1].Digest.String(), "another digest"}}},
			{"a blob cut off", func(t *testing.T, dir string) {
				write(t, filepath.Join(dir, layer), read(t, filepath.Join(dir, layer))[:100])
			}, []want{{verify.Size, p.Layers[1].Digest.String(), "it has 100 bytes"}, {verify.Digest, p.Layers[1].Digest.String(), "another digest"}}},
			{"a missing layer", func(t *testing.T, dir string) { remove(t, filepath.Join(dir, layer)) },
				[]want{{verify.Missing, p.Layers[1].Digest.String(), "is not there"}}},
			{"a missing config", func(t *testing.T, dir string) { remove(t, filepath.Join(dir, config)) },
				[]want{{verify.Missing, p.Config.Digest.String(), "is not there"}}},
			{"a directory in a blob's place", func(t *testing.T, dir string) {
				remove(t, filepath.Join(dir, layer))
				if err := os.Mkdir(filepath.Join(dir, layer), 0o777); err != nil {
					t.Fatal(err)
				}
			}, []want{{verify.Unreadable, p.Layers[1].Digest.String(), "no regular file"}}},
			{"other files", func(t *testing.T, dir string) {
				write(t, filepath.Join(dir, "README"), []byte("hello"))
				write(t, filepath.Join(dir, filepath.Dir(layer), ".gitkeep"), nil)
			}, nil},
		} {
			t.Run(string(format)+"/"+tt.name, func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "image")
				if err := os.CopyFS(dir, os.DirFS(whole)); err != nil {
					t.Fatal(err)
				}
				tt.change(t, dir)
				wantProblems(t, check(t, dir), tt.wants...)
			})
		}
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func TestLinksInDirectories(t *testing.T) {
	if runtime.GOOS == "windows" {
		return // where making links is a privilege
	}
	dir, p := pulled(t, twoLayers(), davit.PullOptions{Format: davit.OCI})
	link := filepath.Join(dir, "..", "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	wantProblems(t, check(t, link))

	layer := filepath.Join(dir, blobName(p.Layers[1].Digest))
	outside := filepath.Join(t.TempDir(), "blob")
	if err := errors.Join(os.Rename(layer, outside), os.Symlink(outside, layer)); err != nil {
		t.Fatal(err)
	}
	wantProblems(t, check(t, dir), want{verify.Unreadable, p.Layers[1].Digest.String(), "it is a link, which is not followed"})

	blobs := filepath.Join(t.TempDir(), "blobs")
	if err := errors.Join(os.Rename(filepath.Join(dir, "blobs"), blobs), os.Symlink(blobs, filepath.Join(dir, "blobs"))); err != nil {
		t.Fatal(err)
	}
	wantProblems(t, check(t, dir), want{verify.Unreadable, "blobs", "a link"}, want{verify.Missing, p.Manifest.Digest.String(), "not there"})
}

func TestDirectoryNotes(t *testing.T) {
	dir, _ := pulled(t, twoLayers(), davit.PullOptions{Format: davit.OCI})
	if err := os.Mkdir(filepath.Join(dir, ".davit-part"), 0o777); err != nil {
		t.Fatal(err)
	}
	r := check(t, dir)
	wantProblems(t, r)
	wantNote(t, r, ".davit-part is of an unfinished run")
	wantTakes(t, r, false, false, true)

	dir, _ = pulled(t, twoLayers(), davit.PullOptions{Format: davit.Components, ManifestOnly: true})
	r = check(t, dir)
	wantProblems(t, r)
	wantNote(t, r, "there are no layers")
	wantTakes(t, r, false, false, false)
}

func TestComponentsOfAnIndex(t *testing.T) {
	index := registrytest.Index{Images: []registrytest.Image{
		{Platform: image.Platform{OS: "linux", Architecture: "amd64"}, Layers: twoLayers().Layers},
		{Platform: image.Platform{OS: "linux", Architecture: "arm64"}, Layers: twoLayers().Layers[:1]},
	}}
	dir, p := pulledIndex(t, index, davit.PullOptions{Format: davit.Components, Platforms: []string{"linux/arm64"}})
	r := check(t, dir)
	wantProblems(t, r)
	wantNote(t, r, "linux/amd64")
	manifest := filepath.Join(dir, componentName(p.Images[1].Manifest, "_manifest.json"))
	write(t, manifest, replace(t, `"schemaVersion":2`, `"schemaVersion":3`)(read(t, manifest)))
	wantProblems(t, check(t, dir), want{verify.Digest, p.Images[1].Manifest.Digest.String(), "another digest"})
	remove(t, manifest)
	wantProblems(t, check(t, dir), want{verify.Missing, p.Index.Digest.String(), "none of an image is there: linux/amd64, linux/arm64"})
}

func TestOtherDirectory(t *testing.T) {
	dir := t.TempDir()
	wantProblems(t, check(t, dir), want{verify.Structure, filepath.Base(dir), "neither an image layout nor one of components"})
}

func TestNothingToCheck(t *testing.T) {
	nothing := filepath.Join(t.TempDir(), "nothing")
	_, err := verify.Check(t.Context(), nothing, verify.Options{})
	if want := "verify " + nothing + ": not found: there is no such file or directory"; !errors.Is(err, image.ErrNotFound) || err.Error() != want {
		t.Errorf("the error is %v, want %s", err, want)
	}
	path, _ := pulled(t, twoLayers(), davit.PullOptions{})
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("enough")
	cancel(cause)
	if _, err := verify.Check(ctx, path, verify.Options{}); !errors.Is(err, cause) {
		t.Errorf("the error is %v", err)
	}
}

func TestStages(t *testing.T) {
	path, _ := pulled(t, twoLayers(), davit.PullOptions{})
	var mu sync.Mutex
	ended := map[string]bool{}
	_, err := verify.Check(t.Context(), path, verify.Options{Events: func(e image.Event) {
		mu.Lock()
		defer mu.Unlock()
		if e.Kind == image.EventStage && e.Have == e.Bytes {
			ended[e.Text] = true
		}
	}})
	if err != nil || !ended["read blobs"] {
		t.Errorf("stages that ended: %v, error %v", ended, err)
	}
}
