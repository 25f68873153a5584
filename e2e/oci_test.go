package e2e

import (
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// imageName is the annotation with an image's full name, containerd's.
const imageName = "io.containerd.image.name"

// ociLayout is an OCI image layout in a directory, read and found right.
type ociLayout struct {
	dir   string
	index ocispec.Index
	blobs []digest.Digest // sorted
}

// readLayout reads a layout and checks it: nothing is in it but what image-spec
// says, every blob is what its name says, every manifest has its config and
// layers, and nothing is there that nothing names. Of an index, manifests may
// be absent.
func readLayout(t testing.TB, dir string) ociLayout {
	t.Helper()
	l := ociLayout{dir: dir, blobs: blobsIn(t, dir)}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if want := []string{"blobs", "index.json", "oci-layout"}; !slices.Equal(names, want) {
		t.Errorf("in %s stand %q, want %q", dir, names, want)
	}
	var version ocispec.ImageLayout
	decodeFile(t, filepath.Join(dir, "oci-layout"), &version)
	if version.Version != ocispec.ImageLayoutVersion {
		t.Errorf("%s has the layout's version %q", dir, version.Version)
	}
	decodeFile(t, filepath.Join(dir, "index.json"), &l.index)
	if l.index.SchemaVersion != 2 || l.index.MediaType != "" && l.index.MediaType != ocispec.MediaTypeImageIndex {
		t.Errorf("%s: index.json is no image index: %d %q", dir, l.index.SchemaVersion, l.index.MediaType)
	}
	named := map[digest.Digest]bool{}
	for _, root := range l.index.Manifests {
		l.walk(t, root, named)
	}
	if want := slices.Sorted(maps.Keys(named)); !slices.Equal(l.blobs, want) {
		t.Errorf("%s has the blobs\n%s\nwant\n%s", dir, l.blobs, want)
	}
	return l
}

// blobsIn returns the blobs below dir, sorted, all of which have their digests.
func blobsIn(t testing.TB, dir string) (blobs []digest.Digest) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(dir, ocispec.ImageBlobsDir), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		d := digest.NewDigestFromEncoded(digest.Algorithm(filepath.Base(filepath.Dir(path))), entry.Name())
		if got := sumOf(t, path); got != d {
			t.Errorf("%s is %s", path, got)
		}
		blobs = append(blobs, d)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return blobs
}

// walk notes all that a descriptor names in the layout.
func (l ociLayout) walk(t testing.TB, d ocispec.Descriptor, named map[digest.Digest]bool) {
	t.Helper()
	named[d.Digest] = true
	l.checkSize(t, d)
	var m struct {
		ocispec.Manifest
		Manifests []ocispec.Descriptor `json:"manifests"`
	}
	decodeFile(t, l.path(d.Digest), &m)
	for _, child := range m.Manifests {
		if slices.Contains(l.blobs, child.Digest) {
			l.walk(t, child, named)
		}
	}
	if m.Config.Digest == "" {
		return
	}
	for _, blob := range append([]ocispec.Descriptor{m.Config}, m.Layers...) {
		named[blob.Digest] = true
		l.checkSize(t, blob)
	}
}

func (l ociLayout) checkSize(t testing.TB, d ocispec.Descriptor) {
	t.Helper()
	if info, err := os.Stat(l.path(d.Digest)); err != nil || info.Size() != d.Size {
		t.Errorf("%s: not the %d bytes of its descriptor: %v", d.Digest, d.Size, err)
	}
}

func (l ociLayout) path(d digest.Digest) string {
	return filepath.Join(l.dir, ocispec.ImageBlobsDir, d.Algorithm().String(), d.Encoded())
}

// roots are the digests that index.json names, by the images' full names.
func (l ociLayout) roots(t testing.TB) map[string]digest.Digest {
	t.Helper()
	roots := map[string]digest.Digest{}
	for _, d := range l.index.Manifests {
		name := d.Annotations[imageName]
		if _, twice := roots[name]; twice {
			t.Errorf("%s: index.json names %q twice", l.dir, name)
		}
		roots[name] = d.Digest
	}
	return roots
}

// source is an image of the layout as skopeo names it, by its
// org.opencontainers.image.ref.name.
func (l ociLayout) source(name string) string { return "oci:" + l.dir + ":" + name }

// refName is what tools that read layouts call the image with that full name.
func (l ociLayout) refName(t testing.TB, full string) string {
	t.Helper()
	for _, d := range l.index.Manifests {
		if d.Annotations[imageName] == full {
			return d.Annotations[ocispec.AnnotationRefName]
		}
	}
	t.Fatalf("%s: index.json has no %s", l.dir, full)
	return ""
}

func decodeFile(t testing.TB, path string, v any) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, v); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func absent(t testing.TB, path string) {
	t.Helper()
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is there: %v", path, err)
	}
}

// umociStat is what umoci makes of an image's layers in a layout: a history
// with their digests.
func umociStat(t testing.TB, dir, tag string) (layers []digest.Digest) {
	t.Helper()
	var stat struct {
		History []struct {
			Layer *ocispec.Descriptor `json:"layer"`
		} `json:"history"`
	}
	printed := run(t, umoci(t, "stat", "--json", "--image", dir+":"+tag))
	if err := json.Unmarshal([]byte(printed), &stat); err != nil {
		t.Fatalf("umoci stat printed %q: %v", printed, err)
	}
	for _, h := range stat.History {
		if h.Layer != nil {
			layers = append(layers, h.Layer.Digest)
		}
	}
	return layers
}

func umoci(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(debian(t, "umoci"), args...)
	cmd.Env = []string{debianPath(), "HOME=" + t.TempDir()}
	return cmd
}

// regctl reads and writes layouts as ocidir://DIR:TAG.
func regctl(t testing.TB, args ...string) string {
	t.Helper()
	cmd := exec.Command(built(t, "regctl"), args...)
	cmd.Env = []string{debianPath(), "HOME=" + t.TempDir()}
	return strings.TrimSpace(run(t, cmd))
}
