package registrytest_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/davit-cli/davit/internal/registrytest"
)

func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

func tokenOf(t *testing.T, a answer) (token string, fields map[string]any) {
	t.Helper()
	wantStatus(t, a, 200)
	if err := json.Unmarshal(a.body, &fields); err != nil {
		t.Fatal(err)
	}
	token, _ = fields["access_token"].(string)
	return token, fields
}

func TestBasic(t *testing.T) {
	s := registrytest.Start(t, registrytest.Options{Auth: &registrytest.Auth{
		Scheme: registrytest.Basic, User: "u", Password: "p",
		Access: func(_, repository string) bool { return repository == "a/b" },
	}})
	p := s.Push("a/b", "v1", registrytest.Image{})
	p.AddTo(s.Content, "a/c", "v1")
	c := client(t, s)
	a := get(t, c, s.URL()+"/v2/a/b/manifests/v1")
	wantStatus(t, a, 401)
	if got := a.Header.Get("WWW-Authenticate"); got != `Basic realm="registrytest"` {
		t.Errorf("challenge %s", got)
	}
	wantStatus(t, get(t, c, s.URL()+"/v2/a/b/manifests/v1", "Authorization", basic("u", "x")), 401)
	wantStatus(t, get(t, c, s.URL()+"/v2/a/b/manifests/v1", "Authorization", basic("u", "p")), 200)
	wantStatus(t, get(t, c, s.URL()+"/v2/a/c/manifests/v1", "Authorization", basic("u", "p")), 403)
	if n := s.Count(func(r registrytest.Request) bool { return r.Auth == "Basic" && r.Status == 200 }); n != 1 {
		t.Errorf("%d requests recorded with Basic and 200", n)
	}
}

func TestBearer(t *testing.T) {
	for _, own := range []bool{false, true} {
		s := registrytest.Start(t, registrytest.Options{TLS: true, Auth: &registrytest.Auth{
			User: "u", Password: "p", Anonymous: true, OwnRealm: own, IdentityToken: "id",
			Access: func(user, repository string) bool { return user == "u" || repository == "a/public" },
		}})
		p := s.Push("a/public", "v1", registrytest.Image{})
		p.AddTo(s.Content, "a/private", "v1")
		c := client(t, s)

		realm := s.URL() + "/token"
		if own {
			realm = "https://" + s.HostOf(registrytest.Realm) + "/token"
		}
		private, public := s.URL()+"/v2/a/private/manifests/v1", s.URL()+"/v2/a/public/manifests/v1"
		a := get(t, c, private)
		wantStatus(t, a, 401)
		want := fmt.Sprintf(`Bearer realm=%q,service="registrytest",scope="repository:a/private:pull"`, realm)
		if got := a.Header.Get("WWW-Authenticate"); got != want {
			t.Errorf("challenge %s, want %s", got, want)
		}
		ask := realm + "?service=registrytest&scope=repository:a/private:pull&scope=repository:a/public:pull"

		anonymous, fields := tokenOf(t, get(t, c, ask))
		if fields["expires_in"] != 300. || fields["token"] != anonymous {
			t.Errorf("answer %v", fields)
		}
		wantStatus(t, get(t, c, public, "Authorization", "Bearer "+anonymous), 200)
		a = get(t, c, private, "Authorization", "Bearer "+anonymous)
		wantStatus(t, a, 401)
		if got := a.Header.Get("WWW-Authenticate"); got != want+`,error="insufficient_scope"` {
			t.Errorf("challenge %s", got)
		}

		wantStatus(t, get(t, c, ask, "Authorization", basic("u", "x")), 401)
		wantStatus(t, get(t, c, realm+"?service=other"), 400)
		withUser, _ := tokenOf(t, get(t, c, ask, "Authorization", basic("u", "p")))
		wantStatus(t, get(t, c, private, "Authorization", "Bearer "+withUser), 200)

		form := url.Values{
			"service": {"registrytest"}, "scope": {"repository:a/private:pull"},
			"grant_type": {"refresh_token"}, "refresh_token": {"id"},
		}
		withID, _ := tokenOf(t, post(t, c, realm, form))
		wantStatus(t, get(t, c, private, "Authorization", "Bearer "+withID), 200)
		wantStatus(t, get(t, c, public, "Authorization", "Bearer "+withID), 401)
		form.Set("refresh_token", "x")
		wantStatus(t, post(t, c, realm, form), 401)
		form = url.Values{
			"service": {"registrytest"}, "scope": {"repository:a/private:pull"},
			"grant_type": {"password"}, "username": {"u"}, "password": {"p"},
		}
		tokenOf(t, post(t, c, realm, form))

		if n := s.Stats().Exchanges; n != 4 {
			t.Errorf("%d exchanges", n)
		}
		s.RevokeTokens()
		a = get(t, c, private, "Authorization", "Bearer "+withUser)
		wantStatus(t, a, 401)
		if got := a.Header.Get("WWW-Authenticate"); !strings.HasSuffix(got, `,error="invalid_token"`) {
			t.Errorf("challenge %s", got)
		}
	}
}

