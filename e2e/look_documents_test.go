//go:build linux

package e2e

import (
	"encoding/json"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestDigest asks for digests as crane and skopeo do: the same ones, and by
// nothing but HEAD, which a registry does not count as a pull.
func TestDigest(t *testing.T) {
	enabled(t)
	m := startRegistry(t).metered(t)
	multi := multiImage(t)
	m.push(t, "davit/multi", "1", multi.index)
	m.push(t, "davit/one", "1", tiny(t))
	for _, c := range []struct {
		name string
		want digest.Digest
	}{
		{m.host + "/davit/multi:1", multi.root.Digest},
		{m.host + "/davit/one:1", tiny(t).root.Digest},
	} {
		m.forget()
		r := runDavit(t, "digest", c.name)
		r.exits(t, 0)
		r.prints(t, c.want.String())
		if got := m.methods(); !slices.Equal(got, []string{"HEAD"}) {
			t.Errorf("davit digest %s asked by %q", c.name, got)
			m.log(t)
		}
		if got := strings.TrimSpace(crane(t, "digest", c.name)); got != r.lines()[0] {
			t.Errorf("crane says %s, davit %s", got, r.lines()[0])
		}
		// Of an index skopeo tells the digest of the index.
		got := strings.TrimSpace(run(t, skopeo(t, "inspect", "--tls-verify=false", "--format", "{{.Digest}}", "docker://"+c.name)))
		if got != r.lines()[0] {
			t.Errorf("skopeo says %s, davit %s", got, r.lines()[0])
		}
	}

	// For one platform the index is needed, and no more than the manifest besides.
	for _, one := range multi.images[:2] {
		m.forget()
		p := pasted(*one.platform)
		r := runDavit(t, "digest", m.host+"/davit/multi:1", "-p", p)
		r.exits(t, 0)
		r.prints(t, one.manifest.Digest.String())
		if got, most := m.served(), multi.root.Size+one.manifest.Size; got > most {
			t.Errorf("%d bytes were served, allowed are %d", got, most)
			m.log(t)
		}
		if got := strings.TrimSpace(crane(t, "digest", "--platform", p, m.host+"/davit/multi:1")); got != r.lines()[0] {
			t.Errorf("crane says %s, davit %s", got, r.lines()[0])
		}
	}

	path := filepath.Join(workDir(t), "image.tar")
	runDavit(t, "pull", m.host+"/davit/multi:1", "-p", "all", "-o", path).exits(t, 0)
	r := runDavit(t, "digest", path)
	r.exits(t, 0)
	r.prints(t, multi.root.Digest.String())
	runDavit(t, "digest", m.host+"/davit/multi:2").exits(t, 3)
}

// pasted is a platform as --platform wants it.
func pasted(p ocispec.Platform) string {
	if p.Variant != "" {
		return platformName(p) + "/" + p.Variant
	}
	return platformName(p)
}

// TestManifest prints manifests and configs byte for byte as the registry has
// them, as crane and skopeo do.
func TestManifest(t *testing.T) {
	enabled(t)
	m := startRegistry(t).metered(t)
	multi := multiImage(t)
	m.push(t, "davit/multi", "1", multi.index)
	name := m.host + "/davit/multi:1"
	disk := filepath.Join(workDir(t), "image.tar")
	runDavit(t, "pull", name, "-p", "all", "-o", disk).exits(t, 0)

	for _, c := range []struct {
		what string
		args []string
		want []byte
		real []string // what the others print
	}{
		{"index", []string{"manifest", name}, multi.raw, []string{
			crane(t, "manifest", name),
			run(t, skopeo(t, "inspect", "--raw", "--tls-verify=false", "docker://"+name)),
		}},
		{"manifest", []string{"manifest", name, "-p", pasted(otherPlatform)}, multi.images[0].raw, []string{
			crane(t, "manifest", name, "--platform", pasted(otherPlatform)),
		}},
		{"config", []string{"config", name}, multi.own.rawConfig, []string{
			crane(t, "config", name, "--platform", pasted(thisPlatform)),
			run(t, skopeo(t, "inspect", "--config", "--raw", "--tls-verify=false", "docker://"+name)),
		}},
		{"config of another platform", []string{"config", name, "-p", pasted(otherPlatform)}, multi.images[0].rawConfig, []string{
			crane(t, "config", name, "--platform", pasted(otherPlatform)),
		}},
		{"index on disk", []string{"manifest", disk}, multi.raw, nil},
		{"config on disk", []string{"config", disk, "-p", pasted(otherPlatform)}, multi.images[0].rawConfig, nil},
	} {
		t.Run(c.what, func(t *testing.T) {
			r := runDavit(t, c.args...)
			r.exits(t, 0)
			if r.stdout != string(c.want) {
				t.Errorf("davit printed\n%s\nwant\n%s", r.stdout, c.want)
			}
			for _, other := range c.real {
				if strings.TrimSuffix(other, "\n") != r.stdout {
					t.Errorf("davit printed\n%s\nthe others\n%s", r.stdout, other)
				}
			}
			file := filepath.Join(workDir(t), "document.json")
			runDavit(t, append(c.args, "-o", file)...).exits(t, 0)
			if got := contents(t, file); string(got) != string(c.want) {
				t.Errorf("davit wrote\n%s\nwant\n%s", got, c.want)
			}
			pretty := runDavit(t, append(c.args, "--pretty")...)
			pretty.exits(t, 0)
			var got, want any
			decode(t, pretty.stdout, &got)
			if err := json.Unmarshal(c.want, &want); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, want) || len(pretty.lines()) < 3 {
				t.Errorf("--pretty printed\n%s", pretty.stdout)
			}
		})
	}
	m.forget()
	runDavit(t, "config", name).exits(t, 0)
	if most := multi.root.Size + multi.own.manifest.Size + multi.own.config.Size; m.served() > most {
		t.Errorf("%d bytes were served for a config, allowed are %d", m.served(), most)
		m.log(t)
	}
}

