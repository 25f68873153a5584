package e2e

import (
	"archive/tar"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math"
	mathrand "math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// briefTokens is a token server of our own: distribution's gives 15 minutes to
// each token, and its registry another one beyond that.
type briefTokens struct {
	life time.Duration
	told time.Duration // what it says that a token's life is
	jwks string
	url  string
	key  *ecdsa.PrivateKey

	mu     sync.Mutex
	issued []string
}

// leeway is how long distribution's registry takes a token after its end.
const leeway = 60 * time.Second

func startBriefTokens(t testing.TB, life, told time.Duration) *briefTokens {
	t.Helper()
	s := &briefTokens{life: life, told: told, jwks: filepath.Join(workDir(t), "jwks.json"), key: newKey(t)}
	writeFile(t, s.jwks, jwks(t, s.key, "brief"))
	server := httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(server.Close)
	s.url = "http://" + localhost(t, strings.TrimPrefix(server.URL, "http://")) + tokenPath
	return s
}

// guard is a registry with the images of r, for who has a token.
func (s *briefTokens) guard(t testing.TB, r *registry) *registry {
	t.Helper()
	return r.guarded(t, tokenAuth(s.url, s.jwks))
}

// serve gives robin tokens for what is below robin's name.
func (s *briefTokens) serve(w http.ResponseWriter, r *http.Request) {
	name, password, _ := r.BasicAuth()
	if name != robin.name || password != robin.password {
		w.Header().Set("WWW-Authenticate", `Basic realm="tokens"`)
		http.Error(w, `{"errors":[{"code":"UNAUTHORIZED"}]}`, http.StatusUnauthorized)
		return
	}
	granted := []any{}
	for _, scope := range r.URL.Query()["scope"] {
		parts := strings.Split(scope, ":")
		if len(parts) == 3 && parts[0] == "repository" && strings.HasPrefix(parts[1], robin.name+"/") {
			granted = append(granted, map[string]any{"type": parts[0], "name": parts[1], "actions": []string{"pull"}})
		}
	}
	token, err := s.token(granted)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	s.mu.Lock()
	s.issued = append(s.issued, token)
	s.mu.Unlock()
	_ = json.NewEncoder(w).Encode(map[string]any{"token": token, "expires_in": s.told.Seconds()}) // the client sees it
}

// token makes one that the registry takes for its life and no longer, or up to
// a second longer, as it counts whole seconds.
func (s *briefTokens) token(granted any) (string, error) {
	now := time.Now()
	end := float64(now.Add(s.life-leeway).UnixMilli()) / 1000
	header, err := json.Marshal(map[string]string{"typ": "JWT", "alg": "ES256", "kid": "brief"})
	if err != nil {
		return "", err
	}
	claims, err := json.Marshal(map[string]any{
		"iss": tokenIssuer, "aud": tokenService, "sub": robin.name, "access": granted, "jti": rand.Text(),
		"iat": now.Unix(), "nbf": now.Unix(), "exp": int64(math.Ceil(end)),
	})
	if err != nil {
		return "", err
	}
	encode := base64.RawURLEncoding.EncodeToString
	text := encode(header) + "." + encode(claims)
	hash := sha256.Sum256([]byte(text))
	a, b, err := ecdsa.Sign(rand.Reader, s.key, hash[:])
	if err != nil {
		return "", err
	}
	signature := make([]byte, 64)
	a.FillBytes(signature[:32])
	b.FillBytes(signature[32:])
	return text + "." + encode(signature), nil
}

// tokens are those that were given.
func (s *briefTokens) tokens() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.issued...)
}

// randomImage is an image of layers that nothing compresses, of so many bytes each.
func randomImage(t testing.TB, sizes ...int64) *index {
	t.Helper()
	var layers []layer
	for i, size := range sizes {
		layers = append(layers, makeLayer(t, plain, func(w io.Writer) error {
			tw := tar.NewWriter(w)
			if err := tw.WriteHeader(&tar.Header{Name: fmt.Sprintf("dice%d", i), Mode: 0o644, Size: size}); err != nil {
				return err
			}
			dice := mathrand.NewChaCha8([32]byte{byte(i)})
			if _, err := io.CopyN(tw, dice, size); err != nil {
				return err
			}
			return tw.Close()
		}))
	}
	return single(makeImage(t, thisPlatform, ocispec.ImageConfig{}, layers...))
}

// TestTokenLifetime pulls for ten times as long as a token lives.
func TestTokenLifetime(t *testing.T) {
	enabled(t)
	const life = 2 * time.Second
	open := startRegistry(t)
	open.push(t, "robin/large", "1", randomImage(t, 50e6, 50e6, 50e6, 50e6))
	open.push(t, "robin/middling", "1", randomImage(t, 25e6, 25e6, 25e6, 25e6))
	for _, test := range []struct {
		name, image string
		told        time.Duration // of the life, by the token server
	}{
		{"renewed before they end", "large", life},
		{"renewed when they are refused", "middling", time.Hour},
	} {
		t.Run(test.name, func(t *testing.T) {
			tokens := startBriefTokens(t, life, test.told)
			r := tokens.guard(t, open)
			dir := workDir(t)
			name := "/robin/" + test.image + ":1"
			cmd := davitCommand(t, "pull", r.host+name, "--limit-rate", "10M", "--tag", "same:1", "--output", filepath.Join(dir, "guarded.tar"))
			cmd.Env = append(cmd.Env, "DAVIT_USERNAME="+robin.name, "DAVIT_PASSWORD="+robin.password)
			began := time.Now()
			endOf(t, cmd).exits(t, 0)
			took := time.Since(began)

			runDavit(t, "pull", open.host+name, "--tag", "same:1", "--output", filepath.Join(dir, "open.tar")).exits(t, 0)
			if got, want := sumOf(t, filepath.Join(dir, "guarded.tar")), sumOf(t, filepath.Join(dir, "open.tar")); got != want {
				t.Errorf("the archive is %s, without tokens %s", got, want)
			}
			exchanges, lives := len(tokens.tokens()), took.Seconds()/life.Seconds()
			t.Logf("%d exchanges in %.1f s, %.1f lives of a token", exchanges, took.Seconds(), lives)
			if most := 2*int(math.Ceil(lives)) + 1; exchanges > most {
				t.Errorf("%d exchanges, allowed are %d", exchanges, most)
			}
			if exchanges < 2 {
				t.Error("the token was never renewed: the test shows nothing")
			}
		})
	}
}
