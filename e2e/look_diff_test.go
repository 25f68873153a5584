//go:build linux

package e2e

import (
	"archive/tar"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// difference is what davit diff --json prints.
type difference struct {
	Same   bool
	Shared []struct{ Digest digest.Digest }
	OnlyA  []struct{ Digest digest.Digest } `json:"only_a"`
	OnlyB  []struct{ Digest digest.Digest } `json:"only_b"`
	Fetch  int64
	Config []struct{ Field, A, B string }
	Files  []changedFile
}

type changedFile struct {
	Path, Change string
	What         []string
}

func diffed(t testing.TB, args ...string) (d difference) {
	t.Helper()
	r := runDavit(t, append([]string{"diff", "--json"}, args...)...)
	r.exits(t, 0)
	decode(t, r.stdout, &d)
	return d
}

// changesOf compares two file systems as their tars have them. Times do not count.
func changesOf(a, b map[string]flat) map[string]string {
	changes := map[string]string{}
	all := maps.Clone(a)
	maps.Copy(all, b)
	for name := range all {
		x, inA := a[name]
		y, inB := b[name]
		x.MTime = y.MTime
		if x.Type == "hardlink" {
			x.Type, x.Target = "file", ""
		}
		if y.Type == "hardlink" {
			y.Type, y.Target = "file", ""
		}
		if x.Type == "file" && y.Type == "file" {
			x.Size = y.Size // told by the content
		}
		switch {
		case !inA:
			changes[name] = "added"
		case !inB:
			changes[name] = "removed"
		case x.listed != y.listed || x.content != y.content || !maps.Equal(x.attributes, y.attributes):
			changes[name] = "changed"
		}
	}
	return changes
}

// secondVersion is the big image with another layer of changes: of modes,
// owners, types, contents and links.
func secondVersion(t testing.TB, format string) lookedAt {
	return once(t, "second "+format, func(t testing.TB) lookedAt {
		path := makeTar(t, func(w *tar.Writer) error {
			return writeEntries(w,
				with(text("etc/passwd", fileIn(t, bigTars(t)[0], "etc/passwd")), mode(0o600)),
				with(text("etc/group", fileIn(t, bigTars(t)[0], "etc/group")), owner(7, 8)),
				text("etc/shells", fileIn(t, bigTars(t)[0], "etc/shells")), // as it was
				text("etc/issue", "another\n"),
				text("etc/os-release", "a file in place of a link\n"),
				symlink("usr/share/doc", "/nowhere"), // a link in place of a directory
				emptied("var/lib/dpkg/info"),
				text("var/lib/dpkg/info/new", "new\n"),
				hidden("usr/share/common-licenses"),
			)
		})
		files, _ := treeLayer(t, gzipped, goroot(t), "opt/go", "doc", "lib")
		base := bigImage(t, format)
		config := show
		config.Env = append(slices.Clone(show.Env), "ADDED=1")
		config.User = "nobody"
		m := makeImage(t, thisPlatform, config, base.own.layers[0], formatted(t, format, bigTars(t)[2]), formatted(t, format, path), files)
		return lookedAt{single(m), m}
	})
}

// TestDiff compares two images: the files that were added, changed and removed
// are those of the tars of both file systems, and the bytes to fetch those that
// Docker fetches of the second where it has the first.
func TestDiff(t *testing.T) {
	enabled(t)
	r := startRegistry(t)
	m := r.metered(t)
	for _, format := range []string{"gzip", estargz} {
		t.Run(format, func(t *testing.T) {
			a, b := bigImage(t, format), secondVersion(t, format)
			r.push(t, "diff/"+format, "1", a.index)
			r.push(t, "diff/"+format, "2", b.index)
			name := m.host + "/diff/" + format
			_, filesA := flatTar(t, name+":1")
			_, filesB := flatTar(t, name+":2")
			want := changesOf(filesA, filesB)
			for _, flags := range [][]string{nil, {"--no-toc"}} {
				m.forget()
				got := diffed(t, append([]string{name + ":1", name + ":2"}, flags...)...)
				t.Logf("%d changes; %d bytes were served", len(got.Files), m.served())
				if format == estargz && flags == nil && m.served() > 4_000_000 {
					t.Errorf("%d bytes were served for layers with tables of contents", m.served())
				}
				changesAs(t, want, got.Files)
				sharing(t, a, b, got)
			}
			back := diffed(t, name+":2", name+":1")
			changesAs(t, changesOf(filesB, filesA), back.Files)
		})
	}
	t.Run("of tables and none", func(t *testing.T) {
		// The same files, in other layers, and one format's own.
		got := diffed(t, m.host+"/diff/gzip:1", m.host+"/diff/estargz:1")
		for _, f := range got.Files {
			if !strings.HasPrefix(f.Path, "/stargz.") && !strings.HasPrefix(f.Path, "/.no.prefetch") {
				t.Errorf("the same file is different: %+v", f)
			}
		}
	})
	t.Run("on disk", func(t *testing.T) {
		path := filepath.Join(workDir(t), "a.tar")
		runDavit(t, "pull", m.host+"/diff/gzip:2", "-o", path).exits(t, 0)
		if got := diffed(t, path, m.host+"/diff/gzip:2"); !got.Same || got.Fetch != 0 || len(got.Files) != 0 {
			t.Errorf("an image and its archive differ: %+v", got)
		}
	})
	t.Run("as Docker fetches", func(t *testing.T) {
		// Its newest engine, as containerd and registries, keeps each blob once.
		// The classic store knows a layer only upon those that stood below it.
		d := startNewestDocker(t)
		run(t, d.command("pull", "--quiet", m.host+"/diff/gzip:1"))
		m.forget()
		want := diffed(t, "--no-files", m.host+"/diff/gzip:1", m.host+"/diff/gzip:2")
		for _, a := range m.requests() {
			if strings.Contains(a.path, "/blobs/") && a.served > 100_000 {
				t.Errorf("--no-files reads layers: %s", a)
			}
		}
		m.forget()
		run(t, d.command("pull", "--quiet", m.host+"/diff/gzip:2"))
		var fetched int64
		for _, a := range m.requests() {
			if strings.Contains(a.path, "/blobs/") && a.method == "GET" {
				fetched += a.served
			}
		}
		t.Logf("Docker fetched %d bytes of layers and config", fetched)
		if fetched != want.Fetch {
			t.Errorf("davit says that %d bytes are to be fetched, Docker fetched %d", want.Fetch, fetched)
			m.log(t)
		}
	})
}

func changesAs(t *testing.T, want map[string]string, files []changedFile) {
	t.Helper()
	got := map[string]string{}
	for _, f := range files {
		got[f.Path] = f.Change
	}
	all := maps.Clone(want)
	maps.Copy(all, got)
	differ := 0
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if want[name] != got[name] {
			if differ++; differ <= 10 {
				t.Errorf("%s: davit says %q, the tars %q", name, got[name], want[name])
			}
		}
	}
	if differ > 10 || len(want) < 20 {
		t.Errorf("%d of %d differ", differ, len(all))
	}
}

// sharing checks which layers are shared, and what is to be fetched.
func sharing(t *testing.T, a, b lookedAt, got difference) {
	t.Helper()
	has := map[digest.Digest]bool{}
	for _, l := range a.own.layers {
		has[l.descriptor.Digest] = true
	}
	fetch, only := b.own.config.Size, 0
	for _, l := range b.own.layers {
		if !has[l.descriptor.Digest] {
			fetch += l.descriptor.Size
			only++
		}
	}
	if got.Fetch != fetch || len(got.OnlyB) != only || len(got.Shared) != len(b.own.layers)-only || got.Same {
		t.Errorf("to fetch are %d bytes, want %d; %d layers are only in B, want %d", got.Fetch, fetch, len(got.OnlyB), only)
	}
	fields := map[string]string{}
	for _, c := range got.Config {
		fields[c.Field] = c.A + ">" + c.B
	}
	if want := map[string]string{"env ADDED": ">1", "user": ">nobody"}; !maps.Equal(fields, want) {
		t.Errorf("changes of the config are %v, want %v", fields, want)
	}
}
