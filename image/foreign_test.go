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

// text is a small document or layer.
func text(s string, urls ...string) Descriptor {
	return Descriptor{Digest: digest.FromString(s), Size: int64(len(s)), URLs: urls}
}

func digests(layers []Descriptor) (all []digest.Digest) {
	for _, d := range layers {
		all = append(all, d.Digest)
	}
	return all
}

func TestWithoutForeign(t *testing.T) {
	const url = "https://files.example/layer"
	config := Content{Descriptor: text("config")}
	img := Image{Manifests: []Manifest{
		{Content: Content{Descriptor: text("one")}, Config: config, Layers: []Descriptor{
			text("base", url), text("own"), text("base", url), text("both", url), text("config", url),
		}},
		{Content: Content{Descriptor: text("two")}, Config: config, Layers: []Descriptor{
			text("base", url, url), text("both"), text("other", url),
		}},
	}}
	got, foreign := WithoutForeign(img)
	if diff := cmp.Diff(digests([]Descriptor{text("base"), text("other")}), digests(foreign)); diff != "" {
		t.Errorf("left out (-want +got):\n%s", diff)
	}
	// What one manifest names without a URL is not left out of the other one.
	if diff := cmp.Diff(digests([]Descriptor{text("own"), text("both")}), digests(got.Blobs())); diff != "" {
		t.Errorf("blobs (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(digests([]Descriptor{text("own"), text("both"), text("config")}), digests(got.Manifests[0].Carried())); diff != "" {
		t.Errorf("carried (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(img.Manifests[1].Layers, got.Manifests[1].Layers); diff != "" {
		t.Errorf("the manifest's layers changed:\n%s", diff)
	}
	if img.Manifests[0].LeftOut != nil || len(img.Blobs()) != 4 {
		t.Error("the image itself changed")
	}
	plain := Image{Manifests: []Manifest{{Content: Content{Descriptor: text("one")}, Config: config, Layers: []Descriptor{text("own")}}}}
	if got, foreign := WithoutForeign(plain); foreign != nil || len(got.Blobs()) != 1 {
		t.Errorf("of an image without foreign layers: %v", foreign)
	}
}

// A blob that only one of its descriptors has URLs for has them.
func TestBlobsHaveURLs(t *testing.T) {
	img := Image{Manifests: []Manifest{{Layers: []Descriptor{text("a"), text("a", "https://one"), text("a", "https://two")}}}}
	if diff := cmp.Diff([]Descriptor{text("a", "https://one")}, img.Blobs()); diff != "" {
		t.Errorf("blobs (-want +got):\n%s", diff)
	}
	if img.Manifests[0].Layers[0].URLs != nil {
		t.Error("the manifest's descriptor changed")
	}
}

// Derived images leave out what they are derived from does.
func TestForeignStaysLeftOut(t *testing.T) {
	src := newMemory()
	config := src.blob(ocispec.MediaTypeImageConfig, []byte(`{"architecture":"amd64","os":"linux","rootfs":{"diff_ids":["`+digest.FromString("tar").String()+`"]}}`))
	config.URLs = []string{"https://files.example/config"}
	manifest := withPlatform(src.add(ocispec.MediaTypeImageManifest, manifestOf(config, text("base", "https://files.example/base"))), "linux/amd64")
	index := src.index([]Descriptor{manifest, entry("gone", "linux/s390x")})
	img, foreign := WithoutForeign(src.resolve(t, "r.io/a@"+index.Digest.String(), wanted(t, "linux/amd64")))
	if len(foreign) != 1 || foreign[0].URLs[0] != "https://files.example/base" {
		t.Fatalf("left out %+v", foreign)
	}
	if img.Manifests[0].Config.URLs != nil {
		t.Error("the config is asked for elsewhere")
	}
	trimmed, err := Trim(img)
	if err != nil {
		t.Fatal(err)
	}
	if trimmed.Root().Digest == img.Root().Digest || len(trimmed.Blobs()) > 0 {
		t.Errorf("the trimmed image has %v", trimmed.Blobs())
	}
}

func TestURLsAreBounded(t *testing.T) {
	manifest := func(urls ...string) Content {
		quoted := `"` + strings.Join(urls, `","`) + `"`
		return doc(ocispec.MediaTypeImageManifest, fmt.Sprintf(`{"config":%s,"layers":[{"mediaType":"x","digest":"sha256:%s","size":1,"urls":[%s]}]}`, goodConfig, hexA, quoted))
	}
	many := strings.Split(strings.Repeat("https://a,", MaxURLs)+"https://a", ",")
	long := "https://a/" + strings.Repeat("x", MaxURLSize-10)
	for _, good := range [][]string{{"https://a/b?c=d"}, many[1:], {long}, {"ftp://x"}} { // whoever goes there decides
		m, err := ParseManifest(manifest(good...))
		if err != nil {
			t.Error(err)
		} else if diff := cmp.Diff(good, m.Layers[0].URLs); diff != "" {
			t.Errorf("URLs (-want +got):\n%s", diff)
		}
	}
	for _, bad := range [][]string{many, {"https://a", long + "x"}} {
		if _, err := ParseManifest(manifest(bad...)); !errors.Is(err, ErrVerification) || !strings.Contains(err.Error(), "layer 1") {
			t.Errorf("%d URLs: %v", len(bad), err)
		}
	}
}
