package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/registrytest"
)

const sbomType = "application/spdx+json"

// referred is a server with an image that two artifacts refer to.
func referred(t *testing.T, o registrytest.Options) (s *registrytest.Server, subject digest.Digest, referrers []image.Descriptor) {
	t.Helper()
	s = registrytest.Start(t, o)
	subject = s.Push("team/app", "v1", registrytest.Image{}).Manifest.Digest
	for _, what := range []string{"one", "two"} {
		referrers = append(referrers, s.PushReferrer("team/app", registrytest.Referrer{
			Subject: subject, ArtifactType: sbomType, Annotations: map[string]string{"which": what},
		}))
	}
	return s, subject, referrers
}

// All is asked at the same time: nobody answers before everybody was asked.
func TestReferrersInOneRoundTrip(t *testing.T) {
	s, subject, want := referred(t, registrytest.Options{})
	var asking sync.WaitGroup
	asking.Add(5)
	s.Configure(func(o *registrytest.Options) {
		o.Intercept = func(http.ResponseWriter, *http.Request) bool {
			asking.Done()
			asking.Wait()
			return false
		}
	})
	r := openAt(t, s, Options{PlainHTTP: true}) // else the first request finds out the scheme
	got, err := r.Referrers(t.Context(), subject)
	if err != nil || cmp.Diff(want, got) != "" {
		t.Errorf("%v, %s", err, cmp.Diff(want, got))
	}
	tag := "/v2/team/app/manifests/sha256-" + subject.Encoded()
	all := asked(s)
	slices.Sort(all)
	if diff := cmp.Diff([]string{
		"GET /v2/team/app/referrers/" + subject.String(),
		"HEAD " + tag, "HEAD " + tag + ".att", "HEAD " + tag + ".sbom", "HEAD " + tag + ".sig",
	}, all); diff != "" {
		t.Error(diff)
	}
}

func TestReferrersInPages(t *testing.T) {
	s, subject, want := referred(t, registrytest.Options{ReferrerPage: 1, Auth: &registrytest.Auth{}})
	got, err := openAt(t, s, Options{}).Referrers(t.Context(), subject)
	if err != nil || cmp.Diff(want, got) != "" {
		t.Errorf("%v, %s", err, cmp.Diff(want, got))
	}
	if st := s.Stats(); st.Exchanges != 1 {
		t.Errorf("%d tokens", st.Exchanges)
	}
}

func TestReferrersOfCosign(t *testing.T) {
	s, subject, want := referred(t, registrytest.Options{})
	tag := "sha256-" + subject.Encoded()
	for _, kind := range []string{"sig", "sbom", "att"} {
		d := s.PushReferrer("team/app", registrytest.Referrer{
			Annotations: map[string]string{"kind": kind}, Tag: tag + "." + kind, Untold: true,
		})
		want = append(want, image.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size, ArtifactType: "application/vnd.dev.cosign.artifact." + kind + ".v1+json"})
	}
	want[3], want[4] = want[4], want[3] // .sig, .att, .sbom
	// What is under a tag and refers as well is there once.
	want = slices.Insert(want, 2, s.PushReferrer("team/app", registrytest.Referrer{Subject: subject, Tag: tag + ".sig", ArtifactType: "signature"}))
	want = slices.Delete(want, 3, 4)
	got, err := openAt(t, s, Options{}).Referrers(t.Context(), subject)
	if err != nil || cmp.Diff(want, got) != "" {
		t.Errorf("%v, %s", err, cmp.Diff(want, got))
	}
	// No other digest has such tags.
	s.ResetRecords()
	if got, err := openAt(t, s, Options{}).Referrers(t.Context(), digest.SHA512.FromString("x")); err != nil || len(got) > 0 || s.Count(func(q registrytest.Request) bool { return q.Method == http.MethodHead }) > 1 {
		t.Errorf("sha512: %v, %v; asked %q", got, err, asked(s))
	}
}

