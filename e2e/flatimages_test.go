//go:build linux

package e2e

import (
	"archive/tar"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/davit-cli/davit/internal/registrytest"
)

// Short names for what layers are made of.
type entry = registrytest.File

var (
	text     = registrytest.Text
	dir      = registrytest.Dir
	symlink  = registrytest.Symlink
	hardlink = registrytest.Hardlink
)

func node(kind byte, name string, major, minor int64) entry {
	return entry{Header: tar.Header{Typeflag: kind, Name: name, Mode: 0o660, Devmajor: major, Devminor: minor}}
}

// with changes an entry's header.
func with(e entry, changes ...func(*tar.Header)) entry {
	for _, change := range changes {
		change(&e.Header)
	}
	return e
}

func mode(m int64) func(*tar.Header) { return func(h *tar.Header) { h.Mode = m } }

func owner(uid, gid int) func(*tar.Header) { return func(h *tar.Header) { h.Uid, h.Gid = uid, gid } }

func at(seconds, nanoseconds int64) func(*tar.Header) {
	return func(h *tar.Header) { h.ModTime, h.Format = time.Unix(seconds, nanoseconds), tar.FormatPAX }
}

func attribute(name, value string) func(*tar.Header) {
	return func(h *tar.Header) {
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords["SCHILY.xattr."+name] = value
	}
}

// hidden is a whiteout, emptied the one that hides all that lower layers have
// in a directory.
func hidden(name string) entry {
	parent, base := filepath.Split(name)
	return text(parent+".wh."+base, "")
}

func emptied(name string) entry { return text(name+"/.wh..wh..opq", "") }

// layersOf makes layers, every third of them not compressed. Each entry gets a
// time of its own where it has none.
func layersOf(layers ...[]entry) (made []registrytest.Layer) {
	for i, entries := range layers {
		l := registrytest.Layer{Files: slices.Clone(entries)}
		for j := range l.Files {
			if l.Files[j].ModTime.IsZero() {
				l.Files[j].ModTime = registrytest.Time.Add(time.Duration(i)*time.Hour + time.Duration(j)*time.Second)
			}
		}
		if i%3 == 2 {
			l.Compression = registrytest.None
		}
		made = append(made, l)
	}
	return made
}

