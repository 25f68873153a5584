package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// copied is what skopeo wrote when it copied an image into a directory.
type copied struct {
	digest   digest.Digest // the manifest's
	manifest ocispec.Manifest
}

// skopeoCopy copies an image from source into a new directory, and checks that
// every blob of its manifest is there and is what its digest says.
func skopeoCopy(t testing.TB, source string) copied {
	t.Helper()
	dir := filepath.Join(workDir(t), "image")
	run(t, skopeo(t, "copy", "--quiet", source, "dir:"+dir))
	raw, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	c := copied{digest: digest.FromBytes(raw)}
	if err := json.Unmarshal(raw, &c.manifest); err != nil {
		t.Fatal(err)
	}
	for _, d := range append([]ocispec.Descriptor{c.manifest.Config}, c.manifest.Layers...) {
		f, err := os.Open(filepath.Join(dir, d.Digest.Encoded()))
		if err != nil {
			t.Fatal(err)
		}
		got, err := digest.FromReader(f)
		_ = f.Close() // it was only read
		if err != nil || got != d.Digest {
			t.Errorf("%s: blob %s is %s, %v", source, d.Digest, got, err)
		}
	}
	return c
}

// skopeoCopyAll copies an index with all its manifests into a new layout, and
// returns its digest.
func skopeoCopyAll(t testing.TB, source string, flags ...string) digest.Digest {
	t.Helper()
	to := filepath.Join(workDir(t), "layout")
	run(t, skopeo(t, append(append([]string{"copy", "--quiet", "--all"}, flags...), source, "oci:"+to+":all")...))
	l := readLayout(t, to)
	if len(l.index.Manifests) != 1 {
		t.Fatalf("skopeo copied %d images of %s", len(l.index.Manifests), source)
	}
	return l.index.Manifests[0].Digest
}

// skopeo is skopeo with args, in an environment of its own.
func skopeo(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	home := workDir(t)
	cmd := exec.Command(debian(t, "skopeo"), append([]string{"--insecure-policy"}, args...)...)
	cmd.Env = []string{debianPath(), "HOME=" + home, "TMPDIR=" + home}
	return cmd
}
