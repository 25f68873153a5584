package e2e

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// bundle is three real images that share layers, in two registries.
type bundle struct {
	one, two *counted
	images   []archive // to be, with their names
}

// bundled are Debian with one tree of files, with another, and with both.
func bundled(t testing.TB) [3]realImage {
	return once(t, "bundled", func(t testing.TB) [3]realImage {
		base := debianBase(t)
		doc, docSums := treeLayer(t, gzipped, goroot(t), "opt/go", "doc", "lib")
		api, apiSums := treeLayer(t, plain, goroot(t), "opt/go", "api")
		image := func(sums []tree, layers ...layer) realImage {
			m := makeImage(t, thisPlatform, show, layers...)
			return realImage{single(m), m, release + sum(sums...) + "  -\n"}
		}
		return [3]realImage{
			image([]tree{docSums}, base, doc),
			image([]tree{apiSums}, base, api),
			image([]tree{docSums, apiSums}, base, doc, api),
		}
	})
}

func pushBundle(t testing.TB) bundle {
	t.Helper()
	b := bundle{one: startCounted(t), two: startCounted(t)}
	images := bundled(t)
	push := func(c *counted, repository, tag string, x realImage) {
		c.push(t, repository, tag, x.index)
		b.images = append(b.images, archive{image: x, name: c.host + "/" + repository + ":" + tag})
	}
	push(b.one, "team/doc", "1", images[0])
	push(b.two, "team/api", "1", images[1])
	push(b.two, "both", "1", images[2])
	return b
}

// names are those of the images, in order.
func (b bundle) names() (names []string) {
	for _, a := range b.images {
		names = append(names, a.name)
	}
	return names
}

// blobs are the images' configs and layers, each once.
func (b bundle) blobs() map[digest.Digest]int64 {
	sizes := map[digest.Digest]int64{}
	for _, a := range b.images {
		m := a.image.own
		sizes[m.config.Digest] = m.config.Size
		for _, l := range m.layers {
			sizes[l.descriptor.Digest] = l.descriptor.Size
		}
	}
	return sizes
}

// in is the bundle's images, as they stand in an archive.
func (b bundle) in(path string) (images []archive) {
	for _, a := range b.images {
		a.path = path
		images = append(images, a)
	}
	return images
}

// TestBundle carries three images in one archive into every loader.
func TestBundle(t *testing.T) {
	enabled(t)
	b := pushBundle(t)
	dir := workDir(t)
	list := filepath.Join(dir, "images.txt")
	text := "# what we carry\r\n" + b.images[0].name + "\r\n\r\n  " + b.images[1].name + "   # the second\r\n" + b.images[2].name
	if err := os.WriteFile(list, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "bundle.tar")
	r := runDavit(t, "pull", "--from", list, "--output", path)
	r.exits(t, 0)
	for _, name := range b.names() {
		if !strings.Contains(r.stdout, path+"\t"+name+"@sha256:") {
			t.Errorf("davit printed nothing of %s:\n%s", name, r.stdout)
		}
	}
	eachBlobOnce(t, b, path)
	for _, l := range []struct {
		name  string
		start func(testing.TB) loader
		id    func(archive) string
	}{
		{"classic Docker", func(t testing.TB) loader { return startClassicDocker(t) }, configID},
		{"newest Docker", func(t testing.TB) loader { return startNewestDocker(t) }, manifestID},
		{"podman", func(t testing.TB) loader { return newPodman(t) }, configID},
		{"containerd", func(t testing.TB) loader { return startContainerd(t) }, manifestID},
	} {
		t.Run(l.name, func(t *testing.T) {
			loader := l.start(t)
			t.Log(strings.TrimSpace(loader.load(t, path)))
			for _, a := range b.in(path) {
				loaded(t, loader, a, a.name, l.id(a))
			}
		})
	}
}

func manifestID(a archive) string { return a.image.own.manifest.Digest.String() }

// eachBlobOnce checks that the archive has each blob once, and that each was
// fetched once, from wherever.
func eachBlobOnce(t *testing.T, b bundle, path string) {
	t.Helper()
	entries := entriesOf(t, path)
	for d, size := range b.blobs() {
		if n := entries["blobs/sha256/"+d.Encoded()]; n != 1 {
			t.Errorf("blob %s is %d times in the archive", d, n)
		}
		if got := b.one.bytes(d) + b.two.bytes(d); got != size {
			t.Errorf("of blob %s, %d bytes, %d were fetched", d, size, got)
		}
	}
	for name, n := range entries {
		if n != 1 {
			t.Errorf("%s is %d times in the archive", name, n)
		}
	}
}

// openFile opens a file for the test's time.
func openFile(t testing.TB, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() }) // it is only read
	return f
}

// entriesOf counts a tar's entries by name.
func entriesOf(t testing.TB, path string) map[string]int {
	t.Helper()
	f := openFile(t, path)
	entries := map[string]int{}
	for r := tar.NewReader(f); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return entries
		}
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		entries[header.Name]++
	}
}

// TestBundleWithout pulls a bundle of which one image cannot be had.
func TestBundleWithout(t *testing.T) {
	enabled(t)
	b := pushBundle(t)
	path := filepath.Join(workDir(t), "bundle.tar")
	missing := b.two.host + "/team/nosuch:1"
	pull := func(args ...string) ran {
		b.one.forget()
		b.two.forget()
		return runDavit(t, append([]string{"pull", "--output", path}, args...)...)
	}
	fetched := func() (n int64) {
		for d := range b.blobs() {
			n += b.one.bytes(d) + b.two.bytes(d)
		}
		return n
	}
	configs := int64(0)
	for _, a := range b.images {
		configs += a.image.own.config.Size
	}

	// A name that is not there is known before anything is fetched.
	r := pull(append(b.names(), missing)...)
	r.exits(t, 3)
	r.says(t, missing)
	absent(t, path)
	if got := fetched(); got > configs {
		t.Errorf("%d bytes were fetched for nothing", got)
	}

	// A layer that is not there is known when all else has been fetched, and is kept.
	lost := b.images[0].image.own.layers[1].descriptor // of the first and the third image
	b.one.lose(lost.Digest, true)
	b.two.lose(lost.Digest, true)
	r = pull(b.names()...)
	r.exits(t, 3)
	r.says(t, b.images[0].name, b.images[2].name, "--keep-going")
	absent(t, path)
	r = pull(b.images[1].name)
	r.exits(t, 0)
	if got := fetched(); got > configs {
		t.Errorf("%d bytes were fetched that were there already", got)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}

	// --keep-going writes the others.
	r = pull(append(b.names(), missing, "--keep-going")...)
	r.exits(t, 1)
	r.says(t, missing, b.images[0].name, b.images[2].name)
	if strings.Count(r.stdout, "\n") != 1 || !strings.Contains(r.stdout, b.images[1].name) {
		t.Errorf("davit printed %q, want %s alone", r.stdout, b.images[1].name)
	}
	d := startClassicDocker(t)
	rest := b.in(path)[1]
	loads(t, d, rest, rest.name, configID(rest))
	if names := d.names(t); len(names) != 1 {
		t.Errorf("loaded were %s, want %s", names, rest.name)
	}
	b.one.lose(lost.Digest, false)
	b.two.lose(lost.Digest, false)
	pull(b.names()...).exits(t, 0)
	t.Log(strings.TrimSpace(d.load(t, path)))
	for _, a := range b.in(path) {
		loaded(t, d, a, a.name, configID(a))
	}
}
