package davit_test

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/davit-cli/davit"
	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/registrytest"
	"github.com/davit-cli/davit/ref"
)

func TestPushItems(t *testing.T) {
	t.Chdir(t.TempDir())
	s := registrytest.Start(t, registrytest.Options{})
	s.Push("one", "v1", registrytest.Image{})
	s.Push("two", "v1", registrytest.Image{Layers: []registrytest.Layer{registrytest.RandomLayer(1, 100)}})
	write := func(output string, opts davit.PullOptions, names ...string) {
		t.Helper()
		opts.Output, opts.Platforms = output, []string{"linux/amd64"}
		for i := range names {
			names[i] = s.Host() + "/" + names[i]
		}
		if _, err := davit.PullAll(t.Context(), names, opts); err != nil {
			t.Fatal(err)
		}
	}
	write("app.tar", davit.PullOptions{Tag: "lan.test/team/app:v1"}, "one:v1")
	write("hub.tar", davit.PullOptions{Tag: "alpine:3.20"}, "two:v1")
	write("same.tar", davit.PullOptions{Tag: "other.test/team/app:v1"}, "two:v1")
	write("both", davit.PullOptions{Format: davit.OCI, Tag: "first:1"}, "one:v1")
	write("both", davit.PullOptions{Format: davit.OCI, Tag: "second:2"}, "one:v1")
	write("parts", davit.PullOptions{Format: davit.Components}, "one:v1")
	type items = []davit.CopyItem
	item := func(source, destination string) davit.CopyItem {
		return davit.CopyItem{Source: source, Destination: destination}
	}
	for _, test := range []struct {
		sources     []string
		destination string
		want        items
		is          error
	}{
		{sources: []string{"app.tar", "hub.tar"}, want: items{
			item("app.tar:lan.test/team/app:v1", "docker://lan.test/team/app:v1"), item("hub.tar:docker.io/library/alpine:3.20", "docker://docker.io/library/alpine:3.20")}},
		{sources: []string{"app.tar", "./hub.tar"}, destination: "reg.test:5000/", want: items{
			item("app.tar:lan.test/team/app:v1", "docker://reg.test:5000/team/app:v1"), item("./hub.tar:docker.io/library/alpine:3.20", "docker://reg.test:5000/library/alpine:3.20")}},
		{sources: []string{"hub.tar"}, destination: " docker://reg.test/a/b/ ", want: items{item("hub.tar:docker.io/library/alpine:3.20", "docker://reg.test/a/b/library/alpine:3.20")}},
		{sources: []string{"hub.tar"}, destination: "http://reg.test/a/", want: items{item("hub.tar:docker.io/library/alpine:3.20", "http://reg.test/a/library/alpine:3.20")}},
		{sources: []string{"hub.tar"}, destination: "me/", want: items{item("hub.tar:docker.io/library/alpine:3.20", "docker://docker.io/me/library/alpine:3.20")}},
		{sources: []string{"hub.tar"}, destination: "reg.test/x:y", want: items{item("hub.tar:docker.io/library/alpine:3.20", "docker://reg.test/x:y")}},
		{sources: []string{"hub.tar:alpine"}, destination: "x", want: items{item("hub.tar:docker.io/library/alpine:3.20", "docker://docker.io/library/x")}},
		{sources: []string{"both"}, want: items{
			item("./both:docker.io/library/first:1", "docker://docker.io/library/first:1"), item("./both:docker.io/library/second:2", "docker://docker.io/library/second:2")}},
		{sources: []string{"both"}, destination: "reg.test/one:1", want: items{item("./both:docker.io/library/first:1", "docker://reg.test/one:1")}},
		{sources: []string{"both:second"}, want: items{item("./both:docker.io/library/second:2", "docker://docker.io/library/second:2")}},
		{sources: []string{"app.tar", "app.tar"}, want: items{item("app.tar:lan.test/team/app:v1", "docker://lan.test/team/app:v1")}},

		{sources: []string{"app.tar", "hub.tar"}, destination: "reg.test/one:1", is: davit.ErrDestination},
		{sources: []string{"app.tar", "same.tar"}, destination: "reg.test/", is: davit.ErrDestination},
		{sources: []string{"parts"}, is: davit.ErrDestination},
		{sources: []string{"parts"}, destination: "reg.test/", is: davit.ErrDestination},
		{sources: []string{"app.tar:none"}, is: image.ErrNotFound},
		{sources: []string{"./none.tar"}, is: image.ErrNotFound},
		{sources: []string{"alpine"}, is: ref.ErrInvalid},
		{sources: []string{"app.tar"}, destination: "not a name", is: ref.ErrInvalid},
		{sources: []string{"app.tar"}, destination: "NO/", is: ref.ErrInvalid},
	} {
		got, err := davit.PushItems(t.Context(), test.sources, test.destination)
		if diff := cmp.Diff(test.want, got); diff != "" || !errors.Is(err, test.is) {
			t.Errorf("%v to %q: %v (-want +got):\n%s", test.sources, test.destination, err, diff)
		}
	}
}

// Images without any name go where they are told, by all ways out of a registry.
func TestPush(t *testing.T) {
	s, to := registrytest.Start(t, registrytest.Options{}), writable(t)
	p := s.Push("app", "v1", registrytest.Image{Layers: []registrytest.Layer{registrytest.RandomLayer(1, 100)}})
	for _, format := range []davit.Format{davit.Archive, davit.OCI, davit.Components} {
		path := filepath.Join(t.TempDir(), "out")
		if _, err := davit.Pull(t.Context(), s.Host()+"/app:v1", davit.PullOptions{Format: format, Output: path, Platforms: []string{"linux/amd64"}}); err != nil {
			t.Fatal(err)
		}
		results, err := davit.Push(t.Context(), []string{path}, to.Host()+"/"+string(format)+":v2", davit.CopyOptions{})
		if err != nil || len(results) != 1 || tagged(to, string(format), "v2") != p.Manifest.Digest {
			t.Errorf("%s: %+v, %v", format, results, err)
		}
	}
}
