package image

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// describing is a memory that describes tags.
type describing struct {
	*memory
	described []string
}

func (m *describing) Describe(ctx context.Context, tagOrDigest string) (Descriptor, error) {
	m.described = append(m.described, tagOrDigest)
	c, err := m.Manifest(ctx, tagOrDigest)
	m.asked = nil
	return c.Descriptor, err
}

func TestDescribe(t *testing.T) {
	plain := newMemory()
	want := plain.image("linux/amd64", "v1", "latest")
	m := &describing{memory: plain}
	for _, name := range []string{"r.io/a:v1", "r.io/a", "r.io/a@" + want.Digest.String()} {
		f := NewFinder(m, mustParse(t, name), nil)
		d, err := f.DescribeRoot(t.Context())
		if err != nil || d.Digest != want.Digest || !strings.HasPrefix(f.Reference().String(), name) {
			t.Errorf("%s: %s is %s: %v", name, f.Reference(), d.Digest, err)
		}
	}
	if len(m.asked) > 0 {
		t.Errorf("manifests were fetched: %v", m.asked)
	}
	if _, err := NewFinder(m, mustParse(t, "r.io/a:none"), nil).DescribeRoot(t.Context()); !errors.Is(err, ErrNotFound) {
		t.Errorf("a tag that is not there: %v", err)
	}
	// What describes nothing gives the manifest.
	if d, err := NewFinder(plain, mustParse(t, "r.io/a:v1"), nil).DescribeRoot(t.Context()); err != nil || d.Digest != want.Digest {
		t.Errorf("without Describer: %s, %v", d.Digest, err)
	}
}

// Without a tag latest it is the newest version, whose manifest is not fetched
// either; and which is chosen once.
func TestDescribeNewest(t *testing.T) {
	m := newMemory()
	newest := m.image("linux/amd64", "v2")
	src := &describingTags{tagged: tagged{m, [][]string{{"v1", "v2"}}, nil}}
	f := NewFinder(src, mustParse(t, "r.io/a"), nil)
	for range 2 {
		d, err := f.DescribeRoot(t.Context())
		if err != nil || d.Digest != newest.Digest || f.Reference().Tag != "v2" {
			t.Errorf("the newest is %s: %s, %v", f.Reference(), d.Digest, err)
		}
	}
	if diff := cmp.Diff([]string{"latest", "v2", "v2"}, src.described); diff != "" || len(m.asked) > 0 {
		t.Errorf("manifests were fetched: %v; descriptions (-want +got):\n%s", m.asked, diff)
	}
}

// The index tells of a platform's manifest all that there is to tell; of a
// manifest without index its config does.
func TestDescribeManifest(t *testing.T) {
	m := newMemory()
	amd64, s390x := m.image("linux/amd64"), m.image("linux/s390x")
	m.index([]Descriptor{withPlatform(amd64, "linux/amd64"), withPlatform(s390x, "linux/s390x")}, "v1")
	single := m.image("linux/s390x", "single")
	for _, test := range []struct {
		tag  string
		want Descriptor
	}{{"v1", s390x}, {"single", single}} {
		m.asked = nil
		d, err := NewFinder(m, mustParse(t, "r.io/a:"+test.tag), nil).DescribeManifest(t.Context(), wanted(t, "linux/s390x"))
		if err != nil || d.Digest != test.want.Digest || d.Size != test.want.Size || d.MediaType != test.want.MediaType {
			t.Errorf("%s: %+v, %v, want %+v", test.tag, d, err, test.want)
		}
		if diff := cmp.Diff([]string{test.tag}, m.asked); diff != "" {
			t.Errorf("%s: manifests that were fetched (-want +got):\n%s", test.tag, diff)
		}
		if _, err := NewFinder(m, mustParse(t, "r.io/a:"+test.tag), nil).DescribeManifest(t.Context(), wanted(t, "linux/arm64")); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s for another platform: %v", test.tag, err)
		}
	}
}

type describingTags struct {
	tagged
	described []string
}

func (m *describingTags) Describe(ctx context.Context, tagOrDigest string) (Descriptor, error) {
	m.described = append(m.described, tagOrDigest)
	c, err := m.Manifest(ctx, tagOrDigest)
	m.asked = nil
	return c.Descriptor, err
}