// Without the API the referrers tag counts, with it it does not.
func TestReferrersTag(t *testing.T) {
	api := func(status int, contentType, body string) registrytest.Options {
		return registrytest.Options{Answers: []registrytest.Answer{{
			Match: registrytest.Referrers, Status: status, Header: http.Header{"Content-Type": {contentType}}, Body: body,
		}}}
	}
	for name, o := range map[string]registrytest.Options{
		"404":        {NoReferrers: true},
		"no HEAD":    {NoReferrers: true, NoHead: true},
		"400":        api(http.StatusBadRequest, "", "no"),
		"405":        api(http.StatusMethodNotAllowed, "", "no"),
		"501":        api(http.StatusNotImplemented, "", "no"),
		"HTML":       api(http.StatusOK, "text/html", "<html>"),
		"JSON":       api(http.StatusOK, "application/json", `{"hello":1}`),
		"a manifest": api(http.StatusOK, ocispec.MediaTypeImageManifest, manifest),
		"elsewhere": {Intercept: func(w http.ResponseWriter, req *http.Request) bool {
			if registrytest.Referrers(req) {
				http.Redirect(w, req, "http://"+strings.Replace(req.Host, "127.0.0.1", "localhost", 1)+"/login", http.StatusSeeOther)
			} else if req.URL.Path == "/login" {
				w.WriteHeader(http.StatusForbidden)
			}
			return registrytest.Referrers(req) || req.URL.Path == "/login"
		}},
	} {
		s, subject, want := referred(t, o)
		if got, err := openAt(t, s, Options{}).Referrers(t.Context(), subject); err != nil || len(got) > 0 {
			t.Errorf("%s: without a tag: %v, %v", name, got, err)
		}
		s.PushReferrersTag("team/app", subject)
		got, err := openAt(t, s, Options{}).Referrers(t.Context(), subject)
		if err != nil || cmp.Diff(want, got) != "" {
			t.Errorf("%s: %v, %s", name, err, cmp.Diff(want, got))
		}
	}
	s, subject, _ := referred(t, registrytest.Options{})
	s.PushReferrersTag("team/app", subject)
	other := digest.FromString("other") // has a tag, but no referrers
	s.PushRaw("team/app", "sha256-"+other.Encoded(), ocispec.MediaTypeImageIndex, []byte(`{"schemaVersion":2,"manifests":[{"digest":"`+subject.String()+`","size":1}]}`))
	if got, err := openAt(t, s, Options{}).Referrers(t.Context(), other); err != nil || len(got) > 0 {
		t.Errorf("an API that knows of none: %v, %v", got, err)
	}
}

