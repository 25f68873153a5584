package davit

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/memregistry"
	"github.com/davit-cli/davit/internal/registrytest"
)

// liar lists as referrers what it likes.
type liar struct {
	image.Source
	lists map[digest.Digest][]image.Descriptor
}

func (l *liar) Referrers(_ context.Context, subject digest.Digest) ([]image.Descriptor, error) {
	return l.lists[subject], nil
}

// said keeps notes and warnings.
type said struct {
	mu    sync.Mutex
	lines []string
}

func (s *said) event(e image.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.Kind == image.EventNote || e.Kind == image.EventWarning {
		s.lines = append(s.lines, e.Text)
	}
}

func (s *said) has(part string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.lines, func(line string) bool { return strings.Contains(line, part) })
}

// attachedBy finds what goes along with team/app:v1, if its source lists that.
func attachedBy(t *testing.T, s *registrytest.Server, lists map[digest.Digest][]image.Descriptor) (found []image.Image, told *said) {
	t.Helper()
	told = new(said)
	l, err := openLook(t.Context(), s.Host()+"/team/app:v1", LookOptions{Events: told.event})
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	img, err := l.resolve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l.source = newDocuments(&liar{l.source.Source, lists})
	if found, err = l.attached(t.Context(), img, img.Root().Digest); err != nil {
		t.Fatal(err)
	}
	return found, told
}

func digestsOf(images []image.Image) (all []digest.Digest) {
	for _, img := range images {
		all = append(all, img.Entry().Digest)
	}
	return all
}

// Lists may lead in circles, and name what refers to something else.
func TestReferrersInCircles(t *testing.T) {
	s := registrytest.Start(t, registrytest.Options{})
	app := s.Push("team/app", "v1", registrytest.Image{}).Manifest
	a := s.PushReferrer("team/app", registrytest.Referrer{Subject: app.Digest, ArtifactType: "application/a"})
	b := s.PushReferrer("team/app", registrytest.Referrer{Subject: a.Digest, ArtifactType: "application/b"})
	found, told := attachedBy(t, s, map[digest.Digest][]image.Descriptor{
		app.Digest: {b, a, app, a},
		a.Digest:   {b, app, a},
		b.Digest:   {a, b},
	})
	if diff := cmp.Diff([]digest.Digest{a.Digest, b.Digest}, digestsOf(found)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if found[1].Subject != a.Digest || found[1].Name.Digest != b.Digest || found[1].Name.Tag != "" {
		t.Errorf("the second is %s of %s", found[1].Name, found[1].Subject)
	}
	if !told.has("it is listed as one of " + app.Digest.String() + ", but does not refer to that") {
		t.Errorf("nothing is told of the wrong list: %q", told.lines)
	}
}

func TestReferrersAreBounded(t *testing.T) {
	s := registrytest.Start(t, registrytest.Options{})
	app := s.Push("team/app", "v1", registrytest.Image{}).Manifest
	lists := map[digest.Digest][]image.Descriptor{}
	subject := app.Digest
	for n := range maxReferrerLevels + 2 {
		d := s.PushReferrer("team/app", registrytest.Referrer{Subject: subject, ArtifactType: fmt.Sprint("application/level-", n+1)})
		lists[subject] = append(lists[subject], d)
		subject = d.Digest
	}
	found, told := attachedBy(t, s, lists)
	if len(found) != maxReferrerLevels || !told.has(fmt.Sprintf("by more than %d others is left out", maxReferrerLevels)) {
		t.Errorf("%d levels, told: %q", len(found), told.lines)
	}

	lists = map[digest.Digest][]image.Descriptor{}
	for n := range maxReferrers + 3 {
		lists[app.Digest] = append(lists[app.Digest], s.PushReferrer("team/app", registrytest.Referrer{Subject: app.Digest, ArtifactType: fmt.Sprint("application/number-", n)}))
	}
	found, told = attachedBy(t, s, lists)
	if len(found) != maxReferrers || !told.has("3 of what refers to it are left out") {
		t.Errorf("%d referrers, told: %q", len(found), told.lines)
	}
}

// What is listed is not all held in memory until it turns out to be too much.
func TestReferrersAreFetchedWhileThereIsRoom(t *testing.T) {
	s := registrytest.Start(t, registrytest.Options{})
	app := s.Push("team/app", "v1", registrytest.Image{}).Manifest
	var all []listed
	for n := range 10 * resolveJobs {
		d := s.PushReferrer("team/app", registrytest.Referrer{Subject: app.Digest, ArtifactType: fmt.Sprint("application/number-", n)})
		all = append(all, listed{Descriptor: d, subject: app.Digest})
	}
	told := new(said)
	l, err := openLook(t.Context(), s.Host()+"/team/app:v1", LookOptions{Events: told.event})
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	some := &referring{look: l, sizes: map[digest.Digest]int64{}, met: map[digest.Digest]bool{}, room: 3 * all[0].Size}
	if err := some.take(t.Context(), all); err != nil {
		t.Fatal(err)
	}
	fetched := 0
	for _, q := range s.Requests() {
		if strings.Contains(q.Path, "/manifests/") {
			fetched++
		}
	}
	if len(some.found) == 0 || len(some.found) > 3 || fetched > resolveJobs || !some.full {
		t.Errorf("%d are found, %d were fetched", len(some.found), fetched)
	}
	if !told.has(fmt.Sprintf("%d more of what refers to it are left out", 9*resolveJobs)) {
		t.Errorf("told: %q", told.lines)
	}
}

// A referrer that tells another size of a layer would spoil the image's copy.
func TestReferrersOfOtherSizes(t *testing.T) {
	s := registrytest.Start(t, registrytest.Options{})
	p := s.Push("team/app", "v1", registrytest.Image{Layers: []registrytest.Layer{registrytest.RandomLayer(1, 1000)}})
	raw := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/x","digest":%q,"size":%d},"layers":[{"mediaType":"application/x","digest":%q,"size":7}],`+
		`"subject":{"mediaType":%[1]q,"digest":%[5]q,"size":1}}`,
		"application/vnd.oci.image.manifest.v1+json", p.Config.Digest, p.Config.Size, p.Layers[0].Digest, p.Manifest.Digest)
	d := s.PushRaw("team/app", "", "application/vnd.oci.image.manifest.v1+json", []byte(raw))
	found, told := attachedBy(t, s, map[digest.Digest][]image.Descriptor{p.Manifest.Digest: {d}})
	if len(found) != 0 || !told.has("tells another size of a blob than others do") {
		t.Errorf("%d, told: %q", len(found), told.lines)
	}
}

