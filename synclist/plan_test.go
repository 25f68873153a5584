package synclist

import (
	"errors"
	"strings"
	"testing"

	"github.com/davit-cli/davit/ref"
)

func TestPlanCollisions(t *testing.T) {
	for _, test := range []struct{ images, want string }{
		{"[docker.io/library/alpine:3.20, quay.io/library/alpine:3.19]",
			"list.yaml:1: quay.io/library/alpine and docker.io/library/alpine (line 1) would both be r.lan/m/library/alpine: give one of them another destination"},
		{"[quay.io/a/b, {image: quay.io/a/c, to: r.lan/m/a/b}]",
			"list.yaml:1: quay.io/a/c:latest and quay.io/a/b:latest (line 1) would both be r.lan/m/a/b:latest: give one of them another destination"},
		{"[{image: quay.io/a, to: r.lan/x}, {image: quay.io/b, to: r.lan/x}]", "would both be r.lan/x:latest"},
		{"[alpine, {image: alpine, platforms: linux/amd64}]", "docker.io/library/alpine:latest is there twice with different platforms (line 1)"},
		{"[{image: alpine, to: x.tar}, {image: alpine, to: x.tar, referrers: true}]", "docker.io/library/alpine:latest is there twice, with and without referrers (line 1)"},
	} {
		list := parse(t, "{to: r.lan/m, images: "+test.images+"}")
		_, err := tryPlan(list)
		checkError(t, test.images, err, test.want)
	}
}

func TestPlanOnce(t *testing.T) {
	list := parse(t, `
to: r.lan/m
images:
  - alpine:3
  - docker.io/library/alpine:3
  - {image: alpine, tags: ["3", "4"]}
  - {image: quay.io/library/alpine, to: oci:d}
  - {image: alpine:3, to: oci:d}
  - {image: alpine:3, to: oci:d}
  - {image: quay.io/a, tags: ["1"], to: r.lan/m/library/alpine}
`)
	diff(t, []string{
		"docker.io/library/alpine:3 -> r.lan/m/library/alpine:3",
		"docker.io/library/alpine:4 -> r.lan/m/library/alpine:4",
		"quay.io/library/alpine:latest -> oci:d",
		"docker.io/library/alpine:3 -> oci:d",
		"quay.io/a:1 -> r.lan/m/library/alpine:1",
	}, plan(t, list))
}

func TestTooLongBelow(t *testing.T) {
	list := parse(t, "to: r.lan/"+strings.Repeat("a/", 100)+"\nimages: [quay.io/"+strings.Repeat("b/", 50)+"c]")
	_, err := tryPlan(list)
	checkError(t, "too long", err, "list.yaml:2: invalid reference")
}

func TestParseTarget(t *testing.T) {
	for _, test := range []struct {
		in   string
		want Target
	}{
		{"r.lan", Target{Prefix: ref.Reference{Registry: "r.lan"}}},
		{"r.lan:5000/", Target{Prefix: ref.Reference{Registry: "r.lan:5000"}}},
		{"localhost/a/b", Target{Prefix: ref.Reference{Registry: "localhost", Repository: "a/b"}}},
		{"docker.io/me", Target{Prefix: ref.Reference{Registry: "docker.io", Repository: "me"}}},
		{"docker://R.lan/a", Target{Prefix: ref.Reference{Registry: "r.lan", Repository: "a"}}},
		{"http://r:5000/v2/a", Target{Prefix: ref.Reference{Registry: "r:5000", Repository: "a", Scheme: "http"}}},
		{"oci:5000/app", Target{Prefix: ref.Reference{Registry: "oci:5000", Repository: "app"}}},
		{"oci:dir", Target{Path: "oci:dir"}},
		{"oci:./5000/app", Target{Path: "oci:./5000/app"}},
		{"x.tar", Target{Path: "x.tar"}},
		{"docker-archive:x", Target{Path: "docker-archive:x"}},
		{"./dir/", Target{Path: "./dir/"}},
		{"/srv/layout", Target{Path: "/srv/layout"}},
	} {
		got, err := ParseTarget(test.in)
		if err != nil || got != test.want || got.None() {
			t.Errorf("%s: %+v, %v", test.in, got, err)
		}
		if again, err := ParseTarget(got.String()); got.Prefix.Scheme == "" && (err != nil || again != got) {
			t.Errorf("%s: %s is read as %+v, %v", test.in, got, again, err)
		}
	}
	for _, in := range []string{"", "/", "mirror", "r.lan/A", "r.lan:5000:1", "user:s3cret@r.lan", "user:s3cret@r.lan/x", "ftp://r.lan", "dir:x", "r.lan/a:tag", "r.lan/a@sha256:" + strings.Repeat("ab", 32)} {
		got, err := ParseTarget(in)
		if in == "/" {
			if got.Path != "/" {
				t.Errorf("/: %+v", got)
			}
			continue
		}
		if err == nil || !errors.Is(err, ref.ErrInvalid) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %+v, %v", in, got, err)
		}
	}
}
