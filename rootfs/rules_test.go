package rootfs

import (
	"archive/tar"
	"bytes"
	"context"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// implied is what a directory looks like that no layer has an entry for.
const implied = " time 0.000000000"

var big, bigLine = strings.Repeat("big ", 50_000), "200000 bytes ce080dea"

// rules says what layers, the lowest first, come to.
var rules = []struct {
	name   string
	layers [][]entry
	want   []string
}{
	{"no layers", nil, nil},
	{"an empty layer", [][]entry{{}}, nil},
	{"one layer, sorted", [][]entry{
		{file("b", "1"), dir("a"), file("a/z", "2"), file("a.txt", "3")},
	}, []string{"a/", "a/z = 2", "a.txt = 3", "b = 1"}},
	{"upper files replace lower ones", [][]entry{
		{file("a", "old"), file("b", "kept")}, {file("a", "new")},
	}, []string{"a = new", "b = kept"}},
	{"a whiteout hides a file", [][]entry{
		{dir("d"), file("d/a", "1"), file("d/b", "2")}, {file("d/.wh.a", "")},
	}, []string{"d/", "d/b = 2"}},
	{"a whiteout hides a directory with all in it", [][]entry{
		{dir("d"), dir("d/e"), file("d/e/f", "1"), file("g", "2")}, {file(".wh.d", "")},
	}, []string{"g = 2"}},
	{"a whiteout hides nothing of its own layer, before it or behind", [][]entry{
		{file("a", "old"), file("b", "old"), dir("d"), file("d/x", "old")},
		{file("a", "new"), file(".wh.a", ""), file(".wh.b", ""), file("b", "new"), dir("d"), file("d/y", "new"), file(".wh.d", "")},
	}, []string{"a = new", "b = new", "d/", "d/y = new"}},
	{"a whiteout of what is not there", [][]entry{
		{file("a", "1")}, {file(".wh.b", ""), file("none/.wh.c", ""), file("none/.wh..wh..opq", "")},
	}, []string{"a = 1"}},
	{"a whiteout of any type", [][]entry{
		{file("a", "1"), file("b", "2")}, {dir(".wh.a"), symlink(".wh.b", "/etc/passwd")},
	}, nil},
	{"opaque hides lower layers alone", [][]entry{
		{dir("d"), file("d/a", "old"), dir("d/e"), file("d/e/b", "old")},
		{dir("d").with(mode(0o700)), file("d/.wh..wh..opq", ""), file("d/n", "new")},
	}, []string{"d/ mode 700", "d/n = new"}},
	{"opaque behind its siblings", [][]entry{
		{dir("d"), file("d/a", "old"), dir("d/e"), file("d/e/b", "old"), file("d/e/c", "old")},
		{dir("d"), file("d/a", "new"), dir("d/e"), file("d/e/b", "new"), file("d/.wh..wh..opq", ""), file("d/z", "new")},
	}, []string{"d/", "d/a = new", "d/e/", "d/e/b = new", "d/z = new"}},
	{"opaque root", [][]entry{
		{file("a", "old")}, {file(".wh..wh..opq", ""), file("b", "new")},
	}, []string{"b = new"}},
	{"opaque twice, and a layer above", [][]entry{
		{dir("d"), file("d/a", "1")},
		{dir("d"), file("d/.wh..wh..opq", ""), file("d/b", "2"), file("d/.wh..wh..opq", "")},
		{file("d/c", "3")},
		{file("d/.wh..wh..opq", "")},
	}, []string{"d/"}},
	{"deleted and made again", [][]entry{
		{file("a", "1"), dir("d"), file("d/x", "1")}, {file(".wh.a", ""), file(".wh.d", "")}, {file("a", "3"), dir("d"), file("d/y", "3")},
	}, []string{"a = 3", "d/", "d/y = 3"}},
	{"a file becomes a directory and again a file", [][]entry{
		{file("a", "1")}, {dir("a"), file("a/b", "2")}, {file("a", "3")},
	}, []string{"a = 3"}},
	{"a directory becomes a file and again a directory", [][]entry{
		{dir("a"), file("a/old", "1")}, {file("a", "2")}, {dir("a"), file("a/new", "3")},
	}, []string{"a/", "a/new = 3"}},
	{"a directory becomes a link", [][]entry{
		{dir("a"), file("a/old", "1")}, {symlink("a", "b")},
	}, []string{"a -> b"}},
	{"a link becomes a directory", [][]entry{
		{dir("b"), symlink("a", "b")}, {dir("a"), file("a/x", "1")},
	}, []string{"a/", "a/x = 1", "b/"}},
	{"a directory's newest entry tells of it", [][]entry{
		{dir("d").with(owner(1, 2)), file("d/a", "1")}, {dir("d").with(mode(0o1777))},
	}, []string{"d/ mode 1777", "d/a = 1"}},

	{"hard links in one layer", [][]entry{
		{file("b", "x"), hardlink("c", "b"), hardlink("a", "./b")},
	}, []string{"a = x", "b => a", "c => a"}},
	{"a hard link's target is replaced above (go-containerregistry#2002)", [][]entry{
		{file("a", "old"), hardlink("b", "a")}, {file("a", "new")},
	}, []string{"a = new", "b = old"}},
	{"a hard link's target is deleted above", [][]entry{
		{file("a", "old"), hardlink("b", "a"), hardlink("c", "a")}, {file(".wh.a", "")},
	}, []string{"b = old", "c => b"}},
	{"large, so that its content was taken for hidden", [][]entry{
		{file("a", big), hardlink("b", "a")}, {file("a", "new")}, {file("z", "1")},
	}, []string{"a = new", "b = " + bigLine, "z = 1"}},
	{"hard links across layers", [][]entry{
		{file("a", "x"), dir("d")}, {hardlink("d/b", "a")}, {file(".wh.a", ""), hardlink("c", "d/b")},
	}, []string{"c = x", "d/", "d/b => c"}},
	{"a hard link's name is replaced, the target stays", [][]entry{
		{file("a", "x"), hardlink("b", "a")}, {file("b", "y")},
	}, []string{"a = x", "b = y"}},
	{"a hard link to itself", [][]entry{
		{file("a", "x")}, {hardlink("a", "a")},
	}, []string{"a = x"}},
	{"a hard link to a symbolic link is to the link", [][]entry{
		{file("t", "x"), symlink("s", "t"), hardlink("h", "s")},
	}, []string{"h -> t", "s => h", "t = x"}},
	{"a hard link to what its own layer hides later", [][]entry{
		{file("a", "x")}, {hardlink("b", "a"), file(".wh.a", "")},
	}, []string{"b = x"}},
	{"a hard link replaces the directory that holds its target", [][]entry{
		{dir("d"), file("d/f", "x")}, {hardlink("d", "d/f")},
	}, []string{"d = x"}},
	{"a hard link's own metadata says nothing", [][]entry{
		{file("a", "x").with(mode(0o600)).with(owner(5, 6)), hardlink("b", "a").with(mode(0o4777)).with(owner(7, 8))},
	}, []string{"a = x mode 600 owner 5:6", "b => a"}},
	{"a hard link to a device", [][]entry{
		{special(tar.TypeChar, "null", 1, 3), hardlink("zap", "null")},
	}, []string{"null 3 1:3", "zap => null"}},

	{"owners, modes, times, attributes", [][]entry{{
		file("su", "x").with(mode(0o4755)).with(owner(1, 2)).with(func(h *tar.Header) {
			h.ModTime, h.Format = time.Unix(1_600_000_000, 123_456_789), tar.FormatPAX
		}),
		file("sg", "x").with(mode(0o2755)).with(owner(3_000_000, 4_000_000_000-1<<31)),
		dir("tmp").with(mode(0o1777)),
		file("cap", "x").with(xattr("user.a", "\x00\x01=\n")),
		file("old", "x").with(func(h *tar.Header) { h.ModTime, h.Format = time.Unix(-5, 0), tar.FormatPAX }),
	}}, []string{
		`cap = x user.a="\x00\x01=\n"`,
		"old = x time -5.000000000",
		"sg = x mode 2755 owner 3000000:1852516352",
		"su = x mode 4755 owner 1:2 time 1600000000.123456789",
		"tmp/ mode 1777",
	}},
	{"an upper entry's attributes replace all", [][]entry{
		{dir("d").with(xattr("user.a", "1"))}, {dir("d").with(xattr("user.b", "2"))},
	}, []string{`d/ user.b="2"`}},
	{"devices and pipes", [][]entry{
		{special(tar.TypeChar, "c", 1, 3), special(tar.TypeBlock, "b", 8, 300), special(tar.TypeFifo, "p", 0, 0)},
	}, []string{"b 4 8:300", "c 3 1:3", "p 6 0:0"}},
	{"long and unicode names", [][]entry{
		{file(strings.Repeat("long/", 60)+"ünï", "x"), symlink("l", strings.Repeat("t", 300)), file("日本/語", "y")},
		{file("日本/.wh.語", "")},
	}, slices.Concat([]string{"l -> " + strings.Repeat("t", 300)}, longDirs(60), []string{strings.Repeat("long/", 60) + "ünï = x", "日本/" + implied})},
	{"GNU's long names", [][]entry{
		{file("g/"+strings.Repeat("n", 200), "x").with(func(h *tar.Header) { h.Format = tar.FormatGNU })},
	}, []string{"g/" + implied, "g/" + strings.Repeat("n", 200) + " = x"}},
	{"bytes that are no UTF-8", [][]entry{
		{file("a\xff", "x")},
	}, []string{"a\xff = x"}},

	{"missing parents", [][]entry{
		{file("a/b/c", "x")},
	}, []string{"a/" + implied, "a/b/" + implied, "a/b/c = x"}},
	{"a missing parent is told of later, or above", [][]entry{
		{file("a/x", "1"), dir("a").with(mode(0o700)), file("b/x", "1")}, {dir("b").with(mode(0o711))},
	}, []string{"a/ mode 700", "a/x = 1", "b/ mode 711", "b/x = 1"}},
	{"a file stands where a parent should", [][]entry{
		{file("a", "1")}, {file("a/b", "2")},
	}, []string{"a/" + implied, "a/b = 2"}},
	{"names of all forms", [][]entry{
		{dir("./d"), file("./d//x", "1"), file("/abs", "2"), file("d/../y", "3"), file("../../up", "4")},
		{file("./d/./.wh.x", "")},
	}, []string{"abs = 2", "d/", "up = 4", "y = 3"}},
	{"the root's own entry", [][]entry{
		{entry{tar.Header{Typeflag: tar.TypeDir, Name: "./", Mode: 0o700, Uid: 7, ModTime: someTime}, ""}, file("a", "1")},
		{entry{tar.Header{Typeflag: tar.TypeDir, Name: ".", Mode: 0o711, ModTime: someTime}, ""}},
	}, []string{"./ mode 711", "a = 1"}},
	{"twice in one layer: the last wins", [][]entry{
		{file("a", "1"), file("a", "2"), dir("d"), file("d/x", "1"), file("d", "file"), file("f", "1"), dir("f"), symlink("s", "1"), symlink("s", "2")},
	}, []string{"a = 2", "d = file", "f/", "s -> 2"}},

	{"a parent is a link below", [][]entry{
		{dir("run"), dir("var"), symlink("var/run", "/run")}, {file("var/run/pid", "1")},
	}, []string{"run/", "run/pid = 1", "var/", "var/run -> /run"}},
	{"a parent is a relative link, of links", [][]entry{
		{dir("a"), dir("a/real"), symlink("a/l", "../b"), symlink("b", "./a/real")}, {file("a/l/x", "1")},
	}, []string{"a/", "a/l -> ../b", "a/real/", "a/real/x = 1", "b -> ./a/real"}},
	{"a link as parent leads nowhere", [][]entry{
		{symlink("l", "/no/where")}, {file("l/x", "1")},
	}, []string{"l -> /no/where", "no/" + implied, "no/where/" + implied, "no/where/x = 1"}},
	{"a link as parent leads above the root", [][]entry{
		{symlink("l", "../../../etc"), dir("etc")}, {file("l/x", "1")},
	}, []string{"etc/", "etc/x = 1", "l -> ../../../etc"}},
	{"a whiteout below a link", [][]entry{
		{dir("run"), file("run/pid", "1"), symlink("r", "run")}, {file("r/.wh.pid", "")},
	}, []string{"r -> run", "run/"}},
	{"an opaque link hides what it leads to", [][]entry{
		{dir("run"), file("run/pid", "1"), symlink("r", "run")}, {file("r/.wh..wh..opq", "")},
	}, []string{"r -> run", "run/"}},
	{"a hard link's target below a link", [][]entry{
		{dir("run"), file("run/x", "1"), symlink("r", "/run")}, {hardlink("h", "r/x")},
	}, []string{"h = 1", "r -> /run", "run/", "run/x => h"}},
	{"a link that moves: files go where it led then", [][]entry{
		{dir("x"), dir("y"), symlink("d", "x")}, {file("d/f", big)}, {symlink("d", "y")}, {file("d/f", "small")},
	}, []string{"d -> y", "x/", "x/f = " + bigLine, "y/", "y/f = small"}},

	{"AUFS's bookkeeping", [][]entry{
		{dir(".wh..wh.plnk"), file(".wh..wh.plnk/1.2", "x"), file(".wh..wh.aufs", ""), file("a", "1")},
	}, []string{"a = 1"}},
	{"a name that only looks like a whiteout", [][]entry{
		{file("x.wh.y", "1"), file("wh.z", "2"), file(".whale", "3")},
	}, []string{".whale = 3", "wh.z = 2", "x.wh.y = 1"}},
}

func longDirs(n int) (lines []string) {
	for i := range n {
		lines = append(lines, strings.Repeat("long/", i+1)+implied)
	}
	return lines
}

func TestRules(t *testing.T) {
	for _, tt := range rules {
		t.Run(tt.name, func(t *testing.T) {
			layers := layersOf(t, tt.layers...)
			tree := merged(t, layers, Options{})
			b := tarred(t, tree, TarOptions{})
			if diff := cmp.Diff(tt.want, readTar(t, bytes.NewReader(b))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			// Another number of jobs, another order of decoding: the same bytes.
			for jobs := range 3 {
				again := merged(t, layers, Options{Jobs: jobs + 1, Once: true})
				if !bytes.Equal(b, tarred(t, again, TarOptions{Jobs: jobs + 1})) {
					t.Errorf("with %d jobs the bytes are others", jobs+1)
				}
			}
			// A file gets the same bytes as a stream, from where it stands.
			f, err := os.Create(filepath.Join(t.TempDir(), "a.tar"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := f.WriteString("before"); err != nil {
				t.Fatal(err)
			}
			if err := tree.WriteTar(context.Background(), f, TarOptions{}); err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteString("behind"); err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(f.Name())
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, append(append([]byte("before"), b...), "behind"...)) {
				t.Error("the file differs from the stream")
			}
			if os.Geteuid() == 0 && runtime.GOOS == "linux" {
				// The tree as unpacked, read as a tar again, is the tar.
				dir := t.TempDir()
				if err := tree.Unpack(context.Background(), dir, UnpackOptions{NoSync: true}); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(tt.want, readTree(t, dir, tree.tree.node(root).layer != noLayer)); diff != "" {
					t.Errorf("unpacked (-want +got):\n%s", diff)
				}
			}
		})
	}
}
