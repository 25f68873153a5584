package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/registrytest"
)

// openAt opens team/app on a server, with quick retries.
func openAt(t *testing.T, s *registrytest.Server, opts Options) *Repository {
	t.Helper()
	r, err := Open(referenceTo(s.Host()), opts)
	if err != nil {
		t.Fatal(err)
	}
	r.client.backoff = time.Millisecond
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// asked are the requests that a server has got, methods and paths.
func asked(s *registrytest.Server) []string {
	var all []string
	for _, q := range s.Requests() {
		all = append(all, q.Method+" "+q.Path)
	}
	return all
}

func TestDescribe(t *testing.T) {
	s := registrytest.Start(t, registrytest.Options{})
	p := s.Push("team/app", "v1", registrytest.Image{})
	x := s.PushIndex("team/app", "v2", registrytest.Index{Images: []registrytest.Image{{}}, Docker: true})
	r := openAt(t, s, Options{})
	for what, want := range map[string]image.Descriptor{
		"v1": p.Manifest, "v2": x.Index, p.Manifest.Digest.String(): p.Manifest, x.Index.Digest.String(): x.Index,
	} {
		s.ResetRecords()
		got, err := r.Describe(t.Context(), what)
		if err != nil || cmp.Diff(want, got) != "" {
			t.Errorf("%s: %v, %s", what, err, cmp.Diff(want, got))
		}
		if want := []string{"HEAD /v2/team/app/manifests/" + what}; !slices.Equal(want, asked(s)) {
			t.Errorf("%s: asked %q", what, asked(s))
		}
	}
}

// One challenge, one token, and one HEAD that counts.
func TestDescribeWithToken(t *testing.T) {
	s := registrytest.Start(t, registrytest.Options{Auth: &registrytest.Auth{User: "me", Password: canary, OwnRealm: true}})
	p := s.Push("team/app", "v1", registrytest.Image{})
	r := openAt(t, s, Options{Credentials: given("me", canary)})
	for range 2 {
		if got, err := r.Describe(t.Context(), "v1"); err != nil || got.Digest != p.Manifest.Digest {
			t.Errorf("got %+v, %v", got, err)
		}
	}
	head := "HEAD /v2/team/app/manifests/v1"
	if want := []string{head, "GET /token", head, head}; cmp.Diff(want, asked(s)) != "" {
		t.Errorf("asked %q", asked(s))
	}
	r = openAt(t, s, Options{})
	s.ResetRecords()
	_, err := r.Describe(t.Context(), "v1")
	if err == nil {
		t.Fatal("described for nobody")
	}
	_, sizeErr := r.BlobSize(t.Context(), p.Config.Digest)
	if !errors.Is(err, image.ErrUnauthorized) || !errors.Is(sizeErr, image.ErrUnauthorized) || !strings.Contains(err.Error(), "get token for team/app from") || slices.ContainsFunc(asked(s), func(q string) bool { return strings.HasPrefix(q, "GET /v2/") }) {
		t.Errorf("got %v; asked %q", err, asked(s))
	}
}

func TestDescribeByManifest(t *testing.T) {
	for name, o := range map[string]registrytest.Options{
		"no HEAD":         {NoHead: true},
		"no digest":       {NoDigestHeader: true},
		"no size":         {NoContentLength: true},
		"no type":         {ManifestType: "none"},
		"a vague type":    {ManifestType: "application/octet-stream"},
		"404 to all HEAD": {Answers: []registrytest.Answer{{Match: registrytest.Heads, Status: http.StatusNotFound}}},
		"400 to all HEAD": {Answers: []registrytest.Answer{{Match: registrytest.Heads, Status: http.StatusBadRequest}}},
		"501 to all HEAD": {Answers: []registrytest.Answer{{Match: registrytest.Heads, Status: http.StatusNotImplemented}}},
		"gzip":            {Answers: []registrytest.Answer{{Match: registrytest.Heads, Status: http.StatusOK, Header: http.Header{"Content-Encoding": {"gzip"}, "Content-Length": {"7"}, "Content-Type": {ocispec.MediaTypeImageManifest}}}}},
	} {
		s := registrytest.Start(t, o)
		p := s.Push("team/app", "v1", registrytest.Image{})
		got, err := openAt(t, s, Options{}).Describe(t.Context(), "v1")
		if err != nil || cmp.Diff(p.Manifest, got) != "" {
			t.Errorf("%s: %v, %s", name, err, cmp.Diff(p.Manifest, got))
		}
		const path = " /v2/team/app/manifests/v1"
		if want := []string{"HEAD" + path, "GET" + path}; cmp.Diff(want, asked(s)) != "" {
			t.Errorf("%s: asked %q", name, asked(s))
		}
	}
	// Who asks by digest knows it.
	s := registrytest.Start(t, registrytest.Options{NoDigestHeader: true})
	p := s.Push("team/app", "v1", registrytest.Image{})
	if got, err := openAt(t, s, Options{}).Describe(t.Context(), p.Manifest.Digest.String()); err != nil || cmp.Diff(p.Manifest, got) != "" || len(s.Requests()) != 1 {
		t.Errorf("by digest: %+v, %v; asked %q", got, err, asked(s))
	}
}

// A HEAD has no body, but its refusal says what it is about.
func TestDescribeRefused(t *testing.T) {
	s := registrytest.Start(t, registrytest.Options{})
	s.Push("team/app", "v1", registrytest.Image{})
	r := openAt(t, s, Options{Retries: 1})
	for _, test := range []struct {
		name     string
		answers  []registrytest.Answer
		what     string
		is       error
		says     string
		requests int
	}{
		{"no tag", nil, "v2", image.ErrNotFound, "get manifest team/app:v2 from " + s.Host() + ": 404 Not Found: manifest unknown (no such tag or digest", 2},
		{"no digest", nil, digest.FromString("x").String(), image.ErrNotFound, "404 Not Found", 2},
		{"denied", []registrytest.Answer{{Status: http.StatusForbidden, Body: "x"}}, "v1", image.ErrUnauthorized, "describe manifest team/app:v1 from " + s.Host() + ": 403 Forbidden; no credential was used", 1},
		{"busy for ever", []registrytest.Answer{{Status: http.StatusTooManyRequests}}, "v1", nil, "describe manifest team/app:v1 from " + s.Host() + ": 429 Too Many Requests", 2},
		{"a pause", []registrytest.Answer{{Status: http.StatusServiceUnavailable, Times: 1}}, "v1", nil, "", 2},
		{"nonsense", nil, "-", nil, `describe manifest of team/app: "-" is no tag`, 0},
		{"no real digest", nil, "sha256:../x", image.ErrVerification, "describe manifest of team/app", 0},
	} {
		s.Configure(func(o *registrytest.Options) { o.Answers = test.answers })
		s.ResetRecords()
		_, err := r.Describe(t.Context(), test.what)
		if test.is != nil && !errors.Is(err, test.is) || (err == nil) != (test.says == "") || err != nil && !strings.Contains(err.Error(), test.says) || len(s.Requests()) != test.requests {
			t.Errorf("%s: %v; asked %q", test.name, err, asked(s))
		}
	}
}

func TestDescribedBy(t *testing.T) {
	const index, size = ocispec.MediaTypeImageIndex, 100
	one, other, long := digest.FromString("one"), digest.FromString("other"), digest.SHA512.FromString("one")
	for _, test := range []struct {
		name        string
		asked, told digest.Digest
		mediaType   string
		size        int64
		want        error
	}{
		{"by tag", "", one, index, size, nil},
		{"by tag, sha512", "", long, index, size, nil},
		{"by digest", one, one, index, size, nil},
		{"by digest, untold", one, "", index, size, nil},
		{"parameters", "", one, image.MediaTypeDockerManifest + "; charset=utf-8", size, nil},
		{"another", one, other, index, size, image.ErrVerification},
		{"another, and no type", one, other, "", -1, image.ErrVerification},
		{"of another algorithm", one, long, index, size, errIncomplete},
		{"no digest", "", "sha256:../x", index, size, errIncomplete},
		{"no digest, asked for one", one, "sha256:../x", index, size, nil},
		{"schema 1", "", one, image.MediaTypeDockerSchema1JWS, size, errIncomplete},
		{"HTML", "", one, "text/html; charset=utf-8", size, errIncomplete},
		{"malformed type", "", one, ";;", size, errIncomplete},
		{"empty", "", one, index, 0, errIncomplete},
		{"huge", "", one, index, maxMetadata + 1, image.ErrVerification},
	} {
		header := http.Header{"Content-Type": {test.mediaType}}
		if test.told != "" {
			header.Set("Docker-Content-Digest", test.told.String())
		}
		got, err := describedBy(header, test.size, test.asked)
		if !errors.Is(err, test.want) || (err == nil) != (got.Digest != "") {
			t.Errorf("%s: %+v, %v", test.name, got, err)
		}
		if err == nil && (got.Size != size || strings.Contains(got.MediaType, ";") || test.asked != "" && got.Digest != test.asked) {
			t.Errorf("%s: %+v", test.name, got)
		}
	}
}

func TestDescribeEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, err := Open(referenceTo("registry.test"), Options{Transport: answering(func(*http.Request) *http.Response {
			return &http.Response{StatusCode: http.StatusServiceUnavailable, Header: http.Header{"Retry-After": {"60"}}, Body: http.NoBody}
		})})
		if err != nil {
			t.Fatal(err)
		}
		stopped := errors.New("stopped")
		for name, ask := range map[string]func(ctx context.Context) error{
			"describe":  func(ctx context.Context) error { _, err := r.Describe(ctx, "v1"); return err },
			"size":      func(ctx context.Context) error { _, err := r.BlobSize(ctx, digest.FromString("x")); return err },
			"referrers": func(ctx context.Context) error { _, err := r.Referrers(ctx, digest.FromString("x")); return err },
		} {
			ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, stopped)
			if err := ask(ctx); !errors.Is(err, stopped) {
				t.Errorf("%s: %v", name, err)
			}
			cancel()
		}
	})
}

