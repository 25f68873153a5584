package registry

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/davit-cli/davit/credential"
	"github.com/davit-cli/davit/image"
)

// tokenTaker is a registry with a realm, which take the canary as a token in
// one manner.
type tokenTaker struct {
	basicUser string                      // that the realm wants with it; "*": any, "": it takes no Basic
	weak      bool                        // the realm gives an anonymous token to whom it does not know
	refresh   bool                        // the realm takes it as a refresh token
	asIs      bool                        // the registry takes it itself
	refuse    int                         // of what is shown to the realm; 0: 401
	denied    int                         // of a token that is too weak; 0: 401
	challenge func(w http.ResponseWriter) // nil: Bearer of the realm
	realm     *httptest.Server
	server    *httptest.Server

	mu  sync.Mutex
	log []string
}

func (k *tokenTaker) note(what string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.log = append(k.log, what)
}

func (k *tokenTaker) start(t *testing.T) {
	t.Helper()
	k.realm = serve(t, func(w http.ResponseWriter, req *http.Request) {
		user, password, basic := req.BasicAuth()
		good := basic && password == canary && (k.basicUser == "*" || k.basicUser == user && user != "")
		what := "anonymous"
		switch {
		case req.Method == http.MethodPost:
			what = "refresh"
			good = k.refresh && req.PostFormValue("refresh_token") == canary
		case basic:
			what = "Basic " + user
		}
		k.note(what)
		switch {
		case good:
			_, _ = io.WriteString(w, `{"token":"strong-token"}`)
		case k.weak && req.Method == http.MethodGet:
			_, _ = io.WriteString(w, `{"token":"weak-token"}`)
		case k.refuse != 0:
			w.WriteHeader(k.refuse)
		default:
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	k.server = serve(t, func(w http.ResponseWriter, req *http.Request) {
		authorization := req.Header.Get("Authorization")
		k.note(map[string]string{
			"": "-", "Bearer strong-token": "strong", "Bearer weak-token": "weak", "Bearer " + canary: "as it is",
		}[authorization])
		user, password, _ := req.BasicAuth()
		switch {
		case authorization == "Bearer strong-token", k.asIs && authorization == "Bearer "+canary,
			k.challenge != nil && password == canary && (k.basicUser == "*" || k.basicUser == user):
			sendManifest(w)
		case authorization == "Bearer weak-token" && k.denied != 0:
			w.WriteHeader(k.denied)
		case k.challenge != nil:
			k.challenge(w)
			w.WriteHeader(http.StatusUnauthorized)
		default:
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="s",scope="repository:team/app:pull"`, k.realm.URL))
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
}

func tokenGiven(username string) credential.Provider {
	return credentialGiven(credential.Credential{Username: username, Token: canary, Source: "--token-stdin"})
}

func TestTokenInEachManner(t *testing.T) {
	basicOnly := func(w http.ResponseWriter) { w.Header().Set("WWW-Authenticate", `Basic realm="x"`) }
	noRealm := func(w http.ResponseWriter) { w.Header().Set("WWW-Authenticate", `Bearer service="s"`) }
	badRealm := func(w http.ResponseWriter) {
		w.Header().Set("WWW-Authenticate", `Bearer realm="http://169.254.169.254/token"`)
	}
	both := func(w http.ResponseWriter) {
		w.Header()["Www-Authenticate"] = []string{`Bearer realm="http://169.254.169.254/token"`, `Basic realm="x"`}
	}
	for _, test := range []struct {
		name string
		kind *tokenTaker
		user string
		log  []string // of two requests
	}{
		{"password", &tokenTaker{basicUser: "*"}, "", []string{"-", "Basic token", "strong", "strong"}},
		{"password with a name", &tokenTaker{basicUser: "deployer"}, "deployer", []string{"-", "Basic deployer", "strong", "strong"}},
		{"refresh token", &tokenTaker{refresh: true}, "", []string{"-", "Basic token", "refresh", "strong", "strong"}},
		{"refresh token, 400 of Basic", &tokenTaker{refresh: true, refuse: 400}, "", []string{"-", "Basic token", "refresh", "strong", "strong"}},
		{"refresh token, anonymous else", &tokenTaker{refresh: true, weak: true}, "", []string{"-", "Basic token", "weak", "refresh", "strong", "strong"}},
		{"refresh token, 403 of the weak", &tokenTaker{refresh: true, weak: true, denied: 403}, "", []string{"-", "Basic token", "weak", "refresh", "strong", "strong"}},
		{"as it is", &tokenTaker{asIs: true}, "", []string{"-", "Basic token", "refresh", "as it is", "as it is"}},
		{"as it is, anonymous else", &tokenTaker{asIs: true, weak: true, refuse: 405}, "", []string{"-", "Basic token", "weak", "refresh", "as it is", "as it is"}},
		{"as it is, no realm", &tokenTaker{asIs: true, challenge: noRealm}, "", []string{"-", "as it is", "as it is"}},
		{"as it is, forbidden realm", &tokenTaker{asIs: true, challenge: badRealm}, "", []string{"-", "as it is", "as it is"}},
		{"Basic", &tokenTaker{basicUser: "token", challenge: basicOnly}, "", []string{"-", "", ""}},
		{"Basic with a name", &tokenTaker{basicUser: "deployer", challenge: basicOnly}, "deployer", []string{"-", "", ""}},
		{"Basic, after Bearer", &tokenTaker{basicUser: "*", challenge: both}, "", []string{"-", "as it is", "", ""}},
	} {
		t.Run(test.name, func(t *testing.T) {
			k := test.kind
			k.start(t)
			r := open(t, k.server, Options{Credentials: tokenGiven(test.user)})
			for range 2 {
				if _, err := r.Manifest(t.Context(), "v1"); err != nil {
					t.Error(err)
				}
			}
			if !slices.Equal(k.log, test.log) {
				t.Errorf("asked %q, want %q", k.log, test.log)
			}
		})
	}
}

// What worked for one repository is tried first for the next.
func TestTokenMannerIsRemembered(t *testing.T) {
	k := &tokenTaker{asIs: true}
	k.start(t)
	s := NewSession(Options{Credentials: tokenGiven("")})
	for _, name := range []string{"team/app", "team/other"} {
		if _, err := openIn(t, s, k.server, name).Manifest(t.Context(), "v1"); err != nil {
			t.Error(err)
		}
	}
	if want := []string{"-", "Basic token", "refresh", "as it is", "-", "as it is"}; !slices.Equal(k.log, want) {
		t.Errorf("asked %q, want %q", k.log, want)
	}
}

func TestTokenThatNobodyTakes(t *testing.T) {
	for _, weak := range []bool{false, true} {
		k := &tokenTaker{weak: weak}
		k.start(t)
		var trace lines
		r := open(t, k.server, Options{Credentials: tokenGiven(""), Trace: trace.add})
		_, err := r.Manifest(t.Context(), "v1")
		if !errors.Is(err, image.ErrUnauthorized) || !strings.Contains(err.Error(), "with the credential from --token-stdin") || strings.Contains(err.Error()+trace.String(), canary) {
			t.Errorf("weak: %v: %v", weak, err)
		}
		asked := len(k.log)
		if _, err := r.Manifest(t.Context(), "v1"); !errors.Is(err, image.ErrUnauthorized) || len(k.log) != asked+1 {
			t.Errorf("again: %v, asked %q", err, k.log[asked:])
		}
	}
}

// A stored one is left out where the image is public.
func TestStoredTokenThatNobodyTakes(t *testing.T) {
	public := newTokens(t, httptest.NewServer)
	public.answer = func(w http.ResponseWriter, req *http.Request, _ int) {
		if req.Method == http.MethodPost || req.Header.Get("Authorization") != "" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = io.WriteString(w, `{"token":"public"}`)
	}
	server := serve(t, guardedBy(public, is("Bearer public")))
	var sent events
	if _, err := open(t, server, Options{Credentials: stored(credential.Credential{Token: canary}), Events: sent.add}).Manifest(t.Context(), "v1"); err != nil {
		t.Error(err)
	}
	if warnings := sent.of(image.EventWarning); len(warnings) != 1 || !strings.Contains(warnings[0].Text, "/home/me/config.json") {
		t.Errorf("warnings %v", warnings)
	}
}

// Trouble at the realm is no refusal.
func TestTokenAtRealmInTrouble(t *testing.T) {
	k := &tokenTaker{asIs: true, refuse: http.StatusBadGateway}
	k.start(t)
	var busy *image.RetryError
	if _, err := open(t, k.server, Options{Credentials: tokenGiven(""), Retries: -1}).Manifest(t.Context(), "v1"); !errors.As(err, &busy) || !slices.Equal(k.log, []string{"-", "Basic token"}) {
		t.Errorf("asked %q, %v", k.log, err)
	}
}

func TestDefaultUser(t *testing.T) {
	gitlab := challenge{"bearer", map[string]string{"realm": "https://gitlab.example/jwt/auth", "service": "container_registry"}}
	for _, test := range []struct {
		host string
		c    challenge
		want string
	}{
		{"123456789012.dkr.ecr.eu-west-1.amazonaws.com", challenge{}, "AWS"},
		{"123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", challenge{}, "AWS"},
		{"123456789012.DKR.ecr-fips.us-east-1.amazonaws.com:443", challenge{}, "AWS"},
		{"123456789012.dkr.ecr.eu-west-1.amazonaws.com.evil.net", challenge{}, "token"},
		{"123456789012.dkr.ecr.eu-west-1.evilamazonaws.com", challenge{}, "token"},
		{"dkr.ecr.eu-west-1.amazonaws.com", challenge{}, "token"},
		{"x.y.dkr.ecr.eu-west-1.amazonaws.com", challenge{}, "token"},
		{"gcr.io", challenge{}, "oauth2accesstoken"},
		{"eu.gcr.io", challenge{}, "oauth2accesstoken"},
		{"evilgcr.io", challenge{}, "token"},
		{"gcr.io.evil.net", challenge{}, "token"},
		{"europe-docker.pkg.dev", challenge{}, "oauth2accesstoken"},
		{"docker.pkg.dev", challenge{}, "token"},
		{"europe-docker.pkg.dev.evil.net", challenge{}, "token"},
		{"x-docker.evilpkg.dev", challenge{}, "token"},
		{"team.azurecr.io", challenge{}, "00000000-0000-0000-0000-000000000000"},
		{"azurecr.io.evil.net", challenge{}, "token"},
		{"evilazurecr.io", challenge{}, "token"},
		{"registry.gitlab.example:5050", gitlab, "gitlab-ci-token"},
		{"registry.gitlab.example", challenge{"bearer", map[string]string{"realm": "https://gitlab.example/jwt/auth", "service": "x"}}, "token"},
		{"registry.gitlab.example", challenge{"bearer", map[string]string{"realm": "https://gitlab.example/token?x=/jwt/auth", "service": "container_registry"}}, "token"},
		{"registry.example", challenge{}, "token"},
	} {
		if got := defaultUser(test.host, test.c); got != test.want {
			t.Errorf("%s: %q, want %q", test.host, got, test.want)
		}
	}
}

// A token is a secret in all its forms, with the names that it is shown with.
func TestTokenIsRedacted(t *testing.T) {
	k := &tokenTaker{basicUser: "*"}
	k.start(t)
	r := open(t, k.server, Options{Credentials: tokenGiven("")})
	if _, err := r.Manifest(t.Context(), "v1"); err != nil {
		t.Fatal(err)
	}
	for _, said := range append(formsOf(canary), append(base64Of("token:"+canary), "strong-token")...) {
		if got := r.client.public("it said "+said, 1000); got != "it said ***" {
			t.Errorf("%q becomes %q", said, got)
		}
	}
}
