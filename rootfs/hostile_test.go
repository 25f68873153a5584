package rootfs

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/davit-cli/davit/image"
)

// outside is a directory with something to lose, and a target to unpack into.
type outside struct{ dir, target string }

func newOutside(t *testing.T) outside {
	t.Helper()
	o := outside{dir: t.TempDir()}
	o.target = filepath.Join(o.dir, "target")
	for name, body := range map[string]string{"canary": "alive", "secret/key": "secret"} {
		p := filepath.Join(o.dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return o
}

// state tells all about what is outside of the target.
func (o outside) state(t *testing.T) []string {
	t.Helper()
	var lines []string
	err := filepath.Walk(o.dir, func(p string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		if p == o.target {
			return filepath.SkipDir
		}
		body := ""
		if info.Mode().IsRegular() {
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			body = string(b) + info.ModTime().String() + links(info)
		}
		lines = append(lines, fmt.Sprint(p, info.Mode(), body))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// attacks are layers that would leave the target. Each has a benign twin.
// OUT stands for the absolute path of the directory outside.
var attacks = []struct {
	name       string
	bad, twin  [][]entry
	refused    bool
	wantInside string // a file that the attack makes, inside of the target
	wantTwin   string
}{
	{
		name: "the root as a file", bad: [][]entry{{file("a/../..", "dead")}}, refused: true,
		twin: [][]entry{{file("..canary", "ok"), file("a/..b/c...", "ok")}}, wantTwin: "..canary",
	},
	{
		name: "dots", bad: [][]entry{{file("../../../canary", "dead"), file("a/../../canary", "dead")}}, wantInside: "canary",
		twin: [][]entry{{dir("a"), file("a/../canary", "ok")}}, wantTwin: "canary",
	},
	{
		name: "an absolute path", bad: [][]entry{{file("OUT/canary", "dead")}}, wantInside: "OUT/canary",
		twin: [][]entry{{file("/canary", "ok")}}, wantTwin: "canary",
	},
	{
		name: "a symbolic link as parent", bad: [][]entry{{symlink("l", "OUT"), file("l/canary", "dead")}}, wantInside: "OUT/canary",
		twin: [][]entry{{dir("run"), symlink("l", "/run"), file("l/canary", "ok")}}, wantTwin: "run/canary",
	},
	{
		name: "a relative link as parent, in another layer", bad: [][]entry{{symlink("l", "../secret")}, {file("l/key", "dead")}}, wantInside: "secret/key",
		twin: [][]entry{{dir("run"), symlink("l", "run")}, {file("l/key", "ok")}}, wantTwin: "run/key",
	},
	{
		name: "a chain of links", bad: [][]entry{{symlink("a", ".."), symlink("b", "a/.."), symlink("c", "b/secret"), file("c/key", "dead")}}, wantInside: "secret/key",
		twin: [][]entry{{dir("x"), symlink("a", "x"), symlink("b", "a/.."), file("b/key", "ok")}}, wantTwin: "key",
	},
	{
		name: "a file over a link to the outside", bad: [][]entry{{symlink("canary", "OUT/canary")}, {file("canary", "dead")}}, wantInside: "canary",
		twin: [][]entry{{file("real", "old"), symlink("canary", "real")}, {file("canary", "ok")}}, wantTwin: "canary",
	},
	{
		name: "a directory over a link to the outside", bad: [][]entry{{symlink("l", "OUT/secret")}, {dir("l").with(mode(0o777)), file("l/key", "dead")}}, wantInside: "l/key",
		twin: [][]entry{{symlink("l", "d"), dir("d")}, {dir("l"), file("l/key", "ok")}}, wantTwin: "l/key",
	},
	{
		name: "a hard link to the outside", bad: [][]entry{{hardlink("h", "../canary"), file("h", "dead")}}, refused: true,
		twin: [][]entry{{file("canary", "ok"), hardlink("h", "../canary")}}, wantTwin: "h",
	},
	{
		name: "an absolute hard link to the outside", bad: [][]entry{{hardlink("h", "OUT/canary")}}, refused: true,
		twin: [][]entry{{file("canary", "ok"), hardlink("h", "/canary")}}, wantTwin: "h",
	},
	{
		name: "a hard link through a link to the outside", bad: [][]entry{{symlink("l", "OUT"), hardlink("h", "l/canary")}}, refused: true,
		twin: [][]entry{{dir("d"), file("d/canary", "ok"), symlink("l", "d"), hardlink("h", "l/canary")}}, wantTwin: "h",
	},
	{
		// CVE-2021-29136, CVE-2021-32760: the link's mode would be set through it.
		name: "chmod through a hard link to a link", bad: [][]entry{{symlink("s", "OUT/canary"), hardlink("h", "s").with(mode(0o4777)).with(owner(99, 99))}},
		twin: [][]entry{{file("f", "ok"), hardlink("h", "f").with(mode(0o777))}}, wantTwin: "h",
	},
	{
		name: "chmod and times through a link", bad: [][]entry{{symlink("canary", "OUT/canary").with(mode(0o4777)).with(owner(99, 99))}},
		twin: [][]entry{{file("f", "ok"), symlink("s", "f")}}, wantTwin: "s",
	},
	{
		name: "a hard link to a directory", bad: [][]entry{{dir("d"), hardlink("h", "d")}}, refused: true,
		twin: [][]entry{{dir("d"), file("d/f", "ok"), hardlink("h", "d/f")}}, wantTwin: "h",
	},
	{
		name: "a hard link to the root", bad: [][]entry{{hardlink("h", ".")}}, refused: true,
		twin: [][]entry{{file("f", "ok"), hardlink("h", "./f")}}, wantTwin: "h",
	},
	{
		name: "the root as a link", bad: [][]entry{{symlink(".", "OUT")}, {file("canary", "dead")}}, refused: true,
		twin: [][]entry{{dir("."), file("canary", "ok")}}, wantTwin: "canary",
	},
	{
		name: "a whiteout of the outside", bad: [][]entry{{symlink("l", "OUT")}, {file("l/.wh.canary", ""), file("../.wh.canary", "")}},
		twin: [][]entry{{dir("d"), file("d/x", "1"), file("y", "ok")}, {file("d/.wh.x", "")}}, wantTwin: "y",
	},
	{
		name: "an opaque directory outside", bad: [][]entry{{symlink("l", "OUT/secret")}, {file("l/.wh..wh..opq", ""), file("../.wh..wh..opq", "")}},
		twin: [][]entry{{dir("d"), file("d/x", "1"), file("y", "ok")}, {file("d/.wh..wh..opq", "")}}, wantTwin: "y",
	},
	{
		name: "a whiteout of nothing", bad: [][]entry{{file("d/.wh.", "")}}, refused: true,
		twin: [][]entry{{file("d/.wh", "ok")}}, wantTwin: "d/.wh",
	},
	{
		name: "a whiteout of the directory itself", bad: [][]entry{{file("d/x", "1")}, {file("d/.wh..", "")}}, refused: true,
		twin: [][]entry{{file("d/x", "1"), file("y", "ok")}, {file(".wh.d", "")}}, wantTwin: "y",
	},
	{
		name: "a whiteout of the parent", bad: [][]entry{{file("d/x", "1")}, {file("d/.wh...", "")}}, refused: true,
		twin: [][]entry{{file("d/...", "1"), file("y", "ok")}, {file("d/.wh....", "")}}, wantTwin: "y",
	},
	{
		name: "a whiteout with slashes", bad: [][]entry{{file(".wh.a/b", "x")}}, refused: true,
		twin: [][]entry{{file("a.wh.a/b", "ok")}}, wantTwin: "a.wh.a/b",
	},
	{
		name: "links in a circle", bad: [][]entry{{symlink("a", "b"), symlink("b", "a"), file("a/x", "dead")}}, refused: true,
		twin: [][]entry{{symlink("a", "b"), symlink("b", "c"), dir("c"), file("a/x", "ok")}}, wantTwin: "c/x",
	},
	{
		name: "a link with no target", bad: [][]entry{{symlink("a", "")}}, refused: true,
		twin: [][]entry{{symlink("a", "b"), file("b", "ok")}}, wantTwin: "a",
	},
	{
		name: "a path too long", bad: [][]entry{{file(strings.Repeat("a/", 2100)+"x", "dead")}}, refused: true,
		twin: [][]entry{{file(strings.Repeat("a/", 900)+"x", "ok")}}, wantTwin: "a/a/a",
	},
	{
		name: "a tree made deep by links", bad: deep(maxDepth/1000 + 1), refused: true,
		twin: deep(1), wantTwin: "l1",
	},
	{
		name: "a device of no number", bad: [][]entry{{special(tar.TypeChar, "d", 1, 3).with(func(h *tar.Header) { h.Devminor, h.Format = 1<<40, tar.FormatGNU })}}, refused: true,
		twin: [][]entry{{special(tar.TypeChar, "d", 1, 3), file("f", "ok")}}, wantTwin: "f",
	},
	{
		name: "an unknown type", bad: [][]entry{{special('Z', "z", 0, 0)}}, refused: true,
		twin: [][]entry{{file("z", "ok")}}, wantTwin: "z",
	},
}

// deep makes a tree of 1000 n directories, each thousand below a link to those before.
func deep(n int) (layers [][]entry) {
	at := ""
	for i := range n {
		path := at + strings.Repeat("d/", 1000)
		at = fmt.Sprintf("l%d/", i+1)
		layers = append(layers, []entry{dir(path + "end"), symlink(strings.TrimSuffix(at, "/"), path+"end")})
	}
	return append(layers, []entry{file(at+"x", "ok")})
}

func TestAttacks(t *testing.T) {
	place := func(o outside, layers [][]entry) [][]entry {
		var out [][]entry
		for _, l := range layers {
			var entries []entry
			for _, e := range l {
				e.Name = strings.ReplaceAll(e.Name, "OUT", strings.TrimPrefix(o.dir, "/"))
				if e.Typeflag == tar.TypeSymlink || e.Typeflag == tar.TypeLink {
					e.Linkname = strings.ReplaceAll(e.Linkname, "OUT", o.dir)
				}
				entries = append(entries, e)
			}
			out = append(out, entries)
		}
		return out
	}
	run := func(o outside, layers [][]entry, opts UnpackOptions) error {
		tree, err := Merge(context.Background(), layersOf(t, place(o, layers)...), Options{SpoolDir: t.TempDir()})
		if err != nil {
			return err
		}
		defer tree.Close()
		if err := tree.WriteTar(context.Background(), io.Discard, TarOptions{}); err != nil {
			return err
		}
		return tree.Unpack(context.Background(), o.target, opts)
	}
	for _, tt := range attacks {
		for _, planted := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, planted %v", tt.name, planted), func(t *testing.T) {
				o := newOutside(t)
				if planted {
					// What stands in the target leads outside already.
					if err := os.Mkdir(o.target, 0o755); err != nil {
						t.Fatal(err)
					}
					for _, name := range []string{"a", "d", "l", "run", "h", "canary", "secret", "f"} {
						to := o.dir
						if name == "canary" || name == "h" || name == "f" {
							to += "/canary"
						}
						if err := os.Symlink(to, filepath.Join(o.target, name)); err != nil {
							t.Fatal(err)
						}
					}
				}
				opts := UnpackOptions{Existing: planted, NoSync: true}
				before := o.state(t)
				err := run(o, tt.bad, opts)
				if tt.refused && !errors.Is(err, image.ErrVerification) {
					t.Errorf("the attack: %v, want an ErrVerification", err)
				}
				if !tt.refused && err != nil {
					t.Errorf("the attack, which is harmless inside: %v", err)
				}
				if diff := cmp.Diff(before, o.state(t)); diff != "" {
					t.Fatalf("outside (-before +after):\n%s", diff)
				}
				if tt.wantInside != "" {
					p := filepath.Join(o.target, strings.ReplaceAll(tt.wantInside, "OUT", o.dir))
					if info, err := os.Lstat(p); err != nil || !info.Mode().IsRegular() {
						t.Errorf("%s: %v, %v", p, info, err)
					}
				}
				if !planted {
					if err := os.RemoveAll(o.target); err != nil {
						t.Fatal(err)
					}
				}
				if err := run(o, tt.twin, opts); err != nil {
					t.Fatalf("the benign twin: %v", err)
				}
				if _, err := os.Lstat(filepath.Join(o.target, tt.wantTwin)); err != nil {
					t.Errorf("the benign twin: %v", err)
				}
				if diff := cmp.Diff(before, o.state(t)); diff != "" {
					t.Errorf("outside, after the twin (-before +after):\n%s", diff)
				}
			})
		}
	}
}

// Streams that are broken, or decode to too much.
func TestBadStreams(t *testing.T) {
	whole := tarOf(t, file("a", strings.Repeat("x", 100_000)), file("b", "y"))
	noise := make([]byte, 10_000)
	src := rand.NewChaCha8([32]byte{1})
	if _, err := src.Read(noise); err != nil {
		t.Fatal(err)
	}
	incompressible := tarOf(t, file("a", string(noise)))
	gz, zs := gzipOf(t, incompressible), zstdOf(t, incompressible)
	flipped := bytes.Clone(gz)
	flipped[len(flipped)-6] ^= 1 // of the checksum
	header := bytes.Clone(whole)
	header[0] ^= 0xff
	tests := []struct {
		name  string
		blob  []byte
		limit Limits
		ok    bool
		want  error
	}{
		{name: "whole", blob: whole, ok: true},
		{name: "whole gzip", blob: gz, ok: true},
		{name: "whole zstd", blob: zs, ok: true},
		{name: "empty", blob: nil, ok: true},
		{name: "several gzip members", blob: append(gzipOf(t, whole[:700]), gzipOf(t, whole[700:])...), ok: true},
		{name: "several zstd frames, one to be skipped", blob: append(append([]byte("\x50\x2a\x4d\x18\x03\x00\x00\x00abc"), zstdOf(t, whole[:700])...), zstdOf(t, whole[700:])...), ok: true},
		{name: "without an end", blob: whole[:len(whole)-1024], ok: true},
		{name: "padded", blob: gzipOf(t, append(bytes.Clone(whole), make([]byte, 20_000)...)), ok: true},
		{name: "cut tar", blob: whole[:50_000]},
		{name: "cut header", blob: whole[:100]},
		{name: "cut gzip", blob: gz[:len(gz)/2]},
		{name: "cut gzip's last byte", blob: gz[:len(gz)-1]},
		{name: "cut zstd", blob: zs[:len(zs)/2]},
		{name: "cut tar in a whole gzip", blob: gzipOf(t, whole[:50_000])},
		{name: "wrong checksum", blob: flipped},
		{name: "wrong header", blob: header},
		{name: "garbage", blob: noise},
		{name: "garbage in gzip", blob: gzipOf(t, noise)},
		{name: "garbage behind gzip", blob: append(bytes.Clone(gz), "garbage"...)},
		{name: "magic alone", blob: []byte("\x1f\x8b")},
		{name: "xz", blob: []byte("\xfd7zXZ\x00...")},
		{name: "bytes within the limit", blob: gz, limit: Limits{Bytes: int64(len(incompressible)) + 2048}, ok: true},
		{name: "bytes over the limit", blob: gz, limit: Limits{Bytes: int64(len(incompressible)) + 2047}, want: ErrLimit},
		{name: "a bomb in a file", blob: bomb(t, true, 64<<20), limit: Limits{Bytes: 10 << 20}, want: ErrLimit},
		{name: "a bomb behind the tar", blob: bomb(t, false, 64<<20), limit: Limits{Bytes: 10 << 20}, want: ErrLimit},
		{name: "a bomb of zstd", blob: zstdBomb(t, 64<<20), limit: Limits{Bytes: 10 << 20}, want: ErrLimit},
		{name: "the same under the limit", blob: zstdBomb(t, 64<<20), limit: Limits{Bytes: 100 << 20}, ok: true},
		{name: "entries over the limit", blob: whole, limit: Limits{Entries: 2}, want: ErrLimit},
		{name: "entries within the limit", blob: whole, limit: Limits{Entries: 3}, ok: true},
		{name: "a sparse file of 8 EiB", blob: sparse("9223372036854775807"), limit: Limits{Bytes: 1 << 30}, want: ErrLimit},
		{name: "a sparse file of 1 TiB, and the limit that there is", blob: sparse("1099511627777"), want: ErrLimit},
		{name: "a sparse file", blob: sparse("1000000"), ok: true},
		{name: "a sparse map that overlaps", blob: sparse("1000000", "0,512,100,512")},
		{name: "a size that the stream does not have", blob: tarOf(t, file("a", strings.Repeat("x", 2000)))[:1024]},
		{name: "a window too large", blob: []byte("\x28\xb5\x2f\xfd\x00\xa8\x01\x00\x00")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			spools := t.TempDir()
			tree, err := Merge(context.Background(), []Layer{asLayer(tarOf(t, file("z", "z"))), asLayer(tt.blob)}, Options{SpoolDir: spools, Limits: tt.limit})
			if tt.ok && err != nil {
				t.Fatal(err)
			}
			if !tt.ok && !errors.Is(err, image.ErrVerification) {
				t.Errorf("%v, want an ErrVerification", err)
			}
			if tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
			if err != nil && !strings.Contains(err.Error(), " (sha256:") {
				t.Errorf("%v does not tell which layer", err)
			}
			if tt.ok {
				if err := tree.WriteTar(context.Background(), io.Discard, TarOptions{}); err != nil {
					t.Error(err)
				}
				if err := tree.Close(); err != nil {
					t.Error(err)
				}
			}
			if left, _ := os.ReadDir(spools); len(left) > 0 {
				t.Errorf("the spool is left: %v", left)
			}
		})
	}
}

// bomb is a gzip of many zeros, in a file or behind the tar's end.
func bomb(t *testing.T, inside bool, n int64) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	w := tar.NewWriter(z)
	if inside {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "bomb", Size: n}); err != nil {
			t.Fatal(err)
		}
	} else if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(z, zeroReader{}, n+1024); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func zstdBomb(t *testing.T, n int64) []byte {
	t.Helper()
	var out bytes.Buffer
	z, err := zstd.NewWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(z)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "bomb", Size: n}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(z, zeroReader{}, n+1024); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// sparse is a tar with one sparse file of PAX's form 0.1, with 512 bytes "x" at
