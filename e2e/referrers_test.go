//go:build linux

package e2e

import (
	"encoding/json"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/image"
)

// referred is an image with all that refers to it: what regctl attached, what
// refers to that, and what stands under one of cosign's tags.
type referred struct {
	registry *registry
	x        realImage
	name     string
	all      []string // digests of what refers to the image itself
	nested   string   // of what refers to the first of them
	cosign   string   // a tag
}

// pushReferred has regctl attach artifacts in distribution's registry, which has
// no API for them: regctl keeps the list under a tag.
func pushReferred(t testing.TB) referred {
	t.Helper()
	r := startRegistry(t)
	f := referred{registry: r, x: multiImage(t), name: r.host + "/team/app:1"}
	r.push(t, "team/app", "1", f.x.index)
	file := filepath.Join(workDir(t), "sbom.json")
	writeFile(t, file, `{"spdxVersion":"SPDX-2.3"}`)
	host := "reg=" + r.host + ",tls=disabled"
	attach := func(to, kind string) string {
		return regctl(t, "artifact", "put", "--host", host, "--artifact-type", kind, "--subject", to, "--file", file, "--format", "{{.Manifest.GetDescriptor.Digest}}")
	}
	sbom := attach(f.name, "application/spdx+json")
	f.all = []string{sbom, attach(f.name, "application/vnd.example.signature")}
	f.nested = attach(r.host+"/team/app@"+sbom, "application/vnd.example.signature")
	root := f.x.root.Digest
	f.cosign = image.ReferrersTag(root) + ".sig"
	r.pushSignature(t, "team/app", f.cosign, root)
	return f
}

// pushSignature pushes what cosign pushes under its tag: to all appearances an
// image, with a config of one and a layer that is none.
func (r *registry) pushSignature(t testing.TB, name, tag string, of digest.Digest) {
	t.Helper()
	describe := func(mediaType string, raw []byte) ocispec.Descriptor {
		return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	}
	push := func(mediaType, raw string) ocispec.Descriptor {
		d := describe(mediaType, []byte(raw))
		r.pushBlob(t, name, d, io.NopCloser(strings.NewReader(raw)))
		return d
	}
	payload := push("application/vnd.dev.cosign.simplesigning.v1+json", `{"critical":{"image":{"docker-manifest-digest":"`+of.String()+`"}}}`)
	config := push(ocispec.MediaTypeImageConfig, `{"architecture":"","os":"","created":"0001-01-01T00:00:00Z","config":{},"history":[{"created":"0001-01-01T00:00:00Z"}],`+
		`"rootfs":{"type":"layers","diff_ids":["`+payload.Digest.String()+`"]}}`)
	raw, err := json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: []ocispec.Descriptor{payload},
	})
	if err != nil {
		t.Fatal(err)
	}
	r.pushManifest(t, name, tag, describe(ocispec.MediaTypeImageManifest, raw), raw)
}

// check checks that a registry has all of it.
func (f referred) check(t testing.TB, host, repository string) {
	t.Helper()
	name := host + "/" + repository
	list := func(of string) []string {
		return strings.Fields(regctl(t, "artifact", "list", "--host", "reg="+host+",tls=disabled", "--format", "{{range .Descriptors}}{{.Digest}} {{end}}", name+"@"+of))
	}
	if got := list(f.x.root.Digest.String()); !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(f.all))) {
		t.Errorf("of %s regctl lists %q, want %q", name, got, f.all)
	}
	if got := list(f.all[0]); !slices.Equal(got, []string{f.nested}) {
		t.Errorf("of the SBOM in %s regctl lists %q, want %s", name, got, f.nested)
	}
	if got, want := crane(t, "digest", name+":"+f.cosign), crane(t, "digest", f.registry.host+"/team/app:"+f.cosign); got != want {
		t.Errorf("%s:%s is %s, want %s", name, f.cosign, got, want)
	}
}

// TestReferrers carries an image with its referrers from one of distribution's
// registries to another, over the disk too.
func TestReferrers(t *testing.T) {
	enabled(t)
	f := pushReferred(t)
	to := startRegistry(t)
	copyAll := func(from, repository string) {
		t.Helper()
		said := run(t, davitCommand(t, "copy", "--json", "--referrers", from, to.host+"/"+repository+":1"))
		if !strings.Contains(said, `"referrers":4`) {
			t.Errorf("davit copied %s", said)
		}
		f.check(t, to.host, repository)
	}
	copyAll(f.name, "team/app")
	copyAll(f.name, "team/app") // again
	dir := workDir(t)
	for _, out := range []string{"app.tar", "layout"} {
		path := filepath.Join(dir, out)
		format := map[string]string{"app.tar": "archive", "layout": "oci"}[out]
		run(t, davitCommand(t, "pull", "--quiet", "--referrers", "--platform", "all", "--format", format, "--output", path, f.name))
		copyAll(path, "from/"+strings.TrimSuffix(out, ".tar"))
		s := startServe(t, path)
		f.check(t, s.host, "team/app")
	}
}

// TestLoadersOfReferrers has every loader take an archive that has referrers in
// it. They get the one image.
func TestLoadersOfReferrers(t *testing.T) {
	enabled(t)
	f := pushReferred(t)
	path := filepath.Join(workDir(t), "app.tar")
	run(t, davitCommand(t, "pull", "--quiet", "--referrers", "--platform", "all", "--output", path, f.name))
	a := archive{path: path, image: f.x, name: f.name}
	only := func(t *testing.T, l loader, id string) {
		t.Helper()
		loads(t, l, a, a.name, id)
		if names := l.names(t); len(names) != 1 {
			t.Errorf("it has %q", names)
		}
	}
	t.Run("classic Docker", func(t *testing.T) { only(t, startClassicDocker(t), configID(a)) })
	t.Run("newest Docker", func(t *testing.T) { only(t, startNewestDocker(t), f.x.root.Digest.String()) })
	t.Run("podman", func(t *testing.T) { only(t, newPodman(t), configID(a)) })
	t.Run("containerd", func(t *testing.T) { only(t, startContainerd(t), f.x.root.Digest.String()) })
	t.Run("skopeo", func(t *testing.T) {
		if c := skopeoCopy(t, "oci-archive:"+path+":1"); c.digest != f.x.own.manifest.Digest {
			t.Errorf("oci-archive: manifest %s, want %s", c.digest, f.x.own.manifest.Digest)
		}
		if c := skopeoCopy(t, "docker-archive:"+path); c.manifest.Config.Digest != f.x.own.config.Digest {
			t.Errorf("docker-archive: config %s, want %s", c.manifest.Config.Digest, f.x.own.config.Digest)
		}
	})
}
