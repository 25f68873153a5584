package davit_test

import (
	"archive/tar"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/davit-cli/davit"
	"github.com/davit-cli/davit/internal/registrytest"
)

func TestDiffFiles(t *testing.T) {
	text := registrytest.Text
	common := []registrytest.File{
		registrytest.Dir("./"), text("a-b", "1"), registrytest.Dir("a"), text("a/b", "1"), text("a.b", "1"), text("ab", "1"),
		text("hard", "h"), registrytest.Hardlink("link", "hard"),
	}
	server := registrytest.Start(t, registrytest.Options{})
	push := func(tag string, upper ...registrytest.File) {
		server.Push("app", tag, registrytest.Image{Layers: []registrytest.Layer{{Files: common}, {Files: upper}}})
	}
	push("old", text("only-old", "123"), text("a/old", ""), text("same", "s"), text("moved", "x"), registrytest.Symlink("to", "a"))
	push("new", text("z", "1"), text("a/b", "2"), text("a/b.c", "1"), text("same", "s"), text("link", "other"),
		registrytest.Dir("moved"), text("moved/x", "x"), registrytest.Symlink("to", "ab"),
		registrytest.File{Header: tar.Header{Name: "ab", Mode: 0o600, Uid: 7}, Body: []byte("1")}, text(".wh.a.b", ""))
	d, err := davit.Diff(t.Context(), server.Host()+"/app:old", server.Host()+"/app:new", davit.DiffOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want := []davit.FileChange{
		{Path: "/a.b", Change: davit.Removed, Type: davit.Regular, SizeA: 1},
		{Path: "/a/b", Change: davit.Changed, Type: davit.Regular, What: []string{"content"}, SizeA: 1, SizeB: 1},
		{Path: "/a/b.c", Change: davit.Added, Type: davit.Regular, SizeB: 1},
		{Path: "/a/old", Change: davit.Removed, Type: davit.Regular},
		{Path: "/ab", Change: davit.Changed, Type: davit.Regular, What: []string{"mode", "owner"}, SizeA: 1, SizeB: 1},
		{Path: "/link", Change: davit.Changed, Type: davit.Regular, What: []string{"content"}, SizeA: 1, SizeB: 5},
		{Path: "/moved", Change: davit.Changed, Type: davit.Directory, What: []string{"type"}, SizeA: 1},
		{Path: "/moved/x", Change: davit.Added, Type: davit.Regular, SizeB: 1},
		{Path: "/only-old", Change: davit.Removed, Type: davit.Regular, SizeA: 3},
		{Path: "/to", Change: davit.Changed, Type: davit.Symlink, What: []string{"target"}},
		{Path: "/z", Change: davit.Added, Type: davit.Regular, SizeB: 1},
	}
	if diff := cmp.Diff(want, d.Files, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

// Two images of a registry are looked at in one session: one token is for both,
// and a layer that both have is read once.
func TestDiffAsksOnce(t *testing.T) {
	server := registrytest.Start(t, registrytest.Options{Auth: &registrytest.Auth{Scheme: registrytest.Bearer, Anonymous: true}})
	layers := []registrytest.Layer{registrytest.RandomLayer(1, 1000), registrytest.RandomLayer(2, 1000), registrytest.RandomLayer(3, 1000)}
	server.Push("app", "v1", registrytest.Image{Layers: layers[:2]})
	server.Push("app", "v2", registrytest.Image{Layers: []registrytest.Layer{layers[0], layers[2]}})
	server.Push("other", "v2", registrytest.Image{Layers: layers})
	for _, names := range [][2]string{{"/app:v1", "/app:v2"}, {"/app:v1", "/other:v2"}} {
		before := len(server.Requests())
		d, err := davit.Diff(t.Context(), server.Host()+names[0], server.Host()+names[1], davit.DiffOptions{})
		if err != nil || d.Same || len(d.Files) == 0 {
			t.Fatalf("%+v, %v", d, err)
		}
		asked := map[string]int{}
		for _, r := range server.Requests()[before:] {
			if r.Status == 200 {
				asked[r.Path[strings.LastIndex(r.Path, "/")+1:]]++
			}
		}
		for what, n := range asked {
			if n > 1 {
				t.Errorf("%s was asked for %d times", what, n)
			}
		}
		if asked["token"] != 1 {
			t.Errorf("%d tokens", asked["token"])
		}
	}
}
