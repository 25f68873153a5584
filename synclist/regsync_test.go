package synclist

import (
	"strings"
	"testing"
)

const regsyncList = `
x-hourly: &hourly "15 * * * *"
x-hub: &hub
  type: repository
  tags:
    allow: [3, '3\.\d+']
    deny: ["3.0"]
version: 1
creds:
  - registry: registry.lan:5000
    tls: disabled
  - registry: docker.io
    hostname: registry-1.docker.io
    user: "{{env \"HUB_USER\"}}"
    pass: s3cret
defaults:
  ratelimit: {min: 100, retry: 15m}
  parallel: 2
  interval: 60m
  backup: "bkup-{{.Ref.Tag}}"
  cacheCount: 500
  digestTags: true
sync:
  - source: busybox:1.36
    target: registry.lan:5000/library/busybox
    type: image
    schedule: *hourly
  - source: ghcr.io/org/app:v1
    target: registry.lan:5000/app:prod
    type: image
    platform: linux/amd64
    digestTags: false
    hooks: {pre: {type: sh, params: [reboot]}}
  - <<: *hub
    source: alpine
    target: registry.lan:5000/library/alpine
    platforms: [linux/amd64, linux/arm64]
    referrers: true
  - source: quay.io/a/b
    target: ocidir:///srv/b
    type: repository
    tagSets:
      - {allow: [edge]}
      - {semverRange: [">=3.2 <3.10", ">=4"], deny: [.*-beta]}
  - source: old.lan:5000
    target: registry.lan:5000/old
    type: registry
    digestTags: false
    repos:
      allow: [team/.*]
      deny: [team/secret]
    tags: {allow: [3|edge]}
`

func TestRegsync(t *testing.T) {
	list := parse(t, regsyncList)
	if list.Format != FormatRegsync || list.NeedsTarget() {
		t.Errorf("%+v", list)
	}
	var entries []Entry
	for _, e := range list.Entries {
		if e.NeedsRepositories() {
			if e.Source.Registry != "old.lan:5000" {
				t.Errorf("the registry is %q", e.Source.Registry)
			}
			entries = append(entries, e.Repositories([]string{"other", "team/a", "team/secret", "team/secrets", "my/team/x", "Bad", "team/../x", "team/a:1"})...)
		} else {
			entries = append(entries, e)
		}
	}
	list.Entries = entries
	diff(t, []string{
		"docker.io/library/busybox:1.36 -> registry.lan:5000/library/busybox:latest +referrers",
		"ghcr.io/org/app:v1 -> registry.lan:5000/app:prod linux/amd64",
		"docker.io/library/alpine:3 -> registry.lan:5000/library/alpine:3 linux/amd64,linux/arm64 +referrers",
		"docker.io/library/alpine:3.2 -> registry.lan:5000/library/alpine:3.2 linux/amd64,linux/arm64 +referrers",
		"docker.io/library/alpine:3.10 -> registry.lan:5000/library/alpine:3.10 linux/amd64,linux/arm64 +referrers",
		"quay.io/a/b:edge -> oci:/srv/b +referrers",
		"quay.io/a/b:3.2 -> oci:/srv/b +referrers",
		"quay.io/a/b:4.0 -> oci:/srv/b +referrers",
		"old.lan:5000/team/a:edge -> registry.lan:5000/old/team/a:edge",
		"old.lan:5000/team/a:3 -> registry.lan:5000/old/team/a:3",
		"old.lan:5000/team/a:3.0 -> registry.lan:5000/old/team/a:3.0",
		"old.lan:5000/team/a:3.2 -> registry.lan:5000/old/team/a:3.2",
		"old.lan:5000/team/a:3.10 -> registry.lan:5000/old/team/a:3.10",
		"old.lan:5000/team/secrets:edge -> registry.lan:5000/old/team/secrets:edge",
		"old.lan:5000/team/secrets:3 -> registry.lan:5000/old/team/secrets:3",
		"old.lan:5000/team/secrets:3.0 -> registry.lan:5000/old/team/secrets:3.0",
		"old.lan:5000/team/secrets:3.2 -> registry.lan:5000/old/team/secrets:3.2",
		"old.lan:5000/team/secrets:3.10 -> registry.lan:5000/old/team/secrets:3.10",
	}, plan(t, list, "3", "3.0", "3.2", "3.10", "edge", "latest", "4.0", "4.1-beta"))

	var notes []string
	for _, n := range list.Ignored {
		if strings.Contains(n.String(), "s3cret") || strings.Contains(n.String(), "HUB_USER") {
			t.Errorf("a credential: %s", n)
		}
		notes = append(notes, n.String())
	}
	diff(t, []string{
		"line 9: creds: davit takes credentials and settings of registries from its options, its environment and the files of Docker and Podman",
		"line 17: defaults.ratelimit: davit waits when the registry says so",
		"line 18: defaults.parallel: davit has options for this",
		"line 19: defaults.interval: davit runs once",
		"line 20: defaults.backup: davit keeps no backup of what is overwritten",
		"line 21: defaults.cacheCount: davit keeps no cache",
		"line 27: sync.schedule: davit runs once",
		"line 33: sync.hooks: davit runs no hooks",
	}, notes)
}

