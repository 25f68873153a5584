package mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
)

// fake is a source that says who answered.
type fake struct {
	name string
	err  error         // what it fails of
	hang bool          // until the context ends
	slow time.Duration // between two tags
	tags []string

	asked []string
}

func (f *fake) answer(ctx context.Context, what string) (string, error) {
	f.asked = append(f.asked, what)
	if f.hang {
		<-ctx.Done()
		return "", context.Cause(ctx)
	}
	if f.err != nil {
		return "", fmt.Errorf("%s: %w", f.name, f.err)
	}
	return f.name, nil
}

func (f *fake) Manifest(ctx context.Context, tagOrDigest string) (image.Content, error) {
	by, err := f.answer(ctx, tagOrDigest)
	return image.Content{Bytes: []byte(by)}, err
}

func (f *fake) Blob(ctx context.Context, d image.Descriptor) ([]byte, error) {
	by, err := f.answer(ctx, d.Digest.String())
	return []byte(by), err
}

func (f *fake) OpenRange(ctx context.Context, d image.Descriptor, _, _ int64) (*image.Range, error) {
	by, err := f.answer(ctx, d.Digest.String())
	return &image.Range{Host: by}, err
}

func (f *fake) Tags(ctx context.Context, fn func([]string) error) error {
	for _, tag := range f.tags {
		if err := fn([]string{tag}); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(f.slow):
		}
	}
	_, err := f.answer(ctx, "tags")
	return err
}

func (f *fake) Describe(ctx context.Context, tagOrDigest string) (image.Descriptor, error) {
	by, err := f.answer(ctx, "describe "+tagOrDigest)
	return image.Descriptor{MediaType: by}, err
}

func (f *fake) Referrers(ctx context.Context, subject digest.Digest) ([]image.Descriptor, error) {
	by, err := f.answer(ctx, "referrers of "+subject.String())
	return []image.Descriptor{{ArtifactType: by}}, err
}

// plain is a source that knows nothing but to give content.
type plain struct{ image.Source }

var (
	errDown = errors.New("connection refused")
	someID  = digest.FromString("some")
)

// with makes a source of fakes, the first of which is the origin, and tells the
// events that a person must read.
func with(origin *fake, mirrors ...*fake) (*Source, *[]string) {
	var told []string
	var list []Mirror
	for _, m := range mirrors {
		list = append(list, Mirror{Source: m, Name: m.name})
	}
	return New(Mirror{Source: origin, Name: origin.name}, list, func(e image.Event) {
		if e.Kind == image.EventWarning {
			told = append(told, e.Text)
		}
	}), &told
}

func TestTagIsTheOrigins(t *testing.T) {
	origin, a := &fake{name: "origin"}, &fake{name: "a"}
	s, told := with(origin, a)
	got, err := s.Manifest(t.Context(), "v1")
	if err != nil || string(got.Bytes) != "origin" || len(*told) > 0 || len(a.asked) > 0 {
		t.Errorf("got %q, %v; told %q, mirror was asked %q", got.Bytes, err, *told, a.asked)
	}
}

func TestDigestIsTheMirrorsFirst(t *testing.T) {
	origin, a, b := &fake{name: "origin"}, &fake{name: "a", err: image.ErrNotFound}, &fake{name: "b"}
	s, told := with(origin, a, b)
	got, err := s.Manifest(t.Context(), someID.String())
	if err != nil || string(got.Bytes) != "b" || len(*told) > 0 || len(origin.asked) > 0 {
		t.Errorf("got %q, %v; told %q, origin was asked %q", got.Bytes, err, *told, origin.asked)
	}
	// What merely has not got one thing is asked for another.
	a.err = nil
	if blob, err := s.Blob(t.Context(), image.Descriptor{Digest: someID}); err != nil || string(blob) != "a" {
		t.Errorf("got %q, %v", blob, err)
	}
}

func TestTagOfAMirror(t *testing.T) {
	origin, a, b := &fake{name: "origin", err: errDown}, &fake{name: "a", err: errDown}, &fake{name: "b"}
	s, told := with(origin, a, b)
	got, err := s.Manifest(t.Context(), "v1")
	if err != nil || string(got.Bytes) != "b" {
		t.Fatalf("got %q, %v", got.Bytes, err)
	}
	if want := []string{"the tag v1 is the mirror b's, since origin cannot give it: origin: connection refused"}; !slices.Equal(*told, want) {
		t.Errorf("told %q, want %q", *told, want)
	}
	// From now on b stands for the origin.
	source, mirrors := s.Layers()
	if source != image.Source(b) || !slices.Equal(mirrors, []image.Source{a}) {
		t.Errorf("layers are fetched from %v and %v", mirrors, source)
	}
}

