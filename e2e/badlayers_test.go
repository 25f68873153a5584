//go:build linux

package e2e

import (
	"archive/tar"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/davit-cli/davit/internal/registrytest"
)

// exitVerification is davit's promise to scripts: what was fetched is not what
// it has to be.
const exitVerification = 5

// badLayers are images that would leave the directory that they are unpacked
// into. Each has a benign twin. OUT stands for the absolute path of the
// directory around it, UP for as many ".." as lead to the root from anywhere.
// Package rootfs has many more of them.
var badLayers = []struct {
	name      string
	bad, twin [][]entry
	refused   bool
	inside    string // what the harmless rest of the attack makes, inside
	works     string // what the twin makes
}{
	{
		name: "dots", bad: [][]entry{{text("../canary", "dead"), text("UPOUT/canary", "dead"), text("UPOUT/new", "dead")}}, inside: "canary",
		twin: [][]entry{{dir("a"), text("a/../canary", "ok"), text("..b", "ok")}}, works: "canary",
	},
	{
		name: "an absolute path", bad: [][]entry{{text("OUT/canary", "dead"), dir("OUT/new")}}, inside: "OUT/canary",
		twin: [][]entry{{text("/canary", "ok")}}, works: "canary",
	},
	{
		name: "a link to the outside as parent", bad: [][]entry{{symlink("l", "OUT"), text("l/canary", "dead")}}, inside: "OUT/canary",
		twin: [][]entry{{dir("run"), symlink("l", "/run"), text("l/canary", "ok")}}, works: "run/canary",
	},
	{
		name: "a relative link as parent, in another layer", bad: [][]entry{{symlink("l", "../secret")}, {text("l/key", "dead")}}, inside: "secret/key",
		twin: [][]entry{{dir("run"), symlink("l", "run")}, {text("l/key", "ok")}}, works: "run/key",
	},
	{
		name: "a chain of links", bad: [][]entry{{symlink("a", "UPOUT"), symlink("b", "a/x/.."), symlink("c", "b/secret"), text("c/key", "dead")}}, inside: "OUT/secret/key",
		twin: [][]entry{{dir("x"), symlink("a", "x"), symlink("b", "a/.."), text("b/key", "ok")}}, works: "key",
	},
	{
		name: "a file over a link to the outside", bad: [][]entry{{symlink("canary", "OUT/canary")}, {text("canary", "dead")}}, inside: "canary",
		twin: [][]entry{{text("real", "old"), symlink("canary", "real")}, {text("canary", "ok")}}, works: "canary",
	},
	{
		name: "a directory over a link to the outside", bad: [][]entry{{symlink("l", "OUT/secret")}, {with(dir("l"), mode(0o777), owner(9, 9)), text("l/key", "dead")}}, inside: "l/key",
		twin: [][]entry{{symlink("l", "d"), dir("d")}, {dir("l"), text("l/key", "ok")}}, works: "l/key",
	},
	{
		name: "a hard link to the outside", bad: [][]entry{{hardlink("h", "UPOUT/canary")}, {text("h", "dead")}}, refused: true,
		twin: [][]entry{{text("canary", "ok"), hardlink("h", "../canary")}}, works: "h",
	},
	{
		name: "a hard link to the outside, through a link", bad: [][]entry{{symlink("l", "OUT"), hardlink("h", "l/canary")}}, refused: true,
		twin: [][]entry{{dir("d"), text("d/canary", "ok"), symlink("l", "d"), hardlink("h", "l/canary")}}, works: "h",
	},
	{
		// CVE-2021-29136, CVE-2021-32760
		name: "mode, owner and attributes through a hard link to a link", bad: [][]entry{{symlink("s", "OUT/canary"), with(hardlink("h", "s"), mode(0o4777), owner(99, 99), attribute("user.x", "y"))}}, inside: "h",
		twin: [][]entry{{with(text("f", "ok"), mode(0o755)), with(hardlink("h", "f"), mode(0o755))}}, works: "h",
	},
	{
		name: "mode, owner and time through a link", bad: [][]entry{{with(symlink("canary", "OUT/canary"), mode(0o4777), owner(99, 99), at(1, 0))}}, inside: "canary",
		twin: [][]entry{{text("f", "ok"), symlink("s", "f")}}, works: "s",
	},
	{
		name: "whiteouts of the outside", bad: [][]entry{{symlink("l", "OUT"), dir("d")}, {text("l/.wh.canary", ""), text("../.wh.canary", ""), text("l/secret/.wh..wh..opq", "")}}, inside: "d",
		twin: [][]entry{{dir("d"), text("d/x", "1"), text("y", "ok")}, {text("d/.wh.x", "")}}, works: "y",
	},
	{
		name: "a whiteout of the parent", bad: [][]entry{{text("d/x", "1")}, {text("d/.wh...", ""), text("d/.wh..", "")}}, refused: true,
		twin: [][]entry{{text("d/...", "1"), text("y", "ok")}, {text("d/.wh....", "")}}, works: "y",
	},
	{
		name: "the root as a link", bad: [][]entry{{symlink(".", "OUT")}, {text("canary", "dead")}}, refused: true,
		twin: [][]entry{{dir("."), text("canary", "ok")}}, works: "canary",
	},
	{
		name: "links in a circle", bad: [][]entry{{symlink("a", "b"), symlink("b", "a"), text("a/x", "dead")}}, refused: true,
		twin: [][]entry{{symlink("a", "b"), symlink("b", "c"), dir("c"), text("a/x", "ok")}}, works: "c/x",
	},
	{
		name: "a device under a name of the outside", bad: [][]entry{{symlink("l", "OUT/secret"), node(tar.TypeBlock, "l/key", 7, 0), node(tar.TypeFifo, "../canary", 0, 0)}}, inside: "canary",
		twin: [][]entry{{dir("dev"), node(tar.TypeChar, "dev/null", 1, 3)}}, works: "dev/null",
	},
	{
		name: "the outside as Windows writes it", bad: [][]entry{{text(`..\canary`, "dead"), text(`C:..\canary`, "dead")}}, inside: `..\canary`,
		twin: [][]entry{{text(`a\b`, "ok")}}, works: `a\b`,
	},
}

