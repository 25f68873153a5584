//go:build linux

package e2e

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/internal/registrytest"
)

// estargz and zstdChunked are layers with a table of contents, as e2e/tocwriter
// makes them.
const (
	estargz     = "estargz"
	zstdChunked = "zstd:chunked"
)

// The annotations without which nobody finds the tables of contents.
var tocAnnotation = map[string]string{
	estargz:     "containerd.io/snapshot/stargz/toc.digest",
	zstdChunked: "io.github.containers.zstd-chunked.manifest-position",
}

// lookedAt is an image of about 500 MB for those who want one small file of it:
// Debian, a layer of large files, and a small one that changes some of Debian.
type lookedAt struct {
	*index
	own *ociImage
}

func (x lookedAt) layer(i int) ocispec.Descriptor { return x.own.layers[i].descriptor }

const (
	note   = "what the top layer brings\n"
	issue  = "what the top layer puts in place of Debian's\n"
	middle = "what stands among large files\n"
)

// bigImage is the image in layers of a format: gzip, estargz or zstd:chunked.
func bigImage(t testing.TB, format string) lookedAt {
	return once(t, "big "+format, func(t testing.TB) lookedAt {
		var layers []layer
		for _, path := range bigTars(t) {
			layers = append(layers, formatted(t, format, path))
		}
		m := makeImage(t, thisPlatform, show, layers...)
		return lookedAt{single(m), m}
	})
}

// bigTars are the tars of its layers, the lowest first.
func bigTars(t testing.TB) []string {
	return once(t, "big tars", func(t testing.TB) []string {
		return []string{built(t, "bookworm.tar"), largeFiles(t), changes(t)}
	})
}

// largeFiles is 400 MB of files that do not become smaller, and a small one.
func largeFiles(t testing.TB) string {
	return makeTar(t, func(w *tar.Writer) error {
		source := rand.NewChaCha8([32]byte{5})
		for i := range 25 {
			name := "opt/large/" + string(rune('a'+i))
			if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: 16 << 20}); err != nil {
				return err
			}
			if _, err := io.CopyN(w, source, 16<<20); err != nil {
				return err
			}
		}
		return writeEntries(w, text("opt/middle", middle))
	})
}

// changes is the top layer: new, replaced and removed files, and links.
func changes(t testing.TB) string {
	return makeTar(t, func(w *tar.Writer) error {
		return writeEntries(w,
			text("etc/issue", issue),
			hidden("etc/issue.net"),
			text("opt/note", note),
			hardlink("opt/hard", "opt/note"),
			symlink("opt/symlink", "../etc/debian_version"),
			symlink("opt/directory", "/usr/share"),
			symlink("opt/loop", "loop"),
		)
	})
}

func writeEntries(w *tar.Writer, entries ...entry) error {
	for _, e := range entries {
		h := e.Header
		h.Size = int64(len(e.Body))
		h.ModTime = registrytest.Time
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if err := w.WriteHeader(&h); err != nil {
			return err
		}
		if _, err := w.Write(e.Body); err != nil {
			return err
		}
	}
	return nil
}

func makeTar(t testing.TB, write func(*tar.Writer) error) string {
	t.Helper()
	f, err := os.CreateTemp(shared, "tar-*")
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(f)
	err = write(w)
	if err = errors.Join(err, w.Close(), f.Close()); err != nil {
		t.Fatalf("make a tar: %v", err)
	}
	return f.Name()
}

// formatted is a tar as a layer of a format.
func formatted(t testing.TB, format, path string) layer {
	t.Helper()
	if format == "gzip" {
		return makeLayer(t, gzipped, fromFile(path))
	}
	blob, err := os.CreateTemp(shared, "layer-*")
	if err != nil {
		t.Fatal(err)
	}
	_ = blob.Close() // it is written by another program
	cmd := exec.Command(built(t, "tocwriter"), format, path, blob.Name())
	_, told, err := output(cmd)
	if err != nil {
		t.Fatalf("%s: %v: %s", cmd, err, told)
	}
	mediaType := ocispec.MediaTypeImageLayerGzip
	if format == zstdChunked {
		mediaType = ocispec.MediaTypeImageLayerZstd
	}
	l := layerOf(t, mediaType, blob.Name())
	decode(t, told, &l.descriptor.Annotations)
	if l.descriptor.Annotations[tocAnnotation[format]] == "" {
		t.Fatalf("%s told %s: no table of contents", cmd, told)
	}
	return l
}

