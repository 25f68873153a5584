package image

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// platformImage is an image's manifest for a platform, with one layer.
func (m *memory) platformImage(platform, layer string) Descriptor {
	os, arch, _ := strings.Cut(platform, "/")
	config := m.blob(ocispec.MediaTypeImageConfig, []byte(`{"architecture":"`+arch+`","os":"`+os+`","rootfs":{"diff_ids":["`+digest.FromString(layer).String()+`"]}}`))
	return withPlatform(m.add(ocispec.MediaTypeImageManifest, manifestOf(config, text(layer))), platform)
}

func manifestsOf(img Image) (all []digest.Digest) {
	for _, m := range img.Manifests {
		all = append(all, m.Digest)
	}
	return all
}

func TestHeld(t *testing.T) {
	src := newMemory()
	amd, arm := src.platformImage("linux/amd64", "amd"), src.platformImage("linux/arm64", "arm")
	inner := src.index([]Descriptor{amd})
	empty := src.index([]Descriptor{entry("gone", "linux/riscv64")})
	root := src.index([]Descriptor{arm, entry("gone too", "linux/s390x"), empty, inner, entry("gone index", "")})
	stored := Stored{Descriptor: root, Name: "r.io/a:1"}
	held := func(documents ...Descriptor) (Image, error) {
		if documents != nil {
			var list []string
			for _, d := range documents {
				list = append(list, d.Digest.String())
			}
			stored.Annotations = map[string]string{AnnotationDocuments: strings.Join(list, " ")}
		}
		return NewStoredFinder(src, stored, "it", nil).Held(t.Context())
	}
	img, err := held()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(digests([]Descriptor{amd, arm}), manifestsOf(img)); diff != "" {
		t.Errorf("manifests (-want +got):\n%s", diff)
	}
	if len(img.Indexes) != 3 || img.Indexes[2].Digest != inner.Digest || !img.KeepIndexes || img.Name.String() != "r.io/a:1" {
		t.Errorf("%s has %d indexes", img.Name, len(img.Indexes))
	}

	// As they were written, they are read.
	img.Manifests[0], img.Manifests[1] = img.Manifests[1], img.Manifests[0]
	list := Delta{amd.Digest: "may.tar"}.Entry(img, "").Annotations[AnnotationDocuments]
	stored.Annotations = map[string]string{AnnotationDocuments: list}
	again, err := held()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(manifestsOf(img), manifestsOf(again)); diff != "" {
		t.Errorf("manifests (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(img.Documents(), again.Documents()); diff != "" {
		t.Errorf("documents (-want +got):\n%s", diff)
	}
	if _, told := (Delta{}).Entry(img, "").Annotations[AnnotationDocuments]; told {
		t.Error("the order is told where nothing is left out")
	}

	for name, bad := range map[string][]Descriptor{
		"one that no index names":  {text("x")},
		"one twice":                {arm, arm},
		"the root":                 {root},
		"one before its index":     {amd, inner},
		"an index and no manifest": {inner},
	} {
		if _, err := held(bad...); !errors.Is(err, ErrVerification) && !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := held(arm, entry("gone too", "")); !errors.Is(err, ErrNotFound) {
		t.Errorf("one that is not there: %v", err)
	}
}

// An index of one manifest's own entry tells the platform that its config leaves open.
func TestHeldManifest(t *testing.T) {
	src := newMemory()
	arm := src.platformImage("linux/arm", "arm")
	arm.Platform.Variant = "v6"
	img, err := NewStoredFinder(src, Stored{Descriptor: arm}, "it", nil).Held(t.Context())
	if err != nil || img.KeepIndexes || FormatPlatform(img.Manifests[0].Platform) != "linux/arm/v6" {
		t.Errorf("%+v, %v", img.Manifests, err)
	}
	gone := src.index([]Descriptor{entry("gone", "linux/amd64")})
	if _, err := NewStoredFinder(src, Stored{Descriptor: gone}, "it", nil).Held(t.Context()); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "it: ") {
		t.Errorf("an index of nothing that is there: %v", err)
	}
}
