//go:build linux

package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/internal/registrytest"
)

// tiny is an image whose layer is next to nothing.
func tiny(t testing.TB) *index {
	return once(t, "tiny", func(t testing.TB) *index {
		l := makeLayer(t, gzipped, func(w io.Writer) error {
			_, err := w.Write(make([]byte, 1024))
			return err
		})
		return single(makeImage(t, thisPlatform, ocispec.ImageConfig{}, l))
	})
}

// tag points tags to an image that is there under another tag, as pushes of its
// manifest do.
func (r *registry) tag(t testing.TB, repository string, x *index, tags ...string) {
	t.Helper()
	for _, tag := range tags {
		r.pushManifest(t, repository, tag, x.root, x.raw)
	}
}

// tagInStorage points tags to what a tag names, by the files that distribution
// keeps for each, which is quicker for very many.
func (r *registry) tagInStorage(t testing.TB, repository, like string, tags ...string) {
	t.Helper()
	dir := filepath.Join(r.storage, "docker/registry/v2/repositories", repository, "_manifests/tags")
	link := contents(t, filepath.Join(dir, like, "current/link"))
	for _, tag := range tags {
		to := filepath.Join(dir, tag, "current")
		if err := os.MkdirAll(to, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, "link"), link, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// copyInStorage makes repositories with all that one has, by copying the files
// that distribution keeps for it.
func (r *registry) copyInStorage(t testing.TB, repository string, others ...string) {
	t.Helper()
	dir := filepath.Join(r.storage, "docker/registry/v2/repositories")
	for _, other := range others {
		if err := os.CopyFS(filepath.Join(dir, other), os.DirFS(filepath.Join(dir, repository))); err != nil {
			t.Fatal(err)
		}
	}
}

// lines are what davit printed, a line each.
func (r ran) lines() []string { return strings.Split(strings.TrimSuffix(r.stdout, "\n"), "\n") }

// prints checks that these lines were printed and no others.
func (r ran) prints(t testing.TB, want ...string) {
	t.Helper()
	if got := r.lines(); !slices.Equal(got, want) {
		t.Errorf("%s printed %d lines, %.300q, want %d, %.300q", r.command, len(got), got, len(want), want)
	}
}

// TestTags lists the tags of distribution's registry: all, some, in an order,
// and the newest release.
func TestTags(t *testing.T) {
	enabled(t)
	m := startRegistry(t).metered(t)
	x := tiny(t)
	m.push(t, "team/app", "latest", x)
	tags := []string{"latest"}
	for i := range 2500 {
		tags = append(tags, fmt.Sprintf("build-%04d", i))
	}
	versions := []string{"1.0.0", "1.2.0-rc.1", "1.2.0", "1.10.0", "v1.9.9", "2.0.0-alpha", "1.10.0-debian"}
	m.tag(t, "team/app", x, append(tags[1:], versions...)...)
	tags = append(tags, versions...)
	name := m.host + "/team/app"
	sorted := slices.Sorted(slices.Values(tags))

	t.Run("all", func(t *testing.T) {
		m.forget()
		r := runDavit(t, "tags", name)
		r.exits(t, 0)
		r.prints(t, sorted...) // distribution serves them so
		if n := len(m.requests()); n < 3 {
			t.Errorf("%d requests: there was but one page", n)
		}
	})
	t.Run("sort by name", func(t *testing.T) {
		r := runDavit(t, "tags", name, "--sort", "name")
		r.exits(t, 0)
		r.prints(t, sorted...)
	})
	t.Run("sort by version", func(t *testing.T) {
		r := runDavit(t, "tags", name, "--sort", "semver", "--match", "*.*")
		r.exits(t, 0)
		got := r.lines()
		// Of 1.10.0 and 1.10.0-debian the suffix may be a pre-release or a variant.
		if !slices.Equal(got[:4], []string{"1.0.0", "1.2.0-rc.1", "1.2.0", "v1.9.9"}) || got[len(got)-1] != "2.0.0-alpha" || len(got) != len(versions) {
			t.Errorf("sorted as %q", got)
		}
	})
	t.Run("latest", func(t *testing.T) {
		r := runDavit(t, "tags", name, "--latest")
		r.exits(t, 0)
		r.prints(t, "1.10.0")
		r = runDavit(t, "tags", name, "--latest", "--pre")
		r.exits(t, 0)
		r.prints(t, "2.0.0-alpha")
	})
	t.Run("limit", func(t *testing.T) {
		m.forget()
		r := runDavit(t, "tags", name, "--limit", "3")
		r.exits(t, 0)
		r.prints(t, sorted[:3]...)
		if n := len(m.requests()); n > 2 {
			t.Errorf("%d requests for three tags", n)
			m.log(t)
		}
		r = runDavit(t, "tags", name, "--limit", "2", "--sort", "semver", "--match", "[0-9]*")
		r.exits(t, 0)
		if got := r.lines(); len(got) != 2 || got[1] != "2.0.0-alpha" {
			t.Errorf("the last two of them are %q", got)
		}
	})
	t.Run("json", func(t *testing.T) {
		r := runDavit(t, "tags", name, "--json", "--match", "build-*")
		r.exits(t, 0)
		var got []string
		for _, line := range r.lines() {
			var x struct{ Tag string }
			decode(t, line, &x)
			got = append(got, x.Tag)
		}
		if want := sorted[slices.Index(sorted, "build-0000"):slices.Index(sorted, "latest")]; !slices.Equal(got, want) {
			t.Errorf("%d tags, want %d", len(got), len(want))
		}
	})
	t.Run("nothing there", func(t *testing.T) {
		runDavit(t, "tags", m.host+"/team/nosuch").exits(t, 3)
	})
}

// manyTags is how many tags the largest repositories have.
const manyTags = 25_000

// mostMemory is what davit may have resident while it lists them.
const mostMemory = 64 << 20

// TestManyTags lists 25 000 tags of distribution's registry, which serves them
// in pages: davit prints the first page before it asks for the next one, and
// needs less than 64 MiB.
func TestManyTags(t *testing.T) {
	enabled(t)
	m := startRegistry(t).metered(t)
	m.push(t, "team/app", "tag-00000", tiny(t))
	tags := []string{"tag-00000"}
	for i := 1; i < manyTags; i++ {
		tags = append(tags, fmt.Sprintf("tag-%05d", i))
	}
	m.tagInStorage(t, "team/app", tags[0], tags[1:]...)
	name := m.host + "/team/app"

	shown := make(chan struct{}) // closed when the first line was read
	m.hold = func(r *http.Request) {
		if r.URL.Query().Has("last") { // a page that is not the first
			select {
			case <-shown:
			case <-time.After(patience):
				t.Error("nothing was printed before the second page")
			case <-r.Context().Done():
			}
		}
	}
	for _, args := range [][]string{{"tags", name}, {"tags", name, "--json"}} {
		first := sync.OnceFunc(func() { close(shown) })
		got, memory := readLines(t, first, args...)
		t.Logf("%q: peak of the resident set %.1f MiB, %d requests", args[2:], float64(memory)/(1<<20), len(m.requests()))
		if memory > mostMemory {
			t.Errorf("davit had %d bytes resident, allowed are %d", memory, mostMemory)
		}
		if len(got) != manyTags || len(args) == 2 && !slices.Equal(got, tags) {
			t.Errorf("%d tags were printed, want %d", len(got), manyTags)
		}
		shown = make(chan struct{})
	}

	// What needs all tags first waits for them, within the same memory.
	m.hold = nil
	for _, args := range [][]string{{"tags", name, "--sort", "semver"}, {"tags", name, "--sort", "name"}, {"tags", name, "--limit", "3"}} {
		got, memory := readLines(t, func() {}, args...)
		t.Logf("%q: peak of the resident set %.1f MiB", args[2:], float64(memory)/(1<<20))
		if memory > mostMemory || len(got) != manyTags && len(got) != 3 {
			t.Errorf("%q: davit had %d bytes resident, allowed are %d; it printed %d lines", args, memory, mostMemory, len(got))
		}
	}
}

// TestManyTagsAnyRegistry does the same with pages of 1000 and of 100, whatever
// davit asks for, and with a registry that serves all tags at once.
func TestManyTagsAnyRegistry(t *testing.T) {
	enabled(t)
	s := registrytest.Start(t, registrytest.Options{})
	s.Push("team/app", "tag-00000", registrytest.Image{})
	var tags []string
	for i := range manyTags {
		// As long as tags may be.
		tags = append(tags, fmt.Sprintf("tag-%05d-%s", i, strings.Repeat("x", 118)))
	}
	s.PushTags("team/app", "tag-00000", tags...)
	got, memory := readLines(t, func() {}, "tags", s.Host()+"/team/app", "--match", "*-x*")
	t.Logf("peak of the resident set %.1f MiB", float64(memory)/(1<<20))
	if memory > mostMemory {
		t.Errorf("davit had %d bytes resident, allowed are %d", memory, mostMemory)
	}
	if !slices.Equal(got, tags) {
		t.Errorf("%d tags were printed, want %d", len(got), len(tags))
	}
}

// readLines runs davit to its end and returns the lines that it printed, and
// the peak of its resident set in bytes. It calls first when it has read the
// first line.
func readLines(t testing.TB, first func(), args ...string) (lines []string, memory int64) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "memory")
	cmd := measuredCommand(davitCommand(t, args...), file)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	scanner := bufio.NewScanner(stdout)
	for scanner.Scan() {
		lines = append(lines, scanner.Text())
		first()
	}
	if err := cmd.Wait(); err != nil || scanner.Err() != nil {
		t.Fatalf("%s: %v, %v\n%s", cmd, err, scanner.Err(), complaints.String())
	}
	return lines, measuredMemory(t, file)
}