// TestBadLayers unpacks images that would leave their directory, and their
// benign twins, by davit and, from davit's tar, by tar.
func TestBadLayers(t *testing.T) {
	enabled(t)
	s := registrytest.Start(t, registrytest.Options{})
	for _, tt := range badLayers {
		t.Run(tt.name, func(t *testing.T) {
			o := newOutside(t)
			before := o.state(t)
			s.Push("layers/bad", "1", o.image(tt.bad))
			s.Push("layers/twin", "1", o.image(tt.twin))
			if tt.refused {
				o.refused(t, s.Host()+"/layers/bad:1")
			} else {
				o.unpacks(t, s.Host()+"/layers/bad:1", o.place(tt.inside))
			}
			same(t, "the outside", before, o.state(t))
			o.clear(t)
			o.unpacks(t, s.Host()+"/layers/twin:1", tt.works)
			same(t, "the outside, after the twin", before, o.state(t))
		})
	}
}

// outside is a directory with something to lose, and what is unpacked in it.
type outside struct{ dir, files, archive, untarred string }

func newOutside(t *testing.T) outside {
	t.Helper()
	o := outside{dir: workDir(t)}
	o.files, o.archive, o.untarred = filepath.Join(o.dir, "files"), filepath.Join(o.dir, "rootfs.tar"), filepath.Join(o.dir, "untarred")
	for name, body := range map[string]string{"canary": "alive", "secret/key": "secret"} {
		path := filepath.Join(o.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return o
}

// state tells all about what is outside, but not the time of the directory
// that the outputs come and go in.
func (o outside) state(t *testing.T) fileTree {
	t.Helper()
	x := readTree(t, o.dir, filepath.Base(o.files), filepath.Base(o.untarred))
	delete(x, filepath.Base(o.archive))
	x["."], _, _ = strings.Cut(x["."], ", time ")
	return x
}

// place puts the directory's path into a name.
func (o outside) place(name string) string {
	name = strings.ReplaceAll(name, "UP", strings.Repeat("../", 20)+"..")
	return strings.ReplaceAll(name, "OUT", o.dir)
}

func (o outside) image(layers [][]entry) registrytest.Image {
	var placed [][]entry
	for _, l := range layers {
		var entries []entry
		for _, e := range l {
			e.Name, e.Linkname = o.place(e.Name), o.place(e.Linkname)
			entries = append(entries, e)
		}
		placed = append(placed, entries)
	}
	return registrytest.Image{Platform: thisPlatform, Layers: layersOf(placed...)}
}

func (o outside) refused(t *testing.T, name string) {
	t.Helper()
	for format, path := range map[string]string{"files": o.files, "rootfs": o.archive} {
		cmd := davitCommand(t, "pull", "--quiet", name, "-f", format, "-o", path)
		stdout, stderr, err := output(cmd)
		if cmd.ProcessState.ExitCode() != exitVerification || stdout != "" || !strings.Contains(stderr, "sha256:") {
			t.Errorf("%s: %v, want exit code %d and which layer it was\n%s%s", format, err, exitVerification, stdout, stderr)
		}
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: there is an output: %v", format, err)
		}
		if err := os.RemoveAll(path + ".davit-part"); err != nil { // what was fetched, for another run
			t.Fatal(err)
		}
	}
}

// unpacks checks that an image is unpacked to a tree that has a path.
func (o outside) unpacks(t *testing.T, name, has string) {
	t.Helper()
	run(t, davitCommand(t, "pull", "--quiet", name, "-f", "files", "-o", o.files))
	run(t, davitCommand(t, "pull", "--quiet", name, "-f", "rootfs", "-o", o.archive))
	wellBehaved(t, o.archive)
	untar(t, o.archive, o.untarred)
	for _, top := range []string{o.files, o.untarred} {
		if _, err := os.Lstat(filepath.Join(top, has)); err != nil {
			t.Error(err)
		}
	}
	files, untarred := readTree(t, o.files), readTree(t, o.untarred)
	same(t, "what tar unpacks", untimed(files), untimed(untarred))
}

func (o outside) clear(t *testing.T) {
	t.Helper()
	for _, path := range []string{o.files, o.archive, o.untarred} {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
}

// wellBehaved checks that even a simple-minded program can unpack a tar: each
// path is relative, has no dots, and is in a directory that came before it,
// and so is what a hard link links to.
func wellBehaved(t *testing.T, archive string) {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }() // it is only read
	seen := map[string]byte{".": tar.TypeDir}
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(h.Name, "/")
		if !filepath.IsLocal(name) || path.Clean(name) != name || seen[path.Dir(name)] != tar.TypeDir {
			t.Errorf("the tar has %q", h.Name)
		}
		if kind := seen[name]; kind != 0 && name != "." {
			t.Errorf("the tar has %q twice", h.Name)
		}
		if kind := seen[h.Linkname]; h.Typeflag == tar.TypeLink && (kind == 0 || kind == tar.TypeDir) {
			t.Errorf("the tar has a hard link %q to %q", h.Name, h.Linkname)
		}
		seen[name] = h.Typeflag
	}
}