// What the origin says of a tag stands, also where it is no good news.
func TestOriginsWordStands(t *testing.T) {
	for _, final := range []error{image.ErrNotFound, image.ErrVerification} {
		origin, a := &fake{name: "origin", err: final}, &fake{name: "a"}
		s, _ := with(origin, a)
		if _, err := s.Manifest(t.Context(), "v1"); !errors.Is(err, final) || len(a.asked) > 0 {
			t.Errorf("%v: got %v, mirror was asked %q", final, err, a.asked)
		}
	}
}

func TestAllFail(t *testing.T) {
	origin, a := &fake{name: "origin", err: image.ErrUnauthorized}, &fake{name: "a", err: image.ErrNotFound}
	s, _ := with(origin, a)
	_, err := s.Manifest(t.Context(), "v1")
	if !errors.Is(err, image.ErrUnauthorized) || errors.Is(err, image.ErrNotFound) || !strings.Contains(err.Error(), "mirror a: a: ") {
		t.Errorf("got %v", err)
	}
	_, err = s.Manifest(t.Context(), someID.String())
	if !errors.Is(err, image.ErrUnauthorized) {
		t.Errorf("by digest: got %v", err)
	}
}

func TestFailingMirrorIsDropped(t *testing.T) {
	origin, a, b := &fake{name: "origin"}, &fake{name: "a", err: image.ErrVerification}, &fake{name: "b"}
	s, told := with(origin, a, b)
	for range 3 {
		if got, err := s.Manifest(t.Context(), someID.String()); err != nil || string(got.Bytes) != "b" {
			t.Fatalf("got %q, %v", got.Bytes, err)
		}
	}
	if len(a.asked) != 1 || len(*told) != 1 || !strings.Contains((*told)[0], "mirror a is not used") {
		t.Errorf("it was asked %d times; told %q", len(a.asked), *told)
	}
	source, mirrors := s.Layers()
	if source != image.Source(origin) || !slices.Equal(mirrors, []image.Source{b}) {
		t.Errorf("layers are fetched from %v and %v", mirrors, source)
	}
}

// Several mirrors of one host are one each.
func TestMirrorsOfOneHost(t *testing.T) {
	origin, a, b := &fake{name: "origin"}, &fake{name: "host", err: image.ErrUnauthorized}, &fake{name: "host"}
	s, told := with(origin, a, b)
	for range 2 {
		if got, err := s.Manifest(t.Context(), someID.String()); err != nil || string(got.Bytes) != "host" {
			t.Fatalf("got %q, %v", got.Bytes, err)
		}
	}
	if len(a.asked) != 1 || len(b.asked) != 2 || len(*told) != 1 {
		t.Errorf("they were asked %d and %d times; told %q", len(a.asked), len(b.asked), *told)
	}
}

func TestWhatAMirrorIsFor(t *testing.T) {
	origin, tags, digests := &fake{name: "origin", err: errDown}, &fake{name: "tags"}, &fake{name: "digests"}
	s := New(Mirror{Source: origin, Name: "origin"}, []Mirror{
		{Source: digests, Name: "digests", NoTags: true},
		{Source: tags, Name: "tags", NoDigests: true},
	}, nil)
	got, err := s.Manifest(t.Context(), "v1")
	if err != nil || string(got.Bytes) != "tags" {
		t.Errorf("the tag: got %q, %v", got.Bytes, err)
	}
	got, err = s.Manifest(t.Context(), someID.String())
	if err != nil || string(got.Bytes) != "digests" {
		t.Errorf("the digest: got %q, %v", got.Bytes, err)
	}
	if source, mirrors := s.Layers(); source != image.Source(origin) || !slices.Equal(mirrors, []image.Source{digests}) {
		t.Errorf("layers are fetched from %v and %v", mirrors, source)
	}
}

// An origin and a mirror that never answer cost their time, and no more.
func TestHanging(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		origin, a, b := &fake{name: "origin", hang: true}, &fake{name: "a", hang: true}, &fake{name: "b"}
		s, told := with(origin, a, b)
		got, err := s.Manifest(t.Context(), "v1")
		if err != nil || string(got.Bytes) != "b" || !strings.Contains((*told)[0], "no answer within 20s") {
			t.Errorf("got %q, %v; told %q", got.Bytes, err, *told)
		}
		got, err = s.Manifest(t.Context(), someID.String())
		if err != nil || string(got.Bytes) != "b" {
			t.Errorf("got %q, %v", got.Bytes, err)
		}
	})
}

