package davit_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/davit-cli/davit"
	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/registrytest"
	"github.com/davit-cli/davit/synclist"
)

// listOf reads a list, into which the hosts of registries are put.
func listOf(t *testing.T, text string, hosts ...any) synclist.List {
	t.Helper()
	list, err := synclist.Parse("list.yaml", fmt.Appendf(nil, text, hosts...))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// asked are the requests that a server has got, sorted.
func asked(s *registrytest.Server) []string {
	var all []string
	for _, q := range s.Requests() {
		all = append(all, q.Method+" "+q.Path)
	}
	slices.Sort(all)
	return all
}

// destinations are where the copied images are, and which of them were there.
func destinations(results []davit.CopyResult) []string {
	var all []string
	for _, r := range results {
		where := r.Destination[strings.IndexByte(r.Destination, '/')+1:]
		if r.Same {
			where += " same"
		}
		all = append(all, where)
	}
	return all
}

// A repository is listed once, however many entries choose from it, and in
// whichever way its registry is written; what is named is not listed.
func TestSyncListsOnce(t *testing.T) {
	from, to := registrytest.Start(t, registrytest.Options{}), writable(t)
	for _, tag := range []string{"1.0", "1.1", "2.0"} {
		from.Push("team/app", tag, registrytest.Image{})
	}
	from.Push("team/tool", "latest", registrytest.Image{})
	list := listOf(t, `
to: %[2]s/mirror
images:
  - {image: "%[1]s/team/app", tags: "1.*"}
  - {image: "%[1]s/team/app", tags: "2.*", to: "%[2]s/second"}
  - {image: "%[1]s/team/app", newest: 1, to: "%[2]s/third"}
  - "%[1]s/team/tool"
`, from.Host(), to.Host())
	results, err := davit.Sync(t.Context(), list, davit.CopyOptions{})
	want := []string{"mirror/team/app:1.0", "mirror/team/app:1.1", "second:2.0", "third:2.0", "mirror/team/tool:latest"}
	if err != nil || cmp.Diff(want, destinations(results)) != "" {
		t.Fatalf("%v, %s", err, cmp.Diff(want, destinations(results)))
	}
	from.ResetRecords()
	to.ResetRecords()
	for i := range want {
		want[i] += " same"
	}
	results, err = davit.Sync(t.Context(), list, davit.CopyOptions{})
	if err != nil || cmp.Diff(want, destinations(results)) != "" {
		t.Fatalf("%v, %s", err, cmp.Diff(want, destinations(results)))
	}
	if diff := cmp.Diff([]string{
		"GET /v2/team/app/tags/list",
		"HEAD /v2/team/app/manifests/1.0", "HEAD /v2/team/app/manifests/1.1",
		"HEAD /v2/team/app/manifests/2.0", "HEAD /v2/team/app/manifests/2.0",
		"HEAD /v2/team/tool/manifests/latest",
	}, asked(from)); diff != "" {
		t.Errorf("asked the source: (-want +got)\n%s", diff)
	}
	if diff := cmp.Diff([]string{
		"HEAD /v2/mirror/team/app/manifests/1.0", "HEAD /v2/mirror/team/app/manifests/1.1",
		"HEAD /v2/mirror/team/tool/manifests/latest", "HEAD /v2/second/manifests/2.0", "HEAD /v2/third/manifests/2.0",
	}, asked(to)); diff != "" {
		t.Errorf("asked the destination: (-want +got)\n%s", diff)
	}
}

// What cannot be listed, catalogs or tags, is told with what cannot be copied,
// each once; the others are copied.
func TestSyncJoinsFailures(t *testing.T) {
	none := registrytest.Start(t, registrytest.Options{NoCatalog: true})
	from, to := registrytest.Start(t, registrytest.Options{}), writable(t)
	from.Push("team/app", "1", registrytest.Image{})
	list := listOf(t, `
version: 1
sync:
  - {source: "%[3]s", target: "%[2]s/none", type: registry}
  - {source: "%[1]s/team/gone", target: "%[2]s/gone", type: repository}
  - {source: "%[1]s/team/gone", target: "%[2]s/again", type: repository}
  - {source: "%[1]s/team/app:2", target: "%[2]s/app:2", type: image}
  - {source: "%[1]s/team/app", target: "%[2]s/app", type: repository}
`, from.Host(), to.Host(), none.Host())
	results, err := davit.Sync(t.Context(), list, davit.CopyOptions{})
	if diff := cmp.Diff([]string{"app:1"}, destinations(results)); diff != "" {
		t.Error(diff)
	}
	var several *davit.CopyError
	if !errors.As(err, &several) {
		t.Fatalf("error %v, want a CopyError", err)
	}
	var failed []string
	for _, f := range several.Failures {
		failed = append(failed, strings.NewReplacer(from.Host(), "FROM", none.Host(), "NONE").Replace(f.Reference))
	}
	if diff := cmp.Diff([]string{"NONE", "FROM/team/gone", "FROM/team/app:2"}, failed); diff != "" {
		t.Errorf("failed: (-want +got)\n%s", diff)
	}
	if several.Asked != 4 || several.Copied != 1 || !errors.Is(err, image.ErrNotFound) {
		t.Errorf("%d asked for, %d copied: %v", several.Asked, several.Copied, err)
	}
}

// A single failure of a list of one is its own error.
func TestSyncOfOneFailure(t *testing.T) {
	from, to := registrytest.Start(t, registrytest.Options{}), writable(t)
	for _, tags := range []string{"gone", "g*"} {
		_, err := davit.Sync(t.Context(), listOf(t, "to: %[2]s\nimages: [{image: %[1]s/team/app, tags: %[3]q}]", from.Host(), to.Host(), tags), davit.CopyOptions{})
		var several *davit.CopyError
		if !errors.Is(err, image.ErrNotFound) || errors.As(err, &several) {
			t.Errorf("%s: %v", tags, err)
		}
	}
}

// A list that contradicts itself is found out before anything is copied; what
// cannot take a list before anything is asked.
func TestSyncRefusesLists(t *testing.T) {
	from, to := registrytest.Start(t, registrytest.Options{}), writable(t)
	from.Push("a/app", "1", registrytest.Image{})
	from.Push("b/app", "1", registrytest.Image{})
	for text, requests := range map[string]int{
		`images: [{image: "%[1]s/a/app", tags: "*", to: "%[2]s/same"}, {image: "%[1]s/b/app", tags: "*", to: "%[2]s/same"}]`: 2,
		`images: [{image: "%[1]s/a/app", tags: "*", to: "oci:layout:1"}]`:                                                    0,
	} {
		from.ResetRecords()
		list := listOf(t, strings.ReplaceAll(text, "%[2]s", to.Host()), from.Host())
		results, err := davit.Sync(t.Context(), list, davit.CopyOptions{})
		var wrong *synclist.Error
		if !errors.As(err, &wrong) || len(results) > 0 {
			t.Errorf("%s: %v, %v", text, results, err)
		}
		if got := len(from.Requests()); got != requests {
			t.Errorf("%s: %d requests, want %d", text, got, requests)
		}
	}
	if got := asked(to); len(got) > 0 {
		t.Errorf("asked the destination %q", got)
	}
}

// The end of the context ends it, with the context's error.
func TestSyncEndsWithItsContext(t *testing.T) {
	why := errors.New("enough")
	for _, at := range []string{"tags/list", "manifests/1"} {
		ctx, cancel := context.WithCancelCause(t.Context())
		from := registrytest.Start(t, registrytest.Options{Intercept: func(_ http.ResponseWriter, r *http.Request) bool {
			if !strings.HasSuffix(r.URL.Path, at) {
				return false
			}
			cancel(why)
			<-r.Context().Done()
			return true
		}})
		from.Push("team/app", "1", registrytest.Image{})
		to := writable(t)
		list := listOf(t, `images: [{image: "%[1]s/team/app", tags: "*", to: "%[2]s/"}]`, from.Host(), to.Host())
		if results, err := davit.Sync(ctx, list, davit.CopyOptions{}); !errors.Is(err, why) || len(results) > 0 {
			t.Errorf("%s: %v, %v", at, results, err)
		}
		cancel(nil)
	}
}

// An archive that would lose an image is left as it is, also where that one is
// not there any more; one that it has not got does not matter.
func TestSyncKeepsWhatAnArchiveHas(t *testing.T) {
	gone := "nothing"
	from := registrytest.Start(t, registrytest.Options{Intercept: func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "/manifests/"+gone) {
			return false
		}
		w.WriteHeader(http.StatusNotFound)
		return true
	}})
	for _, tag := range []string{"1", "2", "3"} {
		from.Push("team/app", tag, registrytest.Image{Annotations: map[string]string{"tag": tag}})
	}
	path := t.TempDir() + "/images.tar"
	sync := func(tags string) error {
		_, err := davit.Sync(t.Context(), listOf(t, "to: %[2]s\nimages: [{image: %[1]s/team/app, tags: [%[3]s]}]", from.Host(), path, tags), davit.CopyOptions{})
		return err
	}
	stored := func() []string {
		store, err := davit.OpenStore(t.Context(), path, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = store.Close() }()
		var tags []string
		for _, s := range store.Images() {
			tags = append(tags, s.Tag())
		}
		slices.Sort(tags)
		return tags
	}
	if err := sync(`"1", "2"`); err != nil {
		t.Fatal(err)
	}
	gone = "2"
	var several *davit.CopyError
	if err := sync(`"1", "2", "3"`); !errors.As(err, &several) || len(several.Failures) != 2 || several.Copied != 1 {
		t.Errorf("where 2 is gone: %v", err)
	}
	if diff := cmp.Diff([]string{"1", "2"}, stored()); diff != "" {
		t.Errorf("where 2 is gone: %s", diff)
	}
	gone = "4"
	if err := sync(`"1", "2", "3", "4"`); !errors.As(err, &several) || len(several.Failures) != 1 || several.Copied != 3 {
		t.Errorf("where 4 is not there: %v", err)
	}
	if diff := cmp.Diff([]string{"1", "2", "3"}, stored()); diff != "" {
		t.Errorf("where 4 is not there: %s", diff)
	}
}
