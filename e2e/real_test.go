package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// realImage is an image made of real files, that prints what shows that all
// its layers are there.
type realImage struct {
	*index
	own    *ociImage // the one of this machine's platform
	prints string
}

// made is what several tests use and is made once a run: images, layers.
var made = map[string]any{}

func once[T any](t testing.TB, name string, build func(testing.TB) T) T {
	t.Helper()
	if x, found := made[name]; found {
		return x.(T)
	}
	x := build(t)
	made[name] = x
	return x
}

// debianBase is Debian in one layer of gzip.
func debianBase(t testing.TB) layer {
	return once(t, "base", func(t testing.TB) layer {
		return makeLayer(t, gzipped, fromFile(built(t, "bookworm.tar")))
	})
}

var thisPlatform = ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}

// show is a config whose container prints Debian's release and the digest of
// all files that the other layers brought.
var show = ocispec.ImageConfig{
	Env:        []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"},
	Entrypoint: []string{"/bin/sh", "-c"},
	Cmd:        []string{". /etc/os-release && echo $PRETTY_NAME && " + sumCommand},
}

const release = "Debian GNU/Linux 12 (bookworm)\n"

func goroot(t testing.TB) string {
	t.Helper()
	return strings.TrimSpace(run(t, exec.Command("go", "env", "GOROOT")))
}

// debianImage is Debian and two more real file trees, Go and the programs that
// these tests use, in four layers: several hundred MB.
func debianImage(t testing.TB) realImage {
	t.Helper()
	base := debianBase(t)
	source, sourceSums := treeLayer(t, gzipped, goroot(t), "opt/go", "src")
	tools, toolSums := treeLayer(t, gzipped, goroot(t), "opt/go", "bin", "pkg")
	parts, partSums := treeLayer(t, plain, filepath.Dir(built(t, "registry")), "opt/parts", "crane", "dockerd", "regctl", "registry", "runc")
	m := makeImage(t, thisPlatform, show, base, source, tools, parts)
	return realImage{single(m), m, release + sum(sourceSums, toolSums, partSums) + "  -\n"}
}

// zstdImage is Debian and another tree, in layers of zstd.
func zstdImage(t testing.TB) realImage { return once(t, "zstd", makeZstdImage) }

func makeZstdImage(t testing.TB) realImage {
	t.Helper()
	base := makeLayer(t, zstandard, fromFile(built(t, "bookworm.tar")))
	tests, sums := treeLayer(t, zstandard, goroot(t), "opt/go", "test")
	m := makeImage(t, thisPlatform, show, base, tests)
	return realImage{single(m), m, release + sum(sums) + "  -\n"}
}

// hello prints a greeting and the digests of some files, without a C library
// or a shell.
const hello = `package main

import (
	"crypto/sha256"
	"fmt"
	"os"
	"runtime"
)

func main() {
	fmt.Printf("hello from %s/%s\n", runtime.GOOS, runtime.GOARCH)
	license, err := os.ReadFile("/opt/go/LICENSE")
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Printf("%x\n", sha256.Sum256(license))
}
`

// multiImage is an index of images for two platforms with attestations, each of
// a static program and a layer of files that both share.
func multiImage(t testing.TB) realImage { return once(t, "multi", makeMultiImage) }

func makeMultiImage(t testing.TB) realImage {
	t.Helper()
	files, sums := treeLayer(t, gzipped, goroot(t), "opt/go", "LICENSE", "doc", "lib")
	greeting := func(arch string) string {
		return "hello from linux/" + arch + "\n" + sums["opt/go/LICENSE"] + "\n"
	}
	image := func(p ocispec.Platform) *ociImage {
		program, _ := treeLayer(t, gzipped, filepath.Dir(buildHello(t, p.Architecture)), "bin", "hello")
		return makeImage(t, p, ocispec.ImageConfig{Entrypoint: []string{"/bin/hello"}}, files, program)
	}
	own, other := image(thisPlatform), image(otherPlatform)
	x := multi(t, other, own, attest(t, other), attest(t, own))
	return realImage{x, own, greeting(thisPlatform.Architecture)}
}

// otherPlatform is one that this machine's processor can't run.
var otherPlatform = func() ocispec.Platform {
	if runtime.GOARCH == "arm64" {
		return ocispec.Platform{OS: "linux", Architecture: "amd64"}
	}
	return ocispec.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}
}()

func buildHello(t testing.TB, arch string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(hello), 0o600); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "hello")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, filepath.Join(dir, "main.go"))
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	run(t, cmd)
	return program
}
