//go:build linux

package e2e

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"maps"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/internal/registrytest"
)

// listed is a file as davit files --json tells of it.
type listed struct {
	Path, Type, Mode, Target string
	UID, GID                 int
	Size                     int64
	MTime                    time.Time
	Major, Minor             int64
}

// flat is a file of a tar in the same words, with what it holds.
type flat struct {
	listed
	content    digest.Digest
	attributes map[string]string
}

var tarTypes = map[byte]string{
	tar.TypeReg: "file", tar.TypeLink: "hardlink", tar.TypeDir: "directory", tar.TypeSymlink: "symlink",
	tar.TypeChar: "char", tar.TypeBlock: "block", tar.TypeFifo: "fifo",
}

// flatTar pulls an image's file system as a tar and reads it, each path once.
func flatTar(t testing.TB, name string) (file string, files map[string]flat) {
	t.Helper()
	file = filepath.Join(workDir(t), "rootfs.tar")
	runDavit(t, "pull", name, "-f", "rootfs", "-o", file).exits(t, 0)
	f := openFile(t, file)
	files = map[string]flat{}
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return file, files
		}
		if err != nil {
			t.Fatal(err)
		}
		x := flat{listed: listed{
			// JSON can't tell bytes that are no UTF-8.
			Path: strings.ToValidUTF8(path.Join("/", h.Name), "\ufffd"), Type: tarTypes[h.Typeflag], Mode: fmt.Sprintf("%04o", h.Mode), Target: h.Linkname,
			UID: h.Uid, GID: h.Gid, Size: h.Size, MTime: h.ModTime.UTC(), Major: h.Devmajor, Minor: h.Devminor,
		}, attributes: map[string]string{}}
		if x.content, err = digest.FromReader(r); err != nil {
			t.Fatal(err)
		}
		for key, value := range h.PAXRecords {
			if strings.HasPrefix(key, "SCHILY.xattr.") {
				x.attributes[key] = value
			}
		}
		if x.Type == "hardlink" {
			x.Target = path.Join("/", h.Linkname)
			x.content = files[x.Target].content
		}
		if _, twice := files[x.Path]; twice {
			t.Fatalf("%s is twice in the tar", x.Path)
		}
		files[x.Path] = x
	}
}

// filesOf is what davit files lists, in its order.
func filesOf(t testing.TB, args ...string) (files []listed) {
	t.Helper()
	r := runDavit(t, append([]string{"files", "--json"}, args...)...)
	r.exits(t, 0)
	for _, line := range r.lines() {
		var x listed
		decode(t, line, &x)
		files = append(files, x)
	}
	return files
}

