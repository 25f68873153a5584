//go:build linux

package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// TestPushSaved takes an image from one Docker into a registry and from there
// into another Docker of its kind: it stays the same image.
func TestPushSaved(t *testing.T) {
	enabled(t)
	from, to := startRegistry(t), startRegistry(t).metered(t)
	one, multi := greeting(t), multiImage(t)
	from.push(t, "davit/one", "1", one.index)
	from.push(t, "davit/multi", "1", multi.index)
	for name, startDocker := range map[string]func(testing.TB) *docker{"classic Docker": startClassicDocker, "newest Docker": startNewestDocker} {
		t.Run(name, func(t *testing.T) {
			first, second := startDocker(t), startDocker(t)
			dir := workDir(t)
			for i, image := range []struct{ name, prints string }{{"davit/one:1", one.prints}, {"davit/multi:1", multi.prints}} {
				pulled, saved, back := filepath.Join(dir, fmt.Sprint(i, "-pulled.tar")), filepath.Join(dir, fmt.Sprint(i, "-saved.tar")), filepath.Join(dir, fmt.Sprint(i, "-back.tar"))
				runDavit(t, "pull", from.host+"/"+image.name, "--tag", image.name, "-o", pulled).exits(t, 0)
				first.load(t, pulled)
				run(t, first.command("save", "--output", saved, image.name))
				there := fmt.Sprintf("%s/%s/app%d:1", to.host, strings.ToLower(strings.Fields(name)[0]), i)
				runDavit(t, "push", saved, there).exits(t, 0)
				runDavit(t, "pull", there, "-o", back).exits(t, 0)
				second.load(t, back)
				if got, want := second.id(t, there), first.id(t, image.name); got != want {
					t.Errorf("%s came back as %s, not %s", image.name, got, want)
				}
				if got := second.run(t, there); got != image.prints {
					t.Errorf("%s printed %q, want %q", there, got, image.prints)
				}
				to.forget()
				runDavit(t, "push", saved, there).exits(t, 0)
				if sent := to.uploads(); len(sent) > 0 {
					t.Errorf("pushed again, %s sends blobs: %v", image.name, sent)
				}
			}
		})
	}
}

// TestPushByNames pushes what all tools write, each image by its own name below
// a path of the registry.
func TestPushByNames(t *testing.T) {
	enabled(t)
	r := startRegistry(t)
	for i, w := range writtenByAll(t) {
		t.Run(w.what, func(t *testing.T) {
			prefix := fmt.Sprintf("%s/written%d/", r.host, i)
			below := prefix
			if w.what == "davit components" || w.what == "crane pull --format=oci" { // which have no names
				nameless := runDavit(t, "push", w.path, below)
				nameless.exits(t, 2)
				nameless.says(t, "no clear destination", w.path)
				below += "davit/named:1"
			}
			pushed := runDavit(t, "push", w.path, below)
			pushed.exits(t, 0)
			lines := pushed.lines()
			if len(lines) != w.images {
				t.Fatalf("%d images are pushed, want %d: %q", len(lines), w.images, lines)
			}
			for _, line := range lines {
				name, digest, _ := strings.Cut(line, "@")
				if !strings.HasPrefix(name, prefix+"davit/") || !strings.HasSuffix(name, ":1") {
					t.Errorf("%s is pushed as %s", w.what, name)
				}
				if got := strings.TrimSpace(crane(t, "digest", "--insecure", name)); got != digest {
					t.Errorf("%s is %s, not %s", name, got, digest)
				}
				run(t, skopeo(t, "copy", "--quiet", "--src-tls-verify=false", "docker://"+name, "dir:"+filepath.Join(workDir(t), "image")))
			}
		})
	}
}
