package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/davit-cli/davit/credential"
	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/ref"
)

// tokenWorld is a registry and its realm, as a transport: registry.test and
// auth.test.
type tokenWorld struct {
	delay     time.Duration // of a request
	late      int           // so many of the first requests with a token take another two seconds
	realmTime time.Duration // of an exchange; the token counts from its middle
	life      time.Duration // of a token; 0: for ever
	says      string        // expires_in and the like
	// realm refuses a request with a status; 0 or nil: it does not.
	realm func(req *http.Request, scopes []string) int
	// grants tells whether a token for scopes is good for one of them; nil: yes.
	grants func(scopes []string, scope string) bool
	status int // for a token that is no good; 0: 401

	mu        sync.Mutex
	exchanges []exchange
	refused   int // requests to the registry
	served    int
	running   map[string]int
	trouble   []string
}

type exchange struct {
	at     time.Time
	scopes []string
	user   string
}

func (w *tokenWorld) RoundTrip(req *http.Request) (*http.Response, error) {
	answer := func(status int, header http.Header, body string) (*http.Response, error) {
		return &http.Response{StatusCode: status, Header: header, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body))}, nil
	}
	if req.URL.Host == "auth.test" {
		return answer(w.exchange(req))
	}
	time.Sleep(w.delay)
	w.mu.Lock()
	late := w.late > 0 && req.Header.Get("Authorization") != ""
	if late {
		w.late--
	}
	w.mu.Unlock()
	if late {
		time.Sleep(2 * time.Second)
	}
	name, _, _ := strings.Cut(strings.TrimPrefix(req.URL.Path, "/v2/"), "/manifests/")
	scope := "repository:" + name + ":pull"
	w.mu.Lock()
	defer w.mu.Unlock()
	value := strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer token")
	var n int
	if _, err := fmt.Sscan(value, &n); err == nil && n <= len(w.exchanges) {
		e := w.exchanges[n-1]
		good := slices.Contains(e.scopes, scope) && (w.grants == nil || w.grants(e.scopes, scope))
		if good && (w.life == 0 || time.Since(e.at) < w.life) {
			w.served++
			return answer(200, http.Header{"Content-Type": {"application/vnd.oci.image.manifest.v1+json"}}, manifest)
		}
	}
	w.refused++
	status := http.StatusUnauthorized
	if value != "" && w.status != 0 {
		status = w.status
	}
	return answer(status, http.Header{"Www-Authenticate": {fmt.Sprintf("Bearer realm=%q,service=%q,scope=%q", "https://auth.test/token", "s", scope)}}, "")
}

func (w *tokenWorld) exchange(req *http.Request) (int, http.Header, string) {
	scopes := req.URL.Query()["scope"]
	w.mu.Lock()
	for _, scope := range scopes {
		if w.running == nil {
			w.running = map[string]int{}
		}
		if w.running[scope]++; w.running[scope] > 1 {
			w.trouble = append(w.trouble, "two exchanges at a time for "+scope)
		}
	}
	w.mu.Unlock()
	time.Sleep(w.realmTime / 2)
	status, body := 200, ""
	w.mu.Lock()
	if w.realm != nil {
		if status = w.realm(req, scopes); status == 0 {
			status = 200
		}
	}
	if status == 200 {
		user, _, _ := req.BasicAuth()
		w.exchanges = append(w.exchanges, exchange{time.Now(), scopes, user})
		body = fmt.Sprintf(`{"token":"token%d"%s}`, len(w.exchanges), w.says)
	}
	w.mu.Unlock()
	time.Sleep(w.realmTime / 2)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, scope := range scopes {
		w.running[scope]--
	}
	return status, http.Header{}, body
}

// opened opens repositories a, b, c, … in a session.
func (w *tokenWorld) opened(t *testing.T, n int, opts Options) []*Repository {
	t.Helper()
	opts.Transport = w
	s := NewSession(opts)
	var opened []*Repository
	for i := range n {
		r, err := s.Open(ref.Reference{Registry: "registry.test", Repository: string(rune('a'+i%26)) + strings.Repeat("x", i/26), Scheme: "https"})
		if err != nil {
			t.Fatal(err)
		}
		opened = append(opened, r)
	}
	return opened
}

func (w *tokenWorld) check(t *testing.T) {
	t.Helper()
	for _, trouble := range w.trouble {
		t.Error(trouble)
	}
}

