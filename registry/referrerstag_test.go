package registry

import (
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/memregistry"
	"github.com/davit-cli/davit/internal/registrytest"
)

// What several add at once is all there, with what others have put there.
func TestAddReferrers(t *testing.T) {
	s, subject, referrers := referred(t, registrytest.Options{Uploads: &registrytest.Uploads{Uploads: memregistry.Uploads{NoSubject: true}}, NoReferrers: true})
	s.PushReferrersTag("team/app", subject)
	var more []image.Descriptor
	for _, what := range []string{"three", "four", "five", "six"} {
		more = append(more, s.PushReferrer("team/app", registrytest.Referrer{Subject: subject, ArtifactType: sbomType, Annotations: map[string]string{"which": what}}))
	}
	r := target(t, s, Options{})
	var adding sync.WaitGroup
	for _, d := range more {
		adding.Go(func() {
			if err := r.AddReferrers(t.Context(), subject, []image.Descriptor{d, referrers[0]}); err != nil {
				t.Error(err)
			}
		})
	}
	adding.Wait()
	got, err := r.Referrers(t.Context(), subject)
	if err != nil || len(got) != 6 {
		t.Fatalf("%d are listed, %v", len(got), err)
	}
	if diff := cmp.Diff(referrers, got[:2]); diff != "" {
		t.Errorf("the first (-want +got):\n%s", diff)
	}
	for _, d := range more {
		found := false
		for _, o := range got[2:] {
			found = found || cmp.Equal(d, o)
		}
		if !found {
			t.Errorf("%s is not listed as it was added", d.Digest)
		}
	}
	s.ResetRecords()
	if err := r.AddReferrers(t.Context(), subject, more); err != nil {
		t.Error(err)
	}
	if n := s.Count(func(q registrytest.Request) bool { return q.Method == http.MethodPut }); n != 0 {
		t.Errorf("nothing was new, and %d were pushed", n)
	}
}

// What stands under the tag and is no list stays there.
func TestAddReferrersRefuses(t *testing.T) {
	s, subject, referrers := referred(t, registrytest.Options{Uploads: &registrytest.Uploads{}})
	tag := image.ReferrersTag(subject)
	r := target(t, s, Options{})
	add := func(what string) {
		t.Helper()
		err := r.AddReferrers(t.Context(), subject, referrers)
		if !errors.Is(err, image.ErrVerification) || !strings.Contains(err.Error(), "list referrers of team/app@"+subject.String()+" under the tag "+tag) {
			t.Errorf("%s: %v", what, err)
		}
	}
	s.PushTags("team/app", "v1", tag)
	add("the subject")
	for _, raw := range []string{`{"schemaVersion":2,"manifests":[{"digest":"sha256:x","size":1}]}`, `{"schemaVersion":2,"manifests":7}`} {
		before := s.PushRaw("team/app", tag, ocispec.MediaTypeImageIndex, []byte(raw))
		add(raw)
		if now, err := r.Describe(t.Context(), tag); err != nil || now.Digest != before.Digest {
			t.Errorf("under the tag stands %s, %v", now.Digest, err)
		}
	}
	s.Configure(func(o *registrytest.Options) {
		o.Answers = []registrytest.Answer{{Match: registrytest.Manifests, Status: http.StatusForbidden}}
	})
	if err := r.AddReferrers(t.Context(), subject, referrers); !errors.Is(err, image.ErrUnauthorized) {
		t.Errorf("whoever may not read the list: %v", err)
	}
	if err := r.AddReferrers(t.Context(), "sha256:../x", referrers); err == nil {
		t.Error("a digest that is none")
	}
}
