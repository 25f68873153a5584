//go:build linux

package e2e

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// noiseLayer is a layer of so many bytes, and a few more, that do not compress.
func noiseLayer(t testing.TB, seed string, size int) layer {
	t.Helper()
	return makeLayer(t, gzipped, func(w io.Writer) error {
		tw := tar.NewWriter(w)
		if err := tw.WriteHeader(&tar.Header{Name: seed, Mode: 0o644, Size: int64(size)}); err != nil {
			return err
		}
		for left := size; left > 0; {
			block := sha256.Sum256(fmt.Appendf(nil, "%s %d", seed, left))
			n := min(left, len(block))
			if _, err := tw.Write(block[:n]); err != nil {
				return err
			}
			left -= n
		}
		return tw.Close()
	})
}

// kinds counts requests by what they are: HEAD manifests, PUT manifests, GET
// blobs, POST uploads and so on, with the statuses that are no success.
func kinds(requests []asked) map[string]int {
	count := map[string]int{}
	for _, a := range requests {
		what := a.path
		for _, part := range []string{"manifests", "uploads", "blobs", "tags"} {
			if strings.Contains(a.path, "/"+part+"/") {
				what = part
				break
			}
		}
		kind := a.method + " " + what
		if a.status >= 300 {
			kind = fmt.Sprintf("%s %d", kind, a.status)
		}
		count[kind]++
	}
	return count
}

// blobBytes are the bytes of blobs that were served, and that were taken.
func blobBytes(requests []asked) (served, taken int64) {
	for _, a := range requests {
		if !strings.Contains(a.path, "/blobs/") {
			continue
		}
		if a.method == "GET" {
			served += a.served
		}
		taken += a.taken
	}
	return served, taken
}

// synced is a sync of many tags between two metered registries.
type synced struct {
	from, to *metered
	list     string
}

func (s *synced) run(t *testing.T, flags ...string) ran {
	t.Helper()
	s.from.forget()
	s.to.forget()
	r := runDavit(t, append([]string{"sync", s.list}, flags...)...)
	r.exits(t, 0)
	return r
}

// costs checks the requests on either side, and the bytes of blobs.
func (s *synced) costs(t *testing.T, from, to map[string]int, served, taken int64) {
	t.Helper()
	for _, side := range []struct {
		name string
		got  []asked
		want map[string]int
	}{{"source", s.from.requests(), from}, {"destination", s.to.requests(), to}} {
		if diff := cmp.Diff(side.want, kinds(side.got)); diff != "" {
			t.Errorf("requests of the %s: (-want +got)\n%s", side.name, diff)
		}
	}
	gotServed, _ := blobBytes(s.from.requests())
	_, gotTaken := blobBytes(s.to.requests())
	if gotServed != served || gotTaken != taken {
		t.Errorf("%d bytes of blobs were read and %d sent, want %d and %d", gotServed, gotTaken, served, taken)
	}
	t.Logf("source %v: %d bytes of blobs, %d in all; destination %v: %d bytes of blobs",
		kinds(s.from.requests()), gotServed, s.from.served(), kinds(s.to.requests()), gotTaken)
}

// TestSyncOfManyTags counts what a sync of 200 tags costs: the first one, one
// with nothing new, and one where three tags have changed.
func TestSyncOfManyTags(t *testing.T) {
	enabled(t)
	const tags = 200
	base := noiseLayer(t, "base", 500_000)
	var configs, layers int64
	imageOf := func(seed string) *index {
		x := single(makeImage(t, thisPlatform, ocispec.ImageConfig{}, base, noiseLayer(t, seed, 10_000)))
		configs += x.images[0].config.Size
		layers += x.images[0].layers[1].descriptor.Size
		return x
	}
	source, destination := startRegistry(t), startRegistry(t)
	for i := range tags {
		source.push(t, "team/app", fmt.Sprintf("v%03d", i), imageOf(fmt.Sprintf("image %d", i)))
	}
	s := &synced{from: source.metered(t), to: destination.metered(t), list: filepath.Join(workDir(t), "list.yaml")}
	writeFile(t, s.list, fmt.Sprintf("to: %s/mirror\nimages:\n  - image: %s/team/app\n    tags: [\"v*\"]\n", s.to.host, s.from.host))

	planned := s.run(t, "--dry-run")
	all := base.descriptor.Size + layers + configs
	var told int64
	for _, line := range planned.lines() {
		var n int64
		if _, err := fmt.Sscan(line[strings.LastIndexByte(line, '\t')+1:], &n); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		told += n
	}
	if len(planned.lines()) != tags || told != all {
		t.Errorf("--dry-run told of %d images and %d bytes, want %d and %d", len(planned.lines()), told, tags, all)
	}

	s.run(t).says(t, fmt.Sprintf("%d copied", tags))
	s.costs(t,
		map[string]int{"GET tags": 1, "HEAD manifests": tags, "GET manifests": tags, "GET blobs": 2*tags + 1},
		map[string]int{
			"HEAD manifests 404": tags, "GET manifests 404": tags,
			"HEAD blobs 404": 2*tags + 1, "POST uploads": 2*tags + 1, "PUT uploads": 2*tags + 1, "PUT manifests": tags,
		}, all, all)

	s.run(t).says(t, fmt.Sprintf("0 copied (0B sent, 0B mounted), %d there already", tags))
	s.costs(t, map[string]int{"GET tags": 1, "HEAD manifests": tags}, map[string]int{"HEAD manifests": tags}, 0, 0)

	configs, layers = 0, 0
	for _, tag := range []string{"v007", "v100", "v199"} {
		source.push(t, "team/app", tag, imageOf("changed "+tag))
	}
	s.run(t).says(t, "3 copied (", fmt.Sprintf("%d there already", tags-3))
	s.costs(t,
		map[string]int{"GET tags": 1, "HEAD manifests": tags, "GET manifests": 3, "GET blobs": 6},
		map[string]int{
			"HEAD manifests": tags, "HEAD blobs": 1, "HEAD blobs 404": 6, "POST uploads": 6, "PUT uploads": 6, "PUT manifests": 3,
		}, configs+layers, configs+layers)
	if diff := cmp.Diff(source.tagged(t, "team/app"), destination.tagged(t, "mirror/team/app")); diff != "" {
		t.Errorf("the tags differ: (-source +destination)\n%s", diff)
	}
}