// TestCatalog lists the repositories of distribution's registry, also of one
// that wants a token for that.
func TestCatalog(t *testing.T) {
	enabled(t)
	r := startRegistry(t)
	r.push(t, "team0/app-0000", "1", tiny(t))
	names := []string{"team0/app-0000"}
	for i := 1; i < 1100; i++ {
		names = append(names, fmt.Sprintf("team%d/app-%04d", i%10, i))
	}
	r.copyInStorage(t, names[0], names[1:]...)
	slices.Sort(names)
	m := r.metered(t)

	t.Run("open", func(t *testing.T) {
		got := runDavit(t, "catalog", m.host)
		got.exits(t, 0)
		got.prints(t, names...)
		if n := len(m.requests()); n < 2 {
			t.Errorf("%d requests: there was but one page", n)
			m.log(t)
		}
		got = runDavit(t, "catalog", m.host, "--match", "team3/*", "--limit", "2")
		got.exits(t, 0)
		got.prints(t, "team3/app-0003", "team3/app-0013")
		got = runDavit(t, "catalog", m.host, "--limit", "1", "--json")
		got.exits(t, 0)
		if !strings.Contains(got.stdout, names[0]) || len(got.lines()) != 1 {
			t.Errorf("davit catalog --json printed %q", got.stdout)
		}
	})
	t.Run("token", func(t *testing.T) {
		tokens := startTokenServer(t, htpasswd(t, robin))
		guarded := r.guarded(t, tokens.auth(""))
		anonymous := runDavit(t, "catalog", guarded.host)
		anonymous.exits(t, 4)
		cmd := davitCommand(t, "catalog", guarded.host)
		cmd.Env = append(cmd.Env, "DAVIT_USERNAME="+robin.name, "DAVIT_PASSWORD="+robin.password)
		got := endOf(t, cmd)
		got.exits(t, 0)
		got.prints(t, names...)
	})
	t.Run("none", func(t *testing.T) {
		s := registrytest.Start(t, registrytest.Options{Answers: []registrytest.Answer{{
			Match:  func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/_catalog") },
			Status: http.StatusNotFound, Body: "404 page not found",
		}}})
		got := runDavit(t, "catalog", s.Host())
		if got.code == 0 || got.code == 2 {
			t.Errorf("a registry without a catalogue: exit %d", got.code)
		}
		got.says(t, "no list of its repositories")
	})
}