// A token that lives shortly is renewed in time, for all connections of all
// repositories: at most two exchanges a lifetime.
func TestShortLivedTokens(t *testing.T) {
	for _, test := range []struct {
		says            string
		life, realmTime time.Duration
	}{
		{`,"expires_in":2`, 2 * time.Second, 100 * time.Millisecond},
		{`,"expires_in":2`, 2 * time.Second, 900 * time.Millisecond},
		{`,"expires_in":2`, 2 * time.Second, 1700 * time.Millisecond},
		{`,"expires_in":1`, time.Second, 100 * time.Millisecond},
		{`,"expires_in":1`, time.Second, 500 * time.Millisecond},
		{``, time.Minute, time.Second},
		{`,"expires_in":300`, 2 * time.Second, 100 * time.Millisecond}, // a lie
	} {
		t.Run(test.life.String()+test.says, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &tokenWorld{delay: test.life / 40, realmTime: test.realmTime, life: test.life, says: test.says}
				end := time.Now().Add(8 * test.life)
				var all sync.WaitGroup
				for i, r := range w.opened(t, 3, Options{}) {
					for j := range 8 {
						all.Go(func() {
							time.Sleep(time.Duration(i*7+j*3) * time.Millisecond)
							for time.Now().Before(end) {
								if _, err := r.Manifest(t.Context(), "v1"); err != nil {
									t.Error(err)
									return
								}
							}
						})
					}
				}
				all.Wait()
				w.check(t)
				for i := range len(w.exchanges) - 2 {
					if took := w.exchanges[i+2].at.Sub(w.exchanges[i].at); took < test.life {
						t.Errorf("three exchanges within %v", took)
					}
				}
				if n := len(w.exchanges); n < 3 || w.served < n*24*5 {
					t.Errorf("%d exchanges for %d requests", n, w.served)
				}
			})
		})
	}
}

func TestJointExchange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &tokenWorld{delay: time.Millisecond, realmTime: time.Millisecond}
		lookups := 0
		var mu sync.Mutex
		opened := w.opened(t, 4, Options{Credentials: func(context.Context, string, string) (credential.Credential, error) {
			mu.Lock()
			defer mu.Unlock()
			lookups++
			return credential.Credential{Username: "me", Password: canary, Source: "a file"}, nil
		}})
		_ = opened[3].Close() // has nothing to do with it any more
		for _, r := range opened[:3] {
			if _, err := r.Manifest(t.Context(), "v1"); err != nil {
				t.Error(err)
			}
		}
		if len(w.exchanges) != 1 || !slices.Equal(w.exchanges[0].scopes, []string{"repository:a:pull", "repository:b:pull", "repository:c:pull"}) ||
			w.refused != 1 || lookups != 3 {
			t.Errorf("%v, %d refusals, %d lookups", w.exchanges, w.refused, lookups)
		}
		if _, err := opened[3].Manifest(t.Context(), "v1"); err != nil || len(w.exchanges) != 2 || len(w.exchanges[1].scopes) != 1 {
			t.Errorf("%v, %v", w.exchanges, err)
		}
	})
}

func TestJointExchangeRefused(t *testing.T) {
	for _, status := range []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusRequestURITooLong} {
		synctest.Test(t, func(t *testing.T) {
			joint := 0
			w := &tokenWorld{delay: time.Millisecond, realmTime: time.Second, realm: func(_ *http.Request, scopes []string) int {
				if len(scopes) > 1 {
					joint++
					return status
				}
				return 0
			}}
			var all sync.WaitGroup
			for _, r := range w.opened(t, 3, Options{Credentials: given("me", canary)}) {
				for range 4 {
					all.Go(func() {
						if _, err := r.Manifest(t.Context(), "v1"); err != nil {
							t.Error(err)
						}
					})
				}
			}
			all.Wait()
			w.check(t)
			if joint != 1 || len(w.exchanges) != 3 {
				t.Errorf("%d: %d joint requests, %v", status, joint, w.exchanges)
			}
		})
	}
}

// Trouble at the realm says nothing of joining, and is not met for each
// repository in turn.
func TestJointExchangeInTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		w := &tokenWorld{realmTime: time.Second, realm: func(*http.Request, []string) int { asked++; return http.StatusBadGateway }}
		var all sync.WaitGroup
		for _, r := range w.opened(t, 3, Options{Retries: -1}) {
			all.Go(func() {
				var busy *image.RetryError
				if _, err := r.Manifest(t.Context(), "v1"); !errors.As(err, &busy) {
					t.Error(err)
				}
			})
		}
		all.Wait()
		w.check(t)
		if asked != 1 {
			t.Errorf("asked %d times", asked)
		}
	})
}

