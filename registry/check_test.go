package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/davit-cli/davit/credential"
	"github.com/davit-cli/davit/image"
)

// checked is what a session says of a credential at server.
func checked(t *testing.T, server *httptest.Server, c credential.Credential) (Checked, error) {
	t.Helper()
	return NewSession(Options{Credentials: credentialGiven(c), Retries: -1}).Check(t.Context(), host(server))
}

func TestCheck(t *testing.T) {
	const source = "--username"
	for _, test := range []struct {
		name string
		kind *tokenTaker
		show credential.Credential
		want credential.Credential // to store; of no Source: refused
	}{
		{"password", &tokenTaker{basicUser: "me"}, credential.Credential{Username: "me", Password: canary}, credential.Credential{Username: "me", Password: canary, Source: source}},
		{"password, Basic", &tokenTaker{basicUser: "me", challenge: wantsBasic}, credential.Credential{Username: "me", Password: canary}, credential.Credential{Username: "me", Password: canary, Source: source}},
		{"token as password", &tokenTaker{basicUser: "*"}, credential.Credential{Token: canary}, credential.Credential{Username: "token", Password: canary, Source: source}},
		{"token as password with a name", &tokenTaker{basicUser: "me"}, credential.Credential{Username: "me", Token: canary}, credential.Credential{Username: "me", Password: canary, Source: source}},
		{"token as password, Basic", &tokenTaker{basicUser: "token", challenge: wantsBasic}, credential.Credential{Token: canary}, credential.Credential{Username: "token", Password: canary, Source: source}},
		{"refresh token", &tokenTaker{refresh: true}, credential.Credential{Token: canary}, credential.Credential{IdentityToken: canary, Source: source}},
		{"registry token", &tokenTaker{asIs: true, weak: true}, credential.Credential{Token: canary}, credential.Credential{RegistryToken: canary, Source: source}},
		{"identity token", &tokenTaker{refresh: true}, credential.Credential{Username: "<token>", IdentityToken: canary}, credential.Credential{Username: "<token>", IdentityToken: canary, Source: source}},

		{"wrong password", &tokenTaker{basicUser: "you"}, credential.Credential{Username: "me", Password: canary}, credential.Credential{}},
		{"wrong password, weak token", &tokenTaker{basicUser: "you", weak: true}, credential.Credential{Username: "me", Password: canary}, credential.Credential{}},
		{"wrong password, Basic", &tokenTaker{basicUser: "you", challenge: wantsBasic}, credential.Credential{Username: "me", Password: canary}, credential.Credential{}},
		{"wrong token", &tokenTaker{}, credential.Credential{Token: canary}, credential.Credential{}},
		{"wrong stored password", &tokenTaker{basicUser: "you"}, credential.Credential{Username: "me", Password: canary, Stored: true}, credential.Credential{}},
		{"wrong stored token", &tokenTaker{}, credential.Credential{RegistryToken: canary, Stored: true}, credential.Credential{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.kind.start(t)
			test.show.Source = source
			got, err := checked(t, test.kind.server, test.show)
			switch {
			case test.want.Source == "":
				if !errors.Is(err, image.ErrUnauthorized) || !strings.Contains(err.Error(), "with the credential from "+source) || strings.Contains(err.Error(), canary) {
					t.Errorf("got %v", err)
				}
			case err != nil || !got.Asked || got.Credential != test.want:
				t.Errorf("got %v, asked: %v, as user %q, password %q, tokens %q %q", err, got.Asked, got.Credential.Username, got.Credential.Password, got.Credential.IdentityToken, got.Credential.RegistryToken)
			}
		})
	}
}

func wantsBasic(w http.ResponseWriter) { w.Header().Set("WWW-Authenticate", `Basic realm="x"`) }

// As docker login asks: for no scope.
func TestCheckAsksForNoScope(t *testing.T) {
	realm := newTokens(t, httptest.NewServer)
	realm.answer = func(w http.ResponseWriter, req *http.Request, _ int) {
		if q := req.URL.Query(); q.Has("scope") || q.Get("service") != "s" {
			t.Errorf("asked for %s", req.URL)
		}
		_, _ = io.WriteString(w, `{"token":"granted"}`)
	}
	server := serve(t, func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path != "/v2/" {
			t.Errorf("asked for %s", req.URL)
		}
		if req.Header.Get("Authorization") != "Bearer granted" {
			w.Header().Set("WWW-Authenticate", fmt.Sprintf("Bearer realm=%q,service=%q", realm.URL, "s"))
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	var asked string
	s := NewSession(Options{Credentials: func(_ context.Context, registry, repository string) (credential.Credential, error) {
		asked = registry + " " + repository
		return credential.Credential{Username: "me", Password: canary}, nil
	}})
	if _, err := s.Open(referenceTo(host(server))); err != nil { // takes no part
		t.Fatal(err)
	}
	if got, err := s.Check(t.Context(), host(server)); err != nil || !got.Asked || asked != host(server)+" " {
		t.Errorf("%+v, asked for %q, %v", got, asked, err)
	}
}

func TestCheckOfNothing(t *testing.T) {
	open := serve(t, func(http.ResponseWriter, *http.Request) {})
	if got, err := checked(t, open, credential.Credential{Username: "me", Password: canary}); err != nil || got.Asked || !got.Credential.Anonymous() {
		t.Errorf("an open registry: %+v, %v", got, err)
	}
	none := serve(t, http.NotFound)
	if _, err := checked(t, none, credential.Credential{Username: "me", Password: canary}); !errors.Is(err, image.ErrNotFound) {
		t.Errorf("no registry: %v", err)
	}
	away := serve(t, func(w http.ResponseWriter, req *http.Request) { http.Redirect(w, req, open.URL, http.StatusFound) })
	if _, err := checked(t, away, credential.Credential{Username: "me", Password: canary}); err == nil || !strings.Contains(err.Error(), "redirects") {
		t.Errorf("a registry that redirects elsewhere: %v", err)
	}
	// A token for anybody is no login.
	k := &tokenTaker{weak: true, basicUser: "me"}
	k.start(t)
	if _, err := checked(t, k.server, credential.Credential{}); !errors.Is(err, image.ErrUnauthorized) {
		t.Errorf("no credential: %v", err)
	}
	anybody := newTokens(t, httptest.NewServer)
	server := serve(t, guardedBy(anybody, is("Bearer token1")))
	if _, err := checked(t, server, credential.Credential{}); !errors.Is(err, image.ErrUnauthorized) || !strings.Contains(err.Error(), "there is none") {
		t.Errorf("no credential, and a token for it: %v", err)
	}
	for _, bad := range []string{"", "example.com/x", "https://example.com", "a b"} {
		if _, err := NewSession(Options{}).Check(t.Context(), bad); err == nil || !strings.Contains(err.Error(), "not a registry") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestCheckAtRealmInTrouble(t *testing.T) {
	k := &tokenTaker{refuse: http.StatusBadGateway}
	k.start(t)
	var busy *image.RetryError
	if _, err := checked(t, k.server, credential.Credential{Username: "me", Password: canary, Stored: true}); !errors.As(err, &busy) || errors.Is(err, image.ErrUnauthorized) {
		t.Errorf("got %v", err)
	}
}
