package rootfs

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/internal/compress"
)

// generator makes layers that do to a tree what builds do, and worse.
type generator struct {
	*rand.Rand
	n     int
	below []Entry         // what the layers below come to
	done  map[string]byte // what this layer has put where; 0 for hidden
	out   []entry
}

func (g *generator) pick(of ...byte) (Entry, bool) {
	var fit []Entry
	for _, e := range g.below {
		if slices.Contains(of, e.Type) && g.free(e.Path) {
			fit = append(fit, e)
		}
	}
	if len(fit) == 0 {
		return Entry{}, false
	}
	return fit[g.IntN(len(fit))], true
}

// free says that this layer has no non-directory at a path or above it.
func (g *generator) free(p string) bool {
	for ; p != "."; p = path.Dir(p) {
		if kind, ok := g.done[p]; ok && kind != tar.TypeDir {
			return false
		}
	}
	return true
}

func (g *generator) time() time.Time {
	return time.Unix(1_400_000_000+int64(g.IntN(100_000_000)), int64(g.IntN(2)*g.IntN(1_000_000_000)))
}

func (g *generator) emit(name string, kind byte, body, target string) {
	g.n++
	h := tar.Header{Typeflag: kind, Name: name, Linkname: target, ModTime: g.time(), Format: tar.FormatPAX, Size: int64(len(body)), Mode: 0o644, Uid: g.IntN(3) * 1000, Gid: g.IntN(3) * 50}
	switch kind {
	case tar.TypeDir:
		h.Mode = []int64{0o755, 0o700, 0o1777, 0o2775, 0o500}[g.IntN(5)]
	case tar.TypeReg:
		h.Mode = []int64{0o644, 0o600, 0o4755, 0o2711, 0o000}[g.IntN(5)]
	case tar.TypeSymlink:
		h.Mode = 0o777
	case tar.TypeChar, tar.TypeBlock:
		h.Devmajor, h.Devminor = int64(1+g.IntN(200)), int64(g.IntN(300))
	}
	if (kind == tar.TypeReg || kind == tar.TypeDir) && g.IntN(5) == 0 {
		h.PAXRecords = map[string]string{paxXattr + "user.x" + string(rune('a'+g.IntN(3))): fmt.Sprint(g.n)}
	}
	if kind == tar.TypeDir {
		h.Name += "/"
	}
	if g.IntN(4) == 0 {
		h.Name = "./" + h.Name
	}
	g.out = append(g.out, entry{h, body})
	g.done[name] = kind
}

// parent is a directory, or sometimes a link to one, or one that is not there.
func (g *generator) parent() string {
	switch g.IntN(8) {
	case 0:
		if e, ok := g.pick(tar.TypeSymlink); ok && strings.HasPrefix(path.Base(e.Path), "dirlink") {
			return e.Path + "/"
		}
	case 1:
		return fmt.Sprintf("missing%d/", g.n)
	case 2:
		return ""
	}
	if e, ok := g.pick(tar.TypeDir); ok && e.Path != "." {
		return e.Path + "/"
	}
	return ""
}