// manyLayers is an image of all that builds do to a file system, and more.
func manyLayers(t testing.TB) registrytest.Image {
	t.Helper()
	long := strings.Repeat("long-", 50) // 250 bytes, of 255 that a name may have
	deep, toDeep := "", []entry{dir("srv/deep")}
	for range 14 {
		deep += "a-directory-that-is-deep/"
		toDeep = append(toDeep, dir("srv/deep/"+deep))
	}
	numbered := func(from, to int, content string) (files []entry) {
		for i := from; i < to; i++ {
			files = append(files, with(text(fmt.Sprintf("srv/many/%03d", i), fmt.Sprint(content, i)), mode(0o600+int64(i)%0o100)))
		}
		return files
	}
	noise := entry{Header: tar.Header{Name: "srv/noise"}, Body: registrytest.RandomBytes(7, 3_000_001)}
	layers := layersOf(
		[]entry{ // a system with links for directories
			with(dir("."), mode(0o751), owner(0, 7)), dir("usr"), dir("usr/bin"), symlink("bin", "usr/bin"), dir("run"), with(dir("run/lock"), mode(0o1777)),
			dir("var"), symlink("var/run", "/run"), symlink("var/lock", "../run/lock"), with(dir("tmp"), mode(0o1777)), with(dir("root"), mode(0o700)),
			dir("etc"), text("etc/empty", ""), text("etc/hosts", "127.0.0.1 localhost\n"), with(text("usr/bin/su", "su"), mode(0o4755)),
			with(text("usr/bin/wall", "wall"), mode(0o2755), owner(0, 5)), with(dir("var/mail"), mode(0o2775), owner(0, 8)), symlink("etc/nowhere", "/no/where/../at/all"),
		},
		[]entry{text("var/run/app.pid", "1\n"), text("bin/tool", "tool"), text("var/lock/held", "x"), dir("var/run/app"), text("var/run/app/state", "y")}, // through the links
		[]entry{
			dir("dev"), node(tar.TypeChar, "dev/null", 1, 3), node(tar.TypeBlock, "dev/loop0", 7, 0), node(tar.TypeChar, "dev/much", 250, 70_000),
			with(node(tar.TypeFifo, "run/pipe", 0, 0), mode(0o622), owner(1, 2)), with(node(tar.TypeBlock, "dev/sdz", 65, 144), owner(0, 6)),
		},
		[]entry{
			dir("srv"), with(text("srv/attributes", "x"), attribute("user.one", "1"), attribute("user.two", "zwei\x00\xff")), with(dir("srv/attributes.d"), attribute("user.d", "")),
			with(text("srv/able", "x"), mode(0o755), attribute("security.capability", "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")),
			with(text("srv/trusted", "x"), attribute("trusted.t", "t")),
		},
		append(toDeep, []entry{
			text(long, "long"), text("untold/x", "x"), text("srv/deep/"+deep+long, "deep"), symlink("srv/far", "/"+deep+"far"), hardlink("srv/near", "srv/deep/"+deep+long),
			text("srv/größe", "NFC"), text("srv/größe", "NFD"), text("srv/файл 日本語 🚣", "x"), text("srv/ a b\t\n\\\"'$*", "odd"), text("srv/latin-\xe9", "no UTF-8"), text("srv/-rf", "x"),
		}...),
		append([]entry{dir("srv/many")}, numbered(0, 300, "first ")...),
		append(append([]entry{dir("srv/many")}, numbered(100, 150, "second ")...), hidden("srv/many/007"), hidden("srv/many/299"), hidden("srv/many/none")),
		[]entry{dir("opt"), dir("opt/app"), text("opt/app/a", "a1"), text("opt/app/b", "b1"), dir("opt/app/c"), text("opt/app/c/d", "d1"), dir("opt/lib"), text("opt/lib/x", "x1")},
		[]entry{dir("opt"), dir("opt/app"), text("opt/app/before", "1"), text("opt/app/b", "b2"), emptied("opt/app"), text("opt/app/behind", "2"), hidden("opt/lib")},
		[]entry{with(dir("opt/lib"), mode(0o711)), text("opt/lib/y", "y"), text("opt/app/a", "a2")}, // made again
		[]entry{text("opt/turns", "file")},
		[]entry{dir("opt/turns"), text("opt/turns/inside", "1"), dir("opt/turns/d"), text("opt/turns/d/x", "x")},
		[]entry{with(text("opt/turns", "file again"), mode(0o4711), owner(12, 34))},
		[]entry{with(dir("opt/turns"), mode(0o750)), text("opt/turns/other", "2")},
		[]entry{symlink("opt/link", "turns"), text("opt/link/through", "3"), dir("opt/was"), text("opt/was/x", "x")},
		[]entry{dir("opt/link"), text("opt/link/inside", "4"), symlink("opt/was", "/opt/link"), text("opt/was/y", "y")}, // link to directory, directory to link
		[]entry{with(dir("srv"), mode(0o2770), owner(33, 33)), with(dir("etc"), owner(5, 5)), with(text("usr/bin/su", "su 2"), mode(0o755))},
		[]entry{dir("var"), dir("run"), hidden("var/run/app.pid"), hidden("var/lock"), hidden("no/such/directory/x")}, // the file that the link leads to, and a link
		[]entry{dir("run/app"), emptied("run/app"), text("run/app/new", "n"), text("./etc/../etc/./dots", "d"), text("/etc/slash", "s")},
		nil, // nothing at all
		[]entry{
			with(text("srv/big-owner", "x"), owner(3_000_000_000, 2_100_000)), with(text("srv/old", "x"), at(-86400, 0)), with(text("srv/exact", "x"), at(1_500_000_000, 123_456_789)),
			with(text("srv/later", "x"), at(4_102_444_800, 5)), with(symlink("srv/link-time", "x"), at(1_400_000_000, 987_654_321), owner(1, 1)), with(dir("srv/dir-time"), at(1_300_000_000, 1)),
			{Header: tar.Header{Name: "srv/zeros"}, Body: slices.Concat([]byte("a"), make([]byte, 2_000_000), []byte("z"))}, noise,
		},
		[]entry{text("srv/noise", "quiet"), text("srv/dir-time/x", "x")},
	)
	made := []registrytest.Layer{gnuLayer(t, "gnu"), gnuLayer(t, "posix")}
	return registrytest.Image{Platform: thisPlatform, Layers: append(layers, made...)}
}

