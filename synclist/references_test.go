package synclist

import (
	"strings"
	"testing"
)

// references are the lines and names of what is found, then the notes.
func references(t *testing.T, data string) []string {
	t.Helper()
	list, err := References("list.yaml", []byte(data))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range list.Entries {
		if e.Tags.NeedsTags() || !e.Tags.None() {
			t.Errorf("%s needs tags", e.Source)
		}
		got = append(got, e.Source.String())
	}
	for _, n := range list.Ignored {
		got = append(got, n.String())
	}
	return got
}

func TestReferencesKubernetes(t *testing.T) {
	diff(t, []string{
		"docker.io/library/busybox:1.36",
		"quay.io/org/app:v1.2",
		"docker.io/library/nginx:latest",
		"docker.io/library/debug:1",
		"quay.io/models/llm:v2",
		"ghcr.io/org/job@sha256:" + strings.Repeat("ab", 32),
		"quay.io/prometheus/prometheus:v2.53.0",
		`line 31: image: invalid reference "Not An Image": a repository must be lowercase: write "not an image"`,
		`line 32: image: davit fills in no templates ({{ }}): write it out`,
		`line 33: image: a URL is no image's name`,
	}, references(t, `---
# Source: chart/templates/deployment.yaml
apiVersion: apps/v1
kind: Deployment
spec:
  template:
    spec:
      initContainers:
        - {name: init, image: busybox:1.36}
      containers:
        - name: app
          image: "quay.io/org/app:v1.2"
        - image: nginx
      ephemeralContainers: [{image: 'debug:1'}]
      volumes: [{name: m, image: {reference: quay.io/models/llm:v2, pullPolicy: Always}}]
---
---
apiVersion: v1
kind: List
items:
  - kind: CronJob
    spec: {jobTemplate: {spec: {template: {spec: {containers: [{image: "ghcr.io/org/job@sha256:`+strings.Repeat("ab", 32)+`"}, {image: nginx:latest}]}}}}}
---
apiVersion: monitoring.coreos.com/v1
kind: Prometheus
spec:
  image: quay.io/prometheus/prometheus:v2.53.0
  other:
    - {image: busybox:1.36}
    - {image: }
    - {image: Not An Image}
    - image: "{{ .Values.image }}"
    - image: https://example.com/logo.png
    - {image: true}
---
kind: CustomResourceDefinition
schema: {properties: {image: {type: string, description: An image.}}}
`))
}

func TestReferencesCompose(t *testing.T) {
	diff(t, []string{
		"docker.io/library/shared:2",
		"docker.io/library/postgres:16",
		"ghcr.io/org/web:1.4",
		"docker.io/library/redis:7-alpine",
		"docker.io/library/plain:latest",
		"line 2: include: other files are not read: give them to the command",
		`line 9: image: the variable "TAG" has no default`,
		`line 10: image: the variable "REGISTRY" has no default`,
		`line 12: services.api.image: it is built from sources (build), and left out`,
		`line 13: image: a $ stands for no variable: write $$ for a dollar`,
		`line 14: image: a variable ${NAME} is not closed`,
	}, references(t, `
include: [other.yaml]
x-shared: &shared {image: "shared:2"}
services:
  db: {image: "postgres:${PG:-16}"}
  web: {image: "${REG:-ghcr.io/org}/web:${V-1.4}"}
  cache: {image: "redis:${R:-${MAJOR:-7}-alpine}${X:+y}"}
  plain: {image: "plain"}
  a: {image: "a:${TAG}"}
  b: {image: "$REGISTRY/b"}
  c: *shared
  api: {build: ., image: "org/api"}
  d: {image: "d:$"}
  e: {image: "e:${V"}
`))
}

func TestReferencesValues(t *testing.T) {
	diff(t, []string{
		"docker.io/bitnami/redis:7.2.1",
		"quay.io/org/tool:1.10",
		"ghcr.io/org/x:v1@sha256:" + strings.Repeat("ab", 32),
		"docker.io/org/side:3",
		"docker.io/org/merged:4",
		"docker.io/org/side:3.1",
		"line 12: image: org/app has neither tag nor digest: the chart's own is not known here; render it first",
	}, references(t, `
image: {registry: docker.io, repository: bitnami/redis, tag: 7.2.1, digest: ""}
metrics:
  image:
    repository: quay.io/org/tool
    tag: 1.10
exporter: {repository: ghcr.io/org/x, tag: v1, digest: "sha256:`+strings.Repeat("ab", 32)+`"}
sidecarImage: &side {repository: org/side, tag: 3}
again: *side
app:
  image:
    repository: org/app
    tag: ""
dependencies: [{name: x, version: 1, repository: "https://charts.example"}]
source: {repository: "https://git.example/x", tag: v1}
defaults: &defaults {tag: 4}
merged: {<<: *defaults, repository: org/merged}
newer: {<<: *side, tag: 3.1}
`))
}

func TestReferencesErrors(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{"", "list.yaml: it names no images"},
		{"a: b\n", "list.yaml: it names no images"},
		{"image: a\n---\nimage: [\n", "list.yaml:3: it is no YAML"},
		{"image: a\n---\nimage: {{ .Values.x }}:1\n", "there are templates ({{ }}) in it: it must be rendered first"},
	} {
		_, err := References("list.yaml", []byte(test.in))
		checkError(t, test.in, err, test.want)
	}
}

func TestReferencesRepeatNoPassword(t *testing.T) {
	for _, in := range []string{
		"image: https://user:s3cret@r.lan/x\n",
		"image: user:s3cret@r.lan/x\n",
		"image: {repository: 'user:s3cret@r.lan/x', tag: 1}\n",
		"image: {repository: 'user:s3cret@r.lan/x'}\n",
	} {
		for _, got := range references(t, in) {
			if strings.Contains(got, "s3cret") {
				t.Errorf("%q: %s", in, got)
			}
		}
	}
}
