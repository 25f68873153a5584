//go:build linux

package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// taker is a loader that says, by what it really does, whether it takes an archive.
type taker struct {
	loader string // as davit verify calls it
	what   string
	start  func(testing.TB) took
}

// took loads an archive with so many images. It returns why it does not take
// it, which is empty where it does: then it has that many images, and a
// container of one of them prints what it is to print.
type took func(t testing.TB, w written) (refused string)

// takers are all loaders. davit verify says nothing of Docker's newest.
var takers = []taker{
	{"docker", "classic Docker", func(t testing.TB) took { return startClassicDocker(t).takes }},
	{"", "newest Docker", func(t testing.TB) took { return startNewestDocker(t).takes }},
	{"containerd", "containerd", func(t testing.TB) took { return startContainerd(t).takes }},
	{"podman", "podman", func(t testing.TB) took { return newPodman(t).takes }},
}

func (d *docker) takes(t testing.TB, w written) string {
	t.Helper()
	said, stderr, err := output(d.command("load", "--input", w.path))
	if err != nil {
		return "docker load: " + said + stderr
	}
	ids := strings.Fields(run(t, d.command("images", "--all", "--quiet", "--no-trunc")))
	return runsOne(w, ids, func(id string) *exec.Cmd {
		return d.command(append(append([]string{"run", "--rm", "--network=none", "--pull=never"}, d.runArgs...), id)...)
	})
}

func (c *containerd) takes(t testing.TB, w written) string {
	t.Helper()
	said, stderr, err := output(c.command("images", "import", "--snapshotter", c.snapshotter, w.path))
	if err != nil {
		return "ctr images import: " + said + stderr
	}
	return runsOne(w, c.names(t), func(name string) *exec.Cmd {
		c.containers++
		return c.command("run", "--rm", "--snapshotter", c.snapshotter, name, fmt.Sprintf("test%d", c.containers))
	})
}