// tagged are the tags of a repository, each with the digest that it names.
func (r *registry) tagged(t testing.TB, repository string) map[string]string {
	t.Helper()
	var list struct{ Tags []string }
	if err := json.Unmarshal(r.read(t, "/v2/"+repository+"/tags/list"), &list); err != nil {
		t.Fatalf("list tags of %s: %v", repository, err)
	}
	tags := map[string]string{}
	for _, tag := range list.Tags {
		tags[tag] = digest.FromBytes(r.read(t, "/v2/"+repository+"/manifests/"+tag)).String()
	}
	return tags
}

// read gets a document.
func (r *registry) read(t testing.TB, path string) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+r.host+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", ocispec.MediaTypeImageManifest)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close() // it was read to its end
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s %v", path, resp.Status, err)
	}
	return body
}

// startListed runs a registry with what the lists of the other tools choose from.
func startListed(t *testing.T) *registry {
	t.Helper()
	r := startRegistry(t)
	r.push(t, "library/alpine", "3.18", single(makeImage(t, thisPlatform, ocispec.ImageConfig{}, noiseLayer(t, "alpine", 2000))))
	r.push(t, "library/alpine", "3.19", tiny(t))
	r.tag(t, "library/alpine", tiny(t), "3.19.1", "3.20", "3.21", "edge", "latest", "20240131", "3.20-slim", "v3")
	r.push(t, "team/app", "v1.0.0", tiny(t))
	r.tag(t, "team/app", tiny(t), "v1.4.2", "v1.5.0-rc.1", "v2.0.0", "2.1", "nightly", "sha256-0123.sig")
	return r
}

// TestSyncAsRegsync gives one file to regsync and to davit. The ranges of versions
// leave out pre-releases, which regsync takes and davit does not (docs/sync.md).
func TestSyncAsRegsync(t *testing.T) {
	enabled(t)
	from := startListed(t)
	file := func(to *registry) string {
		return fmt.Sprintf(`version: 1
creds:
  - {registry: %[1]q, tls: disabled}
  - {registry: %[2]q, tls: disabled}
defaults:
  parallel: 1
sync:
  - source: %[1]s/library/alpine
    target: %[2]s/mirror/alpine
    type: repository
    tags:
      allow: ["3\\.\\d+", "edge"]
      deny: ["3.18"]
  - source: %[1]s/team/app
    target: %[2]s/mirror/app
    type: repository
    tags:
      semverRange: [">=1.4 <2.1"]
      deny: [".*-rc.*"]
  - source: %[1]s/team/app
    target: %[2]s/mirror/sets
    type: repository
    tagSets:
      - allow: ["night.*"]
      - semverRange: ["^2"]
        deny: ["v.*"]
  - source: %[1]s/team/app
    target: %[2]s/mirror/everything
    type: repository
  - source: %[1]s/library/alpine:3.18
    target: %[2]s/mirror/one
    type: image
`, from.host, to.host)
	}
	theirs, ours := startRegistry(t), startRegistry(t)
	list := filepath.Join(workDir(t), "regsync.yaml")
	writeFile(t, list, file(theirs))
	regsync := exec.Command(built(t, "regsync"), "once", "--config", list)
	regsync.Env = []string{debianPath(), "HOME=" + t.TempDir()}
	run(t, regsync)
	writeFile(t, list, file(ours))
	runDavit(t, "sync", list).exits(t, 0)
	for _, repository := range []string{"mirror/alpine", "mirror/app", "mirror/sets", "mirror/everything", "mirror/one"} {
		want := theirs.tagged(t, repository)
		if diff := cmp.Diff(want, ours.tagged(t, repository)); diff != "" || len(want) == 0 {
			t.Errorf("%s: (-regsync +davit)\n%s", repository, diff)
		}
		t.Logf("%s: %v", repository, slices.Sorted(maps.Keys(want)))
	}
}

// TestSyncAsSkopeo gives one file to skopeo sync and to davit.
func TestSyncAsSkopeo(t *testing.T) {
	enabled(t)
	from := startListed(t)
	list := filepath.Join(workDir(t), "skopeo.yaml")
	writeFile(t, list, fmt.Sprintf(`%s:
  tls-verify: false
  images:
    library/alpine: ["3.19", latest, "%s"]
    team/app: []
  images-by-tag-regex:
    library/alpine: ^3\.1[0-9]$
`, from.host, tiny(t).root.Digest))
	theirs, ours := startRegistry(t), startRegistry(t)
	run(t, skopeo(t, "sync", "--all", "--dest-tls-verify=false", "--src", "yaml", "--dest", "docker", list, theirs.host+"/mirror"))
	runDavit(t, "sync", list, "--to", ours.host+"/mirror").exits(t, 0)
	for _, repository := range []string{"library/alpine", "team/app"} {
		want := theirs.tagged(t, "mirror/"+path.Base(repository))
		if diff := cmp.Diff(want, ours.tagged(t, "mirror/"+repository)); diff != "" || len(want) == 0 {
			t.Errorf("%s: (-skopeo +davit)\n%s", repository, diff)
		}
		t.Logf("%s: %v", repository, slices.Sorted(maps.Keys(want)))
	}
}