// A realm that gives a joint token which is good for the first scope alone, or
// for none.
func TestJointTokenNotGranted(t *testing.T) {
	for _, test := range []struct {
		name      string
		status    int
		grants    func(scopes []string, scope string) bool
		exchanges int
	}{
		{"first", 0, func(scopes []string, scope string) bool { return scopes[0] == scope }, 3},
		{"first, else 403", 403, func(scopes []string, scope string) bool { return scopes[0] == scope }, 3},
		{"none", 0, func(scopes []string, _ string) bool { return len(scopes) == 1 }, 4},
		{"none, else 403", 403, func(scopes []string, _ string) bool { return len(scopes) == 1 }, 4},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := &tokenWorld{grants: test.grants, status: test.status, life: 10 * time.Second, says: `,"expires_in":10`}
			opened := w.opened(t, 3, Options{})
			for range 3 {
				for _, r := range opened {
					if _, err := r.Manifest(t.Context(), "v1"); err != nil {
						t.Errorf("%s: %v", test.name, err)
					}
				}
			}
			w.check(t)
			if len(w.exchanges) != test.exchanges {
				t.Errorf("%s: %v", test.name, w.exchanges)
			}
			time.Sleep(10 * time.Second) // it is remembered
			for _, r := range opened {
				if _, err := r.Manifest(t.Context(), "v1"); err != nil {
					t.Errorf("%s: %v", test.name, err)
				}
			}
			if len(w.exchanges) != test.exchanges+3 {
				t.Errorf("%s, later: %v", test.name, w.exchanges)
			}
		})
	}
}

// A new token that ends on its way to a registry on a busy line is no refusal.
func TestTokenThatEndsOnItsWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &tokenWorld{life: 2 * time.Second, says: `,"expires_in":2`, late: 3}
		r := w.opened(t, 1, Options{Retries: -1})[0]
		if _, err := r.Manifest(t.Context(), "v1"); err != nil || len(w.exchanges) != 4 {
			t.Errorf("%d exchanges, %v", len(w.exchanges), err)
		}
		// A realm whose tokens have always ended does not keep us for ever.
		w.life, w.says, w.exchanges = time.Nanosecond, `,"expires_in":0.001`, nil
		w.delay = time.Second
		if _, err := r.Manifest(t.Context(), "v1"); !errors.Is(err, image.ErrUnauthorized) || len(w.exchanges) > maxLate+2 {
			t.Errorf("%d exchanges, %v", len(w.exchanges), err)
		}
		// One that is refused while it lives is.
		w.life, w.says = 0, ""
		w.grants = func([]string, string) bool { return false }
		if _, err := r.Manifest(t.Context(), "v1"); !errors.Is(err, image.ErrUnauthorized) {
			t.Error(err)
		}
	})
}

// A repository that the credential is not for hurts no other.
func TestJointTokenWithPrivateRepository(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &tokenWorld{grants: func(_ []string, scope string) bool { return scope != "repository:b:pull" }}
		opened := w.opened(t, 3, Options{})
		for i, r := range opened {
			if _, err := r.Manifest(t.Context(), "v1"); (err == nil) == (i == 1) || i == 1 && !errors.Is(err, image.ErrUnauthorized) {
				t.Errorf("%d: %v", i, err)
			}
		}
		if len(w.exchanges) != 2 {
			t.Errorf("%v", w.exchanges)
		}
	})
}

// Credentials that differ are not mixed: each repository's exchange shows its
// own.
func TestJointExchangeKeepsCredentialsApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &tokenWorld{realmTime: time.Second}
		broken := errors.New("the helper is broken")
		opened := w.opened(t, 5, Options{Credentials: func(_ context.Context, _, repository string) (credential.Credential, error) {
			switch repository {
			case "a", "c":
				return credential.Credential{Username: "one", Password: canary}, nil
			case "b":
				return credential.Credential{Username: "two", Password: canary}, nil
			case "d":
				return credential.Credential{}, broken
			}
			return credential.Credential{}, nil
		}})
		for i, r := range opened {
			if _, err := r.Manifest(t.Context(), "v1"); (err == nil) == (i == 3) || i == 3 && !errors.Is(err, broken) {
				t.Errorf("%d: %v", i, err)
			}
		}
		var got []string
		for _, e := range w.exchanges {
			got = append(got, e.user+" "+strings.Join(e.scopes, ","))
		}
		if !slices.Equal(got, []string{"one repository:a:pull,repository:c:pull", "two repository:b:pull", " repository:e:pull"}) {
			t.Errorf("got %q", got)
		}
	})
}