// layerOf is a compressed tar in a file as a layer.
func layerOf(t testing.TB, mediaType, path string) layer {
	t.Helper()
	f := openFile(t, path)
	blob := sha256.New()
	var size counter
	both := io.TeeReader(f, io.MultiWriter(blob, &size))
	var text io.Reader
	var err error
	if strings.HasSuffix(mediaType, "+zstd") {
		var z *zstd.Decoder
		z, err = zstd.NewReader(both)
		text = z
	} else {
		text, err = gzip.NewReader(both)
	}
	if err != nil {
		t.Fatalf("read %s: %v", path, err)
	}
	diffID, err := digest.FromReader(text)
	if err != nil {
		t.Fatalf("read %s: %v", path, err)
	}
	if _, err := io.Copy(io.Discard, both); err != nil {
		t.Fatal(err)
	}
	return layer{
		descriptor: ocispec.Descriptor{MediaType: mediaType, Digest: digest.NewDigest(digest.SHA256, blob), Size: int64(size)},
		diffID:     diffID,
		path:       path,
	}
}

// fileIn is a file of a tar.
func fileIn(t testing.TB, path, name string) string {
	t.Helper()
	f := openFile(t, path)
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if err != nil {
			t.Fatalf("%s: no %s: %v", path, name, err)
		}
		if strings.TrimPrefix(h.Name, "./") != name {
			continue
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
}

// wanted are files of the big image: each path with what davit cat is to print,
// and the lowest layer that must be read for that.
type wantedFile struct {
	path, text string
	lowest     int
}

func wantedFiles(t testing.TB) []wantedFile {
	t.Helper()
	base := bigTars(t)[0]
	version := fileIn(t, base, "etc/debian_version")
	release := fileIn(t, base, "usr/lib/os-release")
	licence := fileIn(t, base, "usr/share/common-licenses/BSD")
	return []wantedFile{
		{"/opt/note", note, 2},
		{"opt/hard", note, 2}, // a hard link
		{"/etc/issue", issue, 2},
		{"/opt/middle", middle, 1},
		{"/etc/debian_version", version, 0},
		{"/opt/symlink", version, 0},                                // of the top layer, to a file of the lowest
		{"/etc/os-release", release, 0},                             // a relative symlink within the lowest
		{"/lib/os-release", release, 0},                             // through a directory that is a symlink
		{"/opt/directory/common-licenses/BSD", licence, 0},          // through one with an absolute target
		{"/opt/directory/../share/common-licenses/BSD", licence, 0}, // ".." of where the link leads
	}
}

// most is what one small file of a big image may cost.
const most = 2_000_000

// TestCatChunked reads small files of an image of 500 MB whose layers have
// tables of contents, made by the formats' own writers: each costs less than
// 2 MB of all that the registry serves, and has the right bytes.
func TestCatChunked(t *testing.T) {
	enabled(t)
	m := startRegistry(t).metered(t)
	for _, format := range []string{estargz, zstdChunked} {
		x := bigImage(t, format)
		repository := "big/" + strings.ReplaceAll(format, ":", "-")
		m.push(t, repository, "1", x.index)
		name := m.host + "/" + repository + ":1"
		t.Run(format, func(t *testing.T) {
			t.Logf("an image of %d bytes", x.own.size())
			if x.own.size() < 450_000_000 {
				t.Fatal("that is not what this is about")
			}
			cats(t, m, name, wantedFiles(t), func(wantedFile) int64 { return most })
			noCats(t, m, name, most)
		})
	}
}

// cats runs davit cat for each wanted file and compares the bytes, and what
// was served with what allowed tells.
func cats(t *testing.T, m *metered, name string, files []wantedFile, allowed func(wantedFile) int64, flags ...string) {
	t.Helper()
	for _, w := range files {
		t.Run(w.path, func(t *testing.T) {
			m.forget()
			r := runDavit(t, append([]string{"cat", name, w.path}, flags...)...)
			r.exits(t, 0)
			if r.stdout != w.text {
				t.Errorf("davit cat %s printed %q, want %q", w.path, r.stdout, w.text)
			}
			got := m.served()
			t.Logf("%d bytes in %d requests", got, len(m.requests()))
			if got > allowed(w) {
				t.Errorf("%d bytes were served for %s, allowed are %d", got, w.path, allowed(w))
				m.log(t)
			}
		})
	}
}

// noCats runs davit cat for what is no file: nothing is printed but why.
func noCats(t *testing.T, m *metered, name string, most int64) {
	t.Helper()
	for path, code := range map[string]int{
		"/etc/issue.net":           3, // the top layer removes it
		"/etc/issue.net/x":         3,
		"/nowhere":                 3,
		"/etc/debian_version/file": 3,
		"/etc":                     1, // a directory
		"/opt/loop":                1,
	} {
		t.Run(path, func(t *testing.T) {
			m.forget()
			r := runDavit(t, "cat", name, path)
			r.exits(t, code)
			r.says(t, strings.TrimPrefix(path, "/"))
			if r.stdout != "" {
				t.Errorf("davit cat %s printed %q", path, r.stdout)
			}
			if got := m.served(); got > most {
				t.Errorf("%d bytes were served for %s, allowed are %d", got, path, most)
			}
		})
	}
}

// TestCatPlain reads the same files of the same image in layers of plain gzip,
// and of those with tables that davit is told not to use: layers are read from
// the top down to the one that holds the file, each at most once.
func TestCatPlain(t *testing.T) {
	enabled(t)
	m := startRegistry(t).metered(t)
	for _, c := range []struct {
		format string
		flags  []string
	}{
		{"gzip", nil},
		{estargz, []string{"--no-toc"}},
		{zstdChunked, []string{"--no-toc"}},
	} {
		x := bigImage(t, c.format)
		repository := "big/" + strings.ReplaceAll(c.format, ":", "-")
		m.push(t, repository, "1", x.index)
		t.Run(c.format, func(t *testing.T) {
			documents := x.root.Size + x.own.config.Size
			files := wantedFiles(t)
			if c.flags != nil {
				files = []wantedFile{files[0], files[3], files[5]} // of each layer one
			} else {
				noCats(t, m, m.host+"/"+repository+":1", documents+x.own.size())
			}
			cats(t, m, m.host+"/"+repository+":1", files, func(w wantedFile) int64 {
				n := documents
				for i := w.lowest; i < len(x.own.layers); i++ {
					n += x.layer(i).Size
				}
				return n
			}, c.flags...)
		})
	}
}

// TestCatToFile writes a file of an image to the disk with -o.
func TestCatToFile(t *testing.T) {
	enabled(t)
	r := startRegistry(t)
	r.push(t, "big/estargz", "1", bigImage(t, estargz).index)
	path := filepath.Join(workDir(t), "large")
	runDavit(t, "cat", r.host+"/big/estargz:1", "/opt/large/c", "-o", path).exits(t, 0)
	if want := fileIn(t, bigTars(t)[1], "opt/large/c"); !bytes.Equal(contents(t, path), []byte(want)) {
		t.Errorf("%s has %d other bytes than the image's file", path, len(contents(t, path)))
	}
}

// TestCatSkopeoChunked reads files of an image that Debian's skopeo has made
// zstd:chunked. It is of the format's first days, and its annotations have
// other names than those of today.
func TestCatSkopeoChunked(t *testing.T) {
	enabled(t)
	m := startRegistry(t).metered(t)
	base := makeImage(t, thisPlatform, show, debianBase(t))
	m.push(t, "skopeo/from", "1", single(base))
	layout := filepath.Join(workDir(t), "layout")
	run(t, skopeo(t, "copy", "--quiet", "--src-tls-verify=false", "--dest-compress", "--dest-compress-format", "zstd:chunked",
		"docker://"+m.registry.host+"/skopeo/from:1", "oci:"+layout+":1"))
	name := m.host + "/skopeo/to:1"
	run(t, skopeo(t, "copy", "--quiet", "--dest-tls-verify=false", "oci:"+layout+":1", "docker://"+name))
	var x ocispec.Manifest
	decode(t, run(t, skopeo(t, "inspect", "--raw", "--tls-verify=false", "docker://"+name)), &x)
	if len(x.Layers) != 1 || x.Layers[0].Annotations["io.containers.zstd-chunked.manifest-position"] == "" {
		t.Fatalf("skopeo pushed no zstd:chunked: %+v", x)
	}
	for _, w := range wantedFiles(t) {
		if w.lowest > 0 || strings.HasPrefix(w.path, "/opt") {
			continue
		}
		m.forget()
		r := runDavit(t, "cat", name, w.path)
		r.exits(t, 0)
		if r.stdout != w.text {
			t.Errorf("davit cat %s printed %q, want %q", w.path, r.stdout, w.text)
		}
		got := m.served()
		t.Logf("%s: %d bytes of %d", w.path, got, x.Layers[0].Size)
		if got > most {
			t.Errorf("%d bytes were served for %s, allowed are %d", got, w.path, most)
		}
	}
}

// TestCatSpoiled reads files of images from a registry that serves other bytes
// than it should for parts of blobs: nothing is printed, and that is told.
func TestCatSpoiled(t *testing.T) {
	enabled(t)
	c := startCounted(t)
	for _, format := range []string{"gzip", estargz, zstdChunked} {
		repository := "big/" + strings.ReplaceAll(format, ":", "-")
		c.push(t, repository, "1", bigImage(t, format).index)
	}
	c.spoiled = true
	for _, format := range []string{"gzip", estargz, zstdChunked} {
		t.Run(format, func(t *testing.T) {
			name := c.host + "/big/" + strings.ReplaceAll(format, ":", "-") + ":1"
			for _, args := range [][]string{{"cat", name, "/opt/middle"}, {"cat", name, "/etc/debian_version"}, {"files", name, "/opt"}} {
				r := runDavit(t, args...)
				r.exits(t, 5)
				r.says(t, "sha256:")
				if r.stdout != "" {
					t.Errorf("%s printed %.200q", r.command, r.stdout)
				}
			}
		})
	}
}
