package image_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/image"
)

func TestIsReferrersTag(t *testing.T) {
	short, long := strings.Repeat("0a", 32), strings.Repeat("0a", 64)
	for tag, want := range map[string]bool{
		"sha256-" + short:           true,
		"sha256-" + short + ".sig":  true,
		"sha256-" + short + ".att":  true,
		"sha256-" + short + ".sbom": true,
		"sha512-" + short:           true, // cut, as registries want it
		"sha512-" + long:            true,

		"":                                 false,
		"sha256":                           false,
		"sha256-":                          false,
		"latest":                           false,
		"v1-" + short:                      false,
		"sha256-" + short[1:]:              false,
		"sha256-" + short + "0":            false,
		"sha256-" + long:                   false,
		"sha512-" + short + "00":           false,
		"SHA256-" + short:                  false,
		"sha256-" + short + ".tar":         false,
		"sha256-" + short + ".sig.sig":     false,
		"sha256-" + strings.ToUpper(short): false,
		"sha256:" + short:                  false,
	} {
		if got := image.IsReferrersTag(tag); got != want {
			t.Errorf("%q: %v", tag, got)
		}
	}
	for _, d := range []digest.Digest{digest.FromString("x"), digest.SHA512.FromString("x")} {
		if tag := image.ReferrersTag(d); !image.IsReferrersTag(tag) {
			t.Errorf("the tag of %s is %s", d, tag)
		}
	}
}

func TestWithoutReferrers(t *testing.T) {
	tag := image.ReferrersTag(digest.FromString("x"))
	app := image.Stored{Name: "example.com/app:v1", RefName: "v1"}
	of, signature, nameless := image.Stored{RefName: tag}, image.Stored{Name: "example.com/app:" + tag + ".sig"}, image.Stored{}
	for _, tt := range []struct{ all, want []image.Stored }{
		{[]image.Stored{of, app, signature, nameless}, []image.Stored{app, nameless}},
		{[]image.Stored{of, signature}, []image.Stored{of, signature}},
	} {
		if diff := cmp.Diff(tt.want, image.WithoutReferrers(tt.all)); diff != "" {
			t.Error(diff)
		}
	}
}

// manifests are a source that has nothing else.
type manifests struct {
	image.Source
	all   map[string]image.Content
	asked int
}

func (m *manifests) Manifest(ctx context.Context, tagOrDigest string) (image.Content, error) {
	m.asked++
	c, ok := m.all[tagOrDigest]
	if !ok {
		return image.Content{}, image.ErrNotFound
	}
	return c, ctx.Err()
}

// add adds a document, as a store that names it has it.
func (m *manifests) add(t *testing.T, refName, mediaType string, document any) image.Stored {
	t.Helper()
	b, err := json.Marshal(document)
	if err != nil {
		t.Fatal(err)
	}
	d := image.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
	m.all[d.Digest.String()] = image.Content{Descriptor: d, Bytes: b}
	return image.Stored{Descriptor: d, RefName: refName}
}

func artifact(kind string, subject *image.Descriptor) ocispec.Manifest {
	m := ocispec.Manifest{
		MediaType: ocispec.MediaTypeImageManifest, ArtifactType: kind, Subject: subject, Annotations: map[string]string{"kind": kind},
		Config: ocispec.DescriptorEmptyJSON, Layers: []image.Descriptor{ocispec.DescriptorEmptyJSON},
	}
	m.SchemaVersion = 2
	return m
}

func index(subject *image.Descriptor, all ...image.Descriptor) ocispec.Index {
	x := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Subject: subject, Manifests: append([]image.Descriptor{}, all...)}
	x.SchemaVersion = 2
	return x
}