// offset 512 unless a map is given.
func sparse(size string, spans ...string) []byte {
	spans = append(spans, "512,512")
	record := func(k, v string) string {
		for n := len(k) + len(v) + 3; ; n++ {
			if s := fmt.Sprintf("%d %s=%s\n", n, k, v); len(s) == n {
				return s
			}
		}
	}
	pax := record("GNU.sparse.major", "0") + record("GNU.sparse.minor", "1") + record("GNU.sparse.name", "sparse") +
		record("GNU.sparse.size", size) + record("GNU.sparse.numblocks", fmt.Sprint((strings.Count(spans[0], ",")+1)/2)) + record("GNU.sparse.map", spans[0])
	block := func(name string, kind byte, body string) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		_ = w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(body)), Mode: 0o644})
		_, _ = io.WriteString(w, body)
		_ = w.Flush()
		h := b.Bytes()
		h[156] = kind
		sum := 0
		for i, c := range h[:512] {
			if i >= 148 && i < 156 {
				c = ' '
			}
			sum += int(c)
		}
		copy(h[148:156], fmt.Sprintf("%06o\x00 ", sum))
		return h
	}
	return append(append(block("pax", 'x', pax), block("x", '0', strings.Repeat("x", 512))...), make([]byte, 1024)...)
}

