//go:build linux

package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// The types of Docker's own manifests, which distribution keeps apart from OCI's.
const (
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerConfig   = "application/vnd.docker.container.image.v1+json"
	dockerLayer    = "application/vnd.docker.image.rootfs.diff.tar.gzip"
)

// dockerTyped is an image with layers of gzip as docker push makes it.
func dockerTyped(t testing.TB, of *ociImage) *ociImage {
	t.Helper()
	m := &ociImage{platform: of.platform, config: of.config, rawConfig: of.rawConfig}
	m.config.MediaType = dockerConfig
	manifest := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: dockerManifest, Config: m.config}
	for _, l := range of.layers {
		l.descriptor.MediaType = dockerLayer
		m.layers = append(m.layers, l)
		manifest.Layers = append(manifest.Layers, l.descriptor)
	}
	m.manifest, m.raw = encode(t, dockerManifest, manifest)
	return m
}

// copiedImage is an image that the tests copy.
type copiedImage struct {
	repository string
	index      *index
	runs       string // what a container of it prints; empty for what is no container image
}

func (c copiedImage) in(host string) string { return host + "/" + c.repository + ":1" }

// copiedImages are one of each kind.
func copiedImages(t testing.TB) []copiedImage {
	t.Helper()
	multi, plain := multiImage(t), greeting(t)
	return []copiedImage{
		{"team/multi", multi.index, multi.prints},
		{"team/single", plain.index, plain.prints},
		{"team/docker", single(dockerTyped(t, plain.own)), plain.prints},
		{"team/artifact", single(orasArtifact(t)), ""},
	}
}

// davitCopy copies, and checks that it tells the digest.
func davitCopy(t testing.TB, x *index, args ...string) ran {
	t.Helper()
	r := runDavit(t, append([]string{"copy"}, args...)...)
	r.exits(t, 0)
	if !strings.Contains(r.stdout, x.root.Digest.String()) {
		t.Errorf("%s printed %q, want %s", r.command, r.stdout, x.root.Digest)
	}
	return r
}

// uploads are the requests that bring blobs, or ask for one from another
// repository.
func (m *metered) uploads() (all []asked) {
	for _, a := range m.requests() {
		if strings.Contains(a.path, "/blobs/") && a.method != http.MethodHead && a.method != http.MethodGet {
			all = append(all, a)
		}
	}
	return all
}

// layersRead are the requests for layers' bytes. Configs are documents: they
// are read as manifests are.
func (m *metered) layersRead(x *index) (all []asked) {
	for _, a := range m.requests() {
		for _, image := range x.images {
			for _, l := range image.layers {
				if a.method == http.MethodGet && strings.HasSuffix(a.path, "/blobs/"+l.descriptor.Digest.String()) {
					all = append(all, a)
				}
			}
		}
	}
	return all
}

// readByAll has other tools read an image, blob by blob.
func (c copiedImage) readByAll(t *testing.T, host string) {
	t.Helper()
	name, want := c.in(host), c.index.root.Digest.String()
	if got := strings.TrimSpace(crane(t, "digest", "--insecure", name)); got != want {
		t.Errorf("crane: %s is %s, want %s", name, got, want)
	}
	if got := regctl(t, "image", "digest", "--host", "reg="+host+",tls=disabled", name); got != want {
		t.Errorf("regctl: %s is %s, want %s", name, got, want)
	}
	if got := run(t, skopeo(t, "inspect", "--raw", "--tls-verify=false", "docker://"+name)); got != string(c.index.raw) {
		t.Errorf("skopeo: the manifest of %s is another one: %s", name, got)
	}
	if c.index.root.MediaType != dockerManifest { // of which it would make another one
		if got := skopeoCopyAll(t, "docker://"+name, "--src-tls-verify=false"); got.String() != want {
			t.Errorf("skopeo: %s is %s, want %s", name, got, want)
		}
	}
	if c.runs != "" {
		crane(t, "validate", "--insecure", "--platform", pasted(thisPlatform), "--remote", name) // attestations have no such layers as it wants
	}
}