func (p *podman) takes(t testing.TB, w written) string {
	t.Helper()
	said, stderr, err := output(p.command("load", "--input", w.path))
	if err != nil {
		return "podman load: " + said + stderr
	}
	ids := strings.Fields(run(t, p.command("images", "--all", "--quiet", "--no-trunc")))
	return runsOne(w, ids, func(id string) *exec.Cmd {
		return p.command("run", "--rm", "--network=none", "--pull=never", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024", id)
	})
}

// runsOne runs each image until one prints what it is to print.
func runsOne(w written, images []string, command func(string) *exec.Cmd) string {
	slices.Sort(images)
	if images = slices.Compact(images); len(images) < w.images {
		return fmt.Sprintf("loaded are %q, of %d images", images, w.images)
	}
	var refused []string
	for _, image := range images {
		stdout, stderr, err := output(command(image))
		if err == nil && stdout == w.prints {
			return ""
		}
		refused = append(refused, fmt.Sprintf("%s: %v: %s%s", image, err, stdout, stderr))
	}
	return strings.Join(refused, "; ")
}

// TestVerifyLoaders compares what davit verify says of each loader with what
// the loader does: with all that the tools write, and with archives that lack
// something, or have something that one of them does not take.
func TestVerifyLoaders(t *testing.T) {
	enabled(t)
	all := slices.DeleteFunc(slices.Clone(writtenByAll(t)), func(w written) bool { return w.isDir(t) })
	for _, w := range all {
		if strings.HasPrefix(w.what, "davit archive") && w.images == 1 && !strings.Contains(w.what, "platforms") ||
			strings.HasSuffix(w.what, "Docker save") || strings.HasPrefix(w.what, "podman save --format") {
			for _, program := range []string{"gzip", "zstd"} {
				all = append(all, written{w.what + ", " + program, packed(t, program, w.path), w.images, w.prints})
			}
		}
	}
	all = append(all, oddArchives(t)...)
	for _, by := range takers {
		t.Run(by.what, func(t *testing.T) {
			for _, w := range all {
				t.Run(w.what, func(t *testing.T) { agrees(t, by, w) })
			}
		})
	}
}

// departs are archives of which davit verify says the contrary of what a
// loader does, with the reason. Where a loader does otherwise one day, this is
// to be seen.
var departs = map[string]map[string]string{
	"docker": {
		"classic Docker save without manifest.json": "20.10 reads the files of Docker before 1.10 then, which newer ones don't",
	},
	"podman": {
		"classic Docker save, gzip":                           "Debian's podman and skopeo spoil a docker-archive when they decompress its gzip",
		"podman save --format docker-archive, gzip":           "as above",
		"davit archive with wrong diffID":                     "podman compares no diffIDs of an OCI layout: it takes what is wrong",
		"skopeo oci-archive skopeo-oci.tar with wrong diffID": "as above",
	},
}

// agrees checks what davit verify says of a loader and an archive.
func agrees(t *testing.T, by taker, w written) {
	v, text := verified(t, w.path)
	refused := by.start(t)(t, w)
	if by.loader == "" {
		newest(t, v, text, refused)
		return
	}
	for _, l := range v.Loaders {
		if l.Name != by.loader {
			continue
		}
		// Debian's Docker is 20.10.
		takes := l.Takes && !strings.Contains(l.Why, "Docker 23 or newer")
		if why := departs[by.loader][w.what]; why != "" {
			takes = !takes
			t.Logf("it departs from what davit says: %s", why)
		}
		if takes != (refused == "") {
			t.Errorf("davit verify says that %s takes it: %t %q\nit refuses: %q", l.Name, l.Takes, l.Why, refused)
		}
		t.Logf("takes it: %t %q; refused: %.300q", l.Takes, l.Why, refused)
		return
	}
	t.Errorf("davit verify says nothing of %s: %+v", by.loader, v.Loaders)
}

// newest checks Docker's newest engine, of which davit verify says nothing. It
// takes what containerd takes and nothing is wrong with, and more. Blobs that
// are not what they should be it does not take.
func newest(t *testing.T, v verdict, text ran, refused string) {
	for _, l := range v.Loaders {
		if l.Name == "containerd" && l.Takes && text.code == 0 && refused != "" {
			t.Errorf("nothing is wrong with it, and it is not taken: %s", refused)
		}
	}
	for _, p := range v.Problems {
		if slices.Contains([]string{"digest", "diffid", "size", "layer"}, p.What) && refused == "" {
			t.Errorf("it is taken, and this is wrong with it: %+v", p)
		}
	}
}

// oddArchives are made of those that davit and Docker wrote.
func oddArchives(t testing.TB) (odd []written) {
	t.Helper()
	from := map[string]written{}
	for _, w := range writtenByAll(t) {
		from[w.what] = w
	}
	odds := func(what, of string, change func([]entry) []entry) {
		w := from[of]
		if w.path == "" {
			t.Fatalf("nothing is called %q: %q", of, slices.Sorted(maps.Keys(from)))
		}
		odd = append(odd, written{of + " " + what, writeTar(t, change(readTar(t, w.path))), w.images, w.prints})
	}
	for _, f := range faults {
		for _, of := range []string{"davit archive", "classic Docker save", "skopeo oci-archive skopeo-oci.tar"} {
			odds("with "+f.what, of, func(entries []entry) []entry {
				spoiled, _ := f.spoil(t, entries)
				return spoiled
			})
		}
	}
	odds("without manifest.json", "davit archive", lacking("manifest.json"))
	odds("without index.json", "davit archive", lacking("index.json"))
	odds("without oci-layout", "davit archive", lacking("oci-layout"))
	odds("without oci-layout and index.json", "davit archive", lacking("oci-layout", "index.json"))
	odds("without manifest.json", "classic Docker save", lacking("manifest.json"))
	odds("without names", "davit archive", func(entries []entry) []entry { return nameless(t, renamed(t, entries)) })
	odds("without names", "classic Docker save", func(entries []entry) []entry { return renamed(t, entries) })
	odds("without names", "skopeo oci-archive skopeo-oci.tar", func(entries []entry) []entry { return nameless(t, entries) })
	const some = "sha256:5d1f7a0c5d1f7a0c5d1f7a0c5d1f7a0c5d1f7a0c5d1f7a0c5d1f7a0c5d1f7a0c"
	for _, tag := range []string{
		"davit/greeting@" + some, "davit/greeting:1@" + some, "davit/greeting:" + some, "davit/greeting", "Davit/Greeting:1", "", "davit/greeting:1:2", some[7:],
		"UPPER.example:5000/greeting:1", "greeting:1",
	} {
		odds(fmt.Sprintf("called %q", tag), "davit archive", func(entries []entry) []entry { return renamed(t, entries, tag) })
		if strings.Contains(tag, "@") {
			odds(fmt.Sprintf("called %q", tag), "classic Docker save", func(entries []entry) []entry { return renamed(t, entries, tag) })
		}
	}
	odds("with names below ./", "davit archive", dotted)
	odds("with names below ./", "classic Docker save", dotted)
	odds("with names below ./", "skopeo oci-archive skopeo-oci.tar", dotted)
	odds("with an empty manifest.json", "davit archive", func(entries []entry) []entry { return replaced(entries, "manifest.json", "[]") })
	odds("with a broken manifest.json", "davit archive", func(entries []entry) []entry { return replaced(entries, "manifest.json", "[{") })
	odds("with an empty index.json", "davit archive", func(entries []entry) []entry {
		return replaced(entries, "index.json", `{"schemaVersion":2,"manifests":[]}`)
	})
	odds("with a version of the layout that is to come", "davit archive", func(entries []entry) []entry {
		return replaced(entries, "oci-layout", `{"imageLayoutVersion":"2.0.0"}`)
	})
	odds("with the files in another order", "davit archive", func(entries []entry) []entry {
		slices.Reverse(entries)
		return entries
	})
	odd = append(odd, cutArchives(t, from["davit archive"])...)
	odd = append(odd, cutArchives(t, from["classic Docker save"])...)
	return odd
}

func lacking(names ...string) func([]entry) []entry {
	return func(entries []entry) []entry {
		return slices.DeleteFunc(entries, func(e entry) bool { return slices.Contains(names, e.Name) })
	}
}

func replaced(entries []entry, name, content string) []entry {
	for i := range entries {
		if entries[i].Name == name {
			entries[i].Body = []byte(content)
		}
	}
	return entries
}

func dotted(entries []entry) []entry {
	for i := range entries {
		entries[i].Name = "./" + entries[i].Name
	}
	return entries
}

// renamed gives the image of manifest.json other names.
func renamed(t testing.TB, entries []entry, tags ...string) []entry {
	t.Helper()
	return edited(t, entries, "manifest.json", func(images []map[string]any) any {
		images[0]["RepoTags"] = tags
		return images
	})
}

// nameless takes all names out of index.json.
func nameless(t testing.TB, entries []entry) []entry {
	t.Helper()
	return edited(t, entries, "index.json", func(index map[string]any) any {
		for _, m := range index["manifests"].([]any) {
			delete(m.(map[string]any), "annotations")
		}
		return index
	})
}

func edited[T any](t testing.TB, entries []entry, name string, edit func(T) any) []entry {
	t.Helper()
	for i := range entries {
		if entries[i].Name != name {
			continue
		}
		var document T
		if err := json.Unmarshal(entries[i].Body, &document); err != nil {
			t.Fatal(err)
		}
		var err error
		if entries[i].Body, err = json.Marshal(edit(document)); err != nil {
			t.Fatal(err)
		}
		return entries
	}
	t.Fatalf("there is no %s", name)
	return nil
}

// cutArchives are copies that end too early: in a file, between two, and where
// nothing is missing but the mark of the end.
func cutArchives(t testing.TB, w written) (cut []written) {
	t.Helper()
	whole := contents(t, w.path)
	end := len(whole)
	for end > 0 && whole[end-1] == 0 {
		end--
	}
	end = (end + 511) / 512 * 512
	for what, n := range map[string]int{"cut in the middle": len(whole) / 2, "cut at nine tenths": len(whole) / 10 * 9, "without the mark of the end": end} {
		path := filepath.Join(workDir(t), "cut.tar")
		if err := os.WriteFile(path, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		cut = append(cut, written{w.what + " " + what, path, w.images, w.prints})
	}
	slices.SortFunc(cut, func(a, b written) int { return strings.Compare(a.what, b.what) })
	return cut
}
