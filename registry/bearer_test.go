package registry

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/davit-cli/davit/credential"
	"github.com/davit-cli/davit/image"
)

func TestTokenForPulling(t *testing.T) {
	realm := newTokens(t, httptest.NewServer)
	realm.answer = func(w http.ResponseWriter, req *http.Request, _ int) {
		if _, password, _ := req.BasicAuth(); password == canary {
			_, _ = io.WriteString(w, `{"token":"granted","expires_in":120}`)
			return
		}
		_, _ = io.WriteString(w, `{"token":"weak"}`)
	}
	asked := ""
	server := serve(t, func(w http.ResponseWriter, req *http.Request) {
		asked = req.Method + " " + req.URL.Path
		switch authorization := req.Header.Get("Authorization"); authorization {
		case "Bearer granted", "Bearer " + canary:
			http.NotFound(w, req) // there is no such tag
		default:
			realm.challenge(w)
		}
	})
	begin := time.Now()
	r := open(t, server, Options{Credentials: given("me", canary)})
	token, err := r.Token(t.Context())
	if err != nil || token.Value != "granted" || token.Realm != realm.URL+"/token?keep=1" || token.Service != "the service" ||
		token.Scope != "repository:team/app:pull" || token.Source != "--username" || asked != "HEAD /v2/team/app/manifests/latest" {
		t.Errorf("%+v of %q, %v; asked %s", token, token.Value, err, asked)
	}
	if left := token.Expires.Sub(begin); left < 120*time.Second || left > 180*time.Second {
		t.Errorf("it ends in %v", left)
	}
	if text := fmt.Sprintf("%v %+v %#v %s", token, token, token, token); strings.Contains(text, "granted") {
		t.Errorf("a printed token: %s", text)
	}
	if again, err := r.Token(t.Context()); err != nil || again != token || realm.exchanges.Load() != 1 {
		t.Errorf("again: %v, %d exchanges", err, realm.exchanges.Load())
	}

	asIs, err := open(t, server, Options{Credentials: credentialGiven(credential.Credential{RegistryToken: canary, Source: "x"})}).Token(t.Context())
	if err != nil || asIs.Value != canary || !asIs.Expires.IsZero() || asIs.Realm == "" {
		t.Errorf("a registry token: %+v, %v", asIs, err)
	}
	// One that is not good for pulling is none.
	if _, err = open(t, server, Options{}).Token(t.Context()); !errors.Is(err, image.ErrUnauthorized) || !strings.Contains(err.Error(), "no credential was used") {
		t.Errorf("anonymous: %v", err)
	}
}

func TestTokenThatIsNotToBeHad(t *testing.T) {
	for _, test := range []struct {
		name       string
		challenges []string
		provider   credential.Provider
		want       error
	}{
		{"open", nil, given("me", canary), ErrNoChallenge},
		{"Basic", []string{`Basic realm="x"`}, given("me", canary), ErrBasic},
		{"Basic, anonymous", []string{`Basic realm="x"`}, nil, ErrBasic},
		{"Basic, wrong", []string{`Basic realm="x"`}, given("me", "wrong"), ErrBasic},
		{"no way", []string{`Negotiate`}, given("me", canary), image.ErrUnauthorized},
		{"hostile", []string{`Bearer realm="http://169.254.169.254/"`}, given("me", canary), ErrRealm},
	} {
		server := serve(t, func(w http.ResponseWriter, req *http.Request) {
			if _, password, _ := req.BasicAuth(); test.challenges != nil && password != canary {
				w.Header()["Www-Authenticate"] = test.challenges
				w.WriteHeader(http.StatusUnauthorized)
			}
		})
		_, err := open(t, server, Options{Credentials: test.provider}).Token(t.Context())
		if !errors.Is(err, test.want) || !strings.Contains(err.Error(), "get token ") || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

func TestTokenAfterTrouble(t *testing.T) {
	realm := newTokens(t, httptest.NewServer)
	n := 0
	server := serve(t, func(w http.ResponseWriter, req *http.Request) {
		if n++; n == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
		} else if req.Header.Get("Authorization") == "" {
			realm.challenge(w)
		}
	})
	if token, err := open(t, server, Options{}).Token(t.Context()); err != nil || token.Value != "token1" || token.Source != "" {
		t.Errorf("%+v, %v", token, err)
	}
}
