package e2e

import (
	"archive/tar"
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func platformName(p ocispec.Platform) string { return p.OS + "/" + p.Architecture }

// severalPlatforms are archives of the image for two platforms, with attestations.
type severalPlatforms struct {
	own, other archive // of two platforms, this machine's or the other one first
	all        archive // of all there is
	trimmed    archive // of two platforms, without the rest of the index
}

// TestPlatforms carries images of several platforms into every loader.
func TestPlatforms(t *testing.T) {
	enabled(t)
	r := startRegistry(t)
	multi := multiImage(t)
	r.push(t, "davit/multi", "1", multi.index)
	name := r.host + "/davit/multi:1"
	ownFirst := platformName(thisPlatform) + "," + platformName(otherPlatform)
	otherFirst := platformName(otherPlatform) + "," + platformName(thisPlatform)
	dir := workDir(t)
	pull := func(file string, args ...string) (archive, ran) {
		path := filepath.Join(dir, file)
		ran := runDavit(t, append([]string{"pull", name, "--output", path}, args...)...)
		ran.exits(t, 0)
		return archive{path: path, image: multi, name: name}, ran
	}
	var from severalPlatforms
	from.own, _ = pull("own.tar", "-p", ownFirst)
	from.other, _ = pull("other.tar", "-p", otherFirst)
	from.all, _ = pull("all.tar", "-p", "all")
	var trimming ran
	from.trimmed, trimming = pull("trimmed.tar", "-p", ownFirst, "--trim-index")

	t.Run("archive", func(t *testing.T) {
		for _, a := range []archive{from.own, from.other, from.all} {
			if got := rootOf(t, a.path); got != multi.root.Digest {
				t.Errorf("%s is of the index %s, want %s", a.path, got, multi.root.Digest)
			}
		}
		trimmed := rootOf(t, from.trimmed.path)
		if trimmed == multi.root.Digest {
			t.Error("the trimmed index is the whole one")
		}
		trimming.says(t, trimmed.String())
		for _, m := range multi.images[:2] {
			first := map[bool]archive{true: from.own, false: from.other}[m == multi.own]
			if got, want := classicConfigs(t, first.path), []string{"blobs/sha256/" + m.config.Digest.Encoded()}; !slices.Equal(got, want) {
				t.Errorf("manifest.json of %s names %q, want %q", first.path, got, want)
			}
		}
	})
	t.Run("classic Docker", func(t *testing.T) {
		d := startClassicDocker(t)
		for _, a := range []archive{from.own, from.all, from.trimmed} {
			loads(t, d, a, a.name, configID(a))
			run(t, d.command("rmi", "--force", a.name)) // so that the next one brings its layers
		}
		d.load(t, from.other.path)
		if got, want := d.id(t, name), multi.images[0].config.Digest.String(); got != want {
			t.Errorf("loaded was the config %s, want the first platform's, %s", got, want)
		}
	})
	t.Run("newest Docker", func(t *testing.T) {
		for _, a := range []archive{from.own, from.all, from.trimmed} {
			d := startNewestDocker(t)
			loads(t, d, a, a.name, rootOf(t, a.path).String())
			args := append([]string{"run", "--rm", "--network=none", "--pull=never", "--platform", platformName(otherPlatform),
				"--volume=" + otherProcessor(t) + ":/qemu:ro", "--entrypoint=/qemu"}, d.runArgs...)
			greetsElsewhere(t, run(t, d.command(append(args, a.name, "/bin/hello")...)))
		}
	})
	t.Run("containerd", func(t *testing.T) { platformsInContainerd(t, from) })
	t.Run("podman", func(t *testing.T) {
		for _, a := range []archive{from.own, from.all, from.trimmed} {
			loads(t, newPodman(t), a, a.name, configID(a))
		}
	})
	t.Run("skopeo", func(t *testing.T) {
		for _, a := range []archive{from.own, from.other, from.all, from.trimmed} {
			if c := skopeoCopy(t, "oci-archive:"+a.path); c.digest != multi.own.manifest.Digest {
				t.Errorf("oci-archive of %s: manifest %s, want %s", a.path, c.digest, multi.own.manifest.Digest)
			}
			config := multi.own.config.Digest
			if a == from.other {
				config = multi.images[0].config.Digest
			}
			if c := skopeoCopy(t, "docker-archive:"+a.path); c.manifest.Config.Digest != config {
				t.Errorf("docker-archive of %s: config %s, want %s", a.path, c.manifest.Config.Digest, config)
			}
		}
		for _, a := range []archive{from.all, from.trimmed} {
			if got, want := skopeoCopyAll(t, "oci-archive:"+a.path), rootOf(t, a.path); got != want {
				t.Errorf("skopeo copied all of %s as %s, want %s", a.path, got, want)
			}
		}
	})
	t.Run("layout", func(t *testing.T) { platformsInLayout(t, name, multi, ownFirst) })
}

// platformsInContainerd checks what containerd runs of each platform. ctr imports
// one platform, or all that the index names: then nothing may be absent.
func platformsInContainerd(t *testing.T, from severalPlatforms) {
	load := func(a archive, platform string) *containerd {
		c := startContainerd(t)
		t.Log(run(t, c.command("images", "import", platform, "--snapshotter", c.snapshotter, a.path)))
		return c
	}
	elsewhere := func(c *containerd, a archive) {
		greetsElsewhere(t, run(t, c.command("run", "--rm", "--snapshotter", c.snapshotter, "--platform", platformName(otherPlatform),
			"--mount=type=bind,src="+otherProcessor(t)+",dst=/qemu,options=rbind:ro", a.name, "elsewhere", "/qemu", "/bin/hello")))
	}
	c := startContainerd(t)
	loads(t, c, from.own, from.own.name, rootOf(t, from.own.path).String())
	elsewhere(load(from.own, "--platform="+platformName(otherPlatform)), from.own)
	for _, a := range []archive{from.all, from.trimmed} {
		c := load(a, "--all-platforms")
		loaded(t, c, a, a.name, rootOf(t, a.path).String())
		elsewhere(c, a)
	}
}

// platformsInLayout checks that a layout has several platforms as an archive has.
func platformsInLayout(t *testing.T, name string, multi realImage, both string) {
	for _, l := range []struct {
		args      []string
		kept      bool // the index as the registry has it
		whole     bool // all that the index names is there
		platforms int
	}{
		{[]string{"-p", both}, true, false, 2},
		{[]string{"-p", "all"}, true, true, 4},
		{[]string{"-p", both, "--trim-index"}, false, true, 2},
	} {
		dir := filepath.Join(workDir(t), "layout")
		runDavit(t, append([]string{"pull", name, "-f", "oci", "-o", dir}, l.args...)...).exits(t, 0)
		layout := readLayout(t, dir)
		root := layout.roots(t)[name]
		if (root == multi.root.Digest) != l.kept {
			t.Errorf("%s: the layout has the index %s, the registry's is %s", l.args, root, multi.root.Digest)
		}
		for i, m := range multi.images {
			if want := i < l.platforms; slices.Contains(layout.blobs, m.manifest.Digest) != want {
				t.Errorf("%s: manifest %d is there: %t", l.args, i, !want)
			}
		}
		if c := skopeoCopy(t, layout.source("1")); c.digest != multi.own.manifest.Digest {
			t.Errorf("%s: skopeo copied %s, want %s", l.args, c.digest, multi.own.manifest.Digest)
		}
		if !l.whole {
			continue
		}
		if got := skopeoCopyAll(t, layout.source("1")); got != root {
			t.Errorf("%s: skopeo copied all as %s, want %s", l.args, got, root)
		}
		copied := filepath.Join(workDir(t), "copied")
		regctl(t, "image", "copy", "ocidir://"+dir+":1", "ocidir://"+copied+":1")
		if got := readLayout(t, copied); !slices.Equal(got.blobs, layout.blobs) {
			t.Errorf("%s: regctl copied %s, want %s", l.args, got.blobs, layout.blobs)
		}
	}
}

// otherProcessor is a program that runs those for the other platform's processor.
func otherProcessor(t testing.TB) string {
	t.Helper()
	return debian(t, map[string]string{"amd64": "qemu-x86_64-static", "arm64": "qemu-aarch64-static"}[otherPlatform.Architecture])
}

func greetsElsewhere(t testing.TB, printed string) {
	t.Helper()
	if want := "hello from " + platformName(otherPlatform) + "\n"; !strings.HasPrefix(printed, want) {
		t.Errorf("the other platform's image printed %q, want %q", printed, want)
	}
}

// rootOf is the digest that an archive's index.json names.
func rootOf(t testing.TB, path string) digest.Digest {
	t.Helper()
	var x ocispec.Index
	decodeEntry(t, path, "index.json", &x)
	if len(x.Manifests) != 1 {
		t.Fatalf("%s has %d images", path, len(x.Manifests))
	}
	return x.Manifests[0].Digest
}

// classicConfigs are the configs that an archive's manifest.json names.
func classicConfigs(t testing.TB, path string) (configs []string) {
	t.Helper()
	var images []struct{ Config string }
	decodeEntry(t, path, "manifest.json", &images)
	for _, m := range images {
		configs = append(configs, m.Config)
	}
	return configs
}

func decodeEntry(t testing.TB, path, name string, v any) {
	t.Helper()
	f := openFile(t, path)
	for r := tar.NewReader(f); ; {
		header, err := r.Next()
		if err != nil {
			t.Fatalf("%s: no %s: %v", path, name, err)
		}
		if header.Name != name {
			continue
		}
		if err := json.NewDecoder(r).Decode(v); err != nil {
			t.Fatalf("%s: %s: %v", path, name, err)
		}
		return
	}
}