func TestBlobSize(t *testing.T) {
	blob, empty := []byte(strings.Repeat("x", 1000)), []byte{}
	signed := &registrytest.Redirect{Heads: true}
	for _, test := range []struct {
		name    string
		options registrytest.Options
		asked   string // the methods
	}{
		{"HEAD", registrytest.Options{}, "HEAD"},
		{"no HEAD", registrytest.Options{NoHead: true}, "HEAD GET"},
		{"no HEAD, no ranges", registrytest.Options{NoHead: true, Ranges: registrytest.RangesIgnored}, "HEAD GET"},
		{"no HEAD, 400 to ranges", registrytest.Options{NoHead: true, Ranges: registrytest.RangesBadRequest}, "HEAD GET GET"},
		{"no HEAD, unlabelled ranges", registrytest.Options{NoHead: true, Ranges: registrytest.RangesUnlabelled}, "HEAD GET GET"},
		{"no HEAD at the CDN", registrytest.Options{Redirect: signed}, "HEAD HEAD GET GET"},
		{"no length of HEAD", registrytest.Options{Answers: []registrytest.Answer{{Match: registrytest.Heads, Status: http.StatusOK}}}, "HEAD GET"},
		{"a pause", registrytest.Options{Busy: &registrytest.Busy{Times: 1}}, "HEAD HEAD"},
		{"a pause after no HEAD", registrytest.Options{NoHead: true, Answers: []registrytest.Answer{{Match: func(r *http.Request) bool { return r.Method == "GET" }, Status: 503, Times: 1}}}, "HEAD GET GET"},
	} {
		s := registrytest.Start(t, test.options)
		d := s.AddBlob(blob)
		size, err := openAt(t, s, Options{}).BlobSize(t.Context(), d.Digest)
		var methods []string
		for _, q := range s.Requests() {
			methods = append(methods, q.Method)
		}
		if err != nil || size != 1000 || strings.Join(methods, " ") != test.asked {
			t.Errorf("%s: %d, %v, by %q", test.name, size, err, methods)
		}
		if st := s.Stats(); st.CDNAuthorized > 0 {
			t.Errorf("%s: the CDN was shown a credential", test.name)
		}
		d = s.AddBlob(empty)
		if size, err := openAt(t, s, Options{}).BlobSize(t.Context(), d.Digest); err != nil || size != 0 {
			t.Errorf("%s: an empty blob: %d, %v", test.name, size, err)
		}
	}
}

