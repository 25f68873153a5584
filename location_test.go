package davit_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/davit-cli/davit"
	"github.com/davit-cli/davit/ref"
)

func TestParseLocation(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	files := []string{
		"x.tar", "x.tar.gz", "x.tgz", "x.tar.zst", "BIG.TAR", "notes", "dir/x.tar",
		"split.tar.001", "split.tar.002", "both.tar", "both.tar.001", "split.tgz.001", "late.tar.002",
		"layout/oci-layout", "parts/image_manifest.json", "platforms/manifest_list.json", "plain/file", "plain.tar/file",
	}
	if runtime.GOOS != "windows" {
		files = append(files, "a:b.tar")
	}
	for _, name := range files {
		name = filepath.FromSlash(name)
		if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, nil, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	path := func(p, image string) davit.Location { return davit.Location{Path: p, Image: image} }
	guessed := func(p, image string) davit.Location { return davit.Location{Path: p, Image: image, Guessed: true} }
	registry := func(name string) davit.Location {
		r, err := ref.Parse(name)
		if err != nil {
			t.Fatal(err)
		}
		return davit.Location{Reference: r}
	}
	sha := "sha256:" + strings.Repeat("a", 64)
	absolute := filepath.Join(dir, "x.tar")
	tests := map[string]davit.Location{
		// In a registry.
		"alpine:3.20":                 registry("docker.io/library/alpine:3.20"),
		"https://host.example/v2/app": registry("https://host.example/v2/app"),
		"docker://layout":             registry("docker.io/library/layout"),
		"docker://dir/x.tar":          registry("docker.io/dir/x.tar"),
		"alpine@" + sha:               registry("docker.io/library/alpine@" + sha),
		// Neither an archive's name nor an image in it.
		"notes":    registry("docker.io/library/notes"),
		"plain":    registry("docker.io/library/plain"),
		"dir/none": registry("docker.io/dir/none"),

		// Written as a path, whatever is there.
		"./x.tar":                        path("./x.tar", ""),
		"./none.tar":                     path("./none.tar", ""),
		"./notes":                        path("./notes", ""),
		"../none":                        path("../none", ""),
		"/srv/none":                      path("/srv/none", ""),
		".":                              path(".", ""),
		"..":                             path("..", ""),
		absolute:                         path(absolute, ""),
		absolute + ".none":               path(absolute+".none", ""),
		absolute + ":app:1":              path(absolute, "app:1"),
		absolute + "@" + sha:             path(absolute, sha),
		absolute + ".none:v1":            path(absolute+".none", "v1"),
		"./x.tar:app:1":                  path("./x.tar", "app:1"),
		"./layout@" + sha:                path("./layout", sha),
		"./none.tar:app:1":               path("./none.tar", "app:1"),
		"./none@" + sha:                  path("./none", sha),
		"./n:one/none.tar:app":           path("./n:one/none.tar", "app"),
		"./none.tar:team/app:1":          path("./none.tar", "team/app:1"),
		absolute + ".none:host:5000/a:1": path(absolute+".none", "host:5000/a:1"),

		// An image is there.
		"x.tar":               path("x.tar", ""),
		" x.tar\n":            path("x.tar", ""),
		"x.tar.gz":            path("x.tar.gz", ""),
		"x.tgz":               path("x.tgz", ""),
		"x.tar.zst":           path("x.tar.zst", ""),
		"BIG.TAR":             path("BIG.TAR", ""),
		"dir/x.tar":           path("dir/x.tar", ""),
		"x.tar:v1":            path("x.tar", "v1"),
		"x.tar:host:5000/a:1": path("x.tar", "host:5000/a:1"),
		"x.tar@" + sha:        path("x.tar", sha),
		"layout":              guessed("layout", ""),
		"layout/":             guessed("layout/", ""),
		"layout:v1":           guessed("layout", "v1"),
		"layout@" + sha:       guessed("layout", sha),
		"parts":               guessed("parts", ""),
		"platforms":           guessed("platforms", ""),

		// In parts.
		"split.tar.001":            path("split.tar.001", ""),
		"split.tar.001:v1":         path("split.tar.001", "v1"),
		"split.tar.002":            path("split.tar.002", ""),
		"split.tar":                path("split.tar", ""),
		"split.tar:app:1":          path("split.tar", "app:1"),
		"split.tar@" + sha:         path("split.tar", sha),
		"split.tgz":                path("split.tgz", ""),
		"./split.tar:v1":           path("./split.tar", "v1"),
		"oci-archive:split.tar:v1": path("./split.tar", "v1"),
		"both.tar:v1":              path("both.tar", "v1"),
		"both.tar.001:v1":          path("both.tar.001", "v1"),
		"late.tar":                 path("late.tar", ""),
		"late.tar.002":             path("late.tar.002", ""),

		// As skopeo writes it.
		"oci:layout":                             path("./layout", ""),
		"oci:layout:v1":                          path("./layout", "v1"),
		"oci:none:v1":                            path("./none", "v1"),
		"oci:none":                               path("./none", ""),
		"oci:none/deep:v1":                       path("./none/deep", "v1"),
		"oci:5000":                               path("./5000", ""),
		"oci:65536/app":                          path("./65536/app", ""),
		"oci:./5000/app":                         path("./5000/app", ""),
		"oci:" + absolute:                        path(absolute, ""),
		"oci-archive:x.tar":                      path("./x.tar", ""),
		"oci-archive:notes:v1":                   path("./notes", "v1"),
		"docker-archive:x.tar:a/b:":              path("./x.tar", "a/b:"),
		"docker-archive:none:team/app:1":         path("./none", "team/app:1"),
		"docker-archive:dir/none.tar:team/app:1": path("./dir/none.tar", "team/app:1"),
		"components:parts":                       path("./parts", ""),
		"components:none":                        path("./none", ""),
		"components:5000/app":                    registry("components:5000/app"),
		// Registries that are called so, and an image of Docker Hub.
		"oci:5000/app":        registry("oci:5000/app"),
		"dir:5000/app:v1":     registry("dir:5000/app:v1"),
		"docker://dir:x":      registry("docker.io/library/dir:x"),
		"dir/app:x":           registry("docker.io/dir/app:x"),
		"docker-daemon":       registry("docker.io/library/docker-daemon"),
		"dir@" + sha:          registry("docker.io/library/dir@" + sha),
		"docker://oci:layout": registry("docker.io/library/oci:layout"),
	}
	if runtime.GOOS == "windows" {
		tests[`dir\x.tar:v1`] = path(`dir\x.tar`, "v1")
		tests[`dir\none`] = path(`dir\none`, "")
	} else {
		tests["a:b.tar"] = path("a:b.tar", "")
		tests["a:b.tar:v1"] = path("a:b.tar", "v1")
	}
	for s, want := range tests {
		got, err := davit.ParseLocation(s)
		if err != nil {
			t.Errorf("%q: %v", s, err)
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", s, diff)
		}
		// What it is called leads there again.
		if got.Path == "" {
			continue
		}
		again, err := davit.ParseLocation(got.String())
		if diff := cmp.Diff(got, again); err != nil || diff != "" {
			t.Errorf("%q is called %q: %v\n%s", s, got, err, diff)
		}
	}
	for _, s := range []string{"", " ", "oci:", "docker://./x.tar", "docker://", "none.tar", "plain.tar", "UPPER", "plain/file!"} {
		if got, err := davit.ParseLocation(s); !errors.Is(err, ref.ErrInvalid) {
			t.Errorf("%q: %+v, %v", s, got, err)
		}
	}
}

// Of skopeo's names for images, those that are not read are told of.
func TestParseLocationOfOtherTransports(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, s := range []string{
		"dir:x", "dir:/srv/x", "dir:x:v1", " dir:x", "dir:5000", "containers-storage:x", "containers-storage:[overlay@/var/lib]x:v1", "docker-daemon:app:v1",
		"ostree:x@/ostree", "sif:x.sif", "tarball:x.tar",
	} {
		_, err := davit.ParseLocation(s)
		transport, _, _ := strings.Cut(strings.TrimSpace(s), ":")
		if !errors.Is(err, ref.ErrInvalid) || !strings.Contains(err.Error(), "davit does not read "+transport+":") || !strings.Contains(err.Error(), "oci:, oci-archive:, docker-archive:") {
			t.Errorf("%q: %v", s, err)
		}
	}
	// What is there is meant all the same.
	if err := os.Mkdir("dir", 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join("dir", "oci-layout"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	want := davit.Location{Path: "dir", Image: "x", Guessed: true}
	if got, err := davit.ParseLocation("dir:x"); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestIsArchiveName(t *testing.T) {
	for name, want := range map[string]bool{
		"x.tar": true, "a/x.TAR": true, "x.tar.gz": true, "x.tgz": true, "x.tar.zst": true, ".tar": true,
		"": false, "x": false, "tar": false, "x.tar.xz": false, "x.gz": false, "x.tar/": false, "x.tar.davit-part": false,
	} {
		if got := davit.IsArchiveName(name); got != want {
			t.Errorf("IsArchiveName(%q) = %v", name, got)
		}
	}
}