func TestSparse(t *testing.T) {
	for _, compress := range []func(testing.TB, []byte) []byte{gzipOf, func(_ testing.TB, b []byte) []byte { return b }} {
		tree := merged(t, []Layer{asLayer(compress(t, sparse("2000")))}, Options{})
		tr := tar.NewReader(bytes.NewReader(tarred(t, tree, TarOptions{})))
		h, err := tr.Next()
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		want := strings.Repeat("\x00", 512) + strings.Repeat("x", 512) + strings.Repeat("\x00", 2000-1024)
		if h.Name != "sparse" || string(got) != want {
			t.Errorf("%s has %d bytes, %q", h.Name, len(got), got)
		}
	}
}

// A blob that cannot be read is no fault of its content.
func TestReadError(t *testing.T) {
	broken := errors.New("disk on fire")
	l := asLayer(gzipOf(t, tarOf(t, file("a", "x"))))
	l.Blob = failingAt{broken}
	_, err := Merge(context.Background(), []Layer{l}, Options{SpoolDir: t.TempDir()})
	if !errors.Is(err, broken) || errors.Is(err, image.ErrVerification) {
		t.Errorf("%v", err)
	}
	l.Wait = func(context.Context) error { return broken }
	if _, err := Merge(context.Background(), []Layer{l}, Options{SpoolDir: t.TempDir()}); !errors.Is(err, broken) {
		t.Errorf("Wait: %v", err)
	}
}

