package registry

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/credential"
	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/memregistry"
	"github.com/davit-cli/davit/internal/registrytest"
	"github.com/davit-cli/davit/ref"
)

func TestHasBlob(t *testing.T) {
	data := registrytest.RandomBytes(1, 1000)
	d := descriptorOf(data)
	wrong := d
	wrong.Size++
	head := registrytest.All(registrytest.Heads, registrytest.Blobs)
	for name, test := range map[string]struct {
		options registrytest.Options
		d       image.Descriptor
		has     bool
		is      error
	}{
		"there":                    {registrytest.Options{}, d, true, nil},
		"not there":                {registrytest.Options{}, descriptorOf(data[1:]), false, nil},
		"of another size":          {registrytest.Options{}, wrong, false, image.ErrVerification},
		"no HEAD":                  {registrytest.Options{NoHead: true}, d, true, nil},
		"no HEAD, not there":       {registrytest.Options{NoHead: true}, descriptorOf(data[1:]), false, nil},
		"no HEAD, of another size": {registrytest.Options{NoHead: true}, wrong, false, image.ErrVerification},
		"redirected":               {registrytest.Options{Redirect: &registrytest.Redirect{Heads: true}}, d, true, nil},
		"busy":                     {registrytest.Options{Busy: &registrytest.Busy{Times: 2}}, d, true, nil},
		"refused":                  {registrytest.Options{Answers: []registrytest.Answer{{Match: head, Status: 403}}}, d, false, image.ErrUnauthorized},
		"without a size":           {registrytest.Options{Answers: []registrytest.Answer{{Match: head, Status: 200}}}, d, true, nil},
		"no digest":                {registrytest.Options{}, image.Descriptor{Digest: "sha256:../x"}, false, errAny},
		"another digest told": {registrytest.Options{Answers: []registrytest.Answer{{Match: head, Status: 200,
			Header: http.Header{"Docker-Content-Digest": {descriptorOf(data[1:]).Digest.String()}}}}}, d, false, image.ErrVerification},
	} {
		s := registrytest.Start(t, test.options)
		s.Content.AddBlob(data)
		has, err := target(t, s, Options{}).HasBlob(t.Context(), test.d)
		if has != test.has || (err == nil) != (test.is == nil) || test.is != nil && test.is != errAny && !errors.Is(err, test.is) {
			t.Errorf("%s: %v, %v", name, has, err)
		}
		if name == "not there" && s.Count(func(q registrytest.Request) bool { return q.Method == "GET" }) != 0 {
			t.Error("a 404 is not believed")
		}
	}
}

var errAny = errors.New("any")

