//go:build linux

package e2e

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/internal/registrytest"
)

// flatImage is an image in a registry whose file system is to be had.
type flatImage struct {
	name string // full
	ours fileTree
}

// manyOurs are the three paths of manyLayers where umoci departs from what the
// layers tell, and what davit makes of them:
var manyOurs = fileTree{
	// A layer brings a file in a directory that no layer has an entry for.
	// umoci gives the directory, and the one that it makes it in, the time of
	// its own run.
	"untold": "directory, mode 0755, owner 0:0, time 0.000000000",
	".":      "directory, mode 0751, owner 0:7, time 1580702706.000000000",
	// umoci reads tars by Go's archive/tar, which drops an attribute without a value.
	"srv/attributes.d": `directory, mode 0755, owner 0:0, user.d="", time 1580713508.000000000`,
}

// TestRootfs writes the file systems of real images, in all forms.
func TestRootfs(t *testing.T) {
	enabled(t)
	r := startRegistry(t)
	base := makeLayer(t, gzipped, fromFile(built(t, "bookworm.tar")))
	debian := makeImage(t, thisPlatform, show, base)
	r.push(t, "davit/debian", "12", single(debian))
	debianName := r.host + "/davit/debian:12"
	s := registrytest.Start(t, registrytest.Options{})
	many := s.Push("team/many", "1", manyLayers(t))
	s.Push("team/links", "1", hardLinks())

	t.Run("as umoci", func(t *testing.T) {
		for _, x := range []flatImage{
			{name: debianName},
			{name: s.Host() + "/team/many:1", ours: manyOurs},
			{name: s.Host() + "/team/links:1"},
		} {
			t.Run(strings.ReplaceAll(x.name[strings.LastIndex(x.name, "/")+1:], ":", " "), func(t *testing.T) { asUmoci(t, x) })
		}
	})
	t.Run("forms", func(t *testing.T) { forms(t, s.Host()+"/team/many:1") })
	t.Run("one layer", func(t *testing.T) { oneLayer(t, debianName, base.descriptor) })
	t.Run("saved config", func(t *testing.T) { savedConfig(t, debianName, s.Host()+"/team/many:1", base.descriptor, many) })
	t.Run("runs", func(t *testing.T) { rootfsRuns(t, debianName) })
}

// asUmoci compares what davit writes with what umoci unpacks.
func asUmoci(t *testing.T, x flatImage) {
	want := umociTree(t, x.name)
	t.Logf("umoci unpacked %d paths", len(want))
	for name, line := range x.ours {
		if want[name] == line {
			t.Errorf("%q: umoci makes the same of it: it needs no exception", name)
		}
		want[name] = line
	}
	dir := workDir(t)
	files, archive, untarred := filepath.Join(dir, "files"), filepath.Join(dir, "rootfs.tar"), filepath.Join(dir, "untarred")
	run(t, davitCommand(t, "pull", "--quiet", x.name, "-f", "files", "-o", files))
	run(t, davitCommand(t, "pull", "--quiet", x.name, "-f", "rootfs", "-o", archive))
	same(t, "the directory", want, readTree(t, files))
	untar(t, archive, untarred)
	same(t, "the tar", want, readTree(t, untarred))
}

// forms checks that the tar is the same in all compressions, in a file and
// through a pipe, each time.
func forms(t *testing.T, name string) {
	dir := workDir(t)
	pull := func(file string, args ...string) []byte {
		t.Helper()
		path := filepath.Join(dir, file)
		run(t, davitCommand(t, append([]string{"pull", "--quiet", name, "-f", "rootfs", "-o", path}, args...)...))
		return contents(t, path)
	}
	plain := pull("a.tar")
	for _, form := range []struct {
		file, compress string
		decoder        string // a real program: what davit writes is for others to read
	}{
		{"a.tar", "none", "cat"},
		{"a.tar.gz", "gzip", "gzip"},
		{"a.tar.zst", "zstd", "zstd"},
	} {
		t.Run(form.compress, func(t *testing.T) {
			written := pull("1" + form.file)
			if decodedBy(t, form.decoder, written) != string(plain) {
				t.Error("it holds another tar")
			}
			if !bytes.Equal(pull("2"+form.file), written) {
				t.Error("the second time it has other bytes")
			}
			if !bytes.Equal(pull("3"+form.compress, "--compress", form.compress), written) {
				t.Error("by --compress it has other bytes than by its name")
			}
			streamed := run(t, davitCommand(t, "pull", "--quiet", name, "-f", "rootfs", "-o", "-", "--compress", form.compress))
			if streamed != string(written) {
				t.Errorf("the stream of %d bytes is not the file of %d", len(streamed), len(written))
			}
			if form.compress == "none" {
				return
			}
			if slow := pull("4"+form.file, "--level", "9"); decodedBy(t, form.decoder, slow) != string(plain) {
				t.Error("of another level it holds another tar")
			} else if len(slow) >= len(written) {
				t.Errorf("level 9 takes %d bytes, the fastest %d", len(slow), len(written))
			}
		})
	}
}