// able is a registry that lists referrers itself, or not.
func able(t *testing.T, api bool) *registrytest.Server {
	t.Helper()
	return registrytest.Start(t, registrytest.Options{
		NoReferrers: !api, Uploads: &registrytest.Uploads{Uploads: memregistry.Uploads{NoSubject: !api}},
	})
}

// pushReferred pushes an image of two platforms with what refers to the index, to
// a manifest, and to that, and a signature by cosign.
func pushReferred(t *testing.T, s *registrytest.Server, api bool) (p registrytest.PushedIndex, all map[digest.Digest][]digest.Digest) {
	t.Helper()
	p = s.PushIndex("team/app", "v1", registrytest.Index{Images: []registrytest.Image{{}, {Platform: image.Platform{OS: "linux", Architecture: "arm64"}}}})
	all = map[digest.Digest][]digest.Digest{}
	refer := func(subject digest.Digest, kind, tag string) digest.Digest {
		d := s.PushReferrer("team/app", registrytest.Referrer{Subject: subject, ArtifactType: kind, Tag: tag, Untold: tag != ""}).Digest
		all[subject] = append(all[subject], d)
		return d
	}
	sbom := refer(p.Images[1].Manifest.Digest, "application/spdx+json", "")
	refer(sbom, "application/vnd.example.signature", "")
	refer(p.Index.Digest, "application/vnd.example.one", "")
	refer(p.Index.Digest, "application/vnd.example.two", "")
	refer(p.Index.Digest, image.CosignTags[0].ArtifactType, image.ReferrersTag(p.Index.Digest)+image.CosignTags[0].Suffix)
	if !api {
		for subject := range all {
			s.PushReferrersTag("team/app", subject)
		}
	}
	return p, all
}