// What stands under the tag may be something else.
func TestReferrersTagThatIsNone(t *testing.T) {
	s := registrytest.Start(t, registrytest.Options{NoReferrers: true})
	p := s.PushIndex("team/app", "v1", registrytest.Index{Images: []registrytest.Image{{}}})
	subject := p.Index.Digest
	for name, push := range map[string]func(tag string){
		"the subject": func(tag string) { s.PushRaw("team/app", tag, ocispec.MediaTypeImageIndex, p.Bytes) },
		"a manifest":  func(tag string) { s.Push("team/app", tag, registrytest.Image{}) },
	} {
		push("sha256-" + subject.Encoded())
		if got, err := openAt(t, s, Options{}).Referrers(t.Context(), subject); err != nil || len(got) > 0 {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	// 64 digits at most.
	long := digest.SHA512.FromString("x")
	s.PushReferrer("team/app", registrytest.Referrer{Subject: long, ArtifactType: sbomType})
	s.PushReferrersTag("team/app", long)
	if got, err := openAt(t, s, Options{}).Referrers(t.Context(), long); err != nil || len(got) != 1 {
		t.Errorf("sha512: %v, %v", got, err)
	}
}

func TestReferrersRefused(t *testing.T) {
	for _, test := range []struct {
		name   string
		match  registrytest.Match
		status int
		is     error
		says   string
	}{
		{"401", registrytest.Referrers, 401, image.ErrUnauthorized, "list referrers of team/app@"},
		{"403", registrytest.Referrers, 403, image.ErrUnauthorized, "list referrers of team/app@"},
		{"429", registrytest.Referrers, 429, nil, "429 Too Many Requests"},
		{"500", registrytest.Referrers, 500, nil, "500 Internal Server Error"},
		{"403 for tags", registrytest.Heads, 403, image.ErrUnauthorized, "describe manifest team/app:sha256-"},
		{"503 for tags", registrytest.Heads, 503, nil, "describe manifest team/app:sha256-"},
	} {
		s, subject, _ := referred(t, registrytest.Options{Answers: []registrytest.Answer{{Match: test.match, Status: test.status}}})
		got, err := openAt(t, s, Options{Retries: 1}).Referrers(t.Context(), subject)
		if err == nil || test.is != nil && !errors.Is(err, test.is) || !strings.Contains(err.Error(), test.says) || got != nil {
			t.Errorf("%s: %v, %v", test.name, got, err)
		}
	}
	s, _, _ := referred(t, registrytest.Options{})
	if _, err := openAt(t, s, Options{}).Referrers(t.Context(), "sha256:../x"); !errors.Is(err, image.ErrVerification) || len(s.Requests()) > 0 {
		t.Errorf("got %v", err)
	}
}

// indexOf is an index of descriptors as a hostile registry writes it.
func indexOf(descriptors ...string) string {
	return `{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageIndex + `","manifests":[` + strings.Join(descriptors, ",") + `]}`
}

func TestReferrersHostile(t *testing.T) {
	good := digest.FromString("good").String()
	many := slices.Repeat([]string{`{"digest":"` + good + `","size":1}`}, image.MaxDescriptors/2+1)
	for _, test := range []struct {
		name, body, link string
		says             string // an error, or where there is one left a warning
		left             int
	}{
		{"no digest", indexOf(`{"digest":"sha256:../../x","size":1}`, `{"digest":"`+good+`","size":1}`), "", "a referrer is left out", 1},
		{"negative", indexOf(`{"digest":"` + good + `","size":-1}`), "", "a referrer is left out", 0},
		{"huge", indexOf(`{"digest":"` + good + `","size":9000000000000000000}`), "", "a referrer is left out", 0},
		{"data", indexOf(`{"digest":"` + good + `","size":1,"data":"eA==","urls":["http://evil.test"]}`), "", "", 1},
		{"malformed", indexOf(`{"digest":7}`), "", "malformed", 0},
		{"no list", `{"schemaVersion":2,"manifests":{}}`, "", "malformed", 0},
		{"two kinds", `{"schemaVersion":2,"manifests":[],"layers":[]}`, "", "contradicts itself", 0},
		{"no JSON", "<html>" + canary, "", "no JSON document", 0},
		{"another host", indexOf(), "<http://evil.test/v2/x>", "leads to another host, evil.test", 0},
		{"the same page", indexOf(), "</v2/team/app/referrers/" + good + "?last=1>", "leads back to one", 0},
		{"too many", indexOf(many...), "</v2/team/app/referrers/" + good + "?last=1>", "there are more than 4096", 0},
		{"a second page that fails", indexOf(), "</none>", "404 Not Found", 0},
	} {
		server := serve(t, func(w http.ResponseWriter, req *http.Request) {
			if !strings.Contains(req.URL.Path, "/referrers/") {
				http.NotFound(w, req)
				return
			}
			w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
			w.Header().Set("Link", test.link)
			_, _ = io.WriteString(w, test.body)
		})
		var sent events
		got, err := open(t, server, Options{Events: sent.add}).Referrers(t.Context(), digest.Digest(good[:len(good)-1]+"0"))
		warnings := sent.of(image.EventWarning)
		said := fmt.Sprint(err)
		if len(warnings) > 0 {
			said = warnings[0].Text
		}
		failed := test.says != "" && !strings.HasPrefix(test.says, "a referrer")
		if (err != nil) != failed || !strings.Contains(said, test.says) || strings.Contains(said, canary) || len(got) != test.left {
			t.Errorf("%s: %v, %v; warnings %v", test.name, got, err, warnings)
		}
		for _, d := range got {
			if len(d.Data)+len(d.URLs) > 0 {
				t.Errorf("%s: %+v", test.name, d)
			}
		}
	}
}

// A hostile tag of cosign's form does not hide the others.
func TestReferrersOfHostileCosign(t *testing.T) {
	s, subject, want := referred(t, registrytest.Options{})
	s.PushRaw("team/app", "sha256-"+subject.Encoded()+".sig", "text/html", []byte("<html>"))
	var sent events
	got, err := openAt(t, s, Options{Events: sent.add}).Referrers(t.Context(), subject)
	if err != nil || cmp.Diff(want, got) != "" || len(sent.of(image.EventWarning)) != 1 {
		t.Errorf("%v, %v; %v", got, err, sent.sent)
	}
}

func TestReferrersThatNeverEnd(t *testing.T) {
	pages := 0
	r, err := Open(referenceTo("registry.test"), Options{Transport: answering(func(req *http.Request) *http.Response {
		if !strings.Contains(req.URL.Path, "/referrers/") {
			return &http.Response{StatusCode: http.StatusNotFound, Body: http.NoBody}
		}
		pages++
		body, _ := json.Marshal(ocispec.Index{Annotations: map[string]string{"x": strings.Repeat("x", 4_000_000)}, Manifests: []image.Descriptor{}})
		return &http.Response{
			StatusCode: http.StatusOK, ContentLength: -1, Body: io.NopCloser(strings.NewReader(string(body))),
			Header: http.Header{"Link": {fmt.Sprintf("<?page=%d>", pages)}, "Content-Type": {ocispec.MediaTypeImageIndex}},
		}
	})})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Referrers(t.Context(), digest.FromString("x")); !errors.Is(err, image.ErrVerification) || !strings.Contains(err.Error(), "larger than 16 MiB") || pages > 5 {
		t.Errorf("%v after %d pages", err, pages)
	}
}
