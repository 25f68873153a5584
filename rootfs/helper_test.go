package rootfs

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
)

// entry is an entry of a layer to build.
type entry struct {
	tar.Header
	body string
}

var someTime = time.Unix(1_500_000_000, 0)

func file(name, body string) entry {
	return entry{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(body)), ModTime: someTime}, body}
}

func dir(name string) entry {
	return entry{tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755, ModTime: someTime}, ""}
}

func symlink(name, target string) entry {
	return entry{tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777, ModTime: someTime}, ""}
}

func hardlink(name, target string) entry {
	return entry{tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target, ModTime: someTime}, ""}
}

func special(kind byte, name string, major, minor int64) entry {
	return entry{tar.Header{Typeflag: kind, Name: name, Mode: 0o600, Devmajor: major, Devminor: minor, ModTime: someTime}, ""}
}

// with changes an entry's header.
func (e entry) with(change func(*tar.Header)) entry {
	change(&e.Header)
	return e
}

func mode(m int64) func(*tar.Header) { return func(h *tar.Header) { h.Mode = m } }

func owner(uid, gid int) func(*tar.Header) {
	return func(h *tar.Header) { h.Uid, h.Gid = uid, gid }
}

func xattr(k, v string) func(*tar.Header) {
	return func(h *tar.Header) { h.PAXRecords = map[string]string{"SCHILY.xattr." + k: v} }
}

func tarOf(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatalf("write the header of %q: %v", e.Name, err)
		}
		if _, err := io.WriteString(w, e.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gzipOf(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func zstdOf(t testing.TB, b []byte) []byte {
	t.Helper()
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return z.EncodeAll(b, nil)
}

func asLayer(b []byte) Layer {
	return Layer{
		Descriptor: image.Descriptor{Digest: digest.FromBytes(b), Size: int64(len(b))},
		Blob:       bytes.NewReader(b),
	}
}

// layersOf makes layers, compressed in turn in all three ways.
func layersOf(t testing.TB, layers ...[]entry) []Layer {
	t.Helper()
	var out []Layer
	for i, entries := range layers {
		b := tarOf(t, entries...)
		switch i % 3 {
		case 0:
			b = gzipOf(t, b)
		case 1:
			b = zstdOf(t, b)
		}
		out = append(out, asLayer(b))
	}
	return out
}

func merged(t testing.TB, layers []Layer, opts Options) *Tree {
	t.Helper()
	opts.SpoolDir = t.TempDir()
	tree, err := Merge(context.Background(), layers, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tree.Close(); err != nil {
			t.Error(err)
		}
	})
	return tree
}

func tarred(t testing.TB, tree *Tree, opts TarOptions) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := tree.WriteTar(context.Background(), &b, opts); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// readTar reads a tar as lines that tell all about each entry.
func readTar(t testing.TB, r io.Reader) []string {
	t.Helper()
	var lines []string
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return lines
		}
		if err != nil {
			t.Fatalf("read the tar: %v", err)
		}
		b, err := io.ReadAll(tr)
		if err != nil {
			t.Fatalf("read %s: %v", h.Name, err)
		}
		lines = append(lines, line(h, string(b)))
	}
}

// line tells of an entry what differs from file, dir, symlink and so on.
func line(h *tar.Header, body string) string {
	s := h.Name
	plainMode := int64(0o644)
	switch h.Typeflag {
	case tar.TypeReg:
		if len(body) > 100 {
			body = fmt.Sprintf("%d bytes %.8s", len(body), digest.FromString(body).Encoded())
		}
		s += " = " + body
	case tar.TypeDir:
		plainMode = 0o755
	case tar.TypeSymlink:
		s += " -> " + h.Linkname
		plainMode = 0o777
	case tar.TypeLink:
		return s + " => " + h.Linkname
	default:
		s += fmt.Sprintf(" %c %d:%d", h.Typeflag, h.Devmajor, h.Devminor)
		plainMode = 0o600
	}
	if h.Mode != plainMode {
		s += fmt.Sprintf(" mode %o", h.Mode)
	}
	if h.Uid != 0 || h.Gid != 0 {
		s += fmt.Sprintf(" owner %d:%d", h.Uid, h.Gid)
	}
	if !h.ModTime.Equal(someTime) {
		s += fmt.Sprintf(" time %d.%09d", h.ModTime.Unix(), h.ModTime.Nanosecond())
	}
	var keys []string
	for k := range h.PAXRecords {
		if strings.HasPrefix(k, paxXattr) {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, cmp.Compare)
	for _, k := range keys {
		s += fmt.Sprintf(" %s=%q", k[len(paxXattr):], h.PAXRecords[k])
	}
	return s
}

// emptyDir is a directory that can be removed after the test, whatever
// rights the directories in it leave.
func emptyDir(t testing.TB) string {
	t.Helper()
	top := t.TempDir()
	t.Cleanup(func() {
		_ = filepath.WalkDir(top, func(path string, e fs.DirEntry, err error) error {
			if err == nil && e.IsDir() { // before it is read
				err = os.Chmod(path, 0o700)
			}
			return err
		})
	})
	return top
}