type failingAt struct{ err error }

func (f failingAt) ReadAt([]byte, int64) (int, error) { return 0, f.err }

func TestCancelled(t *testing.T) {
	layers := layersOf(t, []entry{file("a", big)}, []entry{file("b", big)})
	ctx, cancel := context.WithCancel(context.Background())
	tree := merged(t, layers, Options{})
	cancel()
	if _, err := Merge(ctx, layers, Options{SpoolDir: t.TempDir()}); !errors.Is(err, context.Canceled) {
		t.Errorf("Merge: %v", err)
	}
	if err := tree.WriteTar(ctx, io.Discard, TarOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("WriteTar: %v", err)
	}
	if err := tree.Unpack(ctx, t.TempDir(), UnpackOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Unpack: %v", err)
	}
	if runtime.NumGoroutine() > 50 {
		t.Errorf("%d goroutines are left", runtime.NumGoroutine())
	}
}

func FuzzMerge(f *testing.F) {
	for _, tt := range rules {
		for _, l := range tt.layers {
			f.Add(tarOf(f, l...))
		}
	}
	f.Add(sparse("2000"))
	lower := asLayer(tarOf(f, dir("a"), file("a/b", "x"), symlink("l", "/a"), hardlink("h", "a/b")))
	f.Fuzz(func(t *testing.T, b []byte) {
		tree, err := Merge(context.Background(), []Layer{lower, asLayer(b)}, Options{SpoolDir: t.TempDir(), Limits: Limits{Bytes: 1 << 20, Entries: 1000}})
		if err != nil {
			if !errors.Is(err, image.ErrVerification) {
				t.Error(err)
			}
			return
		}
		defer tree.Close()
		out := tarred(t, tree, TarOptions{})
		// What was merged is a layer without a whiteout, and merges to itself.
		again, err := Merge(context.Background(), []Layer{asLayer(out)}, Options{SpoolDir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		defer again.Close()
		if !bytes.Equal(out, tarred(t, again, TarOptions{})) {
			t.Error("the merged tar merges to another")
		}
	})
}
