package serve_test

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/serve"
)

// What clients can ask for by the name that an image has, and the path.
func TestNames(t *testing.T) {
	for _, tt := range []struct {
		path, given, name string
		served            []string
		listed            string
	}{
		{"x.tar", "", "docker.io/library/alpine:3.20", []string{"library/alpine:3.20", "docker.io/library/alpine:3.20"}, "library/alpine:3.20"},
		{"x.tar", "", "ghcr.io/team/app:v1", []string{"team/app:v1", "ghcr.io/team/app:v1"}, "team/app:v1"},
		{"x.tar", "", "localhost:5000/team/app:v1", []string{"team/app:v1"}, "team/app:v1"},
		{"x.tar", "", "localhost/app:v1", []string{"app:v1", "localhost/app:v1"}, "app:v1"},
		{"x.tar", "", "v1", []string{"x:v1"}, "x:v1"},
		{"x.tar", "", "app:v1", []string{"library/app:v1", "docker.io/library/app:v1"}, "library/app:v1"},
		{"x.tar", "", "team/app", []string{"team/app:latest", "docker.io/team/app:latest"}, "team/app:latest"},
		{"x.tar", "", "", []string{"x:latest"}, "x:latest"},
		{"some/where/My App_1.2.tar.gz", "", "", []string{"my-app_1.2:latest"}, "my-app_1.2:latest"},
		{"some/where/bundle.tar.001", "", "", []string{"bundle:latest"}, "bundle:latest"},
		{"a--__b..c.tgz", "", "", []string{"a-b-c:latest"}, "a-b-c:latest"},
		{"Ünï.tar", "", "", []string{"n:latest"}, "n:latest"},
		{"---.tar", "", "", []string{"image:latest"}, "image:latest"},
		{"layout/", "", "", []string{"layout:latest"}, "layout:latest"},
		{"x.tar", "team/app", "docker.io/library/alpine:3.20", []string{"team/app:3.20"}, "team/app:3.20"},
		{"x.tar", "team/app:1", "docker.io/library/alpine:3.20", []string{"team/app:1"}, "team/app:1"},
		{"x.tar", "team/app:1", "", []string{"team/app:1"}, "team/app:1"},
		{"x.tar", "team/app", "", []string{"team/app:latest"}, "team/app:latest"},
	} {
		m := newMemory()
		p := m.add("", app(1, 10))
		m.images[0] = image.StoredOf(image.Descriptor{Digest: p.Manifest.Digest, Annotations: map[string]string{ocispec.AnnotationRefName: tt.name}})
		h := handler(t, serve.Options{}, serve.From{Store: m, Path: tt.path, Name: tt.given})
		for _, name := range tt.served {
			repository, tag, _ := strings.Cut(name, ":")
			for _, target := range []string{"manifests/" + tag, "manifests/" + p.Manifest.Digest.String(), "blobs/" + p.Layers[0].Digest.String()} {
				if w := get(h, "/v2/"+repository+"/"+target); w.Code != http.StatusOK {
					t.Errorf("%+v: %s %s: %d", tt, repository, target, w.Code)
				}
			}
		}
		images := h.Images()
		if len(images) != 1 || images[0].Reference() != tt.listed {
			t.Errorf("%+v: listed as %+v", tt, images)
		}
		if tt.given != "" {
			if w := get(h, "/v2/library/alpine/tags/list"); w.Code != http.StatusNotFound {
				t.Errorf("%+v: its own name is there too", tt)
			}
		}
	}
}

func references(h *serve.Handler) (all []string) {
	for _, img := range h.Images() {
		all = append(all, img.Reference())
	}
	return all
}