func (g *generator) step() {
	name := fmt.Sprintf("%s%c%d", g.parent(), 'a'+rune(g.IntN(26)), g.n)
	switch g.IntN(17) {
	case 0, 1, 2:
		size := g.IntN(2000)
		if g.IntN(6) == 0 {
			size = bigFile + g.IntN(bigFile)
		}
		g.emit(name, tar.TypeReg, strings.Repeat(fmt.Sprintf("%d ", g.n), size/4), "")
	case 3, 4, 5:
		g.emit(name, tar.TypeDir, "", "")
	case 6:
		g.emit(name, tar.TypeSymlink, "", "/no/where")
	case 7:
		if e, ok := g.pick(tar.TypeDir); ok {
			dir, _ := path.Split(name)
			to := "/" + e.Path
			if g.IntN(2) == 0 {
				to = strings.Repeat("../", strings.Count(name, "/")+g.IntN(2)) + e.Path
			}
			g.emit(dir+fmt.Sprintf("dirlink%d", g.n), tar.TypeSymlink, "", to)
		}
	case 8:
		g.emit(name, []byte{tar.TypeChar, tar.TypeBlock, tar.TypeFifo}[g.IntN(3)], "", "")
	case 9, 10: // a further name, of a file below or here
		if e, ok := g.pick(tar.TypeReg, tar.TypeLink); ok {
			g.emit(name, tar.TypeLink, "", e.Path)
		}
		for i := len(g.out) - 1; i >= 0; i-- {
			if e := g.out[i]; e.Typeflag == tar.TypeReg && g.done[path.Clean(e.Name)] == tar.TypeReg && !strings.Contains(e.Name, ".wh.") {
				g.emit(name+"h", tar.TypeLink, "", path.Clean(e.Name))
				break
			}
		}
	case 11: // a file is replaced
		if e, ok := g.pick(tar.TypeReg, tar.TypeSymlink); ok {
			g.emit(e.Path, tar.TypeReg, fmt.Sprint("new ", g.n), "")
		}
	case 12: // something becomes another thing
		if e, ok := g.pick(tar.TypeReg, tar.TypeSymlink, tar.TypeLink, tar.TypeDir); ok && e.Path != "." {
			kind := []byte{tar.TypeDir, tar.TypeReg, tar.TypeSymlink}[g.IntN(3)]
			if _, ours := g.done[e.Path]; !ours && !g.hasBelow(e.Path) {
				g.emit(e.Path, kind, "", map[byte]string{tar.TypeSymlink: "/changed"}[kind])
			}
		}
	case 13, 14: // deleted
		if e, ok := g.pick(tar.TypeReg, tar.TypeSymlink, tar.TypeLink, tar.TypeDir, tar.TypeChar); ok && e.Path != "." {
			dir, base := path.Split(e.Path)
			g.emit(dir+".wh."+base, tar.TypeReg, "", "")
			g.hide(e.Path)
			if _, ours := g.done[e.Path]; !ours && !g.hasBelow(e.Path) {
				g.done[e.Path] = 0
			}
		}
	case 15: // opaque, with siblings before and behind
		if e, ok := g.pick(tar.TypeDir); ok && e.Path != "." {
			g.emit(e.Path, tar.TypeDir, "", "")
			if g.IntN(2) == 0 {
				g.emit(e.Path+"/before", tar.TypeReg, "b", "")
			}
			g.emit(e.Path+"/.wh..wh..opq", tar.TypeReg, "", "")
			g.emit(e.Path+"/behind", tar.TypeReg, "b", "")
			g.hide(e.Path)
		}
	case 16: // a directory's metadata change
		if e, ok := g.pick(tar.TypeDir); ok && e.Path != "." {
			g.emit(e.Path, tar.TypeDir, "", "")
		}
	}
}

// hide notes that what lower layers have below a directory is gone.
func (g *generator) hide(p string) {
	for _, b := range g.below {
		if strings.HasPrefix(b.Path, p+"/") && !g.hasBelow(b.Path) {
			if _, ours := g.done[b.Path]; !ours {
				g.done[b.Path] = 0
			}
		}
	}
}

func (g *generator) hasBelow(p string) bool {
	for d, kind := range g.done {
		if kind != 0 && strings.HasPrefix(d, p+"/") {
			return true
		}
	}
	return false
}

// randomLayers makes an image's layers; the same for the same seed.
func randomLayers(t testing.TB, seed uint64) []Layer {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 1))}
	var layers []Layer
	for range 2 + g.IntN(7) {
		g.done, g.out = map[string]byte{}, nil
		for range 5 + g.IntN(60) {
			g.step()
		}
		b := tarOf(t, g.out...)
		if g.IntN(4) > 0 {
			b = gzipOf(t, b)
		}
		layers = append(layers, asLayer(b))
		tree, err := Merge(context.Background(), layers, Options{SpoolDir: t.TempDir()})
		if err != nil && strings.Contains(err.Error(), "it links to") {
			// The generator does not follow the links of parents: it has
			// hidden the target itself. Without hard links, then.
			g.out = slices.DeleteFunc(g.out, func(e entry) bool { return e.Typeflag == tar.TypeLink })
			layers[len(layers)-1] = asLayer(tarOf(t, g.out...))
			tree, err = Merge(context.Background(), layers, Options{SpoolDir: t.TempDir()})
		}
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		g.below = slices.Collect(tree.Entries())
		if err := tree.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return layers
}