func TestBearerVariants(t *testing.T) {
	s := registrytest.Start(t, registrytest.Options{Auth: &registrytest.Auth{
		User: "u", Password: "p", ExpiresIn: -1, AccessTokenOnly: true, Lifetime: 1,
		RealmURL: "http://realm.invalid/", Challenges: []string{`Negotiate`, `Basic realm="x"`},
	}})
	s.Push("a/b", "v1", registrytest.Image{})
	c := client(t, s)
	a := get(t, c, s.URL()+"/v2/")
	want := []string{`Negotiate`, `Basic realm="x"`, `Bearer realm="http://realm.invalid/",service="registrytest"`}
	if got := a.Header["Www-Authenticate"]; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("challenges %q", got)
	}
	s.Configure(func(o *registrytest.Options) { o.Auth.OneHeader = true })
	a = get(t, c, s.URL()+"/v2/")
	if got := a.Header["Www-Authenticate"]; len(got) != 1 || got[0] != strings.Join(want, ", ") {
		t.Errorf("challenges %q", got)
	}
	ask := s.URL() + "/token?service=registrytest&scope=repository:a/b:pull"
	wantStatus(t, get(t, c, ask), 401) // not anonymous
	token, fields := tokenOf(t, get(t, c, ask, "Authorization", basic("u", "p")))
	if len(fields) != 1 {
		t.Errorf("answer %v", fields)
	}
	// A nanosecond later the token is of no use.
	wantStatus(t, get(t, c, s.URL()+"/v2/a/b/manifests/v1", "Authorization", "Bearer "+token), 401)
}

func TestRedirect(t *testing.T) {
	for _, o := range []registrytest.Options{
		{Redirect: &registrytest.Redirect{Uses: 2}},
		{TLS: true, Redirect: &registrytest.Redirect{Uses: 2, Hops: 2, Host: "localhost"}},
		{TLS: true, PlainCDN: true, Redirect: &registrytest.Redirect{Uses: 2, Status: 302}},
	} {
		s := registrytest.Start(t, o)
		d := s.AddBlob([]byte("0123456789"))
		c := client(t, s)
		blob := s.URL() + "/v2/x/blobs/" + d.Digest.String()
		wantStatus(t, do(t, c, "HEAD", blob), 200)

		a := get(t, c, blob)
		status := 307
		if o.Redirect.Status != 0 {
			status = o.Redirect.Status
		}
		wantStatus(t, a, status)
		first, err := a.Location()
		if err != nil {
			t.Fatal(err)
		}
		if https := o.TLS && !o.PlainCDN; https != (first.Scheme == "https") {
			t.Errorf("redirect to %s", first)
		}
		for range o.Redirect.Hops {
			a = get(t, c, a.Header.Get("Location"))
			wantStatus(t, a, status)
		}
		signed := a.Header.Get("Location")
		a = get(t, c, signed, "Range", "bytes=3-5")
		wantStatus(t, a, 206)
		if string(a.body) != "345" || a.Header.Get("Docker-Content-Digest") != "" {
			t.Errorf("%q %v", a.body, a.Header)
		}
		wantStatus(t, do(t, c, "HEAD", signed), 403)
		if s.Stats().CDNAuthorized != 0 {
			t.Error("the CDN saw an Authorization header that nobody sent")
		}
		wantStatus(t, get(t, c, signed, "Authorization", "Bearer x"), 400)
		if s.Stats().CDNAuthorized != 1 {
			t.Error("the CDN did not see the Authorization header")
		}
		wantStatus(t, get(t, c, signed), 200)
		wantStatus(t, get(t, c, signed), 403) // the third use
		if s.BlobBytes() != 13 {
			t.Errorf("%d blob bytes", s.BlobBytes())
		}

		fresh := get(t, c, blob).Header.Get("Location")
		s.ExpireURLs()
		wantStatus(t, get(t, c, fresh), 403)
		s.Configure(func(o *registrytest.Options) { o.Redirect = &registrytest.Redirect{Lifetime: 1} })
		wantStatus(t, get(t, c, get(t, c, blob).Header.Get("Location")), 403)
		wantStatus(t, get(t, c, s.URL()+"/v2/x/blobs/sha256:"+strings.Repeat("0", 64)), 404)
	}
}

func TestMatch(t *testing.T) {
	s := registrytest.Start(t, registrytest.Options{Redirect: &registrytest.Redirect{}})
	d := s.AddBlob([]byte("0123456789"))
	s.Configure(func(o *registrytest.Options) {
		o.Answers = []registrytest.Answer{{
			Match:  registrytest.All(registrytest.Of(d.Digest), registrytest.On(registrytest.CDN)),
			Status: http.StatusTeapot,
		}}
	})
	c := client(t, s)
	a := get(t, c, s.URL()+"/v2/x/blobs/"+d.Digest.String())
	wantStatus(t, a, 307)
	wantStatus(t, get(t, c, a.Header.Get("Location")), http.StatusTeapot)
}
