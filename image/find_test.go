package image

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Nothing is fetched that does not lead to what is looked for.
func TestFinder(t *testing.T) {
	src := newMemory()
	amd64, s390x := src.image("linux/amd64"), src.image("linux/s390x")
	index := src.index([]Descriptor{amd64, s390x}, "v1")
	single := src.image("linux/s390x", "single")
	for _, test := range []struct {
		name, platform string
		find           func(Finder) (Content, error)
		want           Descriptor
		asked          []string // of manifests
	}{
		{"app:v1", "", func(f Finder) (Content, error) { return f.Root(t.Context()) }, index, []string{"v1"}},
		{"app:v1", "linux/s390x", func(f Finder) (Content, error) { return f.Manifest(t.Context()) }, s390x, []string{"v1", s390x.Digest.String()}},
		{"app:single", "linux/s390x", func(f Finder) (Content, error) { return f.Manifest(t.Context()) }, single, []string{"single"}},
		{"app:single", "", func(f Finder) (Content, error) { return f.Manifest(t.Context()) }, single, []string{"single"}},
	} {
		src.asked = nil
		f := NewFinder(src, mustParse(t, test.name), wanted(t, test.platform), nil)
		c, err := test.find(f)
		if err != nil || c.Digest != test.want.Digest || f.Reference() != mustParse(t, test.name) {
			t.Errorf("%s %s: %s, %v, want %s", test.name, test.platform, c.Digest, err, test.want.Digest)
		}
		if diff := cmp.Diff(test.asked, src.asked); diff != "" {
			t.Errorf("%s %s: %s", test.name, test.platform, diff)
		}
	}
	if _, err := NewFinder(src, mustParse(t, "app:single"), wanted(t, "linux/amd64"), nil).Manifest(t.Context()); !errors.Is(err, ErrNotFound) {
		t.Errorf("a single manifest of another platform: %v", err)
	}
}

// A config is given as it is, as long as it has its digest.
func TestFinderConfig(t *testing.T) {
	src := newMemory()
	config := src.blob(ocispec.MediaTypeImageConfig, []byte("no JSON"))
	src.add(ocispec.MediaTypeImageManifest, manifestOf(config), "v1")
	find := func() (Content, error) {
		return NewFinder(src, mustParse(t, "app:v1"), Platforms{}, nil).Config(t.Context())
	}
	if c, err := find(); err != nil || string(c.Bytes) != "no JSON" || c.MediaType != ocispec.MediaTypeImageConfig {
		t.Errorf("%q, %v", c.Bytes, err)
	}
	src.blobs[config.Digest] = []byte("another")
	if _, err := find(); !errors.Is(err, ErrVerification) {
		t.Errorf("another config: %v", err)
	}
}

// A document that is not read comes with the error.
func TestFinderRootThatIsUnknown(t *testing.T) {
	src := newMemory()
	raw := []byte(`{"schemaVersion":2,"mediaType":"application/vnd.example+json"}`)
	src.add("application/vnd.example+json", raw, "v1")
	_, err := NewFinder(src, mustParse(t, "app:v1"), Platforms{}, nil).Root(t.Context())
	var unknown *UnknownError
	if !errors.As(err, &unknown) || string(unknown.Content.Bytes) != string(raw) {
		t.Errorf("the error is %v", err)
	}
}