// TestCopy copies between two registries, again, within one, and back.
func TestCopy(t *testing.T) {
	enabled(t)
	a, b := startRegistry(t).metered(t), startRegistry(t).metered(t)
	engine := startClassicDocker(t)
	for _, c := range copiedImages(t) {
		t.Run(c.repository, func(t *testing.T) {
			a.push(t, c.repository, "1", c.index)
			davitCopy(t, c.index, c.in(a.host), c.in(b.host))
			c.readByAll(t, b.registry.host)
			if c.runs != "" {
				run(t, engine.command("pull", "--quiet", c.in(b.registry.host)))
				if got := engine.run(t, c.in(b.registry.host)); got != c.runs {
					t.Errorf("%s printed %q, want %q", c.in(b.host), got, c.runs)
				}
			}
			t.Run("again", func(t *testing.T) {
				a.forget()
				b.forget()
				davitCopy(t, c.index, c.in(a.host), c.in(b.host))
				if moved := append(a.layersRead(c.index), b.uploads()...); len(moved) > 0 {
					t.Errorf("a second copy moves blobs: %v", moved)
				}
			})
			t.Run("within the registry", func(t *testing.T) {
				b.forget()
				other := copiedImage{"mirror/" + c.repository, c.index, c.runs}
				davitCopy(t, c.index, c.in(b.host), other.in(b.host))
				if read := b.layersRead(c.index); len(read) > 0 {
					t.Errorf("blobs are read: %v", read)
				}
				for _, u := range b.uploads() {
					if u.method != http.MethodPost || u.status != http.StatusCreated {
						t.Errorf("a blob is not mounted: %s", u)
					}
				}
				other.readByAll(t, b.registry.host)
			})
			t.Run("back", func(t *testing.T) {
				back := copiedImage{"back/" + c.repository, c.index, c.runs}
				davitCopy(t, c.index, c.in(b.host), back.in(a.host))
				back.readByAll(t, a.registry.host)
			})
		})
	}
}

// TestCopyFromDisk copies what all tools write into a registry, and runs it from
// there.
func TestCopyFromDisk(t *testing.T) {
	enabled(t)
	r, engine := startRegistry(t), newPodman(t)
	for i, w := range append(writtenByAll(t), regctlLayout(t)) {
		t.Run(w.what, func(t *testing.T) {
			source := w.path
			if w.images > 1 {
				runDavit(t, "copy", w.path, r.host+"/team/any:1").exits(t, 1, 2, 3) // one has to be named
				source += ":" + twoNamed(t, w, "davit/greeting:1")
			}
			name := fmt.Sprintf("%s/team/written%d:1", r.host, i)
			runDavit(t, "copy", source, name).exits(t, 0)
			run(t, engine.command("pull", "--quiet", "--tls-verify=false", name))
			want := w.prints
			if strings.Contains(w.what, "platforms") {
				want = multiImage(t).prints
			}
			if got := engine.run(t, name); got != want {
				t.Errorf("%s printed %q, want %q", name, got, want)
			}
			if _, err := os.Stat(filepath.Join(w.path, "index.json")); err == nil {
				kept(t, w.path, name)
			}
		})
	}
}

// kept checks that a registry's name means what the layout has.
func kept(t *testing.T, layout, name string) {
	t.Helper()
	var index ocispec.Index
	decodeFile(t, filepath.Join(layout, "index.json"), &index)
	got := strings.TrimSpace(crane(t, "digest", "--insecure", name))
	if !slices.ContainsFunc(index.Manifests, func(d ocispec.Descriptor) bool { return d.Digest.String() == got }) {
		t.Errorf("%s is %s, which %s has not", name, got, layout)
	}
}

// regctlLayout is what regctl writes as a layout.
func regctlLayout(t testing.TB) written {
	t.Helper()
	r, x := startRegistry(t), greeting(t)
	r.push(t, "davit/greeting", "1", x.index)
	dir := filepath.Join(workDir(t), "layout")
	regctl(t, "image", "copy", "--host", "reg="+r.host+",tls=disabled", r.host+"/davit/greeting:1", "ocidir://"+dir+":1")
	return written{"regctl layout", dir, 1, x.prints}
}