func TestMountBlob(t *testing.T) {
	data := registrytest.RandomBytes(2, 1000)
	d := descriptorOf(data)
	for name, test := range map[string]struct {
		options registrytest.Options
		mounted bool
		want    string // what is asked for a mount and a push
	}{
		"mounted":             {registrytest.Options{}, true, "POST"},
		"with tokens":         {registrytest.Options{Auth: &registrytest.Auth{User: "me", Password: "pw"}}, true, "POST"},
		"not done":            {registrytest.Options{Uploads: &registrytest.Uploads{Uploads: memregistry.Uploads{NoMount: true}}}, false, "POST, PUT 1000"},
		"not done, elsewhere": {registrytest.Options{Uploads: &registrytest.Uploads{Uploads: memregistry.Uploads{NoMount: true}, Location: registrytest.UploadElsewhere}}, false, "POST, PUT 1000"},
		"not to be read": {registrytest.Options{Auth: &registrytest.Auth{User: "me", Password: "pw", Access: func(_, repository string) bool { return repository == "team/app" }}}, false,
			"POST → 401, POST, PUT 1000"},
		"refused": {registrytest.Options{Answers: []registrytest.Answer{{Match: func(r *http.Request) bool { return r.URL.Query().Has("mount") }, Status: 405}}}, false, "POST → 405, POST, PUT 1000"},
	} {
		if test.options.Uploads == nil {
			test.options.Uploads = &registrytest.Uploads{}
		}
		access := test.options.Auth
		test.options.Auth = nil
		s := registrytest.Start(t, test.options)
		session := NewSession(Options{Credentials: given("me", "pw")})
		from, to := targetIn(t, session, s, "team/base"), targetIn(t, session, s, "team/app")
		if err := from.PushBlob(t.Context(), d, stream(data)); err != nil {
			t.Fatal(err)
		}
		s.Configure(func(o *registrytest.Options) { o.Auth = access })
		if has, err := to.HasBlob(t.Context(), d); has || err != nil {
			t.Errorf("%s: there before: %v, %v", name, has, err)
		}
		s.ResetRecords()
		mounted, err := to.MountBlob(t.Context(), d, from)
		if mounted != test.mounted || err != nil {
			t.Errorf("%s: %v, %v", name, mounted, err)
		}
		if !mounted {
			if err := to.PushBlob(t.Context(), d, stream(data)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if got := strings.Join(uploads(s), ", "); strings.ReplaceAll(got, "POST → 401, POST → 401", "POST → 401") != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
		holds(t, s, to, data)
		if name == "not to be read" || name == "refused" {
			s.ResetRecords()
			if mounted, err := to.MountBlob(t.Context(), descriptorOf(data[1:]), from); mounted || err != nil || len(uploads(s)) > 0 {
				t.Errorf("%s, another: %v, %v, %q", name, mounted, err, uploads(s))
			}
		}
	}
	s := registrytest.Start(t, registrytest.Options{Uploads: &registrytest.Uploads{Told: descriptorOf(data[1:]).Digest}})
	s.Content.AddManifest("team/base", "v1", ocispec.MediaTypeImageManifest, []byte(`"`+d.Digest+`"`))
	s.Content.AddBlob(data)
	session := NewSession(Options{})
	from, to := targetIn(t, session, s, "team/base"), targetIn(t, session, s, "team/app")
	if _, err := to.MountBlob(t.Context(), d, from); !errors.Is(err, image.ErrVerification) {
		t.Errorf("another digest told: %v", err)
	}
	elsewhere := target(t, registrytest.Start(t, registrytest.Options{}), Options{})
	for name, from := range map[string]image.Source{"itself": to, "another registry": elsewhere, "no registry": struct{ image.Source }{}} {
		s.ResetRecords()
		if mounted, err := to.MountBlob(t.Context(), d, from); mounted || err != nil || len(s.Requests()) > 0 {
			t.Errorf("from %s: %v, %v", name, mounted, err)
		}
	}
}

func contentOf(mediaType, raw string) image.Content {
	d := descriptorOf([]byte(raw))
	d.MediaType = mediaType
	return image.Content{Descriptor: d, Bytes: []byte(raw)}
}

func TestPushManifest(t *testing.T) {
	s := registrytest.Start(t, registrytest.Options{Uploads: &registrytest.Uploads{}})
	r := target(t, s, Options{})
	plain := contentOf(ocispec.MediaTypeImageManifest, `{"schemaVersion":2,"config":{"digest":"`+wrongDigest+`"},"layers":[]}`)
	if _, err := r.PushManifest(t.Context(), plain, ""); err == nil || !strings.Contains(err.Error(), "push manifest team/app@"+plain.Digest.String()+" to "+s.Host()+": 400 Bad Request: blob unknown to registry: "+wrongDigest) {
		t.Errorf("what it names is not there: %v", err)
	}
	plain = contentOf(ocispec.MediaTypeImageIndex, `{"schemaVersion":2,"mediaType":"`+ocispec.MediaTypeImageIndex+`","manifests":[]}`)
	for _, tag := range []string{"", "v1"} {
		pushed, err := r.PushManifest(t.Context(), plain, tag)
		if err != nil || pushed.SubjectKnown {
			t.Errorf("%q: %+v, %v", tag, pushed, err)
		}
		name := tag
		if tag == "" {
			name = plain.Digest.String()
		}
		got, err := r.Manifest(t.Context(), name)
		if err != nil || string(got.Bytes) != string(plain.Bytes) || got.MediaType != plain.MediaType {
			t.Errorf("%q: %s, %v", tag, got.Bytes, err)
		}
	}
	referrer := contentOf(ocispec.MediaTypeImageIndex, fmt.Sprintf(`{"schemaVersion":2,"manifests":[],"subject":{"digest":%q}}`, plain.Digest))
	if pushed, err := r.PushManifest(t.Context(), referrer, ""); err != nil || !pushed.SubjectKnown {
		t.Errorf("with a subject: %+v, %v", pushed, err)
	}
	s.Configure(func(o *registrytest.Options) { o.Uploads.NoSubject = true })
	if pushed, err := r.PushManifest(t.Context(), referrer, ""); err != nil || pushed.SubjectKnown {
		t.Errorf("to who knows no subjects: %+v, %v", pushed, err)
	}
	s.Configure(func(o *registrytest.Options) {
		o.Busy = &registrytest.Busy{Status: 503, Times: 2, Match: registrytest.Manifests}
	})
	if _, err := r.PushManifest(t.Context(), plain, "v2"); err != nil {
		t.Errorf("busy: %v", err)
	}
}

func TestPushManifestErrors(t *testing.T) {
	c := contentOf(ocispec.MediaTypeImageIndex, `{"schemaVersion":2,"manifests":[]}`)
	wrong := c
	wrong.Bytes = []byte("{}")
	bad := c
	bad.Digest = "sha256:../x"
	put := registrytest.By("PUT")
	for name, test := range map[string]struct {
		options registrytest.Options
		c       image.Content
		tag     string
		is      error
		says    string
	}{
		"no tag":      {c: c, tag: "../x", says: `push manifest to team/app: "../x" is no tag`},
		"no digest":   {c: bad, tag: "v1", says: "push manifest to team/app"},
		"wrong bytes": {c: wrong, tag: "v1", is: image.ErrVerification},
		"another digest told": {options: registrytest.Options{Answers: []registrytest.Answer{{Match: put, Status: 201, Header: http.Header{"Docker-Content-Digest": {wrongDigest}}}}}, c: c, tag: "v1",
			is: image.ErrVerification, says: "it says that it took " + wrongDigest},
		"invalid": {options: registrytest.Options{Answers: []registrytest.Answer{{Match: put, Status: 400, Body: `{"errors":[{"code":"MANIFEST_INVALID","message":"manifest invalid","detail":"no layers"}]}`}}}, c: c, tag: "v1",
			says: "push manifest team/app:v1 to "},
		"invalid, why": {options: registrytest.Options{Answers: []registrytest.Answer{{Match: put, Status: 400, Body: `{"errors":[{"code":"MANIFEST_INVALID","message":"manifest invalid","detail":"no layers"}]}`}}}, c: c, tag: "v1",
			says: "400 Bad Request: manifest invalid: no layers"},
		"read-only": {options: registrytest.Options{Answers: []registrytest.Answer{{Match: put, Status: 405, Body: registrytest.ErrorBody("UNSUPPORTED", "read-only")}}}, c: c, tag: "v1", says: "read-only"},
		"forbidden": {options: registrytest.Options{Auth: &registrytest.Auth{Scheme: registrytest.Basic, User: "me", Password: "pw", Push: func(string, string) bool { return false }}}, c: c, tag: "v1",
			is: image.ErrUnauthorized, says: "with the credential from --username, which may not push there"},
		"not for everybody": {options: registrytest.Options{Auth: &registrytest.Auth{User: "me", Password: "other"}}, c: c, tag: "v1", is: image.ErrUnauthorized, says: "get token for team/app"},
	} {
		test.options.Uploads = &registrytest.Uploads{}
		s := registrytest.Start(t, test.options)
		_, err := target(t, s, Options{Credentials: given("me", "pw")}).PushManifest(t.Context(), test.c, test.tag)
		if err == nil || test.is != nil && !errors.Is(err, test.is) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

const wrongDigest = "sha256:0000000000000000000000000000000000000000000000000000000000000000"

// Tokens for what is read have no right to push, whoever else is pushed to.
func TestScopesOfPushes(t *testing.T) {
	s := registrytest.Start(t, registrytest.Options{Uploads: &registrytest.Uploads{}})
	data := registrytest.RandomBytes(3, 1000)
	s.Push("team/base", "v1", registrytest.Image{})
	session := NewSession(Options{Credentials: given("me", "pw")})
	source, to := targetIn(t, session, s, "team/base"), targetIn(t, session, s, "team/app")
	if err := source.PushBlob(t.Context(), descriptorOf(data), stream(data)); err != nil {
		t.Fatal(err)
	}
	s.Configure(func(o *registrytest.Options) { o.Auth = &registrytest.Auth{User: "me", Password: "pw"} })
	s.ResetRecords()
	ctx := t.Context()
	if _, err := to.HasBlob(ctx, descriptorOf(data)); err != nil {
		t.Fatal(err)
	}
	if _, err := source.Manifest(ctx, "v1"); err != nil {
		t.Fatal(err)
	}
	if mounted, err := to.MountBlob(ctx, descriptorOf(data), source); !mounted || err != nil {
		t.Fatal(mounted, err)
	}
	more := registrytest.RandomBytes(4, 3*testRoom)
	if err := to.PushBlob(ctx, descriptorOf(more), stream(more)); err != nil {
		t.Fatal(err)
	}
	if _, err := to.PushManifest(ctx, contentOf(ocispec.MediaTypeImageIndex, `{"schemaVersion":2,"manifests":[]}`), "v1"); err != nil {
		t.Fatal(err)
	}
	var scopes []string
	refused := 0
	for _, q := range s.Requests() {
		if q.Path == "/token" {
			query, err := url.ParseQuery(q.Query)
			if err != nil {
				t.Fatal(err)
			}
			scopes = append(scopes, strings.Join(query["scope"], " "))
		} else if q.Status == http.StatusUnauthorized {
			refused++
		}
	}
	want := []string{
		"repository:team/app:pull,push",
		"repository:team/base:pull repository:team/app:pull",
		"repository:team/app:pull,push repository:team/base:pull",
	}
	if !slices.Equal(scopes, want) || refused != 2 {
		t.Errorf("asked for %q, want %q; %d refusals", scopes, want, refused)
	}
}

func TestWiden(t *testing.T) {
	for _, test := range []struct{ from, scope, want string }{
		{"", "repository:team/app:pull", "repository:team/app:pull,push"},
		{"", "repository:team/app:pull,push", "repository:team/app:pull,push"},
		{"", "repository:team/app:push,pull", "repository:team/app:push,pull"},
		{"", "repository:team/app:*", "repository:team/app:*"},
		{"", "repository:other:pull", "repository:other:pull"},
		{"", "", ""},
		{"team/base", "repository:team/app:pull", "repository:team/app:pull,push repository:team/base:pull"},
		{"team/base", "repository:team/app:pull,push repository:team/base:pull", "repository:team/app:pull,push repository:team/base:pull"},
	} {
		a := &authorizer{repository: "team/app", pushes: true, from: test.from}
		c := challenge{"bearer", map[string]string{"scope": test.scope}}
		if got := a.widen(c).params["scope"]; got != test.want {
			t.Errorf("%q from %q: %q, want %q", test.scope, test.from, got, test.want)
		}
		if got := (&authorizer{repository: "team/app"}).widen(c).params["scope"]; got != test.scope {
			t.Errorf("%q for reading: %q", test.scope, got)
		}
	}
}

// takes is a registry that takes all pushes, and has uploads go on at another
// place of its own: after a redirect where that is one.
func takes(location, redirect string) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		switch {
		case req.Method == http.MethodHead:
			w.WriteHeader(http.StatusNotFound)
		case redirect != "" && !strings.HasPrefix(req.URL.Path, "/moved"):
			w.Header().Set("Location", redirect+"/moved"+req.URL.Path)
			w.WriteHeader(http.StatusTemporaryRedirect)
		case req.Method == http.MethodPost, req.Method == http.MethodPatch:
			w.Header().Set("Location", location)
			w.WriteHeader(http.StatusAccepted)
		default:
			w.WriteHeader(http.StatusCreated)
		}
	}
}

// pushEverything pushes all that there is to push, and gives the errors.
func pushEverything(t *testing.T, n *internet, c credential.Credential) (failed map[string]error) {
	t.Helper()
	failed = map[string]error{}
	c.Source = "--username"
	s := NewSession(Options{Transport: n, Retries: -1, Credentials: credentialGiven(c)})
	small, large := registrytest.RandomBytes(1, 100), registrytest.RandomBytes(2, 1000)
	for name, push := range map[string]func(r *Repository) error{
		"has":    func(r *Repository) error { _, err := r.HasBlob(t.Context(), descriptorOf(small)); return err },
		"blob":   func(r *Repository) error { return r.PushBlob(t.Context(), descriptorOf(small), stream(small)) },
		"pieces": func(r *Repository) error { return r.PushBlob(t.Context(), descriptorOf(large), stream(large)) },
		"manifest": func(r *Repository) error {
			_, err := r.PushManifest(t.Context(), contentOf(ocispec.MediaTypeImageManifest, manifest), "v1")
			return err
		},
		"mount": func(r *Repository) error {
			other, err := s.Open(ref.Reference{Registry: "registry.test", Repository: "team/base"})
			if err != nil {
				return err
			}
			if _, err := r.MountBlob(t.Context(), descriptorOf(small), other); err != nil {
				return err
			}
			return r.PushBlob(t.Context(), descriptorOf(small), stream(small))
		},
	} {
		r, err := s.Open(ref.Reference{Registry: "registry.test", Repository: "team/app"})
		if err != nil {
			t.Fatal(err)
		}
		r.client.room = 400
		failed[name] = push(r)
		if err := failed[name]; err != nil && slices.ContainsFunc(secretForms, func(form string) bool { return strings.Contains(err.Error(), form) }) {
			t.Errorf("%s: a secret in %v", name, err)
		}
	}
	return failed
}

func TestCanaryOfPushes(t *testing.T) {
	elsewhere := "https://uploads.test"
	for _, where := range []string{"/v2/team/app/blobs/uploads/1?x=1", registryOrigin + "/v2/up/1", "http://registry.test/v2/up/1", elsewhere + "/up/1?sig=1", "https://registry.test:8443/up", "https://up.registry.test/1"} {
		for _, redirect := range []string{"", registryOrigin, elsewhere} {
			forEachCanary(t, func(t *testing.T, c credential.Credential, basic bool) {
				n := world(basic, realmOrigin+"/token", takes(where, redirect))
				for _, host := range []string{elsewhere, "https://registry.test:8443", "https://up.registry.test"} {
					n.hosts[host] = takes(where, "")
				}
				for what, err := range pushEverything(t, n, c) {
					// Once away, it comes back without a credential.
					away := redirect == elsewhere && (strings.HasPrefix(where, registryOrigin) || strings.HasPrefix(where, "http://registry.test"))
					if err != nil && !away {
						t.Errorf("%s by %q: %s: %v", where, redirect, what, err)
					}
				}
				n.shownTo(t, registryOrigin, realmOrigin)
			})
		}
	}
	// To where none is to be sent at all, and where it asks for a credential.
	for _, where := range []string{
		"http://evil.test/x", "https://169.254.169.254/x", "https://localhost/x", "http://registry.test:8080/x", "https://me:" + canary + "@evil.test/x",
		"https://registry.test@evil.test/x", `https://evil.test\@registry.test/x`, "https://registry.test.evil.test/x", "ftp://registry.test/x",
	} {
		for _, redirected := range []bool{false, true} {
			forEachCanary(t, func(t *testing.T, c credential.Credential, basic bool) {
				redirect := ""
				if redirected {
					redirect = where
				}
				n := world(basic, realmOrigin+"/token", takes(where, redirect))
				for what, err := range pushEverything(t, n, c) {
					if err == nil && what != "has" && (redirected || what != "manifest") {
						t.Errorf("%s: no error of %s", where, what)
					}
				}
				n.shownTo(t, registryOrigin, realmOrigin)
			})
		}
	}
}

// What is signed in an upload's URL is not told.
func TestUploadURLsAreSecret(t *testing.T) {
	const secret = "signature-of-the-upload"
	var traced lines
	server := serve(t, func(w http.ResponseWriter, req *http.Request) {
		if req.Method == http.MethodPost {
			w.Header().Set("Location", "/up?sig="+secret)
			w.WriteHeader(http.StatusAccepted)
			return
		}
		w.Header().Set("Content-Type", "text/plain")
		w.WriteHeader(http.StatusConflict)
		_, _ = io.WriteString(w, "no: "+req.URL.RequestURI())
	})
	r := open(t, server, Options{Trace: traced.add})
	err := r.PushBlob(t.Context(), descriptorOf([]byte("x")), stream([]byte("x")))
	if err == nil || strings.Contains(err.Error(), secret) || !strings.Contains(err.Error(), "409 Conflict") || strings.Contains(traced.String(), secret) {
		t.Errorf("%v\n%s", err, &traced)
	}
}

// Without a body a redirect is followed as others are, with one not by 303.
func TestPushesAreRedirected(t *testing.T) {
	for _, status := range []int{301, 302, 303, 307, 308} {
		var got []string
		server := serve(t, func(w http.ResponseWriter, req *http.Request) {
			body, _ := io.ReadAll(req.Body)
			got = append(got, fmt.Sprintf("%s %s %d", req.Method, req.URL.Path, len(body)))
			if req.URL.Path == "/moved" {
				w.WriteHeader(http.StatusCreated)
				return
			}
			w.Header().Set("Location", "/moved")
			w.WriteHeader(status)
		})
		_, err := open(t, server, Options{Retries: -1}).PushManifest(t.Context(), contentOf(ocispec.MediaTypeImageManifest, manifest), "v1")
		if (err != nil) != (status == http.StatusSeeOther) {
			t.Errorf("%d: %v", status, err)
		}
		if want := fmt.Sprintf("PUT /moved %d", len(manifest)); err == nil && got[len(got)-1] != want {
			t.Errorf("%d: %q, want %s", status, got, want)
		}
	}
}
