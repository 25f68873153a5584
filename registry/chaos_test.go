package registry

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/davit-cli/davit/credential"
	"github.com/davit-cli/davit/ref"
)

// chaos is a transport to a registry and realms that answer at random: by the
// seed, never twice the same.
type chaos struct {
	mu       sync.Mutex
	random   *rand.Rand
	requests int
}

func (c *chaos) RoundTrip(req *http.Request) (*http.Response, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.requests++; c.requests > 100_000 {
		return nil, fmt.Errorf("enough")
	}
	header := http.Header{}
	answer := func(status int, body string) (*http.Response, error) {
		return &http.Response{StatusCode: status, Header: header, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body))}, nil
	}
	pick := func(of ...string) string { return of[c.random.IntN(len(of))] }
	number := func(of ...int) int { return of[c.random.IntN(len(of))] }
	if strings.HasPrefix(req.URL.Host, "auth") {
		switch number(0, 0, 0, 0, 0, 1, 2) {
		case 0:
			return answer(200, fmt.Sprintf(`{"%s":"token-%d","expires_in":%s}`, pick("token", "access_token"), c.random.IntN(20),
				pick("-1", "0", "1e300", "1e-300", "300", `"x"`, "null", "1e999", "0.001")))
		case 1:
			header.Set("Location", pick("/token", "https://auth1.test/x", "http://auth1.test/", "https://registry.test/token", "//"))
			return answer(number(301, 302, 303, 307, 308), "")
		}
		return answer(number(200, 400, 401, 403, 404, 405, 413, 414, 429, 431, 500, 501, 503), pick("", "{}", `{"token":"a\u0007b"}`, `{"token":7}`, "[]", `{"token":""}`))
	}
	for range c.random.IntN(4) {
		name, _, _ := strings.Cut(strings.TrimPrefix(req.URL.Path, "/v2/"), "/manifests/")
		scope := "repository:" + pick(name, "team/app1", "team/app2") + ":" + pick("pull", "pull,push", fmt.Sprint(c.random.IntN(1000)), "a b")
		header.Add("WWW-Authenticate", pick(
			`Basic realm="x"`, "Negotiate", "Negotiate YII==", "Bearer", `Bearer realm="/token"`, `Bearer realm="https://127.0.0.1/token"`,
			fmt.Sprintf(`Bearer realm="https://auth%d.test/token",service="s",scope=%q`, c.random.IntN(3), scope),
			fmt.Sprintf(`Bearer realm="https://auth.test/token",service="s",scope=%q`, scope),
			fmt.Sprintf(`Bearer realm="https://auth.test/token",scope=%q, Basic`, scope),
			`Bearer realm="https://auth.test/token"`, `,,,=,="`, "Bearer realm=\"https://auth.test/token\",scope=\"\\"))
	}
	switch number(0, 0, 0, 0, 1, 2) {
	case 0:
		return answer(number(401, 401, 401, 403), pick("", `{"errors":[{"code":"DENIED"}]}`))
	case 1:
		header.Set("Location", pick("/v2/moved", "https://cdn.test/x", "http://registry.test/x", "https://registry.test/x"))
		return answer(307, "")
	}
	header.Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
	return answer(number(200, 200, 404, 500), manifest)
}

// Whatever registries and realms answer, a request ends, and soon.
func TestChaosEnds(t *testing.T) {
	kinds := []credential.Credential{
		{}, {Username: "me", Password: canary}, {Username: "me", Password: canary, Stored: true}, {IdentityToken: canary}, {IdentityToken: canary, Stored: true},
		{RegistryToken: canary}, {RegistryToken: canary, Stored: true}, {Token: canary}, {Username: "me", Token: canary}, {Token: canary, Stored: true},
	}
	for seed := range uint64(50) {
		for _, kind := range kinds {
			n := &chaos{random: rand.New(rand.NewPCG(seed, 1))} //nolint:gosec // the same at each run
			kind.Source = "a file"
			s := NewSession(Options{Transport: n, Retries: -1, Credentials: credentialGiven(kind)})
			var all sync.WaitGroup
			const repositories, asked = 3, 3
			for i := range repositories {
				r, err := s.Open(ref.Reference{Registry: "registry.test", Repository: fmt.Sprintf("team/app%d", i)})
				if err != nil {
					t.Fatal(err)
				}
				all.Go(func() {
					for range asked {
						_, err := r.Manifest(t.Context(), "v1")
						_, _ = r.Token(t.Context())
						if err != nil && strings.Contains(err.Error(), canary) {
							t.Errorf("%d: a secret in %v", seed, err)
						}
					}
				})
			}
			all.Wait()
			if n.requests > repositories*asked*2*40 {
				t.Errorf("seed %d, %+v: %d requests", seed, kind, n.requests)
			}
		}
	}
}