// TestFiles lists the files of images: the paths, and with --json all else, are
// those of the tar that davit pull -f rootfs writes, which TestRootfs compares
// with what umoci unpacks. So it is whether tables of contents are used or not.
func TestFiles(t *testing.T) {
	enabled(t)
	r := startRegistry(t)
	s := registrytest.Start(t, registrytest.Options{})
	s.Push("team/many", "1", manyLayers(t))
	s.Push("team/links", "1", hardLinks())
	names := map[string]string{"many layers": s.Host() + "/team/many:1", "hard links": s.Host() + "/team/links:1"}
	for _, format := range []string{"gzip", estargz, zstdChunked} {
		repository := "big/" + strings.ReplaceAll(format, ":", "-")
		r.push(t, repository, "1", bigImage(t, format).index)
		names[format] = r.host + "/" + repository + ":1"
	}
	for _, what := range slices.Sorted(maps.Keys(names)) {
		t.Run(what, func(t *testing.T) {
			name := names[what]
			file, want := flatTar(t, name)
			listedAs(t, want, filesOf(t, name))
			listedAs(t, want, filesOf(t, name, "--no-toc"))

			plain := runDavit(t, "files", name)
			plain.exits(t, 0)
			var paths []string
			for _, line := range strings.Split(strings.TrimSpace(run(t, exec.Command(debian(t, "tar"), "--quoting-style=literal", "-tf", file))), "\n") {
				absolute := path.Join("/", line)
				if strings.HasSuffix(line, "/") && absolute != "/" {
					absolute += "/"
				}
				paths = append(paths, absolute)
			}
			got := plain.lines()
			if want[got[0]].Path == "" && got[0] == "/" {
				got = got[1:] // the root has no entry in every tar
			}
			slices.Sort(got)
			slices.Sort(paths)
			if what != "many layers" && !slices.Equal(got, paths) { // there are names with line ends among them
				t.Errorf("davit lists %d paths, tar %d", len(got), len(paths))
			}
		})
	}
	t.Run("below a directory", func(t *testing.T) {
		name := names["gzip"]
		for _, dir := range []string{"/etc/", "etc", "/usr/../etc"} {
			got := filesOf(t, name, dir)
			all := slices.DeleteFunc(filesOf(t, name), func(x listed) bool { return x.Path != "/etc" && !strings.HasPrefix(x.Path, "/etc/") })
			if !slices.Equal(got, all) {
				t.Errorf("below %s are %d files, want %d", dir, len(got), len(all))
			}
		}
		if got := filesOf(t, name, "/etc/issue"); len(got) != 1 || got[0].Size != int64(len(issue)) {
			t.Errorf("/etc/issue is listed as %+v", got)
		}
		runDavit(t, "files", name, "/etc/issue.net").exits(t, 3)
	})
	t.Run("long", func(t *testing.T) {
		r := runDavit(t, "files", "-l", names["gzip"], "/opt")
		r.exits(t, 0)
		for _, want := range []string{
			fmt.Sprintf("-rw-r--r-- 0/0 %18d 2020-02-03 04:05 /opt/middle\n", len(middle)),
			"/opt/symlink -> ../etc/debian_version",
			"link to /opt/",
		} {
			if !strings.Contains(r.stdout, want) {
				t.Errorf("davit files -l printed\n%s\nwithout %q", r.stdout, want)
			}
		}
	})
}

// listedAs checks that exactly these files were listed, in order of their paths.
func listedAs(t *testing.T, want map[string]flat, got []listed) {
	t.Helper()
	const most = 10
	seen, differ := map[string]bool{}, 0
	tell := func(format string, args ...any) {
		if differ++; differ <= most {
			t.Errorf(format, args...)
		}
	}
	for _, g := range got {
		seen[g.Path] = true
		w, found := want[g.Path]
		switch {
		case !found && g.Path == "/":
		case !found:
			tell("%s is listed and not in the tar", g.Path)
		case !g.MTime.Equal(w.MTime):
			tell("%s is of %s, in the tar of %s", g.Path, g.MTime, w.MTime)
		default:
			g.MTime = w.MTime
			if g != w.listed {
				tell("listed is\n\t%+v\nin the tar is\n\t%+v", g, w.listed)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if !seen[name] {
			tell("%s is in the tar and not listed", name)
		}
	}
	if differ > most {
		t.Errorf("%d more differ", differ-most)
	}
}

// TestFilesCost lists the files of images with tables of contents for what the
// tables cost, and of others reads each layer once.
func TestFilesCost(t *testing.T) {
	enabled(t)
	m := startRegistry(t).metered(t)
	for _, c := range []struct {
		format string
		most   func(lookedAt) int64
	}{
		{estargz, func(lookedAt) int64 { return most }},
		{zstdChunked, func(lookedAt) int64 { return most }},
		{"gzip", func(x lookedAt) int64 { return x.root.Size + x.own.size() }},
	} {
		x := bigImage(t, c.format)
		repository := "big/" + strings.ReplaceAll(c.format, ":", "-")
		m.push(t, repository, "1", x.index)
		m.forget()
		runDavit(t, "files", m.host+"/"+repository+":1").exits(t, 0)
		t.Logf("%s: %d bytes of %d", c.format, m.served(), x.own.size())
		if got := m.served(); got > c.most(x) {
			t.Errorf("%s: %d bytes were served, allowed are %d", c.format, got, c.most(x))
		}
	}
}