// writeLayout writes an image of the layers as an OCI image layout.
func writeLayout(t testing.TB, dir string, layers []Layer) {
	t.Helper()
	put := func(mediaType string, b []byte) ocispec.Descriptor {
		d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
		write(t, filepath.Join(dir, "blobs/sha256", d.Digest.Encoded()), b)
		return d
	}
	encode := func(v any) []byte {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest}
	m.SchemaVersion = 2
	config := ocispec.Image{RootFS: ocispec.RootFS{Type: "layers"}, Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}}
	for _, l := range layers {
		b := make([]byte, l.Descriptor.Size)
		if _, err := l.Blob.ReadAt(b, 0); err != nil {
			t.Fatal(err)
		}
		r, kind, _, err := compress.NewReader(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		id, err := digest.FromReader(r)
		if err != nil {
			t.Fatal(err)
		}
		mediaType := ocispec.MediaTypeImageLayer
		if kind == compress.Gzip {
			mediaType = ocispec.MediaTypeImageLayerGzip
		}
		m.Layers = append(m.Layers, put(mediaType, b))
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, id)
	}
	m.Config = put(ocispec.MediaTypeImageConfig, encode(config))
	root := put(m.MediaType, encode(m))
	root.Annotations = map[string]string{ocispec.AnnotationRefName: "x"}
	index := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{root}}
	index.SchemaVersion = 2
	write(t, filepath.Join(dir, "index.json"), encode(index))
	write(t, filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`))
}

func write(t testing.TB, name string, b []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// Random images come to what `umoci unpack` makes of them.
func TestUmoci(t *testing.T) {
	if os.Getenv("DAVIT_E2E") != "1" {
		t.Skip("DAVIT_E2E=1 runs it; it needs umoci, and root")
	}
	const rounds = 100
	compared := 0
	for seed := range uint64(rounds) {
		if compareUmoci(t, fmt.Sprint("seed ", seed), randomLayers(t, seed)) {
			compared++
		}
	}
	if compared < rounds*8/10 {
		t.Errorf("umoci took %d of %d images", compared, rounds)
	}
}

// compareUmoci is false where umoci refuses the image.
func compareUmoci(t *testing.T, name string, layers []Layer) bool {
	t.Helper()
	dir, started := t.TempDir(), time.Now().Add(-time.Minute)
	writeLayout(t, filepath.Join(dir, "oci"), layers)
	cmd := exec.Command("umoci", "unpack", "--image", filepath.Join(dir, "oci")+":x", filepath.Join(dir, "bundle"))
	if out, err := cmd.CombinedOutput(); strings.Contains(string(out), "not a directory") {
		return false // where a file stands in the way of a parent, davit goes on
	} else if err != nil {
		t.Fatalf("%s: umoci: %v\n%s", name, err, out)
	}
	tree := merged(t, layers, Options{})
	if err := tree.Unpack(context.Background(), filepath.Join(dir, "davit"), UnpackOptions{}); err != nil {
		t.Fatal(err)
	}
	want, got := readTree(t, filepath.Join(dir, "bundle/rootfs"), false), readTree(t, filepath.Join(dir, "davit"), false)
	// A directory that no layer tells of takes after its parent's set-gid bit.
	for e := range tree.Entries() {
		if e.Layer < 0 {
			for _, lines := range [][]string{want, got} {
				for i, l := range lines {
					if strings.HasPrefix(l, e.Path+"/ ") || l == e.Path+"/" {
						lines[i] = e.Path + "/"
					}
				}
			}
		}
	}
	// A directory that no layer tells the time of, or in which something was
	// hidden, has the time of umoci's run.
	clock := regexp.MustCompile(` time (\d+)\.\d{9}`)
	byClock := map[string]bool{}
	for _, lines := range [][]string{want, got} {
		for i, l := range lines {
			name, _, _ := strings.Cut(l, "/ ")
			m := clock.FindStringSubmatch(l)
			if m == nil || len(name) == len(l) {
				continue
			}
			if at, err := strconv.ParseInt(m[1], 10, 64); err == nil && time.Unix(at, 0).After(started) {
				byClock[name] = true
			}
			if byClock[name] {
				lines[i] = strings.Replace(l, m[0], "", 1)
			}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s: (-umoci +davit):\n%s", name, diff)
	}
	if err := tree.Close(); err != nil {
		t.Error(err)
	}
	return true
}
