package synclist

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// line is an image of a plan as a line of text.
func line(i Image) string {
	at := i.Path
	if at == "" {
		at = i.Destination.String()
	}
	s := i.Source.String() + " -> " + at
	if len(i.Platforms) > 0 {
		s += " " + strings.Join(i.Platforms, ",")
	}
	if i.Referrers {
		s += " +referrers"
	}
	return s
}

// plan is what a list comes to where each repository has the same tags.
func plan(t *testing.T, list List, tags ...string) []string {
	t.Helper()
	lines, err := tryPlan(list, tags...)
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func tryPlan(list List, tags ...string) ([]string, error) {
	var images []Image
	for _, e := range list.Entries {
		var have []string
		if e.Tags.NeedsTags() {
			have = tags
		}
		of, err := list.Images(e, have)
		if err != nil {
			return nil, err
		}
		images = append(images, of...)
	}
	images, err := list.Plan(images)
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, i := range images {
		lines = append(lines, line(i))
	}
	return lines, nil
}

func parse(t *testing.T, data string) List {
	t.Helper()
	list, err := Parse("list.yaml", []byte(data))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func diff(t *testing.T, want, got []string) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

func TestDavit(t *testing.T) {
	list := parse(t, `
to: registry.lan:5000/mirror
platforms: [linux/amd64, linux/arm64]
referrers: true
x-note: {mine: 1}
images:
  - docker.io/library/alpine:3.20
  - busybox
  - quay.io/a/b@sha256:`+strings.Repeat("ab", 32)+`
  - image: ghcr.io/org/app
    tags: ["v1.*", "stable"]
    semver: ">=1.20 <2"
    newest: 3
    exclude: ["*-rc*"]
    platforms: [linux/arm64]
    to: registry.lan:5000/other/app
  - image: ghcr.io/org/all
    tags: "*"
    platforms: all
    referrers: false
    to: oci:layout
  - image: redis
    x-why: {because: of it}
    to: elsewhere.lan/
  - image: nginx:1.27
    to: elsewhere.lan/web:stable
`)
	if list.Format != FormatDavit || list.NeedsTarget() || len(list.Ignored) != 0 {
		t.Errorf("%+v", list)
	}
	diff(t, []string{
		"docker.io/library/alpine:3.20 -> registry.lan:5000/mirror/library/alpine:3.20 linux/amd64,linux/arm64 +referrers",
		"docker.io/library/busybox:latest -> registry.lan:5000/mirror/library/busybox:latest linux/amd64,linux/arm64 +referrers",
		"quay.io/a/b@sha256:" + strings.Repeat("ab", 32) + " -> registry.lan:5000/mirror/a/b linux/amd64,linux/arm64 +referrers",
		"ghcr.io/org/app:stable -> registry.lan:5000/other/app:stable linux/arm64 +referrers",
		"ghcr.io/org/app:v1.21.0 -> registry.lan:5000/other/app:v1.21.0 linux/arm64 +referrers",
		"ghcr.io/org/app:v1.22.0 -> registry.lan:5000/other/app:v1.22.0 linux/arm64 +referrers",
		"ghcr.io/org/app:v1.100.0 -> registry.lan:5000/other/app:v1.100.0 linux/arm64 +referrers",
		"ghcr.io/org/all:v1.1.0 -> oci:layout",
		"ghcr.io/org/all:v1.20.0 -> oci:layout",
		"ghcr.io/org/all:v1.21.0 -> oci:layout",
		"ghcr.io/org/all:v1.22.0 -> oci:layout",
		"ghcr.io/org/all:v1.100.0-rc1 -> oci:layout",
		"ghcr.io/org/all:v1.100.0 -> oci:layout",
		"ghcr.io/org/all:v2.0.0 -> oci:layout",
		"docker.io/library/redis:latest -> elsewhere.lan/library/redis:latest linux/amd64,linux/arm64 +referrers",
		"docker.io/library/nginx:1.27 -> elsewhere.lan/web:stable linux/amd64,linux/arm64 +referrers",
	}, plan(t, list, "v2.0.0", "v1.1.0", "v1.100.0", "v1.22.0", "v1.100.0-rc1", "v1.20.0", "v1.21.0", "sha256-"+strings.Repeat("ab", 32)+".sig"))
}

// What is written as a number keeps its digits, and anchors are for everyone.
func TestDavitAsWritten(t *testing.T) {
	list := parse(t, `
x-app: &app {tags: [3.10, 1_000], to: r.lan/own}
to: r.lan
images:
  - <<: *app
    image: alpine
  - {<<: *app, image: busybox, to: r.lan/other, tags: 1.20}
`)
	diff(t, []string{
		"docker.io/library/alpine:1_000 -> r.lan/own:1_000",
		"docker.io/library/alpine:3.10 -> r.lan/own:3.10",
		"docker.io/library/busybox:1.20 -> r.lan/other:1.20",
	}, plan(t, list))
}

func TestDavitErrors(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{"", "list.yaml: it is empty"},
		{"# nothing\n---\n", "list.yaml: it is empty"},
		{"- alpine\n", "list.yaml:1: want a mapping, such as images:"},
		{"images:\n", "list.yaml: it lists no images"},
		{"to: r.lan\n", "list.yaml: it lists no images: images: is missing"},
		{"images: [alpine]\nplaftorms: [linux/amd64]\n", `list.yaml:2: there is no field "plaftorms": did you mean platforms?`},
		{"image: [alpine]\n", `list.yaml:1: there is no field "image": did you mean images?`},
		{"images: [alpine]\nfoo: 1\n", `list.yaml:2: there is no field "foo": want one of to, platforms, referrers, images`},
		{"images:\n- image: alpine\n  tag: 1\n", `list.yaml:3: images has no field "tag": did you mean tags?`},
		{"images:\n- image: alpine\n  Semver: 1\n", `did you mean semver?`},
		{"images: {alpine: 3}\n", "list.yaml:1: images: want a list, not a mapping: begin each image with - "},
		{"images:\n- Alpine\n", "list.yaml:2: images: invalid reference \"Alpine\": a repository must be lowercase"},
		{"images:\n- [alpine]\n", "list.yaml:2: images: want text, not a list"},
		{"images:\n-\n", "list.yaml:2: images: want text, not nothing"},
		{"images:\n- ./x.tar\n", "list.yaml:2: images: it is on disk: images come from registries"},
		{"images:\n- oci:dir\n", "it is on disk"},
		{"images:\n- dir:x\n", "it is on disk"},
		{"images:\n- '{{ .Values.image }}'\n", "davit fills in no templates"},
		{"images:\n- tags: [a]\n", "list.yaml:2: images: image is missing"},
		{"images:\n- image: alpine\n  tags: []\n", `list.yaml:2: images: tags is an empty list`},
		{"images:\n- image: alpine:3\n  newest: 2\n", `list.yaml:2: images: docker.io/library/alpine:3 is one image, and so its tags cannot be chosen: leave out "3", or`},
		{"images:\n- image: alpine\n  tags: ['[']\n", `list.yaml:3: images.tags: "[" is no pattern`},
		{"images:\n- image: alpine\n  tags: ['a b']\n", `list.yaml:3: images.tags: "a b" is no tag`},
		{"images:\n- image: alpine\n  tags: ['sha256:ab']\n", `list.yaml:3: images.tags: digest "sha256:ab"`},
		{"images:\n- image: alpine\n  tags: ['']\n", `list.yaml:3: images.tags: "" is no tag`},
		{"images:\n- image: alpine\n  exclude: ['']\n", `list.yaml:3: images.exclude: it is empty`},
		{"images:\n- image: alpine\n  tags: [*]\n", `list.yaml:3: `},
		{"images:\n- image: alpine\n  tags: *-rc\n", `list.yaml:3: an alias (*NAME) has no anchor (&NAME) before it; text that begins with * must be quoted`},
		{"images:\n- image: alpine\n  semver: one\n", `list.yaml:3: images.semver: "one" is no range of versions`},
		{"images:\n- image: alpine\n  semver: ''\n", `list.yaml:3: images.semver: it is empty`},
		{"images:\n- image: alpine\n  semver: '" + strings.Repeat("1", 300) + "'\n", `list.yaml:3: images.semver: it has 300 characters`},
		{"images:\n- image: alpine\n  newest: 0\n", `list.yaml:3: images.newest: want a number from 1 on, not "0"`},
		{"images:\n- image: alpine\n  newest: all\n", `want a number from 1 on, not "all"`},
		{"images:\n- image: alpine\n  tags: {a: b}\n", `list.yaml:3: images.tags: want a list, not a mapping`},
		{"images:\n- image: alpine\n  referrers: yes\n", `list.yaml:3: images.referrers: want true or false`},
		{"images:\n- image: alpine\n  platforms: [commodore64]\n", `list.yaml:3: images.platforms: invalid platform "commodore64"`},
		{"images:\n- image: alpine\n  tags: [a, b]\n  to: r.lan/x:1\n", "list.yaml:4: images.to: a tag is only for one image: write r.lan/x"},
		{"images:\n- image: alpine\n  to: r.lan/x@sha256:" + strings.Repeat("ab", 32) + "\n", "list.yaml:3: images.to: invalid reference: a digest cannot be chosen"},
		{"images:\n- image: alpine\n  image: busybox\n", `list.yaml:3: images: the field "image" is there already, in line 2`},
		{"images: [alpine]\nto: mirror\n", `list.yaml:2: to: invalid reference: "mirror" names no registry: write docker.io/mirror, or ./mirror if a directory is meant`},
		{"images: [alpine]\nto: ''\n", `list.yaml:2: to: invalid reference: it is empty`},
		{"images: [alpine]\nto: docker-daemon:x\n", `list.yaml:2: to: invalid reference: davit writes oci:, oci-archive:, docker-archive: and paths`},
		{"images: [alpine]\nto: r.lan/a b\n", `list.yaml:2: to: invalid reference: "r.lan/a b" is no registry`},
		{"images: [alpine]\n---\nimages: [alpine]\n", "list.yaml:3: a second document begins here: a list is one"},
		{"images:\n  - a\n b: c\n", "list.yaml:3: it is no YAML: did not find expected key"},
		{"images: [a\n", "list.yaml:1: it is no YAML"},
		{"a: {{ x }}\nb: [\n", "there are templates ({{ }}) in it: it must be rendered first"},
		{"images:\n- a\x01\n", "list.yaml:2: it is no YAML: control characters"},
		{"images:\n\n- \xff\n", "list.yaml:3: it is no YAML: "},
		{"? [a]\n: b\n", "list.yaml:1: want a field's name, not a list"},
	} {
		_, err := Parse("list.yaml", []byte(test.in))
		checkError(t, test.in, err, test.want)
	}
}

// checkError wants one line, which begins with the file, or has the text.
func checkError(t *testing.T, in string, err error, want string) {
	t.Helper()
	var at *Error
	switch {
	case err == nil:
		t.Errorf("%.60q: no error, want %q", in, want)
	case !strings.Contains(err.Error(), want), strings.Contains(err.Error(), "\n"), !strings.HasPrefix(err.Error(), "list.yaml:"), !errors.As(err, &at):
		t.Errorf("%.60q: %q, want %q", in, err, want)
	}
}

func TestManifestIsNoList(t *testing.T) {
	for _, in := range []string{
		"apiVersion: v1\nkind: Pod\nspec: {containers: [{image: alpine}]}\n",
		"services: {web: {image: nginx}}\n",
		"images: [alpine]\n---\napiVersion: v1\nkind: Pod\n",
	} {
		if _, err := Parse("list.yaml", []byte(in)); !errors.Is(err, ErrManifest) {
			t.Errorf("%q: %v", in, err)
		}
	}
}