// oneLayer checks that an image of one gzip layer, as gzip, is that layer.
func oneLayer(t *testing.T, name string, layer ocispec.Descriptor) {
	path := filepath.Join(workDir(t), "rootfs.tar.gz")
	said := strings.Split(strings.TrimSuffix(run(t, davitCommand(t, "pull", "--quiet", name, "-f", "rootfs", "-o", path)), "\n"), "\t")
	if len(said) != 3 || said[0] != path || !strings.HasPrefix(said[1], name+"@sha256:") || said[2] != layer.Digest.String() {
		t.Errorf("davit printed %q, want the path, %s@… and %s", said, name, layer.Digest)
	}
	if got := sumOf(t, path); got != layer.Digest {
		t.Errorf("the file is %s, the layer %s", got, layer.Digest)
	}
	var result struct{ Layer, Path, Format string }
	decode(t, run(t, davitCommand(t, "pull", "--quiet", "--json", name, "-f", "rootfs", "-o", path)), &result)
	if result.Layer != layer.Digest.String() || result.Path != path || result.Format != "rootfs" {
		t.Errorf("--json tells %+v", result)
	}
	streamed, told, err := output(davitCommand(t, "pull", "--quiet", name, "-f", "rootfs", "--compress", "gzip", "-o", "-"))
	if err != nil || layer.Digest.Algorithm().FromString(streamed) != layer.Digest {
		t.Errorf("the stream is not the layer: %d bytes, %v", len(streamed), err)
	}
	if !strings.HasSuffix(told, "\t"+layer.Digest.String()+"\n") {
		t.Errorf("beside the stream davit told %q, want the layer's digest last", told)
	}
	// Where a level is asked for, it is compressed anew.
	said = strings.Split(run(t, davitCommand(t, "pull", "--quiet", name, "-f", "rootfs", "--level", "2", "-o", path)), "\t")
	if len(said) != 2 || sumOf(t, path) == layer.Digest {
		t.Errorf("of level 2 davit printed %q", said)
	}
}

// savedConfig checks what --save-config writes, beside rootfs and files.
func savedConfig(t *testing.T, one, several string, layer ocispec.Descriptor, many registrytest.Pushed) {
	save := func(name string, args ...string) (raw string, saved map[string]json.RawMessage) {
		t.Helper()
		path := filepath.Join(workDir(t), "config.json")
		run(t, davitCommand(t, append([]string{"pull", "--quiet", name, "--save-config", path}, args...)...))
		raw = string(contents(t, path))
		decode(t, raw, &saved)
		for _, left := range []string{"history", "rootfs"} {
			if _, there := saved[left]; there {
				t.Errorf("%s: %s is in it", name, left)
			}
		}
		return raw, saved
	}
	raw, saved := save(one, "-f", "rootfs", "-o", filepath.Join(workDir(t), "x.tar.gz"))
	var got ocispec.Descriptor
	decode(t, raw, &got)
	if diff := cmp.Diff(layer, got); diff != "" {
		t.Errorf("what it tells of the layer (-want +got):\n%s", diff)
	}
	var config ocispec.ImageConfig
	decode(t, string(saved["config"]), &config)
	if diff := cmp.Diff(show, config); diff != "" {
		t.Errorf("what it tells of the config (-want +got):\n%s", diff)
	}
	if _, there := saved["layers"]; there {
		t.Error("it has a list of the one layer")
	}

	_, saved = save(several, "-f", "files", "-o", filepath.Join(workDir(t), "files"))
	var layers []ocispec.Descriptor
	decode(t, string(saved["layers"]), &layers)
	if diff := cmp.Diff(many.Layers, layers); diff != "" {
		t.Errorf("what it tells of the layers (-want +got):\n%s", diff)
	}
	if _, there := saved["digest"]; there {
		t.Error("several layers have one digest")
	}
}

// rootfsRuns has Docker and chroot run programs of Debian's file system.
func rootfsRuns(t *testing.T, name string) {
	dir := workDir(t)
	archive, files, untarred := filepath.Join(dir, "debian.tar"), filepath.Join(dir, "files"), filepath.Join(dir, "untarred")
	run(t, davitCommand(t, "pull", "--quiet", name, "-f", "rootfs", "-o", archive))
	run(t, davitCommand(t, "pull", "--quiet", name, "-f", "files", "-o", files))
	program := []string{"/bin/sh", "-c", "su --version && dpkg --verify && dpkg-query --show"}

	untar(t, archive, untarred)
	inFiles := run(t, exec.Command(debian(t, "chroot"), append([]string{files}, program...)...))
	inTar := run(t, exec.Command(debian(t, "chroot"), append([]string{untarred}, program...)...))
	if inFiles != inTar || !strings.Contains(inFiles, "\ndpkg\t") {
		t.Errorf("in the directory it printed\n%s\nand in what tar unpacked\n%s", inFiles, inTar)
	}

	d := startClassicDocker(t)
	id := strings.TrimSpace(run(t, d.command("import", archive, "davit/imported:1")))
	inDocker := run(t, d.command(append([]string{"run", "--rm", "--network=none", "--pull=never", id}, program...)...))
	if inDocker != inTar {
		t.Errorf("in Docker it printed\n%s\nand in what tar unpacked\n%s", inDocker, inTar)
	}
}

func contents(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func decode(t testing.TB, raw string, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(raw), v); err != nil {
		t.Fatalf("read %q: %v", raw, err)
	}
}

// decodedBy is what a program makes of b, which it gets as stdin.
func decodedBy(t testing.TB, program string, b []byte) string {
	t.Helper()
	cmd := exec.Command(debian(t, program))
	if program != "cat" {
		cmd.Args = append(cmd.Args, "--decompress", "--stdout")
	}
	cmd.Stdin = bytes.NewReader(b)
	return run(t, cmd)
}
