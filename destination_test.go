package davit_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/davit-cli/davit"
	"github.com/davit-cli/davit/ref"
)

func TestParseDestination(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, name := range []string{"layout/oci-layout", "parts/image_manifest.json", "platforms/manifest_list.json", "there.bin"} {
		name = filepath.FromSlash(name)
		if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, nil, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	registry := func(name string) davit.Destination {
		r, err := ref.Parse(name)
		if err != nil {
			t.Fatal(err)
		}
		return davit.Destination{Reference: r}
	}
	disk := func(path string, format davit.Format, name, tag string) davit.Destination {
		return davit.Destination{Path: path, Format: format, Name: name, Tag: tag}
	}
	for s, want := range map[string]davit.Destination{
		"alpine":                        registry("alpine"),
		" registry.lan:5000/app:1 ":     registry("registry.lan:5000/app:1"),
		"docker://lan.test/x.tar":       registry("lan.test/x.tar"),
		"https://registry.lan/app":      registry("https://registry.lan/app"),
		"layout":                        registry("layout"),
		"oci:5000/app":                  registry("oci:5000/app"),
		"x.tar":                         disk("x.tar", davit.Archive, "", ""),
		"dir/x.tgz":                     disk("dir/x.tgz", davit.Archive, "", ""),
		"x.tar:app":                     disk("x.tar", davit.Archive, "app", ""),
		"x.tar:registry.lan:5000/app:1": disk("x.tar", davit.Archive, "registry.lan:5000/app:1", ""),
		"docker-archive:x":              disk("x", davit.Archive, "", ""),
		"docker-archive:x:app:1":        disk("x", davit.Archive, "app:1", ""),
		"oci-archive:x:1.0":             disk("x", davit.Archive, "", "1.0"),
		"oci-archive:x:app:1.0":         disk("x", davit.Archive, "app:1.0", ""),
		"oci:layout":                    disk("layout", davit.OCI, "", ""),
		"oci:layout:1.0":                disk("layout", davit.OCI, "", "1.0"),
		"oci:new:registry.lan/app:1":    disk("new", davit.OCI, "registry.lan/app:1", ""),
		"./layout:1.0":                  disk("./layout", davit.OCI, "", "1.0"),
		"./new":                         disk("./new", davit.OCI, "", ""),
		"../new":                        disk("../new", davit.OCI, "", ""),
		"./parts":                       disk("./parts", davit.Components, "", ""),
		"./platforms":                   disk("./platforms", davit.Components, "", ""),
		"./there.bin":                   disk("./there.bin", davit.Archive, "", ""),
		"components:new":                disk("new", davit.Components, "", ""),
		"oci:./5000/app":                disk("./5000/app", davit.OCI, "", ""),
	} {
		got, err := davit.ParseDestination(s)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%q: %v (-want +got):\n%s", s, err, diff)
			continue
		}
		if again, err := davit.ParseDestination(got.String()); err != nil || got.Path != "" && again != got {
			t.Errorf("%q is written as %q, which is %+v, %v", s, got, again, err)
		}
	}
	for _, s := range []string{"", "dir:x", "containers-storage:x", "docker-daemon:x:1", "ftp://x/y", "Not a name", "components:new:app", "x.tar:Not A Name", "oci:layout:a b", "registry.lan/", "registry.lan/mirror/", "docker://registry.lan/mirror/", "dir/"} {
		if got, err := davit.ParseDestination(s); !errors.Is(err, ref.ErrInvalid) {
			t.Errorf("%q: %+v, %v", s, got, err)
		}
	}
}
