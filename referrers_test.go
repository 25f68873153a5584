package davit

import (
	"context"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
)

// referred answers nobody before as many are asking.
type referred struct {
	image.Source
	asking sync.WaitGroup
}

func (r *referred) Referrers(_ context.Context, subject digest.Digest) ([]image.Descriptor, error) {
	r.asking.Done()
	r.asking.Wait()
	return []image.Descriptor{{Digest: digest.FromString("of " + subject.String())}}, nil
}

// Index and manifest are asked for at the same time, and told in that order.
func TestReferrersOfIndexAndManifest(t *testing.T) {
	content := func(s string) image.Content {
		return image.Content{Descriptor: image.Descriptor{Digest: digest.FromString(s)}}
	}
	img := image.Image{Indexes: []image.Content{content("index")}, Manifests: []image.Manifest{{Content: content("manifest")}}}
	source := &referred{}
	source.asking.Add(2)
	l := &look{source: newDocuments(source)}
	var got []digest.Digest
	for _, r := range l.referrers(t.Context(), img) {
		got = append(got, r.Subject, r.Digest)
	}
	var want []digest.Digest
	for _, subject := range []digest.Digest{digest.FromString("index"), digest.FromString("manifest")} {
		want = append(want, subject, digest.FromString("of "+subject.String()))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
