package image

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
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
		find           func(*Finder, Platforms) (Content, error)
		want           Descriptor
		asked          []string // of manifests
	}{
		{"app:v1", "", func(f *Finder, _ Platforms) (Content, error) { return f.Root(t.Context()) }, index, []string{"v1"}},
		{"app:v1", "linux/s390x", func(f *Finder, want Platforms) (Content, error) { return f.Manifest(t.Context(), want) }, s390x, []string{"v1", s390x.Digest.String()}},
		{"app:single", "linux/s390x", func(f *Finder, want Platforms) (Content, error) { return f.Manifest(t.Context(), want) }, single, []string{"single"}},
		{"app:single", "", func(f *Finder, want Platforms) (Content, error) { return f.Manifest(t.Context(), want) }, single, []string{"single"}},
	} {
		src.asked = nil
		f := NewFinder(src, mustParse(t, test.name), nil)
		c, err := test.find(f, wanted(t, test.platform))
		if err != nil || c.Digest != test.want.Digest || f.Reference() != mustParse(t, test.name) {
			t.Errorf("%s %s: %s, %v, want %s", test.name, test.platform, c.Digest, err, test.want.Digest)
		}
		if diff := cmp.Diff(test.asked, src.asked); diff != "" {
			t.Errorf("%s %s: %s", test.name, test.platform, diff)
		}
	}
	if _, err := NewFinder(src, mustParse(t, "app:single"), nil).Manifest(t.Context(), wanted(t, "linux/amd64")); !errors.Is(err, ErrNotFound) {
		t.Errorf("a single manifest of another platform: %v", err)
	}
}

// A config is given as it is, as long as it has its digest.
func TestFinderConfig(t *testing.T) {
	src := newMemory()
	config := src.blob(ocispec.MediaTypeImageConfig, []byte("no JSON"))
	src.add(ocispec.MediaTypeImageManifest, manifestOf(config), "v1")
	find := func() (Content, error) {
		return NewFinder(src, mustParse(t, "app:v1"), nil).Config(t.Context(), Platforms{})
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
	_, err := NewFinder(src, mustParse(t, "app:v1"), nil).Root(t.Context())
	var unknown *UnknownError
	if !errors.As(err, &unknown) || string(unknown.Content.Bytes) != string(raw) {
		t.Errorf("the error is %v", err)
	}
}

// A config that is read to learn the platform is not fetched once more.
func TestFinderConfigOnce(t *testing.T) {
	src := newMemory()
	src.image("linux/s390x", "v1")
	var steps []string
	f := NewFinder(src, mustParse(t, "app:v1"), func(e Event) { steps = append(steps, e.Text) })
	if c, err := f.Config(t.Context(), wanted(t, "linux/s390x")); err != nil || len(c.Bytes) == 0 {
		t.Fatalf("%q, %v", c.Bytes, err)
	}
	if n := strings.Count(strings.Join(steps, "\n"), "fetch config"); n != 1 {
		t.Errorf("the config was fetched %d times", n)
	}
}

func TestStoredFinder(t *testing.T) {
	m := newMemory()
	d := m.image("linux/amd64")
	img, err := NewStoredFinder(m, Stored{Descriptor: d, Name: "r.io/a:v1"}, "x.tar", nil).Image(t.Context(), Platforms{})
	if err != nil || img.Name.String() != "r.io/a:v1" || img.Root().Digest != d.Digest {
		t.Errorf("named: %s, %v", img.Name, err)
	}
	img, err = NewStoredFinder(m, Stored{Descriptor: d}, "x.tar", nil).Image(t.Context(), Platforms{})
	if err != nil || img.Name.Repository != "" {
		t.Errorf("unnamed: %s, %v", img.Name, err)
	}
	d.Digest = digest.FromString("not there")
	if _, err = NewStoredFinder(m, Stored{Descriptor: d}, "x.tar", nil).Image(t.Context(), Platforms{}); !errors.Is(err, ErrNotFound) || !strings.HasPrefix(err.Error(), "x.tar: ") {
		t.Errorf("not there: %v", err)
	}
}