// Whatever either registry can do, the destination lists the same, and a second
// copy sends nothing.
func TestCopyReferrers(t *testing.T) {
	for _, abilities := range [][2]bool{{true, true}, {true, false}, {false, true}, {false, false}} {
		t.Run(fmt.Sprintf("API %v to %v", abilities[0], abilities[1]), func(t *testing.T) {
			from, to := able(t, abilities[0]), able(t, abilities[1])
			p, all := pushReferred(t, from, abilities[0])
			copyAll := func() CopyResult {
				t.Helper()
				r, err := Copy(t.Context(), from.Host()+"/team/app:v1", to.Host()+"/other/app:v1", CopyOptions{Referrers: true})
				if err != nil || r.Referrers != 5 || r.Digest != p.Index.Digest {
					t.Fatalf("%+v, %v", r, err)
				}
				return r
			}
			if r := copyAll(); r.Sent != r.Size {
				t.Errorf("%d of %d bytes were sent", r.Sent, r.Size)
			}
			l, err := openLook(t.Context(), to.Host()+"/other/app:v1", LookOptions{})
			if err != nil {
				t.Fatal(err)
			}
			defer l.close()
			for subject, want := range all {
				listed, err := l.source.Referrers(t.Context(), subject)
				var got []digest.Digest
				for _, d := range listed {
					got = append(got, d.Digest)
				}
				slices.Sort(got)
				slices.Sort(want)
				if diff := cmp.Diff(want, got); diff != "" || err != nil {
					t.Errorf("of %s: %v (-want +got):\n%s", subject, err, diff)
				}
			}
			_, tagged := to.Content.Describe("other/app", image.ReferrersTag(p.Index.Digest))
			if tagged == abilities[1] {
				t.Errorf("there is a referrers tag: %v", tagged)
			}
			to.ResetRecords()
			if r := copyAll(); r.Sent != 0 || to.Stats().Uploaded != 0 {
				t.Errorf("again %d bytes were sent", r.Sent)
			}
			if n := to.Count(func(q registrytest.Request) bool {
				return q.Method == http.MethodPut && strings.HasSuffix(q.Path, image.ReferrersTag(p.Index.Digest))
			}); n != 0 {
				t.Errorf("the list was pushed %d times more", n)
			}
		})
	}
}

// What is the same is skipped, but not what came to it since.
func TestCopyReferrersOfTheSame(t *testing.T) {
	from, to := able(t, true), able(t, true)
	p, _ := pushReferred(t, from, true)
	opts := CopyOptions{SkipSame: true, Referrers: true}
	if _, err := Copy(t.Context(), from.Host()+"/team/app:v1", to.Host()+"/team/app:v1", opts); err != nil {
		t.Fatal(err)
	}
	late := from.PushReferrer("team/app", registrytest.Referrer{Subject: p.Index.Digest, ArtifactType: "application/vnd.example.late"})
	r, err := Copy(t.Context(), from.Host()+"/team/app:v1", to.Host()+"/team/app:v1", opts)
	if err != nil || !r.Same || r.Referrers != 6 {
		t.Errorf("%+v, %v", r, err)
	}
	if _, ok := to.Content.Describe("team/app", late.Digest.String()); !ok {
		t.Error("what came later was not copied")
	}
}

// A list that is none is not overwritten; the image is there, and the error
// tells of it.
func TestCopyReferrersBesideAWrongList(t *testing.T) {
	from, to := able(t, true), able(t, false)
	p, _ := pushReferred(t, from, true)
	tag := image.ReferrersTag(p.Index.Digest)
	before := to.PushRaw("team/app", tag, "application/vnd.oci.image.index.v1+json", []byte(`{"schemaVersion":2,"manifests":7}`))
	_, err := Copy(t.Context(), from.Host()+"/team/app:v1", to.Host()+"/team/app:v1", CopyOptions{Referrers: true})
	if !errors.Is(err, image.ErrVerification) || !strings.Contains(err.Error(), "under the tag "+tag) {
		t.Errorf("%v", err)
	}
	if now, _ := to.Content.Describe("team/app", tag); now.Digest != before.Digest {
		t.Errorf("under the tag stands %s", now.Digest)
	}
	if _, ok := to.Content.Describe("team/app", "v1"); !ok {
		t.Error("the image is not there")
	}
}

// Where it is not known what refers to an image, it is not copied as if nothing
// did.
func TestReferrersUnknown(t *testing.T) {
	from, to := able(t, true), able(t, true)
	pushReferred(t, from, true)
	from.Configure(func(o *registrytest.Options) {
		o.Answers = []registrytest.Answer{{Match: registrytest.Referrers, Status: http.StatusForbidden}}
	})
	if _, err := Copy(t.Context(), from.Host()+"/team/app:v1", to.Host()+"/team/app:v1", CopyOptions{Referrers: true}); !errors.Is(err, image.ErrUnauthorized) {
		t.Errorf("copied: %v", err)
	}
	path := t.TempDir() + "/app.tar"
	if _, err := Pull(t.Context(), from.Host()+"/team/app:v1", PullOptions{Referrers: true, Output: path}); !errors.Is(err, image.ErrUnauthorized) {
		t.Errorf("pulled: %v", err)
	}
}