// TestListPlatforms lists the platforms of indexes that skopeo, regctl and
// podman have pushed.
func TestListPlatforms(t *testing.T) {
	enabled(t)
	r := startRegistry(t)
	multi := multiImage(t)
	r.push(t, "davit/multi", "1", multi.index)
	own, other := multi.own, multi.images[0]
	for _, m := range []*ociImage{own, other} {
		r.push(t, "davit/"+m.platform.Architecture, "1", single(m))
	}
	source := r.host + "/davit/multi:1"
	host := "reg=" + r.host + ",tls=disabled"
	for _, c := range []struct {
		tool string
		push func(t *testing.T, to string)
	}{
		{"skopeo", func(t *testing.T, to string) {
			run(t, skopeo(t, "copy", "--quiet", "--all", "--src-tls-verify=false", "--dest-tls-verify=false", "docker://"+source, "docker://"+to))
		}},
		{"regctl", func(t *testing.T, to string) {
			regctl(t, "index", "create", "--host", host, to, "--ref", source, "--platform", pasted(thisPlatform), "--platform", pasted(otherPlatform))
		}},
		{"podman", func(t *testing.T, to string) {
			p := newPodman(t)
			run(t, p.command("manifest", "create", "list:1"))
			for _, m := range []*ociImage{own, other} {
				run(t, p.command("manifest", "add", "--tls-verify=false", "list:1", "docker://"+r.host+"/davit/"+m.platform.Architecture+":1"))
			}
			run(t, p.command("manifest", "push", "--all", "--tls-verify=false", "list:1", "docker://"+to))
		}},
	} {
		t.Run(c.tool, func(t *testing.T) {
			to := r.host + "/pushed/" + c.tool + ":1"
			c.push(t, to)
			printed := runDavit(t, "platforms", to)
			printed.exits(t, 0)
			t.Log(printed.stdout)
			told := runDavit(t, "platforms", to, "--json")
			told.exits(t, 0)
			if n := len(told.lines()); n != 2 {
				t.Fatalf("%d platforms, want 2:\n%s", n, told.stdout)
			}
			for _, line := range told.lines() {
				var got struct {
					Platform, OS, Architecture, Variant string
					Digest                              digest.Digest
					Size                                int64
				}
				decode(t, line, &got)
				want := map[string]*ociImage{own.platform.Architecture: own, other.platform.Architecture: other}[got.Architecture]
				if want == nil || got.OS != "linux" || got.Digest != want.manifest.Digest || got.Size != want.size() {
					t.Fatalf("davit tells of %s", line)
				}
				// What stands there may be given to --platform, here and elsewhere.
				pulled := strings.TrimSpace(crane(t, "digest", "--platform", got.Platform, to))
				davits := runDavit(t, "digest", to, "--platform", got.Platform)
				davits.exits(t, 0)
				if pulled != got.Digest.String() || davits.lines()[0] != pulled {
					t.Errorf("--platform %s: crane finds %s, davit %q, want %s", got.Platform, pulled, davits.lines(), got.Digest)
				}
			}
		})
	}
}
