package memregistry_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/memregistry"
)

// pages follows the links of a list, and reads each page into one of T.
func pages[T any](t *testing.T, h http.Handler, next string) (all []T) {
	t.Helper()
	for next != "" {
		w := do(h, "GET", next)
		var page T
		if err := json.Unmarshal(w.Body.Bytes(), &page); err != nil || w.Code != 200 {
			t.Fatalf("%s: %d %q %v", next, w.Code, w.Body, err)
		}
		all = append(all, page)
		next, _, _ = strings.Cut(strings.TrimPrefix(w.Header().Get("Link"), "<"), ">")
	}
	return all
}

func TestCatalog(t *testing.T) {
	g := memregistry.New()
	for _, name := range []string{"team/web", "app", "team/app"} {
		g.AddManifest(name, "v1", ocispec.MediaTypeImageManifest, []byte("{}"))
	}
	type page struct{ Repositories []string }
	for query, want := range map[string][]page{
		"":                  {{[]string{"app", "team/app", "team/web"}}},
		"?n=2":              {{[]string{"app", "team/app"}}, {[]string{"team/web"}}},
		"?n=9&last=app":     {{[]string{"team/app", "team/web"}}},
		"?n=2&last=app/zzz": {{[]string{"team/app", "team/web"}}},
	} {
		if diff := cmp.Diff(want, pages[page](t, g, "/v2/_catalog"+query)); diff != "" {
			t.Errorf("%q: %s", query, diff)
		}
	}
	if w := do(memregistry.New(), "GET", "/v2/_catalog"); w.Body.String() != `{"repositories":[]}` {
		t.Errorf("empty: %q", w.Body)
	}
}

func TestReferrers(t *testing.T) {
	g := memregistry.New()
	subject := g.AddManifest("a/b", "v1", ocispec.MediaTypeImageManifest, []byte("{}")).Digest
	add := func(repository, artifactType, config string) image.Descriptor {
		raw := fmt.Sprintf(`{"artifactType":%q,"config":{"mediaType":%q},"subject":{"digest":%q},"annotations":{"k":%q}}`, artifactType, config, subject, config)
		d := g.AddManifest(repository, "", ocispec.MediaTypeImageManifest, []byte(raw))
		d.Annotations = map[string]string{"k": config}
		return d
	}
	one, two := add("a/b", "type/one", "config/one"), add("a/b", "", "config/two")
	one.ArtifactType, two.ArtifactType = "type/one", "config/two"
	add("other", "type/one", "config/one")
	add("a/b", "type/one", "config/one") // again

	path := "/v2/a/b/referrers/" + subject.String()
	for query, want := range map[string][][]image.Descriptor{"": {{one, two}}, "?n=1": {{one}, {two}}, "?n=5&last=" + one.Digest.String(): {{two}}} {
		var got [][]image.Descriptor
		for _, index := range pages[ocispec.Index](t, g, path+query) {
			if index.MediaType != ocispec.MediaTypeImageIndex || index.SchemaVersion != 2 {
				t.Errorf("%+v", index)
			}
			got = append(got, index.Manifests)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: %s", query, diff)
		}
	}
	none := "/v2/a/b/referrers/" + digest.FromString("none").String()
	if w := do(g, "GET", none); w.Code != 200 || w.Header().Get("Content-Type") != ocispec.MediaTypeImageIndex || !strings.Contains(w.Body.String(), `"manifests":[]`) {
		t.Errorf("none: %d %q", w.Code, w.Body)
	}
	if w := do(g, "GET", "/v2/a/b/referrers/sha256:x"); w.Code != 400 || errorCode(t, w) != "DIGEST_INVALID" {
		t.Errorf("no digest: %d", w.Code)
	}
}

func TestTagsAreAdded(t *testing.T) {
	g := memregistry.New()
	d := g.AddManifest("a/b", "v1", ocispec.MediaTypeImageManifest, []byte("{}"))
	tags := func() []string { return pages[struct{ Tags []string }](t, g, "/v2/a/b/tags/list")[0].Tags }
	before := tags()
	g.AddTags("a/b", d.Digest, "v3", "v2")
	if got := tags(); !slices.Equal(before, []string{"v1"}) || !slices.Equal(got, []string{"v1", "v2", "v3"}) {
		t.Errorf("%q, then %q", before, got)
	}
	if got, ok := g.Describe("a/b", "v3"); !ok || cmp.Diff(d, got) != "" {
		t.Errorf("%+v, %v", got, ok)
	}
	if _, ok := g.Describe("a/b", "v4"); ok {
		t.Error("v4 is there")
	}
}
