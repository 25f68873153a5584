package e2e

import (
	"debug/elf"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// loader is what takes archives in and runs what is in them.
type loader interface {
	load(t testing.TB, archive string) string
	// names lists the images it has, as it writes them.
	names(t testing.TB) []string
	// id is what it calls the image.
	id(t testing.TB, image string) string
	// run runs a container of the image and returns what that printed.
	run(t testing.TB, image string) string
}

// archive is what davit wrote, with what is to be found in it.
type archive struct {
	path  string
	image realImage
	name  string // full; empty where it was pulled by digest alone
}

// archives are the real images, as davit pulled them from distribution's registry.
type archives struct {
	registry *registry
	debian   archive
	zstd     archive
	multi    archive
	other    archive // multi for another platform
	named    archive // multi with another name
	nameless archive // multi by its digest alone
	pinned   archive // multi by its digest, with a name
}

func pullArchives(t testing.TB) archives {
	t.Helper()
	r := startRegistry(t)
	dir := workDir(t)
	pull := func(file, name string, x realImage, args ...string) archive {
		path := filepath.Join(dir, file)
		run(t, davitCommand(t, append([]string{"pull", "--quiet", "--output", path}, args...)...))
		return archive{path: path, image: x, name: name}
	}
	debian, zstd, multi := debianImage(t), zstdImage(t), multiImage(t)
	r.push(t, "davit/debian", "12", debian.index)
	r.push(t, "davit/zstd", "1.0", zstd.index)
	r.push(t, "davit/multi", "latest", multi.index)
	t.Logf("images of %d, %d and %d MB", debian.own.size()>>20, zstd.own.size()>>20, multi.own.size()>>20)
	host := r.host + "/"
	return archives{
		registry: r,
		debian:   pull("debian.tar", host+"davit/debian:12", debian, host+"davit/debian:12"),
		zstd:     pull("zstd.tar", host+"davit/zstd:1.0", zstd, host+"davit/zstd:1.0"),
		multi:    pull("multi.tar", host+"davit/multi:latest", multi, host+"davit/multi"),
		other:    pull("other.tar", host+"davit/multi:latest", multi, host+"davit/multi", "--platform", otherPlatform.Architecture),
		named:    pull("named.tar", "docker.io/davit/named:1", multi, host+"davit/multi", "--tag", "davit/named:1"),
		nameless: pull("nameless.tar", "", multi, host+"davit/multi@"+multi.root.Digest.String()),
		pinned:   pull("pinned.tar", "docker.io/davit/pinned:1", multi, host+"davit/multi@"+multi.root.Digest.String(), "--tag", "davit/pinned:1"),
	}
}

// loads checks that an archive loads, has its name, and runs with all its layers.
func loads(t *testing.T, l loader, a archive, name, id string) {
	t.Helper()
	t.Log(strings.TrimSpace(l.load(t, a.path)))
	loaded(t, l, a, name, id)
}

// loaded checks that what was loaded has its name, and runs with all its layers.
func loaded(t *testing.T, l loader, a archive, name, id string) {
	t.Helper()
	if names := l.names(t); !slices.Contains(names, name) {
		t.Errorf("loaded as %q, want %s", names, name)
	}
	if got := l.id(t, name); got != id {
		t.Errorf("%s has the ID %s, want %s", name, got, id)
	}
	if got := l.run(t, name); got != a.image.prints {
		t.Errorf("%s printed %q, want %q", name, got, a.image.prints)
	}
}

// TestLoaders has every loader take the same archives in and run them.
func TestLoaders(t *testing.T) {
	enabled(t)
	from := pullArchives(t)
	t.Run("classic Docker", func(t *testing.T) { classicDocker(t, from) })
	t.Run("newest Docker", func(t *testing.T) { newestDocker(t, from) })
	t.Run("podman", func(t *testing.T) { podmanLoads(t, from) })
	t.Run("containerd", func(t *testing.T) { containerdImports(t, from) })
	t.Run("skopeo", func(t *testing.T) { skopeoCopies(t, from) })
}

// Docker writes docker.io/davit/named:1 as davit/named:1.
func familiar(name string) string { return strings.TrimPrefix(name, "docker.io/") }

func configID(a archive) string { return a.image.own.config.Digest.String() }

// storedID is what loaders that keep manifests call the image: its manifest's
// digest, or the index's where the image was pulled by that.
func storedID(from archives, a archive) string {
	if a.path == from.pinned.path {
		return a.image.root.Digest.String()
	}
	return a.image.own.manifest.Digest.String()
}

func classicDocker(t *testing.T, from archives) {
	d := startClassicDocker(t)
	for _, a := range []archive{from.debian, from.multi, from.named, from.pinned} {
		t.Run(filepath.Base(a.path), func(t *testing.T) { loads(t, d, a, familiar(a.name), configID(a)) })
	}
	t.Run("by digest alone", func(t *testing.T) {
		d := startClassicDocker(t) // one that has no other name for the image
		t.Log(strings.TrimSpace(d.load(t, from.nameless.path)))
		if names := d.names(t); !slices.Equal(names, []string{"<none>:<none>"}) {
			t.Errorf("loaded as %q, want no name", names)
		}
		if got := d.run(t, configID(from.nameless)); got != from.nameless.image.prints {
			t.Errorf("it printed %q, want %q", got, from.nameless.image.prints)
		}
	})
	t.Run("zstd", func(t *testing.T) {
		// Classic Docker learned zstd in version 23. What matters is that it says so.
		said, stderr, err := output(d.command("load", "--input", from.zstd.path))
		if err == nil {
			t.Errorf("this Docker loads zstd: %s", said)
		}
		t.Logf("layers of zstd: %s", strings.TrimSpace(stderr))
	})
	t.Run("pipe", func(t *testing.T) { pipes(t, startClassicDocker(t), from, configID(from.debian)) })
	t.Run("demo", func(t *testing.T) { demo(t, d) })
}

func newestDocker(t *testing.T, from archives) {
	d := startNewestDocker(t)
	for _, a := range []archive{from.debian, from.zstd, from.multi, from.named, from.pinned} {
		t.Run(filepath.Base(a.path), func(t *testing.T) { loads(t, d, a, familiar(a.name), storedID(from, a)) })
	}
	t.Run("by digest alone", func(t *testing.T) {
		d := startNewestDocker(t)
		said := d.load(t, from.nameless.path)
		if got := d.run(t, loadedAs(t, said)); got != from.nameless.image.prints {
			t.Errorf("it printed %q, want %q", got, from.nameless.image.prints)
		}
	})
	t.Run("pipe", func(t *testing.T) { pipes(t, startNewestDocker(t), from, storedID(from, from.debian)) })
	t.Run("demo", func(t *testing.T) { demo(t, d) })
}

// pipes checks davit pull -o - | docker load.
func pipes(t *testing.T, d *docker, from archives, id string) {
	a := from.debian
	if err := d.loadStream(t, davitCommand(t, "pull", "--quiet", a.name, "--output", "-")); err != nil {
		t.Fatal(err)
	}
	if got := d.id(t, a.name); got != id {
		t.Errorf("%s has the ID %s, want %s", a.name, got, id)
	}
	if got := d.run(t, a.name); got != a.image.prints {
		t.Errorf("%s printed %q, want %q", a.name, got, a.image.prints)
	}
}

// loadedAs returns the name that docker load says an image has.
func loadedAs(t testing.TB, said string) string {
	t.Helper()
	name, found := strings.CutPrefix(strings.TrimSpace(said), "Loaded image: ")
	if !found || strings.Contains(name, "\n") {
		t.Fatalf("docker load said %q, want one image's name", said)
	}
	return name
}

// demoName is what davit demo says that its image is run by.
const demoName = "davit-demo"

// demo checks that what davit demo wrote runs and greets.
func demo(t *testing.T, d *docker) {
	cmd := davitCommand(t, "demo")
	run(t, cmd)
	loaded := d.load(t, filepath.Join(cmd.Dir, "davit-demo.tar"))
	if name := loadedAs(t, loaded); name != demoName+":latest" {
		t.Errorf("docker load said %q, want %s:latest", loaded, demoName)
	}
	if got := d.run(t, demoName); !strings.Contains(got, "Hello from davit!") {
		t.Errorf("%s printed %q, want a greeting", demoName, got)
	}
}

func podmanLoads(t *testing.T, from archives) {
	p := newPodman(t)
	for _, a := range []archive{from.debian, from.zstd, from.multi, from.named, from.pinned} {
		t.Run(filepath.Base(a.path), func(t *testing.T) { loads(t, p, a, a.name, configID(a)) })
	}
	t.Run("another platform", func(t *testing.T) { runsElsewhere(t, newPodman(t), from.other) })
	t.Run("by digest alone", func(t *testing.T) {
		p := newPodman(t)
		t.Log(strings.TrimSpace(p.load(t, from.nameless.path)))
		if got := p.run(t, configID(from.nameless)); got != from.nameless.image.prints {
			t.Errorf("it printed %q, want %q", got, from.nameless.image.prints)
		}
	})
}

// runsElsewhere checks the image for a processor that this machine has not, by
// letting QEMU run its program.
func runsElsewhere(t *testing.T, p *podman, a archive) {
	t.Log(strings.TrimSpace(p.load(t, a.path)))
	qemu := debian(t, map[string]string{"amd64": "qemu-x86_64-static", "arm64": "qemu-aarch64-static"}[otherPlatform.Architecture])
	got := p.runWith(t, "--volume="+qemu+":/qemu:ro", "--entrypoint=/qemu", p.id(t, a.name), "/bin/hello")
	if want := "hello from linux/" + otherPlatform.Architecture + "\n"; !strings.HasPrefix(got, want) {
		t.Errorf("%s printed %q, want %q", a.name, got, want)
	}
}

func containerdImports(t *testing.T, from archives) {
	c := startContainerd(t)
	for _, a := range []archive{from.debian, from.zstd, from.multi, from.named, from.pinned} {
		t.Run(filepath.Base(a.path), func(t *testing.T) { loads(t, c, a, a.name, storedID(from, a)) })
	}
	t.Run("by digest alone", func(t *testing.T) {
		c := startContainerd(t)
		a := from.nameless
		t.Log(strings.TrimSpace(c.load(t, a.path)))
		name := from.registry.host + "/davit/multi@" + a.image.root.Digest.String()
		if names := c.names(t); !slices.Equal(names, []string{name}) {
			t.Errorf("imported as %q, want %s", names, name)
		}
		if id := c.id(t, name); id != a.image.root.Digest.String() {
			t.Errorf("%s is the image %s", name, id)
		}
		if got := c.run(t, name); got != a.image.prints {
			t.Errorf("it printed %q, want %q", got, a.image.prints)
		}
	})
}

func skopeoCopies(t *testing.T, from archives) {
	for _, a := range []archive{from.debian, from.zstd, from.multi, from.named, from.nameless, from.pinned} {
		t.Run(filepath.Base(a.path), func(t *testing.T) {
			own := a.image.own
			// An OCI archive keeps what the registry served, byte for byte.
			if c := skopeoCopy(t, "oci-archive:"+a.path); c.digest != own.manifest.Digest {
				t.Errorf("oci-archive: manifest %s, want %s", c.digest, own.manifest.Digest)
			}
			// A docker-archive is decompressed on the way, and its manifest made anew.
			c := skopeoCopy(t, "docker-archive:"+a.path)
			if c.manifest.Config.Digest != own.config.Digest {
				t.Errorf("docker-archive: config %s, want %s", c.manifest.Config.Digest, own.config.Digest)
			}
			if len(c.manifest.Layers) != len(own.layers) {
				t.Fatalf("docker-archive: %d layers, want %d", len(c.manifest.Layers), len(own.layers))
			}
			for i, l := range own.layers {
				if got := c.manifest.Layers[i].Digest; got != l.diffID {
					t.Errorf("docker-archive: layer %d is %s, want %s", i, got, l.diffID)
				}
			}
		})
	}
}

// TestStatic checks that davit needs nothing of the machine it runs on.
func TestStatic(t *testing.T) {
	enabled(t)
	f, err := elf.Open(davit)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }() // it is only read
	libraries, err := f.ImportedLibraries()
	if err != nil || len(libraries) > 0 {
		t.Errorf("davit needs %q, %v", libraries, err)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			t.Error("davit needs a dynamic linker")
		}
	}
}
