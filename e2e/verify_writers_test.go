//go:build linux

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// written is what a real tool wrote of an image: a tar or a directory.
type written struct {
	what   string
	path   string
	images int    // how many
	prints string // what a container of the image, or of one of them, prints
}

func (w written) isDir(t testing.TB) bool {
	t.Helper()
	info, err := os.Stat(w.path)
	if err != nil {
		t.Fatal(err)
	}
	return info.IsDir()
}

// writers are all the tools that write images, each in all of its formats.
type writers struct {
	t          testing.TB
	host, dir  string
	greeting   realImage
	one, other string // names of images that share a layer
	zstd       string // of one with layers of zstd
	all        []written
}

// writtenByAll is one image, and two that share a layer, as all tools write them.
func writtenByAll(t testing.TB) []written {
	return once(t, "written by all", func(t testing.TB) []written {
		r := startRegistry(t)
		dir, err := os.MkdirTemp(shared, "written-")
		if err != nil {
			t.Fatal(err)
		}
		x := greeting(t)
		r.push(t, "davit/greeting", "1", x.index)
		r.push(t, "davit/files", "1", single(makeImage(t, thisPlatform, ocispec.ImageConfig{}, x.own.layers[0])))
		r.push(t, "davit/multi", "1", multiImage(t).index)
		r.push(t, "davit/zstd", "1", zstdGreeting(t))
		w := &writers{t: t, host: r.host, dir: dir, greeting: x, one: r.host + "/davit/greeting:1", other: r.host + "/davit/files:1", zstd: r.host + "/davit/zstd:1"}
		w.davit()
		w.docker("classic Docker", startClassicDocker(t))
		w.docker("newest Docker", startNewestDocker(t))
		w.skopeo()
		w.crane()
		w.add("regctl image export", "regctl.tar", 1, func(path string) {
			regctl(t, "image", "export", "--host", "reg="+r.host+",tls=disabled", w.one, path)
		})
		w.podman()
		w.containerd()
		return w.all
	})
}

// zstdGreeting is the greeting in layers of zstd.
func zstdGreeting(t testing.TB) *index {
	return once(t, "zstd greeting", func(t testing.TB) *index {
		files, _ := treeLayer(t, zstandard, goroot(t), "opt/go", "LICENSE")
		program, _ := treeLayer(t, zstandard, filepath.Dir(buildHello(t, thisPlatform.Architecture)), "bin", "hello")
		return single(makeImage(t, thisPlatform, ocispec.ImageConfig{Entrypoint: []string{"/bin/hello"}}, files, program))
	})
}

func (w *writers) add(what, file string, images int, write func(path string)) {
	w.t.Helper()
	path := filepath.Join(w.dir, file)
	write(path)
	w.all = append(w.all, written{what, path, images, w.greeting.prints})
}

func (w *writers) davit() {
	pull := func(what, file string, images int, args ...string) {
		w.add("davit "+what, file, images, func(path string) {
			runDavit(w.t, append(append([]string{"pull"}, args...), "-o", path)...).exits(w.t, 0)
		})
	}
	pull("archive", "davit.tar", 1, w.one)
	pull("archive of two", "davit-two.tar", 2, w.one, w.other)
	pull("archive of all platforms", "davit-all.tar", 1, w.host+"/davit/multi:1", "-p", "all")
	pull("archive of several platforms", "davit-some.tar", 1, w.host+"/davit/multi:1", "-p", "linux/amd64,linux/arm64")
	pull("archive with plain layers", "davit-plain.tar", 1, w.one, "--layers", "none")
	pull("archive with layers of zstd", "davit-zstd.tar", 1, w.zstd)
	pull("layout", "davit-layout", 1, w.one, "-f", "oci")
	pull("layout of two", "davit-layout-two", 2, w.one, w.other, "-f", "oci")
	pull("components", "davit-components", 1, w.one, "-f", "components")
}

func (w *writers) docker(what string, d *docker) {
	for _, name := range []string{w.one, w.other} {
		run(w.t, d.command("pull", "--quiet", name))
	}
	file := filepath.Base(d.client) + "-" + filepath.Base(filepath.Dir(d.socket))
	w.add(what+" save", file+".tar", 1, func(path string) { run(w.t, d.command("save", "--output", path, w.one)) })
	w.add(what+" save of two", file+"-two.tar", 2, func(path string) { run(w.t, d.command("save", "--output", path, w.other, w.one)) })
}

func (w *writers) skopeo() {
	for _, c := range []struct{ transport, file, source string }{
		{"docker-archive", "skopeo-docker.tar", w.one},
		{"oci-archive", "skopeo-oci.tar", w.one},
		{"oci", "skopeo-oci", w.one},
		{"oci-archive", "skopeo-oci-zstd.tar", w.zstd},
	} {
		w.add("skopeo "+c.transport+" "+c.file, c.file, 1, func(path string) {
			run(w.t, skopeo(w.t, "copy", "--quiet", "--src-tls-verify=false", "docker://"+c.source, c.transport+":"+path+":"+c.source))
		})
	}
}

func (w *writers) crane() {
	w.add("crane pull", "crane.tar", 1, func(path string) { crane(w.t, "pull", w.one, path) })
	w.add("crane pull of two", "crane-two.tar", 2, func(path string) { crane(w.t, "pull", w.one, w.other, path) })
	w.add("crane pull --format=oci", "crane-oci", 1, func(path string) { crane(w.t, "pull", "--format=oci", w.one, path) })
}

func (w *writers) podman() {
	p := newPodman(w.t)
	for _, name := range []string{w.one, w.other} {
		run(w.t, p.command("pull", "--quiet", "--tls-verify=false", name))
	}
	for _, format := range []string{"docker-archive", "oci-archive", "oci-dir"} {
		w.add("podman save --format "+format, "podman-"+format, 1, func(path string) {
			run(w.t, p.command("save", "--quiet", "--format", format, "--output", path, w.one))
		})
	}
	w.add("podman save of two", "podman-two.tar", 2, func(path string) {
		run(w.t, p.command("save", "--quiet", "--multi-image-archive", "--output", path, w.one, w.other))
	})
}

func (w *writers) containerd() {
	c := startContainerd(w.t)
	for _, name := range []string{w.one, w.other} {
		run(w.t, c.command("images", "pull", "--plain-http", "--snapshotter", c.snapshotter, name))
	}
	w.add("ctr images export", "ctr.tar", 1, func(path string) { run(w.t, c.command("images", "export", path, w.one)) })
	w.add("ctr images export of two", "ctr-two.tar", 2, func(path string) { run(w.t, c.command("images", "export", path, w.one, w.other)) })
}

// packed is a tar, compressed by a program: gzip or zstd.
func packed(t testing.TB, program, path string) string {
	t.Helper()
	to := filepath.Join(workDir(t), filepath.Base(path)+"."+program)
	out, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(debian(t, program), "-1", "--stdout", path)
	cmd.Stdout = out
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v", cmd, err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	return to
}
