package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/davit-cli/davit/credential"
	"github.com/davit-cli/davit/image"
)

// guardedBy is a registry that wants one of the Authorizations that ok allows.
func guardedBy(s *tokens, ok func(authorization string) bool) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		if !ok(req.Header.Get("Authorization")) {
			s.challenge(w)
			return
		}
		sendManifest(w)
	}
}

func is(want string) func(string) bool { return func(got string) bool { return got == want } }

func TestBearerAnonymous(t *testing.T) {
	realm := newTokens(t, httptest.NewServer)
	realm.answer = func(w http.ResponseWriter, req *http.Request, _ int) {
		q := req.URL.Query()
		if req.URL.Path != "/token" || q.Get("keep") != "1" || q.Get("service") != "the service" ||
			q.Get("scope") != "repository:team/app:pull" || req.Header.Get("Authorization") != "" {
			t.Errorf("wrong request for a token: %s", req.URL)
		}
		_, _ = io.WriteString(w, `{"access_token":"abc"}`)
	}
	var requests atomic.Int32
	guarded := guardedBy(realm, is("Bearer abc"))
	server := serve(t, func(w http.ResponseWriter, req *http.Request) {
		requests.Add(1)
		guarded(w, req)
	})
	r := open(t, server, Options{})
	for range 3 {
		if _, err := r.Manifest(t.Context(), "v1"); err != nil {
			t.Fatal(err)
		}
	}
	if realm.exchanges.Load() != 1 || requests.Load() != 4 {
		t.Errorf("%d exchanges, %d requests", realm.exchanges.Load(), requests.Load())
	}
}

func TestBearerWithCredential(t *testing.T) {
	for _, test := range []struct {
		name       string
		credential credential.Credential
		method     string
	}{
		{"password", credential.Credential{Username: "me", Password: canary}, http.MethodGet},
		{"identity token", credential.Credential{Username: "<token>", IdentityToken: canary}, http.MethodPost},
		{"registry token", credential.Credential{RegistryToken: canary}, ""},
	} {
		for _, start := range []func(http.Handler) *httptest.Server{httptest.NewServer, httptest.NewTLSServer} {
			realm := newTokens(t, start)
			realm.answer = func(w http.ResponseWriter, req *http.Request, _ int) {
				user, password, _ := req.BasicAuth()
				switch {
				case req.Method != test.method:
					t.Errorf("%s: a %s to the realm", test.name, req.Method)
				case req.Method == http.MethodGet && (user != "me" || password != canary || req.URL.Query().Get("account") != "me"):
					t.Errorf("%s: wrong credential at the realm", test.name)
				case req.Method == http.MethodPost && (req.Header.Get("Authorization") != "" || req.PostFormValue("grant_type") != "refresh_token" ||
					req.PostFormValue("refresh_token") != canary || req.PostFormValue("service") != "the service" ||
					req.PostFormValue("scope") != "repository:team/app:pull" || req.PostFormValue("client_id") == ""):
					t.Errorf("%s: wrong form at the realm", test.name)
				}
				_, _ = io.WriteString(w, `{"token":"granted"}`)
			}
			want := "Bearer granted"
			if test.method == "" {
				want = "Bearer " + canary
			}
			server := start(guardedBy(realm, func(got string) bool {
				if got != "" && got != want {
					t.Errorf("%s: the registry was shown %q", test.name, got)
				}
				return got == want
			}))
			defer server.Close()
			r := open(t, server, Options{Credentials: stored(test.credential)})
			prepare(t, r, server, realm.Server)
			if _, err := r.Manifest(t.Context(), "v1"); err != nil {
				t.Errorf("%s: %v", test.name, err)
			}
		}
	}
}