// What refers to an image is found by the referrers tag, by subject and by
// cosign's tags, each once.
func TestReferrerSearch(t *testing.T) {
	const manifest, list = ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex
	src := &manifests{all: map[string]image.Content{}}
	app := src.add(t, "v1", manifest, artifact("app", nil))
	other := src.add(t, "v2", manifest, artifact("other", nil))
	tag := image.ReferrersTag(app.Digest)
	listed := image.Descriptor{MediaType: manifest, Digest: digest.FromString("listed"), Size: 7, ArtifactType: "text/listed", Annotations: map[string]string{"a": "b"}}
	sbom := src.add(t, "", manifest, artifact("text/sbom", &app.Descriptor))
	typeless := artifact("", &app.Descriptor)
	config := src.add(t, "", "", typeless) // its entry tells no media type
	content := src.all[config.Digest.String()]
	content.MediaType = manifest
	src.all[config.Digest.String()] = content
	listOf := src.add(t, "", list, index(&app.Descriptor))
	signature := src.add(t, tag+".sig", manifest, artifact("x", nil))
	images := []image.Stored{
		signature, app, other, sbom, sbom, config, listOf,
		src.add(t, "", manifest, artifact("of the other", &other.Descriptor)),
		src.add(t, tag, list, index(nil,
			listed, listed, app.Descriptor, // again, and itself
			image.Descriptor{Digest: "sha256:../..", Size: 1}, image.Descriptor{Digest: digest.FromString("size"), Size: -1},
			sbom.Descriptor,
		)),
		src.add(t, "", manifest, "no manifest at all"),
		{Descriptor: image.Descriptor{MediaType: manifest, Digest: digest.FromString("not there"), Size: 1}},
	}
	want := []image.Descriptor{
		listed,
		sbom.Descriptor, // as the index tells of it
		{MediaType: manifest, Digest: config.Digest, Size: config.Size, ArtifactType: ocispec.MediaTypeEmptyJSON, Annotations: typeless.Annotations},
		listOf.Descriptor,
		{MediaType: manifest, Digest: signature.Digest, Size: signature.Size, ArtifactType: image.CosignTags[0].ArtifactType},
	}
	got, err := image.NewReferrerSearch(src, images).Of(t.Context(), app.Digest)
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v, %s", err, diff)
	}
	if got, err := image.NewReferrerSearch(src, images).Of(t.Context(), digest.FromString("nobody")); err != nil || got != nil {
		t.Errorf("of what nothing refers to: %v, %v", got, err)
	}
	if _, err := image.NewReferrerSearch(src, images).Of(t.Context(), "sha256:../.."); !errors.Is(err, image.ErrVerification) {
		t.Errorf("of what is no digest: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := image.NewReferrerSearch(src, images).Of(ctx, app.Digest); !errors.Is(err, context.Canceled) {
		t.Errorf("after its end: %v", err)
	}
}

// A store cannot have any number of documents read.
func TestReferrerSearchOfHostileStore(t *testing.T) {
	const list = ocispec.MediaTypeImageIndex
	src := &manifests{all: map[string]image.Content{}}
	app := digest.FromString("app")
	var many, large []image.Stored
	for i := range image.MaxDescriptors + 1 {
		s := image.Stored{Descriptor: image.Descriptor{MediaType: list, Digest: digest.FromString(fmt.Sprint(i)), Size: 100}}
		many = append(many, s)
		s.Size = image.MaxManifestSize
		large = append(large, s)
	}
	tooLarge := image.Stored{Descriptor: image.Descriptor{MediaType: list, Digest: digest.FromString("x"), Size: image.MaxManifestSize + 1}}
	layer := image.Stored{Descriptor: image.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromString("x"), Size: 100}}
	made := image.Stored{Descriptor: image.Descriptor{MediaType: list, Digest: digest.FromString("x"), Size: 100}, Made: true}
	malformed := src.add(t, image.ReferrersTag(app), list, map[string]any{"schemaVersion": 2, "manifests": "none"})
	for _, tt := range []struct {
		name   string
		images []image.Stored
		most   int
		fails  bool
	}{
		{"many", many, image.MaxDescriptors, true},
		{"large", large, 16, true},
		{"not read", []image.Stored{tooLarge, layer, made}, 0, false},
		{"a malformed index", []image.Stored{malformed}, 1, true},
	} {
		src.asked = 0
		got, err := image.NewReferrerSearch(src, tt.images).Of(t.Context(), app)
		if errors.Is(err, image.ErrVerification) != tt.fails || src.asked > tt.most || len(got) > 0 {
			t.Errorf("%s: %d found, %d read, %v", tt.name, len(got), src.asked, err)
		}
	}
}
