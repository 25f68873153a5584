package image

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// from is a base that has the layers with these contents.
func from(name string, contents ...string) func(Descriptor) (string, bool) {
	return func(layer Descriptor) (string, bool) {
		for _, s := range contents {
			if layer.Digest == digest.FromString(s) {
				return name, true
			}
		}
		return "", false
	}
}

func TestWithoutBlobs(t *testing.T) {
	config := Content{Descriptor: text("config")}
	img := Image{Manifests: []Manifest{
		{Content: Content{Descriptor: text("one")}, Config: config, Layers: []Descriptor{text("old"), text("foreign", "https://x"), text("config"), text("old")}},
		{Content: Content{Descriptor: text("two")}, Config: config, Layers: []Descriptor{text("older"), text("new")}},
	}}
	foreign, _ := WithoutForeign(img)
	got, layers := WithoutBlobs(foreign, from("may.tar", "old", "older", "config", "foreign"))
	if diff := cmp.Diff(digests([]Descriptor{text("old"), text("older")}), digests(layers)); diff != "" {
		t.Errorf("left out (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(digests([]Descriptor{text("new")}), digests(got.Blobs())); diff != "" {
		t.Errorf("blobs (-want +got):\n%s", diff)
	}
	// A foreign layer that was left out as such is expected nowhere.
	want := Delta{text("old").Digest: "may.tar", text("older").Digest: "may.tar"}
	if diff := cmp.Diff(want, DeltaOf(got)); diff != "" {
		t.Errorf("delta (-want +got):\n%s", diff)
	}
	if len(foreign.Blobs()) != 3 || len(foreign.Manifests[0].LeftOut) != 1 {
		t.Error("the image itself changed")
	}
	if same, layers := WithoutBlobs(img, from("may.tar")); layers != nil || same.Manifests[0].LeftOut != nil {
		t.Errorf("of an image that no base has anything of: %v", layers)
	}
}

// What one image of a bundle carries is not missing in it.
func TestDeltaOfSeveral(t *testing.T) {
	of := func(layers ...string) Image {
		m := Manifest{Content: Content{Descriptor: text(fmt.Sprint(layers))}, Config: Content{Descriptor: text("config")}}
		for _, s := range layers {
			m.Layers = append(m.Layers, text(s))
		}
		return Image{Manifests: []Manifest{m}}
	}
	one, _ := WithoutBlobs(of("a", "b", "c"), from("may.tar", "a", "b"))
	two, _ := WithoutBlobs(of("b", "d"), from("april.tar", "d"))
	three, _ := WithoutBlobs(of("a"), from("april.tar", "a"))
	want := Delta{text("a").Digest: "april.tar", text("d").Digest: "april.tar"}
	for _, images := range [][]Image{{one, two, three}, {three, two, one}} {
		if diff := cmp.Diff(want, DeltaOf(images...)); diff != "" {
			t.Errorf("delta (-want +got):\n%s", diff)
		}
	}
}

func TestDeltaEncode(t *testing.T) {
	a, b, c := text("a").Digest, text("b").Digest, text("c").Digest // 978…, 3e2…, 2e7…
	delta := Delta{a: "may.tar", b: "may.tar", c: "april <1>.tar\x1b[31m"}
	var index ocispec.Index
	if err := delta.Annotate(&index); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf(`[{"base":"april <1>.tar[31m","blobs":[%q]},{"base":"may.tar","blobs":[%q,%q]}]`, c, b, a)
	if a < b {
		want = fmt.Sprintf(`[{"base":"april <1>.tar[31m","blobs":[%q]},{"base":"may.tar","blobs":[%q,%q]}]`, c, a, b)
	}
	if diff := cmp.Diff(map[string]string{AnnotationDelta: want}, index.Annotations); diff != "" {
		t.Errorf("annotations (-want +got):\n%s", diff)
	}
	read, err := ParseDelta(index.Annotations)
	delta[c] = "april <1>.tar[31m"
	if diff := cmp.Diff(delta, read); err != nil || diff != "" {
		t.Errorf("read: %v (-want +got):\n%s", err, diff)
	}
	err = fmt.Errorf("open it: %w", read.Missing(a, ErrNotFound))
	if expected, ok := errors.AsType[*ExpectedError](err); !ok || expected.Base != "may.tar" || expected.Digest != a || !errors.Is(err, ErrNotFound) {
		t.Errorf("the error of a missing blob: %v", err)
	}
	if err := read.Missing(text("d").Digest, ErrNotFound); err != ErrNotFound {
		t.Errorf("the error of a blob that is expected nowhere: %v", err)
	}

	var none ocispec.Index
	if err := (Delta{}).Annotate(&none); err != nil || none.Annotations != nil {
		t.Errorf("without blobs: %v, %v", none.Annotations, err)
	}
	if d, err := ParseDelta(nil); d != nil || err != nil {
		t.Errorf("without annotations: %v, %v", d, err)
	}
}

func TestDeltaIsHostile(t *testing.T) {
	good := `"` + text("a").Digest.String() + `"`
	for _, bad := range []string{
		``, `{}`, `7`, `[{"base":"a","blobs":7}]`, `[{"base":"","blobs":[` + good + `]}]`, `[{"base":"\u0007","blobs":[]}]`,
		`[{"base":"a","blobs":["sha256:../../x"]}]`, `[{"base":"a","blobs":[""]}]`, `[` + strings.Repeat(" ", maxDelta) + `]`,
	} {
		if _, err := ParseDelta(map[string]string{AnnotationDelta: bad}); !errors.Is(err, ErrVerification) {
			t.Errorf("%.60s: %v", bad, err)
		}
	}
	delta, err := ParseDelta(map[string]string{AnnotationDelta: `[{"base":"` + strings.Repeat("x", 5000) + `","blobs":[` + good + `]}]`})
	if base, ok := delta.Expected(text("a").Digest); err != nil || !ok || len(base) > 300 {
		t.Errorf("a long name: %d bytes, %v", len(base), err)
	}
	large := Delta{}
	for i := range maxDelta / 70 {
		large[digest.FromString(fmt.Sprint(i))] = "may.tar"
	}
	if _, err := large.Encode(); err == nil {
		t.Error("a delta is written that nobody reads")
	}
}