// Of several images without name or tag each has its digest.
func TestNameless(t *testing.T) {
	m := newMemory()
	one, two := m.add("", app(1, 10)), m.add("", app(2, 10))
	tagged := m.add("v1", app(3, 10))
	m.name("", one.Manifest) // again
	want := []string{"bundle@" + one.Manifest.Digest.String(), "bundle@" + two.Manifest.Digest.String(), "bundle:v1"}
	h := of(t, m)
	if diff := cmp.Diff(want, references(h)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if w := get(h, "/v2/bundle/manifests/"+tagged.Manifest.Digest.String()); w.Code != http.StatusOK {
		t.Errorf("%d", w.Code)
	}
}

// A manifest that another image's index names is no image of its own.
func TestNamelessPart(t *testing.T) {
	m := newMemory()
	p := m.add("", app(1, 10))
	index := m.document(ocispec.MediaTypeImageIndex, ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []image.Descriptor{p.Manifest}})
	m.name("docker.io/library/app:v1", index)
	h := of(t, m)
	if diff := cmp.Diff([]string{"library/app:v1"}, references(h)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A name by digest is served by digest.
func TestNameByDigest(t *testing.T) {
	m := newMemory()
	p := m.add("", app(1, 10))
	m.images[0].Name = "docker.io/library/app@" + p.Manifest.Digest.String()
	h := of(t, m)
	if diff := cmp.Diff([]string{"library/app@" + p.Manifest.Digest.String()}, references(h)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if w := get(h, "/v2/library/app/tags/list"); w.Body.String() != `{"name":"library/app","tags":[]}` {
		t.Errorf("%q", w.Body)
	}
}

// Images of two registries whose names differ by that alone.
func TestRivals(t *testing.T) {
	m, other := newMemory(), newMemory()
	hub, quay := m.add("docker.io/library/app:1", app(1, 10)), other.add("quay.io/library/app:1", app(2, 10))
	both := m.add("docker.io/library/app:2", app(3, 10))
	other.keep(both)
	other.name("quay.io/library/app:2", both.Manifest)
	var warned told
	h := handler(t, serve.Options{Events: warned.event}, serve.From{Store: m, Path: "a.tar"}, serve.From{Store: other, Path: "b.tar"})

	for target, want := range map[string]string{
		"library/app/manifests/1":            "",
		"library/app/manifests/1?ns=quay.io": quay.Manifest.Digest.String(),
		// as containerd asks a mirror
		"library/app/manifests/1?ns=docker.io":                          hub.Manifest.Digest.String(),
		"library/app/manifests/2?ns=ghcr.io":                            both.Manifest.Digest.String(),
		"quay.io/library/app/manifests/1":                               quay.Manifest.Digest.String(),
		"docker.io/library/app/manifests/1":                             hub.Manifest.Digest.String(),
		"library/app/manifests/2":                                       both.Manifest.Digest.String(),
		"library/app/manifests/" + quay.Manifest.Digest.String():        quay.Manifest.Digest.String(),
		"quay.io/library/app/manifests/" + hub.Manifest.Digest.String(): "",
	} {
		w := get(h, "/v2/"+target)
		if got := w.Header().Get("Docker-Content-Digest"); got != want {
			t.Errorf("%s: %d %q, want %q", target, w.Code, got, want)
		}
	}
	if diff := cmp.Diff([]string{"docker.io/library/app:1", "library/app:2", "quay.io/library/app:1"}, references(h)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if !warned.has("a.tar and b.tar both have an image library/app:1") {
		t.Errorf("warned of %q", warned.texts)
	}
	if diff := cmp.Diff(`{"repositories":["docker.io/library/app","library/app","quay.io/library/app"]}`, get(h, "/v2/_catalog").Body.String()); diff != "" {
		t.Errorf("catalog (-want +got):\n%s", diff)
	}
}

// The same name for two different images is refused.
func TestCollisions(t *testing.T) {
	for _, tt := range [][2]string{
		{"docker.io/library/app:1", "docker.io/library/app:1"},
		{"localhost:5000/team/app:1", "localhost:5001/team/app:1"},
		{"localhost:5000/team/app:1", "quay.io/team/app:1"},
	} {
		m, other := newMemory(), newMemory()
		one, two := m.add(tt[0], app(1, 10)), other.add(tt[1], app(2, 10))
		from := []serve.From{{Store: m, Path: "a.tar"}, {Store: other, Path: "b.tar"}}
		_, err := serve.New(t.Context(), from, serve.Options{})
		var collision *serve.CollisionError
		if !errors.As(err, &collision) || collision.Paths != [2]string{"a.tar", "b.tar"} || collision.Digests[0] != one.Manifest.Digest || collision.Digests[1] != two.Manifest.Digest {
			t.Errorf("%q: %v", tt, err)
		}
		from[1].Name = "other/app"
		h := handler(t, serve.Options{}, from...)
		if got := references(h); !slices.Contains(got, "other/app:1") {
			t.Errorf("%q: %q", tt, got)
		}
	}
	// The same image twice is one.
	m := newMemory()
	m.add("docker.io/library/app:1", app(1, 10))
	if got := references(handler(t, serve.Options{}, serve.From{Store: m, Path: "a"}, serve.From{Store: m, Path: "b"})); len(got) != 1 {
		t.Errorf("%q", got)
	}
}

func TestGivenNames(t *testing.T) {
	m := newMemory()
	m.add("docker.io/library/a:1", app(1, 10))
	m.add("docker.io/library/b:2", app(2, 10))
	for _, bad := range []string{"A", "a:", "a:/", "a@sha256:x", "a//b", "a:b:c", "team/app:1"} { // the last: of two images
		if _, err := serve.New(t.Context(), []serve.From{{Store: m, Path: "x", Name: bad}}, serve.Options{}); !errors.Is(err, serve.ErrName) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	h := handler(t, serve.Options{}, serve.From{Store: m, Path: "x", Name: "team/app"})
	if diff := cmp.Diff([]string{"team/app:1", "team/app:2"}, references(h)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