// gnuLayer is a layer that GNU tar wrote, of long names and files with holes.
// The holes are stored as such in its posix format alone: umoci refuses the
// sparse files of the gnu format (davit takes them; package rootfs tests it).
func gnuLayer(t testing.TB, format string) registrytest.Layer {
	t.Helper()
	top := workDir(t)
	long := filepath.Join(top, format, strings.Repeat("long/", 30), strings.Repeat("name", 50))
	if err := os.MkdirAll(filepath.Dir(long), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{long, filepath.Join(top, format, "sparse"), filepath.Join(top, format, "holes-alone")} {
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		if path != long {
			err = f.Truncate(20_000_000)
		}
		if err == nil && filepath.Base(path) == "sparse" {
			for _, off := range []int64{0, 4096, 9_999_999, 19_999_990} {
				if _, err = f.WriteAt([]byte("data"), off); err != nil {
					break
				}
			}
		}
		if err = errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(strings.Repeat("../to/", 40), filepath.Join(top, format, "link")); err != nil {
		t.Fatal(err)
	}
	args := []string{
		"--create", "--directory", top, "--format", format, "--sort=name",
		"--numeric-owner", "--owner=0", "--group=0", "--mode=go-w", "--mtime=@1234567890",
	}
	if format == "posix" {
		args = append(args, "--sparse")
	}
	made := run(t, exec.Command(debian(t, "tar"), append(args, format)...))
	return registrytest.Layer{Tar: []byte(made)}
}

// hardLinks is an image whose upper layers replace and delete what lower
// layers' hard links lead to (go-containerregistry#2002).
func hardLinks() registrytest.Image {
	return registrytest.Image{Platform: thisPlatform, Layers: layersOf(
		[]entry{
			dir("."), dir("d"), text("a", "first a"), hardlink("b", "a"), hardlink("d/c", "a"), text("d/e", "e"), hardlink("d/f", "d/e"), hardlink("z", "./d/../d/e"),
			with(text("su", "su"), mode(0o4755), owner(0, 9)), hardlink("d/su", "su"), with(text("x", "x"), attribute("user.x", "y")), hardlink("xx", "/x"),
			symlink("s", "a"), hardlink("ss", "s"), node(tar.TypeFifo, "p", 0, 0), hardlink("pp", "p"), symlink("to", "d"), hardlink("w", "to/e"),
			text("empty", ""), hardlink("empty2", "empty"), text("one", "1"), hardlink("two", "one"), hardlink("three", "two"),
		},
		[]entry{text("a", "second a")},                                    // b and d/c keep the first
		[]entry{dir("d"), hidden("d/e")},                                  // d/f, z and w stay
		[]entry{hardlink("g", "b"), hardlink("h", "d/f")},                 // across layers
		[]entry{dir("b"), text("b/inside", "x")},                          // d/c and g stay
		[]entry{hardlink("a", "d/c")},                                     // a link over a file
		[]entry{hidden("three"), hardlink("four", "two")},                 // a name less, a name more
		[]entry{text("t", "1"), hardlink("u", "t")},                       //
		[]entry{text("t", "2"), hardlink("v", "t"), text("late", "l")},    // u stays the old, v is the new
		[]entry{hardlink("to/late", "late"), symlink("su", "d/su")},       // through a link; a name that becomes a link to another
		[]entry{dir("d"), emptied("d"), hardlink("d/g", "g")},             // g keeps what the emptied d had
		[]entry{text("one", "one, new"), hardlink("two", "one")},          // a pair anew; four stays
		[]entry{with(text("xx", "xx"), attribute("user.x", "another"))},   //
		[]entry{dir("empty"), hardlink("empty/1", "empty2")},              //
		[]entry{hidden("g"), hardlink("ss2", "ss"), hardlink("ppp", "p")}, //
	)}
}