// TestCopyOntoDisk copies onto the disk what others load.
func TestCopyOntoDisk(t *testing.T) {
	enabled(t)
	r, x := startRegistry(t), multiImage(t)
	r.push(t, "davit/multi", "1", x.index)
	from, dir := "docker://"+r.host+"/davit/multi:1", workDir(t)
	copyTo := func(destination string) { runDavit(t, "copy", from, destination).exits(t, 0) }

	archive, layout := filepath.Join(dir, "image.tar"), filepath.Join(dir, "layout")
	copyTo("docker-archive:" + archive + ":davit/copied:1")
	for name, l := range map[string]loader{"classic Docker": startClassicDocker(t), "newest Docker": startNewestDocker(t), "podman": newPodman(t)} {
		t.Run(name, func(t *testing.T) {
			l.load(t, archive)
			name := l.names(t)[0]
			if !strings.HasSuffix(name, "davit/copied:1") {
				t.Errorf("loaded as %s", name)
			}
			if got := l.run(t, name); got != x.prints {
				t.Errorf("%s printed %q, want %q", name, got, x.prints)
			}
		})
	}
	ociArchive := filepath.Join(dir, "oci.tar")
	copyTo("oci-archive:" + ociArchive + ":1")
	copyTo("oci:" + layout + ":1")
	for _, written := range []string{"oci-archive:" + ociArchive + ":1", "oci:" + layout + ":1"} {
		if got := skopeoCopyAll(t, written); got != x.root.Digest {
			t.Errorf("skopeo: %s is %s, want %s", written, got, x.root.Digest)
		}
		p := newPodman(t)
		run(t, p.command("pull", "--quiet", written))
		if got := p.run(t, p.ids(t)[0]); got != x.prints {
			t.Errorf("%s printed %q, want %q", written, got, x.prints)
		}
	}
	readLayout(t, layout)
	if got := regctl(t, "image", "digest", "ocidir://"+layout+":1"); got != x.root.Digest.String() {
		t.Errorf("regctl: %s is %s, want %s", layout, got, x.root.Digest)
	}
	// And back, from each of them.
	for i, written := range []string{archive, "oci-archive:" + ociArchive, "oci:" + layout + ":1", layout} {
		to := fmt.Sprintf("%s/back/multi%d:1", r.host, i)
		davitCopy(t, x.index, written, to)
		if got := skopeoCopyAll(t, "docker://"+to, "--src-tls-verify=false"); got != x.root.Digest {
			t.Errorf("skopeo: %s is %s, want %s", to, got, x.root.Digest)
		}
	}
}

// ids are those of all images.
func (p *podman) ids(t testing.TB) []string {
	t.Helper()
	return strings.Fields(run(t, p.command("images", "--quiet")))
}

// credentialsSeen notes what a registry is told of who asks.
func (m *metered) credentialsSeen() func() []string {
	var mu sync.Mutex
	var seen []string
	m.hold = func(r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if value := r.Header.Get("Authorization"); value != "" {
			seen = append(seen, value)
		}
	}
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(seen)
	}
}

// TestCopyWithCredentials copies from and to a registry that wants a password,
// of which the other side hears nothing.
func TestCopyWithCredentials(t *testing.T) {
	enabled(t)
	open := openRegistry(t)
	guarded := open.guarded(t, basicAuth(htpasswd(t, robin)))
	other := startRegistry(t).metered(t)
	seen := other.credentialsSeen()
	x := greeting(t)
	copyWith := func(password string, args ...string) ran {
		cmd := davitCommand(t, append([]string{"copy"}, args...)...)
		cmd.Stdin = strings.NewReader(password)
		return endOf(t, cmd)
	}
	for _, side := range []struct{ name, from, to string }{
		{"src", guarded.host + "/" + robin.repository() + ":1", other.host + "/robin/copied:1"},
		{"dest", other.host + "/robin/copied:1", guarded.host + "/" + robin.name + "/copied:1"},
	} {
		t.Run(side.name, func(t *testing.T) {
			flags := []string{"--" + side.name + "-username", robin.name, "--" + side.name + "-password-stdin"}
			copyWith("", side.from, side.to).exits(t, 4)
			wrong := copyWith("not-"+robin.password, append(flags, side.from, side.to)...)
			wrong.exits(t, 4)
			if strings.Contains(wrong.stdout+wrong.stderr, robin.password) {
				t.Errorf("it tells the password: %s%s", wrong.stdout, wrong.stderr)
			}
			copyWith(robin.password, append(flags, side.from, side.to)...).gets(t, x)
		})
	}
	if told := seen(); len(told) > 0 {
		t.Errorf("the other registry is told %q", told)
	}
	if got := strings.TrimSpace(crane(t, "digest", "--insecure", open.host+"/"+robin.name+"/copied:1")); got != x.root.Digest.String() {
		t.Errorf("what was copied back is %s, want %s", got, x.root.Digest)
	}
}