func TestCancelled(t *testing.T) {
	origin, a := &fake{name: "origin", hang: true}, &fake{name: "a"}
	s, told := with(origin, a)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errDown)
	if _, err := s.Manifest(ctx, "v1"); !errors.Is(err, errDown) || len(a.asked) > 0 || len(*told) > 0 {
		t.Errorf("got %v; mirror was asked %q; told %q", err, a.asked, *told)
	}
}

func TestTags(t *testing.T) {
	list := func(s *Source) (tags []string, err error) {
		err = s.Tags(t.Context(), func(page []string) error { tags = append(tags, page...); return nil })
		return tags, err
	}
	origin, a := &fake{name: "origin", err: errDown}, &fake{name: "a", tags: []string{"v1", "v2"}}
	s, _ := with(origin, a)
	if tags, err := list(s); err != nil || cmp.Diff([]string{"v1", "v2"}, tags) != "" {
		t.Errorf("got %q, %v", tags, err)
	}
	// A list that broke off is not taken up by another source.
	origin.tags = []string{"v0"}
	s, _ = with(origin, a)
	if tags, err := list(s); !errors.Is(err, errDown) || cmp.Diff([]string{"v0"}, tags) != "" {
		t.Errorf("got %q, %v", tags, err)
	}
	// What ends the reader ends the list.
	enough := errors.New("enough")
	if err := s.Tags(t.Context(), func([]string) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("got %v", err)
	}
}

// A list of many pages may take long, once it has begun.
func TestTagsThatTakeLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		origin, a := &fake{name: "origin", tags: []string{"v1", "v2", "v3"}, slow: patience}, &fake{name: "a"}
		s, told := with(origin, a)
		var tags []string
		err := s.Tags(t.Context(), func(page []string) error { tags = append(tags, page...); return nil })
		if err != nil || cmp.Diff([]string{"v1", "v2", "v3"}, tags) != "" || len(*told) > 0 {
			t.Errorf("got %q, %v; told %q", tags, err, *told)
		}
	})
}

func TestDescribe(t *testing.T) {
	origin, a := &fake{name: "origin"}, &fake{name: "a"}
	s, _ := with(origin, a)
	for what, want := range map[string]string{"v1": "origin", someID.String(): "a"} {
		if got, err := s.Describe(t.Context(), what); err != nil || got.MediaType != want {
			t.Errorf("%s: got %q, %v", what, got.MediaType, err)
		}
	}
	origin.err, a.err = errDown, image.ErrNotFound
	for _, what := range []string{"v1", someID.String()} {
		if _, err := s.Describe(t.Context(), what); !errors.Is(err, errDown) {
			t.Errorf("%s: got %v", what, err)
		}
	}
	if want := []string{"describe v1", "describe v1", "describe " + someID.String()}; cmp.Diff(want, origin.asked) != "" {
		t.Errorf("the origin was asked %q", origin.asked)
	}
}

func TestDescribeByTheManifest(t *testing.T) {
	origin := &fake{name: "origin"}
	s := New(Mirror{Source: plain{origin}, Name: "origin"}, nil, nil)
	if _, err := s.Describe(t.Context(), "v1"); err != nil || cmp.Diff([]string{"v1"}, origin.asked) != "" {
		t.Errorf("%v; asked %q", err, origin.asked)
	}
	if _, err := s.Referrers(t.Context(), someID); !errors.Is(err, image.ErrNotFound) {
		t.Errorf("referrers: %v", err)
	}
}

// Referrers are named by digest, but nothing proves their list.
func TestReferrersAreTheOrigins(t *testing.T) {
	origin, a, b := &fake{name: "origin"}, &fake{name: "a"}, &fake{name: "b"}
	var told []string
	s := New(Mirror{Source: origin, Name: "origin"}, []Mirror{
		{Source: a, Name: "a", NoTags: true}, {Source: b, Name: "b"},
	}, func(e image.Event) { told = append(told, e.Text) })
	got, err := s.Referrers(t.Context(), someID)
	if err != nil || got[0].ArtifactType != "origin" || len(a.asked)+len(b.asked) > 0 {
		t.Errorf("got %v, %v; mirrors were asked %q %q", got, err, a.asked, b.asked)
	}
	origin.err = errDown
	got, err = s.Referrers(t.Context(), someID)
	if err != nil || got[0].ArtifactType != "b" || len(a.asked) > 0 ||
		len(told) != 1 || !strings.HasPrefix(told[0], "the list of referrers is the mirror b's, since origin cannot give it") {
		t.Errorf("got %v, %v; the first mirror was asked %q; told %q", got, err, a.asked, told)
	}
}