func TestBlobSizeRefused(t *testing.T) {
	one, other := digest.FromString("one"), digest.FromString("other")
	answer := func(status int, header http.Header) *registrytest.Answer {
		return &registrytest.Answer{Status: status, Header: header}
	}
	for _, test := range []struct {
		name   string
		answer *registrytest.Answer
		digest digest.Digest
		is     error
		says   string
	}{
		{"none", nil, one, image.ErrNotFound, "get blob team/app@" + one.String() + " from 127.0.0.1"},
		{"denied", answer(http.StatusForbidden, nil), one, image.ErrUnauthorized, "get size of blob team/app@" + one.String()},
		{"another", answer(http.StatusOK, http.Header{"Docker-Content-Digest": {other.String()}, "Content-Length": {"3"}}), one, image.ErrVerification, "announces"},
		{"huge", answer(http.StatusOK, http.Header{"Content-Length": {"9000000000000000000"}}), one, image.ErrVerification, "more than"},
		{"no digest", nil, "sha256:../x", image.ErrVerification, "get blob of team/app"},
	} {
		s := registrytest.Start(t, registrytest.Options{})
		if test.answer != nil {
			s.Configure(func(o *registrytest.Options) { o.Answers = []registrytest.Answer{*test.answer} })
		}
		_, err := openAt(t, s, Options{Retries: -1}).BlobSize(t.Context(), test.digest)
		if !errors.Is(err, test.is) || !strings.Contains(fmt.Sprint(err), test.says) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
	// A size that no range tells of.
	r, err := Open(referenceTo("registry.test"), Options{Retries: -1, Transport: answering(func(req *http.Request) *http.Response {
		if req.Method == http.MethodHead {
			return &http.Response{StatusCode: http.StatusMethodNotAllowed, Body: http.NoBody}
		}
		return &http.Response{StatusCode: http.StatusOK, ContentLength: -1, Body: http.NoBody}
	})})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.BlobSize(t.Context(), one); err == nil || !strings.Contains(err.Error(), "from registry.test: it does not tell") {
		t.Errorf("got %v", err)
	}
}
