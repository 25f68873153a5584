package image

import (
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

	l, err := NewFinder(m, mustParse(t, "r.io/a:many"), nil).List(t.Context())
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
	l, err = NewFinder(m, mustParse(t, "r.io/a:one"), nil).List(t.Context())
	if err != nil || len(l.Manifests) != 1 || l.Manifests[0].Digest != l.Root.Digest {
		t.Errorf("of a manifest: %v, %v", l.Manifests, err)
	}
}
