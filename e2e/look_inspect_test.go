//go:build linux

package e2e

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/registry/remote"
)

// inspected is what davit inspect prints of an image.
func inspected(t testing.TB, args ...string) string {
	t.Helper()
	r := runDavit(t, append([]string{"inspect"}, args...)...)
	r.exits(t, 0)
	return r.stdout
}

// without is a text without the lines that begin so.
func without(text string, begins ...string) string {
	var kept []string
	for line := range strings.Lines(text) {
		if !slices.ContainsFunc(begins, func(begin string) bool { return strings.HasPrefix(line, begin) }) {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}

// alike fails the test where two texts differ.
func alike(t testing.TB, what, want, got string) {
	t.Helper()
	if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("%s differs from what the registry's image gives (-want +got):\n%s", what, diff)
	}
}

// TestInspectAlike inspects one image in distribution's registry, and wherever
// davit, skopeo and Docker's newest engine have put it on the disk: the text is
// the same, and so is the JSON.
func TestInspectAlike(t *testing.T) {
	enabled(t)
	r := startRegistry(t)
	multi, zstd := multiImage(t), zstdImage(t)
	r.push(t, "davit/multi", "1", multi.index)
	r.push(t, "davit/zstd", "1", zstd.index)
	for _, c := range []struct {
		what, name string
		pull       []string
	}{
		{"one manifest", r.host + "/davit/zstd:1", nil},
		{"all of an index", r.host + "/davit/multi:1", []string{"-p", "all"}},
	} {
		t.Run(c.what, func(t *testing.T) {
			want, wantJSON := inspected(t, c.name), inspected(t, c.name, "--json")
			for _, format := range []string{"archive", "oci", "components"} {
				path := filepath.Join(workDir(t), "image")
				runDavit(t, append([]string{"pull", c.name, "-f", format, "-o", path}, c.pull...)...).exits(t, 0)
				if format == "components" {
					// Components have no name.
					alike(t, format, without(want, "Name "), inspected(t, path))
					continue
				}
				alike(t, format, want, inspected(t, path))
				alike(t, format+" in JSON", wantJSON, inspected(t, path, "--json"))
			}
		})
	}
	t.Run("one platform of an index", func(t *testing.T) {
		// What davit pulls of an index for one platform has that manifest for its
		// root: what stands above the image is not the same, the image is.
		name := r.host + "/davit/multi:1"
		for _, m := range multi.images[:2] {
			p := platformName(*m.platform)
			want, _, _ := strings.Cut(inspected(t, name, "-p", p), "\nReferrers\n")
			want = without(want, "Digest", "Media type", "Platform", "Manifest")
			for _, format := range []string{"archive", "oci"} {
				path := filepath.Join(workDir(t), "image")
				runDavit(t, "pull", name, "-p", p, "-f", format, "-o", path).exits(t, 0)
				got := inspected(t, path)
				alike(t, format, want, without(got, "Digest", "Media type", "Platform", "Manifest"))
				if !strings.Contains(got, "Digest       "+m.manifest.Digest.String()+"\n") {
					t.Errorf("%s of %s is not of the manifest %s:\n%s", format, p, m.manifest.Digest, got)
				}
			}
		}
	})
	t.Run("by digest", func(t *testing.T) {
		name := r.host + "/davit/multi@" + multi.root.Digest.String()
		path := filepath.Join(workDir(t), "image.tar")
		runDavit(t, "pull", name, "-p", "all", "-o", path).exits(t, 0)
		alike(t, "the archive", inspected(t, name), inspected(t, path))
	})
	t.Run("skopeo", func(t *testing.T) {
		layout := filepath.Join(workDir(t), "layout")
		run(t, skopeo(t, "copy", "--quiet", "--all", "--src-tls-verify=false", "docker://"+r.host+"/davit/multi:1", "oci:"+layout+":"+r.host+"/davit/multi:1"))
		alike(t, "skopeo's layout", inspected(t, r.host+"/davit/multi:1"), inspected(t, layout))
	})
	t.Run("newest Docker", func(t *testing.T) {
		d := startNewestDocker(t)
		for _, name := range []string{r.host + "/davit/zstd:1", r.host + "/davit/multi:1"} {
			run(t, d.command("pull", "--quiet", name))
			path := filepath.Join(workDir(t), "saved.tar")
			run(t, d.command("save", "--output", path, name))
			alike(t, "what Docker saved of "+name, inspected(t, name), inspected(t, path))
		}
	})
	t.Run("classic Docker", func(t *testing.T) {
		// It keeps the config and the layers' tars, and no manifest.
		name := r.host + "/davit/multi:1"
		path := filepath.Join(workDir(t), "image.tar")
		runDavit(t, "pull", name, "-o", path).exits(t, 0)
		d := startClassicDocker(t)
		d.load(t, path)
		saved := filepath.Join(workDir(t), "saved.tar")
		run(t, d.command("save", "--output", saved, name))
		got := inspected(t, saved)
		for _, want := range []string{
			"Name         " + name + "\n",
			"Image ID     " + multi.own.config.Digest.String() + "\n",
			`Entrypoint   ["/bin/hello"]` + "\n",
			"layer 0", "layer 1",
		} {
			if !strings.Contains(got, want) {
				t.Errorf("of what docker save wrote davit tells\n%s\nwithout %q", got, want)
			}
		}
	})
}

// TestInspectReferrers has regctl attach an artifact to an image in
// distribution's registry, which has no referrers API: regctl keeps the list
// under a tag, and davit finds it there.
func TestInspectReferrers(t *testing.T) {
	enabled(t)
	m := startRegistry(t).metered(t)
	x := tiny(t)
	m.push(t, "team/app", "1", x)
	name := m.host + "/team/app:1"
	if got := inspected(t, name); strings.Contains(got, "Referrers") {
		t.Errorf("there are no referrers yet:\n%s", got)
	}
	host := "reg=" + m.registry.host + ",tls=disabled"
	file := filepath.Join(workDir(t), "sbom.json")
	writeFile(t, file, `{"spdxVersion":"SPDX-2.3"}`)
	for _, artifact := range []string{"application/spdx+json", "application/vnd.example.signature"} {
		regctl(t, "artifact", "put", "--host", host, "--artifact-type", artifact, "--annotation", "org.example.by=regctl",
			"--subject", m.registry.host+"/team/app:1", "--file", file)
	}
	listed := regctl(t, "artifact", "list", "--host", host, "--format", "{{range .Descriptors}}{{.Digest}} {{.ArtifactType}}\n{{end}}", m.registry.host+"/team/app:1")
	got := inspected(t, name)
	t.Log(got)
	for line := range strings.Lines(listed) {
		d, artifact, _ := strings.Cut(strings.TrimSpace(line), " ")
		if !strings.Contains(got, d) || !strings.Contains(got, artifact) {
			t.Errorf("davit tells nothing of %s, which regctl lists:\n%s", strings.TrimSpace(line), got)
		}
	}
	if n := strings.Count(listed, "\n") + 1; n != 2 {
		t.Fatalf("regctl lists %d referrers: %s", n, listed)
	}
	var told struct {
		Referrers []struct {
			Digest       string `json:"digest"`
			ArtifactType string `json:"artifact_type"`
		} `json:"referrers"`
	}
	decode(t, inspected(t, name, "--json"), &told)
	if len(told.Referrers) != 2 {
		t.Errorf("davit inspect --json tells of %+v", told.Referrers)
	}
	m.forget()
	if got := inspected(t, name, "--no-referrers"); strings.Contains(got, "spdx") {
		t.Errorf("--no-referrers tells of them:\n%s", got)
	}
	for _, a := range m.requests() {
		if strings.Contains(a.path, "/referrers/") || strings.Contains(a.path, "/manifests/sha256-") {
			t.Errorf("--no-referrers asks for them: %s", a)
		}
	}
}

// TestInspectORAS has ORAS's library attach an artifact as oras attach does. It
// keeps the list of referrers under a tag too.
func TestInspectORAS(t *testing.T) {
	enabled(t)
	r := startRegistry(t)
	x := multiImage(t)
	r.push(t, "team/app", "1", x.index)
	repository, err := remote.NewRepository(r.host + "/team/app")
	if err != nil {
		t.Fatal(err)
	}
	repository.PlainHTTP = true
	packed, err := oras.PackManifest(t.Context(), repository, oras.PackManifestVersion1_1, "application/vnd.example.report+json",
		oras.PackManifestOptions{Subject: &x.root, ManifestAnnotations: map[string]string{"org.example.by": "oras"}})
	if err != nil {
		t.Fatal(err)
	}
	got := inspected(t, r.host+"/team/app:1")
	if !strings.Contains(got, packed.Digest.String()) || !strings.Contains(got, "application/vnd.example.report+json") {
		t.Errorf("davit tells nothing of %s, which ORAS attached:\n%s", packed.Digest, got)
	}
}

// crane is what crane prints on stdout.
func crane(t testing.TB, args ...string) string {
	t.Helper()
	return run(t, craneCommand(t, args...))
}

// craneCommand is crane with args, in an environment of its own.
func craneCommand(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(built(t, "crane"), args...)
	cmd.Env = []string{debianPath(), "HOME=" + t.TempDir()}
	return cmd
}
