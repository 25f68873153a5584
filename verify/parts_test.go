package verify_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/davit-cli/davit"
	"github.com/davit-cli/davit/internal/registrytest"
	"github.com/davit-cli/davit/internal/split"
	"github.com/davit-cli/davit/verify"
)

// inParts is an archive in three parts or so.
func inParts(t *testing.T) string {
	t.Helper()
	s := registrytest.Start(t, registrytest.Options{})
	s.Push("app", "v1", registrytest.Image{Layers: []registrytest.Layer{registrytest.RandomLayer(1, 2_500_000)}})
	path := filepath.Join(t.TempDir(), "x.tar")
	result, err := davit.Pull(t.Context(), "http://"+s.Host()+"/app:v1", davit.PullOptions{
		Output: path, Split: davit.MinSplit, Platforms: []string{"linux/amd64"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{path + ".001", path + ".002", path + ".003"}, result.Parts); result.Path != path || diff != "" {
		t.Fatalf("pulled to %s: %s", result.Path, diff)
	}
	return path
}

func TestParts(t *testing.T) {
	path := inParts(t)
	for _, name := range []string{path, path + ".001"} {
		r := check(t, name)
		wantProblems(t, r)
		wantTakes(t, r, true, true, true)
		wantNote(t, r, "the 3 parts are what x.tar.sha256 says")
		wantNote(t, r, "cat x.tar.[0-9][0-9][0-9]")
	}
	if err := os.Remove(split.SumsName(path)); err != nil {
		t.Fatal(err)
	}
	r := check(t, path)
	wantProblems(t, r)
	wantNote(t, r, "there is no x.tar.sha256")
}

func TestPartsFaults(t *testing.T) {
	for name, tt := range map[string]struct {
		spoil func(path string)
		want  want
	}{
		"a part is missing": {func(path string) { _ = os.Remove(path + ".002") }, want{verify.Missing, "x.tar.002", "is not there"}},
		"a part is short":   {func(path string) { _ = os.Truncate(path+".002", 1000) }, want{verify.Size, "x.tar.002", "has 1000 bytes"}},
		"a bit is wrong": {func(path string) {
			b := read(t, path+".003")
			b[len(b)-1025] ^= 1 // of what pads the last blob, which nobody else looks at
			write(t, path+".003", b)
		}, want{verify.Digest, "x.tar.003", "another sha256 than x.tar.sha256 says"}},
	} {
		t.Run(name, func(t *testing.T) {
			path := inParts(t)
			tt.spoil(path)
			wantProblems(t, check(t, path), tt.want)
		})
	}
}
