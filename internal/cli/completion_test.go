package cli

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
)

func testRoot() *cobra.Command {
	return newRoot(streams{in: new(bytes.Buffer), out: new(bytes.Buffer), err: new(bytes.Buffer)})
}

func TestCompleteImagesOnDisk(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for _, name := range []string{"a.tar", "app.tar.gz", "b.TGZ", "c.tar.zst", "it's (1).tar", "notes.txt", "sub/x.tar", "sub/deep/y.tar", "empty/z.txt", ".hidden.tar", "a.tar.davit-part/data"} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.FromSlash(name)), nil, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	// Where there may be such names: those that a shell would run are not told.
	for _, name := range []string{"new\nline.tar", "$(run)1.tar", "$(run)2.tar", "`run`.tar", "x;run;.tar", "x&run.tar", "x|run.tar", "x>run.tar", "x<run.tar", "$(run)"} {
		_ = os.WriteFile(name, nil, 0o666)
	}
	_ = os.Mkdir("$(dir)", 0o777)
	const (
		files   = cobra.ShellCompDirectiveNoFileComp
		descend = cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	)
	complete := completeImages(&registryFlags{}, 2)
	for typed, want := range map[string]struct {
		images    []string
		directive cobra.ShellCompDirective
	}{
		"":           {[]string{"a.tar", "app.tar.gz", "b.TGZ", "c.tar.zst", "empty/", "it's (1).tar", "sub/"}, files},
		"a":          {[]string{"a.tar", "app.tar.gz"}, files},
		"./a":        {[]string{"./a.tar", "./app.tar.gz"}, files},
		"s":          {[]string{"sub/"}, descend},
		"sub/":       {[]string{"sub/deep/", "sub/x.tar"}, files},
		"sub/deep/y": {[]string{"sub/deep/y.tar"}, files},
		".h":         {[]string{".hidden.tar"}, files},
		"empty/":     {nil, files},
		"nowhere/":   {nil, files},
		dir + "/su":  {[]string{dir + "/sub/"}, descend},
	} {
		got, directive := complete(&cobra.Command{}, []string{"one"}, typed)
		if diff := cmp.Diff(want.images, got); diff != "" || directive != want.directive {
			t.Errorf("%q: directive %d (-want +got):\n%s", typed, directive, diff)
		}
	}
	if got, _ := complete(&cobra.Command{}, []string{"one", "two"}, "a"); got != nil {
		t.Errorf("a third image is completed: %v", got)
	}
}

// A layout may call its images anything: what a shell would run is not offered.
func TestCompleteStoredOfHostileLayout(t *testing.T) {
	dir := t.TempDir()
	digest := strings.Repeat("a", 64)
	var entries []string
	for i, name := range []string{"v1", "$(run)", "`run`", "x;run", "new\\nline", "\\u001b[31m", "v 2"} {
		entries = append(entries, fmt.Sprintf(`{"digest":"sha256:%s%d","size":1,"annotations":{"org.opencontainers.image.ref.name":"%s"}}`, digest[1:], i, name))
	}
	for name, content := range map[string]string{
		"oci-layout": `{"imageLayoutVersion":"1.0.0"}`,
		"index.json": `{"schemaVersion":2,"manifests":[` + strings.Join(entries, ",") + `]}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	got, stored := completeStored(t.Context(), dir+":")
	if diff := cmp.Diff([]string{dir + ":v 2", dir + ":v1"}, got); diff != "" || !stored {
		t.Error(diff)
	}
}

func TestCutTag(t *testing.T) {
	for typed, want := range map[string][2]string{
		"alpine:":                 {"alpine", ""},
		"alpine:3.":               {"alpine", "3."},
		"localhost:5000/a:v":      {"localhost:5000/a", "v"},
		"[::1]:5000/a:":           {"[::1]:5000/a", ""},
		"docker://h/a:":           {"docker://h/a", ""},
		"":                        {},
		":":                       {},
		"alpine":                  {},
		"localhost:5000/a":        {},
		"docker://h/a":            {},
		"alpine@sha256:":          {},
		"alpine:3@sha256:":        {},
		"me:secret@registry/app:": {},
	} {
		if name, tag, ok := cutTag(typed); name != want[0] || tag != want[1] || ok != (want[0] != "") {
			t.Errorf("%q is %q and %q, %v", typed, name, tag, ok)
		}
	}
}