func TestBasic(t *testing.T) {
	for _, headers := range [][]string{
		{`Basic realm="x"`},
		{`Negotiate`, `Basic realm="x"`},
		{`Negotiate, NTLM, Basic realm="x"`},
		{`Bearer realm="ftp://x/y", Basic realm="x"`},
	} {
		server := serve(t, func(w http.ResponseWriter, req *http.Request) {
			if user, password, _ := req.BasicAuth(); user != "me" || password != canary {
				w.Header()["Www-Authenticate"] = headers
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			sendManifest(w)
		})
		if _, err := open(t, server, Options{Credentials: given("me", canary)}).Manifest(t.Context(), "v1"); err != nil {
			t.Errorf("%q: %v", headers, err)
		}
		_, err := open(t, server, Options{}).Manifest(t.Context(), "v1")
		if !strings.Contains(headers[0], "ftp") && (!errors.Is(err, image.ErrUnauthorized) || !strings.Contains(err.Error(), "no credential was used")) {
			t.Errorf("%q, anonymous: %v", headers, err)
		}
		_, err = open(t, server, Options{Credentials: given("me", "wr0ng-canary")}).Manifest(t.Context(), "v1")
		if !errors.Is(err, image.ErrUnauthorized) || !strings.Contains(err.Error(), "--username") || strings.Contains(err.Error(), "wr0ng") {
			t.Errorf("%q, wrong: %v", headers, err)
		}
	}
}

func TestBearerAfterBasicThatCannotBeMet(t *testing.T) {
	realm := newTokens(t, httptest.NewServer)
	server := serve(t, func(w http.ResponseWriter, req *http.Request) {
		if req.Header.Get("Authorization") != "Bearer token1" {
			w.Header().Add("WWW-Authenticate", `Basic realm="x"`)
			w.Header().Add("WWW-Authenticate", `Bearer realm="`+realm.URL+`"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		sendManifest(w)
	})
	if _, err := open(t, server, Options{}).Manifest(t.Context(), "v1"); err != nil {
		t.Error(err)
	}
}

func TestOneExchangeForAll(t *testing.T) {
	const callers = 16
	var challenged sync.WaitGroup
	challenged.Add(callers)
	realm := newTokens(t, httptest.NewServer)
	realm.answer = func(w http.ResponseWriter, _ *http.Request, n int) {
		challenged.Wait() // everybody has been refused
		_, _ = fmt.Fprintf(w, `{"token":"token%d"}`, n)
	}
	server := serve(t, func(w http.ResponseWriter, req *http.Request) {
		switch req.Header.Get("Authorization") {
		case "Bearer token1":
			sendManifest(w)
		case "":
			realm.challenge(w)
			challenged.Done()
		default:
			t.Error("a second token")
		}
	})
	r := open(t, server, Options{})
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			if _, err := r.Manifest(t.Context(), "v1"); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := realm.exchanges.Load(); n != 1 {
		t.Errorf("%d exchanges", n)
	}
}

func TestTokenThatDies(t *testing.T) {
	realm := newTokens(t, httptest.NewServer)
	var good atomic.Value
	good.Store("Bearer token1")
	server := serve(t, func(w http.ResponseWriter, req *http.Request) {
		if req.Header.Get("Authorization") != good.Load() {
			realm.challenge(w)
			return
		}
		newBlob(1000).send(w, req)
	})
	r := open(t, server, Options{})
	b := newBlob(1000)
	if err := b.check(r, 0, 10); err != nil {
		t.Fatal(err)
	}
	good.Store("Bearer token2") // the first is no more
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			if err := b.check(r, int64(i), 10); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := realm.exchanges.Load(); n != 2 {
		t.Errorf("%d exchanges for two tokens", n)
	}

	// Before a token ends it is renewed, without a refusal first.
	good.Store("Bearer token3")
	acc := r.client.account(credential.Credential{})
	for key, token := range acc.tokens {
		token.renew = time.Now()
		acc.tokens[key] = token
	}
	var trace lines
	r.client.opts.Trace = trace.add
	if err := b.check(r, 0, 10); err != nil {
		t.Error(err)
	}
	if strings.Contains(trace.String(), ": 401 ") {
		t.Errorf("refused first:\n%s", trace.String())
	}
}

func TestTokenLife(t *testing.T) {
	for answer, want := range map[string]time.Duration{
		`{"token":"x"}`:                      60 * time.Second,
		`{"token":"x","expires_in":0}`:       60 * time.Second,
		`{"token":"x","expires_in":-1}`:      60 * time.Second,
		`{"token":"x","expires_in":"soon"}`:  60 * time.Second,
		`{"token":"x","expires_in":2}`:       2 * time.Second,
		`{"token":"x","expires_in":300.5}`:   300500 * time.Millisecond,
		`{"token":"x","expires_in":1e300}`:   maxTokenLife,
		`{"access_token":"x","token":null}`:  60 * time.Second,
		`{"access_token":"y","token":"x"}`:   60 * time.Second,
		`{"token":"x","expires_in":9999999}`: maxTokenLife,
	} {
		value, life, err := parseToken([]byte(answer))
		if err != nil || value != "x" || life != want {
			t.Errorf("%s: %q for %v, %v", answer, value, life, err)
		}
	}
}

func TestTokenAnswersThatAreNone(t *testing.T) {
	for name, answer := range map[string]string{
		"no JSON":    "<html>" + canary,
		"no token":   `{"expires_in":300}`,
		"line break": `{"token":"` + canary + `\r\nX: y"}`,
		"too large":  `{"token":"` + strings.Repeat("x", maxTokenAnswer) + `"}`,
	} {
		realm := newTokens(t, httptest.NewServer)
		realm.answer = func(w http.ResponseWriter, _ *http.Request, _ int) { _, _ = io.WriteString(w, answer) }
		server := serve(t, guardedBy(realm, is("never")))
		_, err := open(t, server, Options{}).Manifest(t.Context(), "v1")
		if err == nil || !strings.Contains(err.Error(), "get token for team/app from "+host(realm.Server)) || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWrongStoredCredentialOnPublicImage(t *testing.T) {
	for _, test := range []struct {
		name       string
		credential credential.Credential
		status     int
	}{
		{"401", credential.Credential{Username: "me", Password: canary}, http.StatusUnauthorized},
		{"403", credential.Credential{Username: "me", Password: canary}, http.StatusForbidden},
		{"identity token", credential.Credential{IdentityToken: canary}, http.StatusBadRequest},
		{"identity token, 401", credential.Credential{IdentityToken: canary}, http.StatusUnauthorized},
		{"identity token, 403", credential.Credential{IdentityToken: canary}, http.StatusForbidden},
		{"identity token, no POST", credential.Credential{IdentityToken: canary}, http.StatusMethodNotAllowed},
	} {
		realm := newTokens(t, httptest.NewServer)
		public := true
		realm.answer = func(w http.ResponseWriter, req *http.Request, _ int) {
			if req.Header.Get("Authorization") != "" || req.Method == http.MethodPost || !public {
				w.WriteHeader(test.status)
				_, _ = io.WriteString(w, `{"details":"incorrect username or password `+canary+`"}`)
				return
			}
			_, _ = io.WriteString(w, `{"token":"public"}`)
		}
		server := serve(t, guardedBy(realm, is("Bearer public")))
		var sent events
		r := open(t, server, Options{Credentials: stored(test.credential), Events: sent.add})
		for range 2 {
			if _, err := r.Manifest(t.Context(), "v1"); err != nil {
				t.Errorf("%s: %v", test.name, err)
			}
		}
		warnings := sent.of(image.EventWarning)
		if len(warnings) != 1 || !strings.Contains(warnings[0].Text, "/home/me/config.json") || strings.Contains(warnings[0].Text, canary) {
			t.Errorf("%s: warnings %v", test.name, warnings)
		}
		if n := realm.exchanges.Load(); n != 2 {
			t.Errorf("%s: %d exchanges", test.name, n)
		}

		// The same on a private image says both.
		public = false
		_, err := open(t, server, Options{Credentials: stored(test.credential)}).Manifest(t.Context(), "v1")
		unauthorized := test.status == http.StatusUnauthorized || test.status == http.StatusForbidden
		if unauthorized && !errors.Is(err, image.ErrUnauthorized) {
			t.Errorf("%s: private: %v", test.name, err)
		}
		if err == nil || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: private: %v", test.name, err)
		}

		// One given for this command is never left out.
		public = true
		given := test.credential
		given.Source = "--username"
		_, err = open(t, server, Options{Credentials: func(context.Context, string, string) (credential.Credential, error) { return given, nil }}).Manifest(t.Context(), "v1")
		if err == nil || !strings.Contains(err.Error(), "get token") || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: given: %v", test.name, err)
		}
		if unauthorized && (!errors.Is(err, image.ErrUnauthorized) || !strings.Contains(err.Error(), "--username")) {
			t.Errorf("%s: given: %v", test.name, err)
		}
	}
}

// What the registry itself refuses is left out too.
func TestWrongStoredCredentialAtRegistry(t *testing.T) {
	realm := newTokens(t, httptest.NewServer)
	realm.answer = func(w http.ResponseWriter, req *http.Request, _ int) {
		if req.Header.Get("Authorization") != "" || req.Method != http.MethodGet {
			t.Error("the realm was shown a credential")
		}
		_, _ = io.WriteString(w, `{"token":"public"}`)
	}
	challenges := []string{}
	public := true
	server := serve(t, func(w http.ResponseWriter, req *http.Request) {
		if public && req.Header.Get("Authorization") == "Bearer public" {
			sendManifest(w)
			return
		}
		w.Header()["Www-Authenticate"] = challenges
		w.WriteHeader(http.StatusUnauthorized)
	})
	for _, test := range []struct {
		name       string
		credential credential.Credential
		challenges []string
	}{
		{"registry token", credential.Credential{RegistryToken: canary}, []string{`Bearer realm="` + realm.URL + `"`}},
		{"password", credential.Credential{Username: "me", Password: canary}, []string{`Basic realm="x"`, `Bearer realm="` + realm.URL + `"`}},
	} {
		challenges, public = test.challenges, true
		var sent events
		r := open(t, server, Options{Credentials: stored(test.credential), Events: sent.add})
		for range 2 {
			if _, err := r.Manifest(t.Context(), "v1"); err != nil {
				t.Errorf("%s: %v", test.name, err)
			}
		}
		if warnings := sent.of(image.EventWarning); len(warnings) != 1 || !strings.Contains(warnings[0].Text, "/home/me/config.json") {
			t.Errorf("%s: warnings %v", test.name, warnings)
		}

		given := test.credential
		given.Source = "DAVIT_PASSWORD"
		_, err := open(t, server, Options{Credentials: credentialGiven(given)}).Manifest(t.Context(), "v1")
		if !errors.Is(err, image.ErrUnauthorized) || !strings.Contains(err.Error(), "with the credential from DAVIT_PASSWORD") {
			t.Errorf("%s, given: %v", test.name, err)
		}

		public = false
		_, err = open(t, server, Options{Credentials: stored(test.credential)}).Manifest(t.Context(), "v1")
		if !errors.Is(err, image.ErrUnauthorized) || !strings.Contains(err.Error(), "the credential from /home/me/config.json was refused, and anonymous access too") {
			t.Errorf("%s, private: %v", test.name, err)
		}
	}
}

// A registry with Basic where some content is for everybody: a password that
// was good, and is so no more, is in nobody's way.
func TestStoredPasswordThatEnds(t *testing.T) {
	var ended atomic.Bool
	b := newBlob(10)
	server := serve(t, func(w http.ResponseWriter, req *http.Request) {
		_, password, shown := req.BasicAuth()
		private := strings.Contains(req.URL.Path, "/manifests/")
		if shown && (ended.Load() || password != canary) || private && !shown {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if private {
			sendManifest(w)
			return
		}
		b.send(w, req)
	})
	var sent events
	r := open(t, server, Options{Credentials: stored(credential.Credential{Username: "me", Password: canary}), Events: sent.add})
	if _, err := r.Manifest(t.Context(), "v1"); err != nil {
		t.Fatal(err)
	}
	ended.Store(true)
	if err := b.check(r, 0, 5); err != nil {
		t.Error(err)
	}
	if _, err := r.Manifest(t.Context(), "v1"); !errors.Is(err, image.ErrUnauthorized) {
		t.Errorf("got %v", err)
	}
	if warnings := sent.of(image.EventWarning); len(warnings) != 1 {
		t.Errorf("warnings %v", warnings)
	}
}

// A realm in trouble refuses nothing: a stored credential stays.
func TestRealmInTroubleRefusesNothing(t *testing.T) {
	for _, c := range []credential.Credential{{Username: "me", Password: canary}, {IdentityToken: canary}} {
		for _, status := range []int{http.StatusInternalServerError, http.StatusBadGateway, http.StatusTooManyRequests} {
			realm := newTokens(t, httptest.NewServer)
			realm.answer = func(w http.ResponseWriter, _ *http.Request, n int) {
				if n == 1 {
					w.WriteHeader(status)
					return
				}
				_, _ = io.WriteString(w, `{"token":"granted"}`)
			}
			server := serve(t, guardedBy(realm, is("Bearer granted")))
			var sent events
			r := open(t, server, Options{Credentials: stored(c), Events: sent.add})
			if _, err := r.Manifest(t.Context(), "v1"); err != nil {
				t.Error(err)
			}
			if _, refused, _ := r.auth.used(); refused != "" || len(sent.of(image.EventWarning)) != 0 || len(sent.of(image.EventRetry)) != 1 {
				t.Errorf("%d: refused %q", status, refused)
			}
		}
	}
}

func TestUnauthorizedSaysWhatWasUsed(t *testing.T) {
	realm := newTokens(t, httptest.NewServer)
	server := serve(t, guardedBy(realm, is("never")))
	for _, test := range []struct {
		provider credential.Provider
		says     string
	}{
		{nil, "no credential was used"},
		{given("me", canary), "with the credential from --username"},
		{stored(credential.Credential{Username: "me", Password: canary}), "with the credential from /home/me/config.json"},
	} {
		_, err := open(t, server, Options{Credentials: test.provider}).Manifest(t.Context(), "v1")
		var e *Error
		if !errors.As(err, &e) || !errors.Is(err, image.ErrUnauthorized) || e.Status != http.StatusUnauthorized {
			t.Fatalf("got %v", err)
		}
		for _, want := range []string{"get manifest team/app:v1 from " + host(server), "401 Unauthorized", "authentication required", test.says, "scope repository:team/app:pull"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q does not say %q", err, want)
			}
		}
		if strings.Contains(err.Error(), canary) || strings.Contains(err.Error(), "\n") {
			t.Errorf("unfit: %q", err)
		}
	}
}

func TestCredentialThatCannotBeHad(t *testing.T) {
	realm := newTokens(t, httptest.NewServer)
	server := serve(t, guardedBy(realm, is("Bearer token1")))
	broken := errors.New("docker-credential-x: no such program")
	_, err := open(t, server, Options{Credentials: func(context.Context, string, string) (credential.Credential, error) {
		return credential.Credential{}, broken
	}}).Manifest(t.Context(), "v1")
	if !errors.Is(err, broken) || realm.exchanges.Load() != 0 {
		t.Errorf("went on as somebody else: %v", err)
	}
}

func TestNoCredentialLookedForWithoutChallenge(t *testing.T) {
	server := serve(t, func(w http.ResponseWriter, _ *http.Request) { sendManifest(w) })
	_, err := open(t, server, Options{Credentials: func(context.Context, string, string) (credential.Credential, error) {
		t.Error("asked for a credential")
		return credential.Credential{}, nil
	}}).Manifest(t.Context(), "v1")
	if err != nil {
		t.Error(err)
	}
}

func TestRealmRedirects(t *testing.T) {
	realm := newTokens(t, httptest.NewServer)
	elsewhere := newTokens(t, httptest.NewServer)
	elsewhere.answer = func(w http.ResponseWriter, req *http.Request, _ int) {
		body, _ := io.ReadAll(req.Body)
		if req.Header.Get("Authorization") != "" || len(body) > 0 {
			t.Error("the credential went along")
		}
		_, _ = io.WriteString(w, `{"token":"granted"}`)
	}
	target := elsewhere.URL
	realm.answer = func(w http.ResponseWriter, req *http.Request, _ int) {
		if req.URL.Path == "/moved" {
			if _, password, _ := req.BasicAuth(); password != canary {
				t.Error("no credential on the realm's own host")
			}
			_, _ = io.WriteString(w, `{"token":"granted"}`)
			return
		}
		http.Redirect(w, req, target, http.StatusTemporaryRedirect)
	}
	server := serve(t, guardedBy(realm, is("Bearer granted")))
	if _, err := open(t, server, Options{}).Manifest(t.Context(), "v1"); err != nil {
		t.Errorf("anonymous: %v", err)
	}
	for _, c := range []credential.Credential{{Username: "me", Password: canary}, {IdentityToken: canary}} {
		if _, err := open(t, server, Options{Credentials: stored(c)}).Manifest(t.Context(), "v1"); err == nil || !strings.Contains(err.Error(), "redirects") {
			t.Errorf("with a credential: %v", err)
		}
	}
	target = "/moved"
	if _, err := open(t, server, Options{Credentials: given("me", canary)}).Manifest(t.Context(), "v1"); err != nil {
		t.Errorf("on its own host: %v", err)
	}
	target = "http://169.254.169.254/"
	if _, err := open(t, server, Options{}).Manifest(t.Context(), "v1"); err == nil || !strings.Contains(err.Error(), "metadata") {
		t.Errorf("to a metadata service: %v", err)
	}
}
