package e2e

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/internal/registrytest"
)

const (
	processes = 16
	rounds    = 20
)

// overlapping are images of three layers: one of its own, and two that it has
// in common with three others each, never the same three.
func overlapping() (images []registrytest.Image) {
	const size = 100_000
	for i := range uint64(processes) {
		images = append(images, registrytest.Image{Layers: []registrytest.Layer{
			registrytest.RandomLayer(100+i%4, size),
			registrytest.RandomLayer(200+i/4, size),
			registrytest.RandomLayer(300+i, size),
		}})
	}
	return images
}

// TestLayoutOfMany pulls sixteen images into one layout at once, many times.
// No process may lose what another one wrote, nor fetch it again.
func TestLayoutOfMany(t *testing.T) {
	enabled(t)
	s := registrytest.Start(t, registrytest.Options{})
	sizes := map[digest.Digest]int64{} // of the layers
	roots := map[string]digest.Digest{}
	var pushed []registrytest.Pushed
	for i, image := range overlapping() {
		tag := fmt.Sprintf("v%d", i)
		p := s.Push("team/app", tag, image)
		for _, l := range p.Layers {
			sizes[l.Digest] = l.Size
		}
		roots[s.Host()+"/team/app:"+tag] = p.Manifest.Digest
		pushed = append(pushed, p)
	}
	waits := 0
	var last ociLayout
	for round := range rounds {
		s.ResetRecords()
		dir := filepath.Join(workDir(t), "layout")
		waits += pullAtOnce(t, dir, slices.Sorted(maps.Keys(roots)))
		last = readLayout(t, dir)
		if got := last.roots(t); !maps.Equal(got, roots) {
			t.Errorf("round %d: index.json names %v, want %v", round, got, roots)
		}
		for d, size := range sizes {
			gets := s.Count(func(r registrytest.Request) bool { return r.Method == "GET" && strings.Contains(r.Path, d.String()) })
			if got := s.BlobBytesOf(d); got != size || gets != 1 {
				t.Errorf("round %d: of layer %s, %d bytes, %d were served in %d answers", round, d, size, got, gets)
			}
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	t.Logf("%d rounds of %d processes, %d layers; processes that waited for another: %d", rounds, processes, len(sizes), waits)
	for i, p := range pushed {
		tag := fmt.Sprintf("v%d", i)
		if c := skopeoCopy(t, last.source(tag)); c.digest != p.Manifest.Digest {
			t.Errorf("skopeo copied %s as %s, want %s", tag, c.digest, p.Manifest.Digest)
		}
		var layers []digest.Digest
		for _, l := range p.Layers {
			layers = append(layers, l.Digest)
		}
		if got := umociStat(t, last.dir, tag); !slices.Equal(got, layers) {
			t.Errorf("umoci sees the layers %s in %s, want %s", got, tag, layers)
		}
	}
	copied := filepath.Join(workDir(t), "copied")
	regctl(t, "image", "copy", "ocidir://"+last.dir+":v0", "ocidir://"+copied+":v0")
	if got := blobsIn(t, copied); len(got) != 5 {
		t.Errorf("regctl copied %d blobs, want a manifest, a config and three layers", len(got))
	}
}

// pullAtOnce has a process for each name pull it into the layout, all at the
// same time. It returns how many said that they waited for another.
func pullAtOnce(t testing.TB, dir string, names []string) (waits int) {
	t.Helper()
	var (
		all    sync.WaitGroup
		mu     sync.Mutex
		begin  = make(chan struct{})
		failed []string
	)
	for _, name := range names {
		cmd := davitCommand(t, "pull", name, "--format", "oci", "--output", dir)
		all.Go(func() {
			<-begin
			stdout, stderr, err := output(cmd)
			mu.Lock()
			defer mu.Unlock()
			if err != nil || !strings.HasPrefix(stdout, dir+"\t"+name+"@sha256:") {
				failed = append(failed, fmt.Sprintf("%s: %v\n%s%s", cmd, err, stdout, stderr))
			}
			if strings.Contains(stderr, "waiting for another davit") {
				waits++
			}
		})
	}
	close(begin)
	all.Wait()
	if len(failed) > 0 {
		t.Fatal(strings.Join(failed, "\n"))
	}
	return waits
}

// TestLayoutAgain pulls into a layout what stands in it already, whole or damaged.
func TestLayoutAgain(t *testing.T) {
	enabled(t)
	s := registrytest.Start(t, registrytest.Options{})
	p := s.Push("team/app", "v1", overlapping()[0])
	dir := filepath.Join(workDir(t), "layout")
	name := s.Host() + "/team/app:v1"
	pull := func() (stderr string) {
		t.Helper()
		r := runDavit(t, "pull", name, "--format", "oci", "--output", dir)
		r.exits(t, 0)
		return r.stderr
	}
	fetched := func() (layers []digest.Digest) {
		for _, l := range p.Layers {
			if s.BlobBytesOf(l.Digest) > 0 {
				layers = append(layers, l.Digest)
			}
		}
		return layers
	}
	pull()
	readLayout(t, dir)

	s.ResetRecords()
	pull()
	l := readLayout(t, dir)
	if got := fetched(); len(got) > 0 {
		t.Errorf("the second pull fetched the layers %s", got)
	}

	s.ResetRecords()
	damaged := p.Layers[1]
	if err := os.WriteFile(l.path(damaged.Digest), bytes.Repeat([]byte{'x'}, int(damaged.Size)), 0o644); err != nil {
		t.Fatal(err)
	}
	said := pull()
	readLayout(t, dir)
	if got := fetched(); !slices.Equal(got, []digest.Digest{damaged.Digest}) {
		t.Errorf("the damaged layer is %s, fetched were %s", damaged.Digest, got)
	}
	if !strings.Contains(said, damaged.Digest.Encoded()) {
		t.Errorf("nothing was said of the damaged blob %s: %q", damaged.Digest, said)
	}
	if c := skopeoCopy(t, l.source("v1")); c.digest != p.Manifest.Digest {
		t.Errorf("skopeo copied %s, want %s", c.digest, p.Manifest.Digest)
	}
}

// TestLayoutNames has images of the same tag in one layout, which all other
// tools find by their names.
func TestLayoutNames(t *testing.T) {
	enabled(t)
	s := registrytest.Start(t, registrytest.Options{})
	images := overlapping()
	want := map[string]digest.Digest{}
	dir := filepath.Join(workDir(t), "layout")
	for i, repository := range []string{"team/app", "team/db", "other/app"} {
		name := s.Host() + "/" + repository + ":v1"
		want[name] = s.Push(repository, "v1", images[i]).Manifest.Digest
		runDavit(t, "pull", name, "--format", "oci", "--output", dir).exits(t, 0)
	}
	l := readLayout(t, dir)
	if got := l.roots(t); !maps.Equal(got, want) {
		t.Errorf("index.json names %v, want %v", got, want)
	}
	for name, d := range want {
		short := l.refName(t, name)
		if c := skopeoCopy(t, l.source(short)); c.digest != d {
			t.Errorf("skopeo copied %s as %s, want %s", short, c.digest, d)
		}
		if got := regctl(t, "image", "digest", "ocidir://"+dir+"@"+d.String()); got != d.String() {
			t.Errorf("regctl calls %s %s", d, got)
		}
	}
}

// TestLayoutOfSkopeo adds to a layout that skopeo made, which adds to it in turn.
func TestLayoutOfSkopeo(t *testing.T) {
	enabled(t)
	s := registrytest.Start(t, registrytest.Options{})
	images := overlapping()
	theirs, ours, later := s.Push("team/theirs", "v1", images[0]), s.Push("team/ours", "v1", images[1]), s.Push("team/later", "v2", images[2])
	l := ociLayout{dir: filepath.Join(workDir(t), "layout")}
	run(t, skopeo(t, "copy", "--quiet", "--src-tls-verify=false", "docker://"+s.Host()+"/team/theirs:v1", l.source("v1")))

	s.ResetRecords()
	runDavit(t, "pull", s.Host()+"/team/ours:v1", "--format", "oci", "--output", l.dir).exits(t, 0)
	common := ours.Layers[1] // which skopeo fetched with its image
	if theirs.Layers[1].Digest != common.Digest {
		t.Fatal("the images have no layer in common")
	}
	if got := s.BlobBytesOf(common.Digest); got != 0 {
		t.Errorf("%d bytes were fetched of a layer that is there", got)
	}
	run(t, skopeo(t, "copy", "--quiet", "--src-tls-verify=false", "docker://"+s.Host()+"/team/later:v2", l.source("later")))
	l = readLayout(t, l.dir)
	for name, d := range map[string]digest.Digest{
		"v1":                                   theirs.Manifest.Digest,
		"later":                                later.Manifest.Digest,
		l.refName(t, s.Host()+"/team/ours:v1"): ours.Manifest.Digest,
	} {
		if c := skopeoCopy(t, l.source(name)); c.digest != d {
			t.Errorf("skopeo copied %s as %s, want %s", name, c.digest, d)
		}
	}
}