// Only a scope of the plain form is joined, and only that of the repository itself.
func TestScopesThatAreNotJoined(t *testing.T) {
	for _, scope := range []string{"", "registry:catalog:*", "repository:other:pull", "repository(plugin):a:pull", "repository:a:pull repository:x:pull", "repository:a:pull:x"} {
		var asked []string
		transport := answering(func(req *http.Request) *http.Response {
			resp := &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(manifest)), ContentLength: int64(len(manifest))}
			switch {
			case req.URL.Host == "auth.test":
				asked = append(asked, strings.Join(req.URL.Query()["scope"], " "))
				resp.Body, resp.ContentLength = io.NopCloser(strings.NewReader(`{"token":"t"}`)), -1
			case req.Header.Get("Authorization") == "":
				resp.StatusCode = 401
				resp.Header.Set("Www-Authenticate", fmt.Sprintf("Bearer realm=%q,scope=%q", "https://auth.test/", scope))
			default:
				resp.Header.Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
			}
			return resp
		})
		s := NewSession(Options{Transport: transport})
		var first *Repository
		for _, name := range []string{"a", "b"} {
			r, err := s.Open(ref.Reference{Registry: "registry.test", Repository: name})
			if err != nil {
				t.Fatal(err)
			}
			if first == nil {
				first = r
			}
		}
		if _, err := first.Manifest(t.Context(), "v1"); err != nil || !slices.Equal(asked, []string{scope}) {
			t.Errorf("scope %q: asked for %q, %v", scope, asked, err)
		}
	}
}

func TestManyRepositoriesJoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &tokenWorld{}
		for _, r := range w.opened(t, 40, Options{}) {
			if _, err := r.Manifest(t.Context(), "v1"); err != nil {
				t.Error(err)
			}
		}
		if len(w.exchanges) != 2 || len(w.exchanges[0].scopes) != maxJoined || len(w.exchanges[1].scopes) != 40-maxJoined {
			t.Errorf("%v", w.exchanges)
		}
	})
}

// One caller's end is not the end of the exchange that others wait for.
func TestJointExchangeOutlivesItsFirstCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &tokenWorld{realmTime: time.Second}
		opened := w.opened(t, 2, Options{})
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		var all sync.WaitGroup
		all.Go(func() {
			if _, err := opened[0].Manifest(ctx, "v1"); !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
		})
		all.Go(func() {
			time.Sleep(50 * time.Millisecond)
			if _, err := opened[1].Manifest(t.Context(), "v1"); err != nil {
				t.Error(err)
			}
		})
		all.Wait()
		w.check(t)
		if len(w.exchanges) != 1 {
			t.Errorf("%v", w.exchanges)
		}
	})
}

// A wrong stored password is left out by each repository, said once.
func TestWrongStoredCredentialInSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &tokenWorld{realm: func(req *http.Request, _ []string) int {
			if req.Header.Get("Authorization") != "" {
				return http.StatusUnauthorized
			}
			return 0
		}}
		var sent events
		for _, r := range w.opened(t, 3, Options{Credentials: stored(credential.Credential{Username: "me", Password: canary}), Events: sent.add}) {
			if _, err := r.Manifest(t.Context(), "v1"); err != nil {
				t.Error(err)
			}
		}
		if warnings := sent.of(image.EventWarning); len(warnings) != 1 || !strings.Contains(warnings[0].Text, "/home/me/config.json") {
			t.Errorf("warnings %v", warnings)
		}
	})
}

func TestRealmsAreToldApart(t *testing.T) {
	a := challenge{"bearer", map[string]string{"realm": "https://a.test", "service": "s", "scope": "x"}}
	b := a.withScope("y")
	if a.params["scope"] != "x" || realmKey(a) != realmKey(b) || tokenKey(atRealm, a) == tokenKey(atRealm, b) || tokenKey(atRealm, a) == tokenKey(asRefresh, a) {
		t.Error("keys are mixed up")
	}
}
