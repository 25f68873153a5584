package davit_test

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/davit-cli/davit"
)

// What an archive is made of, or is to be joined with, it does not replace: not
// in parts either.
func TestArchiveDoesNotReplaceItsInput(t *testing.T) {
	server := months(t)
	june := server.Host() + "/app:june"
	for name, tt := range map[string]struct {
		split int64 // of the base
		write func(in func(string) string) error
	}{
		"since parts, by the whole's name": {davit.MinSplit, func(in func(string) string) error {
			_, err := davit.Pull(t.Context(), june, davit.PullOptions{Since: []string{in("may.tar")}, Output: in("may.tar"), Split: davit.MinSplit})
			return err
		}},
		"since parts, by the first one's name": {davit.MinSplit, func(in func(string) string) error {
			_, err := davit.Pull(t.Context(), june, davit.PullOptions{Since: []string{in("may.tar.001")}, Output: in("may.tar"), Split: davit.MinSplit})
			return err
		}},
		"since parts, over one of them": {davit.MinSplit, func(in func(string) string) error {
			_, err := davit.Pull(t.Context(), june, davit.PullOptions{Since: []string{in("may.tar")}, Output: in("may.tar.001")})
			return err
		}},
		"copied over its base": {0, func(in func(string) string) error {
			delta := pullTo(t, filepath.Join(t.TempDir(), "june.tar"), davit.PullOptions{Since: []string{in("may.tar")}}, june)
			_, err := davit.Copy(t.Context(), delta, in("may.tar"), davit.CopyOptions{Bases: []string{in("may.tar")}})
			return err
		}},
		"one image of several, over them": {0, func(in func(string) string) error {
			_, err := davit.Copy(t.Context(), in("may.tar")+":"+server.Host()+"/team/tool:may", in("may.tar"), davit.CopyOptions{})
			return err
		}},
		"one image of several in parts, over them": {davit.MinSplit, func(in func(string) string) error {
			_, err := davit.Pull(t.Context(), in("may.tar")+":"+server.Host()+"/team/tool:may", davit.PullOptions{Output: in("may.tar"), Split: davit.MinSplit})
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			in := func(name string) string { return filepath.Join(dir, name) }
			pullTo(t, in("may.tar"), davit.PullOptions{Split: tt.split}, server.Host()+"/app:may", server.Host()+"/team/tool:may")
			before := filesOf(t, dir)
			if err := tt.write(in); err == nil || !strings.Contains(err.Error(), "name another output") {
				t.Error("it is replaced:", err)
			}
			if after := filesOf(t, dir); !maps.Equal(before, after) {
				t.Error("what is there is not what was:", cmp.Diff(slices.Sorted(maps.Keys(before)), slices.Sorted(maps.Keys(after))))
			}
		})
	}
}

// An archive is written anew of all that it holds.
func TestArchiveIsWrittenAnew(t *testing.T) {
	server := months(t)
	may := pullTo(t, filepath.Join(t.TempDir(), "may.tar"), davit.PullOptions{}, server.Host()+"/app:may")
	before := filesOf(t, may)
	if _, err := davit.Copy(t.Context(), may, may, davit.CopyOptions{}); err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(before, filesOf(t, may)) {
		t.Error("the copy of an archive over itself is another one")
	}
}

// Images that go into one archive are all in it, however it is written.
func TestCopyAllIntoOneArchive(t *testing.T) {
	server := months(t)
	dir := t.TempDir()
	t.Chdir(dir)
	_, err := davit.CopyAll(t.Context(), []davit.CopyItem{
		{Source: server.Host() + "/app:may", Destination: "./all.tar"},
		{Source: server.Host() + "/app:june", Destination: filepath.Join(dir, "all.tar")},
	}, davit.CopyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	store, err := davit.OpenStore(t.Context(), "all.tar", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	if images := store.Images(); len(images) != 2 {
		t.Errorf("the archive has %d images: %v", len(images), images)
	}
}

// Bases of a copy are named as Apply's are.
func TestBasesOfCopies(t *testing.T) {
	server := months(t)
	in := func(dir, name string) string { return filepath.Join(dir, name) }
	dir := t.TempDir()
	pullTo(t, in(dir, "may"), davit.PullOptions{Format: davit.OCI}, server.Host()+"/app:may")
	june := pullTo(t, in(dir, "june.tar"), davit.PullOptions{Since: []string{in(dir, "may")}}, server.Host()+"/app:june")
	whole := pullTo(t, in(dir, "whole.tar"), davit.PullOptions{}, server.Host()+"/app:june")
	for i, base := range []string{in(dir, "may"), "oci:" + in(dir, "may")} {
		out := in(dir, string(rune('a'+i))+".tar")
		if _, err := davit.Copy(t.Context(), june, out, davit.CopyOptions{Bases: []string{base}}); err != nil {
			t.Errorf("%s: %v", base, err)
			continue
		}
		same(t, whole, out)
	}
}
