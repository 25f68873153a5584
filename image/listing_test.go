package image

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
)

func TestList(t *testing.T) {
	m := newMemory()
	amd, arm := m.image("linux/amd64"), m.image("linux/arm64")
	inner := m.index([]Descriptor{withPlatform(arm, "linux/arm64")})
	outer := m.index([]Descriptor{withPlatform(amd, "linux/amd64"), withoutPlatform(inner), withPlatform(amd, "linux/amd64")}, "many")
	m.image("linux/amd64", "one")

	l, err := List(context.Background(), m, mustParse(t, "r.io/a:many"), nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []digest.Digest
	for _, d := range l.Manifests {
		got = append(got, d.Digest)
	}
	if diff := cmp.Diff([]digest.Digest{amd.Digest, arm.Digest}, got); diff != "" || l.Root.Digest != outer.Digest {
		t.Errorf("manifests (-want +got):\n%s", diff)
	}
	for _, asked := range m.asked {
		if asked == amd.Digest.String() || asked == arm.Digest.String() {
			t.Errorf("the manifest %s was fetched", asked)
		}
	}
	l, err = List(context.Background(), m, mustParse(t, "r.io/a:one"), nil)
	if err != nil || len(l.Manifests) != 1 || l.Manifests[0].Digest != l.Root.Digest {
		t.Errorf("of a manifest: %v, %v", l.Manifests, err)
	}
}

// describing is a memory that describes tags.
type describing struct {
	*memory
	described []string
}

func (m *describing) Describe(ctx context.Context, tagOrDigest string) (Descriptor, error) {
	m.described = append(m.described, tagOrDigest)
	c, err := m.memory.Manifest(ctx, tagOrDigest)
	m.asked = nil
	return c.Descriptor, err
}

func TestDescribe(t *testing.T) {
	plain := newMemory()
	want := plain.image("linux/amd64", "v1", "latest")
	m := &describing{memory: plain}
	for _, name := range []string{"r.io/a:v1", "r.io/a", "r.io/a@" + want.Digest.String()} {
		d, r, err := Describe(context.Background(), m, mustParse(t, name), nil)
		if err != nil || d.Digest != want.Digest || !strings.HasPrefix(r.String(), name) {
			t.Errorf("%s: %s is %s: %v", name, r, d.Digest, err)
		}
	}
	if len(m.asked) > 0 {
		t.Errorf("manifests were fetched: %v", m.asked)
	}
	if _, _, err := Describe(context.Background(), m, mustParse(t, "r.io/a:none"), nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("a tag that is not there: %v", err)
	}
	// What describes nothing gives the manifest.
	if d, _, err := Describe(context.Background(), plain, mustParse(t, "r.io/a:v1"), nil); err != nil || d.Digest != want.Digest {
		t.Errorf("without Describer: %s, %v", d.Digest, err)
	}
	// Without a tag latest it is the newest version.
	other := newMemory()
	newest := other.image("linux/amd64", "v2")
	d, r, err := Describe(context.Background(), &describingTags{tagged{other, [][]string{{"v1", "v2"}}, nil}}, mustParse(t, "r.io/a"), nil)
	if err != nil || d.Digest != newest.Digest || r.Tag != "v2" {
		t.Errorf("the newest is %s: %s, %v", r, d.Digest, err)
	}
}

type describingTags struct{ tagged }

func (m *describingTags) Describe(ctx context.Context, tagOrDigest string) (Descriptor, error) {
	c, err := m.Manifest(ctx, tagOrDigest)
	return c.Descriptor, err
}

func TestResolveStored(t *testing.T) {
	m := newMemory()
	d := m.image("linux/amd64")
	img, err := ResolveStored(context.Background(), m, Stored{Descriptor: d, Name: "r.io/a:v1"}, "x.tar", Platforms{}, nil)
	if err != nil || img.Name.String() != "r.io/a:v1" || img.Root().Digest != d.Digest {
		t.Errorf("named: %s, %v", img.Name, err)
	}
	img, err = ResolveStored(context.Background(), m, Stored{Descriptor: d}, "x.tar", Platforms{}, nil)
	if err != nil || img.Name.Repository != "" {
		t.Errorf("unnamed: %s, %v", img.Name, err)
	}
	d.Digest = digest.FromString("not there")
	if _, err = ResolveStored(context.Background(), m, Stored{Descriptor: d}, "x.tar", Platforms{}, nil); !errors.Is(err, ErrNotFound) || !strings.HasPrefix(err.Error(), "x.tar: ") {
		t.Errorf("not there: %v", err)
	}
}
