package synclist

import (
	"strings"
	"testing"
)

func TestSkopeo(t *testing.T) {
	list := parse(t, `x-common: &common {tls-verify: true}
registry.example.com:
    images:
        busybox: []
        redis:
            - "1.0"
            - 2.0
            - "sha256:`+strings.Repeat("01", 32)+`"
    images-by-tag-regex:
        nginx: ^1\.13\.[12]-alpine-perl$
        tools: alpine
    images-by-semver:
        alpine: ">= 3.12.0"
    credentials:
        username: john
        password: this is a secret
    <<: *common
    cert-dir: /home/john/certs
quay.io:
    tls-verify: false
    images:
        coreos/etcd: latest
docker.io:
    images:
        alpine:
`)
	if list.Format != FormatSkopeo || !list.NeedsTarget() {
		t.Errorf("%+v", list)
	}
	if _, err := tryPlan(list); err == nil || !strings.HasPrefix(err.Error(), "list.yaml:5: registry.example.com/redis:1.0 has no destination") {
		t.Errorf("without a destination: %v", err)
	}
	var err error
	if list.To, err = ParseTarget("my.lan/copy/"); err != nil {
		t.Fatal(err)
	}
	diff(t, []string{
		"registry.example.com/busybox:1.13.1-alpine-perl -> my.lan/copy/busybox:1.13.1-alpine-perl",
		"registry.example.com/busybox:3.12.0 -> my.lan/copy/busybox:3.12.0",
		"registry.example.com/redis:1.0 -> my.lan/copy/redis:1.0",
		"registry.example.com/redis:2.0 -> my.lan/copy/redis:2.0",
		"registry.example.com/redis@sha256:" + strings.Repeat("01", 32) + " -> my.lan/copy/redis",
		"registry.example.com/nginx:1.13.1-alpine-perl -> my.lan/copy/nginx:1.13.1-alpine-perl",
		"registry.example.com/tools:1.13.1-alpine-perl -> my.lan/copy/tools:1.13.1-alpine-perl",
		"registry.example.com/alpine:3.12.0 -> my.lan/copy/alpine:3.12.0",
		"quay.io/coreos/etcd:latest -> my.lan/copy/coreos/etcd:latest",
		"docker.io/library/alpine:1.13.1-alpine-perl -> my.lan/copy/library/alpine:1.13.1-alpine-perl",
		"docker.io/library/alpine:3.12.0 -> my.lan/copy/library/alpine:3.12.0",
	}, plan(t, list, "1.13.1-alpine-perl", "3.12.0"))

	var notes []string
	for _, n := range list.Ignored {
		notes = append(notes, n.String())
	}
	diff(t, []string{
		"line 14: registry.example.com.credentials: davit takes credentials and settings of registries from its options, its environment and the files of Docker and Podman",
		"line 18: registry.example.com.cert-dir: davit takes certificates from its options and the files of Docker and Podman",
		"line 20: quay.io.tls-verify: davit has options for this",
	}, notes)
}

func TestSkopeoErrors(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{"r.lan:\n  images:\n", "list.yaml: it lists no images"},
		{"r.lan:\n  images: {a: []}\n  imagse-by-semver: {a: 1}\n", `list.yaml:3: r.lan has no field "imagse-by-semver": did you mean images-by-semver?`},
		{"r.lan:\n  images: [a]\n", "list.yaml:2: r.lan.images: want a mapping of fields, not a list"},
		{"r.lan:\n  images:\n    a:1: []\n", "list.yaml:3: r.lan.images: a repository has no tag"},
		{"r.lan:\n  images:\n    A: []\n", "list.yaml:3: r.lan.images: invalid reference"},
		{"r.lan:\n  images:\n    a: [b c]\n", `list.yaml:3: r.lan.images.a: "b c" is no tag`},
		{"r.lan:\n  images-by-tag-regex:\n    a: '('\n", `list.yaml:3: r.lan.images-by-tag-regex.a: "(" is no regular expression of Go`},
		{"r.lan:\n  images-by-semver:\n    a: b\n", `list.yaml:3: r.lan.images-by-semver.a: "b" is no range of versions`},
		{"r.lan:\n  images-by-semver:\n    a: [b]\n", `list.yaml:3: r.lan.images-by-semver.a: want text, not a list`},
		{"r.lan:\n  images: {a: []}\nquay.io: a\n", `list.yaml:3: quay.io: want a mapping of fields, not a single value`},
		{"user:s3cret@r.lan:\n  images: {a: []}\n", `list.yaml:2: …@r.lan.images: invalid reference: a user name and password`},
		{"r.lan:\n  images: {a: []}\n  user:s3cret@r.lan: 1\n", `list.yaml:3: r.lan has no field "…@r.lan"`},
		{"r.lan:\n  images: {a: ['user:s3cret@x']}\n", `list.yaml:2: r.lan.images.a: `},
	} {
		_, err := Parse("list.yaml", []byte(test.in))
		checkError(t, test.in, err, test.want)
		if err != nil && strings.Contains(err.Error(), "s3cret") {
			t.Errorf("a credential: %v", err)
		}
	}
}