// A referrer that is copied by itself is listed as well, whoever keeps the list.
func TestCopyOfAReferrer(t *testing.T) {
	from, to := able(t, true), able(t, false)
	subject := from.Push("team/app", "v1", registrytest.Image{}).Manifest.Digest
	signature := from.PushReferrer("team/app", registrytest.Referrer{Subject: subject, ArtifactType: "application/x", Annotations: map[string]string{"by": "me"}})
	if _, err := Copy(t.Context(), from.Host()+"/team/app@"+signature.Digest.String(), to.Host()+"/team/app", CopyOptions{}); err != nil {
		t.Fatal(err)
	}
	l, err := openLook(t.Context(), to.Host()+"/team/app", LookOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	listed, err := l.source.Referrers(t.Context(), subject)
	if diff := cmp.Diff([]image.Descriptor{signature}, listed); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

// What one artifact has as its config may be another's layer.
func TestCopyReferrersThatShareBlobs(t *testing.T) {
	from, to := able(t, true), able(t, true)
	p := from.Push("team/app", "v1", registrytest.Image{})
	one := from.AddBlob([]byte("{}"))
	for n := range 20 {
		raw := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"annotations":{"n":"%d"},"config":{"mediaType":"application/x","digest":%q,"size":%d},`+
			`"layers":[{"mediaType":"application/x","digest":%q,"size":%d}],"subject":{"mediaType":%[1]q,"digest":%[7]q,"size":1}}`,
			"application/vnd.oci.image.manifest.v1+json", n,
			[]digest.Digest{one.Digest, p.Config.Digest}[n%2], []int64{one.Size, p.Config.Size}[n%2],
			[]digest.Digest{p.Config.Digest, one.Digest}[n%2], []int64{p.Config.Size, one.Size}[n%2], p.Manifest.Digest)
		from.PushRaw("team/app", "", "application/vnd.oci.image.manifest.v1+json", []byte(raw))
	}
	r, err := Copy(t.Context(), from.Host()+"/team/app:v1", to.Host()+"/team/app:v1", CopyOptions{Referrers: true})
	if err != nil || r.Referrers != 20 || r.Size != p.Config.Size+one.Size {
		t.Errorf("%+v, %v", r, err)
	}
}

// Signatures that only the destination has are not lost: cosign keeps all of an
// image's under one tag.
func TestCopyReferrersBesideOthers(t *testing.T) {
	from, to := able(t, true), able(t, true)
	p := from.Push("team/app", "v1", registrytest.Image{})
	tag := image.ReferrersTag(p.Manifest.Digest) + ".sig"
	one, two := registrytest.RandomLayer(1, 100), registrytest.RandomLayer(2, 100)
	opts := CopyOptions{Referrers: true}
	from.Push("team/app", tag, registrytest.Image{Layers: []registrytest.Layer{one}})
	copied := func() (CopyResult, *said) {
		t.Helper()
		told := new(said)
		opts.Events = told.event
		r, err := Copy(t.Context(), from.Host()+"/team/app:v1", to.Host()+"/other/app:v1", opts)
		if err != nil {
			t.Fatal(err)
		}
		return r, told
	}
	at := func(s *registrytest.Server, repository string) digest.Digest {
		d, _ := s.Content.Describe(repository, tag)
		return d.Digest
	}
	copied()
	if at(to, "other/app") != at(from, "team/app") {
		t.Error("the signature was not copied")
	}
	from.Push("team/app", tag, registrytest.Image{Layers: []registrytest.Layer{one, two}})
	if r, _ := copied(); at(to, "other/app") != at(from, "team/app") || r.Referrers != 1 {
		t.Errorf("a second signature was not copied: %+v", r)
	}
	from.Push("team/app", tag, registrytest.Image{Layers: []registrytest.Layer{two}})
	before := at(to, "other/app")
	if r, told := copied(); at(to, "other/app") != before || r.Referrers != 0 || !told.has("the destination has others") {
		t.Errorf("%+v; told: %q", r, told.lines)
	}
}