// A repository without filters is all its tags, as regsync has it.
func TestRegsyncAllTags(t *testing.T) {
	list := parse(t, "sync: [{source: alpine, target: r.lan/a, type: repository, tags: }]")
	diff(t, []string{
		"docker.io/library/alpine:edge -> r.lan/a:edge",
		"docker.io/library/alpine:sha256-" + strings.Repeat("ab", 32) + " -> r.lan/a:sha256-" + strings.Repeat("ab", 32),
	}, plan(t, list, "edge", "sha256-"+strings.Repeat("ab", 32)))
	list = parse(t, "sync: [{source: alpine, target: r.lan/a, type: image, tags: {allow: [x]}}]")
	diff(t, []string{"docker.io/library/alpine:latest -> r.lan/a:latest"}, plan(t, list))
	if len(list.Ignored) != 1 || list.Ignored[0].Field != "sync.tags" {
		t.Errorf("%v", list.Ignored)
	}
}

func TestRegsyncErrors(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{"version: 1\n", "list.yaml: it lists no images: sync: is missing"},
		{"version: 2\nsync: []\n", `list.yaml:1: version: davit reads regsync's version 1, not "2"`},
		{"version: 1\nsync: []\n", "list.yaml: it lists no images"},
		{"version: 1\nsnyc: []\n", `list.yaml:2: there is no field "snyc": did you mean sync?`},
		{"sync:\n- source: a\n  target: r.lan/a\n", "list.yaml:2: sync: type is missing"},
		{"sync:\n- target: r.lan/a\n  type: image\n", "list.yaml:2: sync: source is missing"},
		{"sync:\n- source: a\n  type: image\n", "list.yaml:2: sync: target is missing"},
		{"sync:\n- source: a\n  target: r.lan/a\n  type: tag\n", `list.yaml:4: sync.type: want registry, repository or image, not "tag"`},
		{"sync:\n- source: a\n  target: 'r.lan/{{ .Sync.Source }}'\n  type: image\n", "list.yaml:3: sync.target: davit fills in no templates ({{ }}): write it out"},
		{"sync:\n- source: '{{ env \"X\" }}'\n  target: r.lan/a\n  type: image\n", "list.yaml:2: sync.source: davit fills in no templates"},
		{"sync:\n- source: ocidir://x\n  target: r.lan/a\n  type: image\n", "list.yaml:2: sync.source: it is on disk"},
		{"sync:\n- source: a\n  target: ocidir://d:tag\n  type: image\n", "list.yaml:3: sync.target: in a layout an image keeps its source's name"},
		{"sync:\n- source: a.b\n  target: ocidir://d\n  type: registry\n", "list.yaml:3: sync.target: davit makes no layout of each repository"},
		{"sync:\n- source: a:1\n  target: r.lan/a\n  type: repository\n", "list.yaml:2: sync.source: a repository has no tag: write docker.io/library/a"},
		{"sync:\n- source: a\n  target: r.lan/a:1\n  type: repository\n", "list.yaml:3: sync.target: a repository has no tag: write r.lan/a"},
		{"sync:\n- source: a\n  target: A\n  type: repository\n", "list.yaml:3: sync.target: invalid reference"},
		{"sync:\n- source: r.lan/x\n  target: s.lan\n  type: registry\n", `list.yaml:2: sync.source: invalid reference: "r.lan/x" is no registry`},
		{"sync:\n- source: a\n  target: r.lan/a\n  type: image\n  tag: {}\n", `list.yaml:5: sync has no field "tag": did you mean tags?`},
		{"sync:\n- source: a\n  target: r.lan/a\n  type: repository\n  tags: {alow: [x]}\n", `list.yaml:5: sync.tags has no field "alow": did you mean allow?`},
		{"sync:\n- source: a\n  target: r.lan/a\n  type: repository\n  tags: {allow: ['(']}\n", `list.yaml:5: sync.tags.allow: "^($" is no regular expression of Go`},
		{"sync:\n- source: a\n  target: r.lan/a\n  type: repository\n  tags:\n    allow: ['" + strings.Repeat("x", 1001) + "']\n", `list.yaml:6: sync.tags.allow: the regular expression has`},
		{"sync:\n- source: a\n  target: r.lan/a\n  type: image\n  referrerSource: r.lan/b\n", "list.yaml:5: sync.referrerSource: davit takes referrers from where the image is"},
		{"defaults: {referrers: maybe}\nsync: []\n", "list.yaml:1: defaults.referrers: want true or false"},
		{"defaults: {parallell: 2}\nsync: []\n", `list.yaml:1: defaults has no field "parallell": did you mean parallel?`},
		{"creds:\n- registry: hub\n  hostname: r.lan:5000\nsync: []\n", "list.yaml:3: creds.hostname: davit knows no other name of a registry"},
		{"creds:\n- registry: r.lan\n  pathPrefix: hub\nsync: []\n", "list.yaml:3: creds.pathPrefix: davit knows no prefix of a registry"},
	} {
		_, err := Parse("list.yaml", []byte(test.in))
		checkError(t, test.in, err, test.want)
	}
}
