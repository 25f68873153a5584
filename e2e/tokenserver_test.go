package e2e

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// tokenServer is distribution's own token server, running. It has users with
// passwords, refresh tokens, and tokens that live 15 minutes.
type tokenServer struct {
	host   string // under another name than the registries'
	issuer string
	jwks   string // the file by which registries know its key
	log    *process
}

// The paths and names that both token servers, this and the one of our own, have.
const (
	tokenPath    = "/token/"
	tokenService = "registry.of.the.tests"
	tokenIssuer  = "tokens.of.the.tests"
)

func startTokenServer(t testing.TB, users string) *tokenServer {
	t.Helper()
	dir := workDir(t)
	key := newKey(t)
	address := freeAddress(t)
	s := &tokenServer{host: localhost(t, address), issuer: tokenIssuer, jwks: filepath.Join(dir, "jwks.json")}
	writeFile(t, s.jwks, jwks(t, key, libtrustID(t, key)))
	s.log = start(t, "token-server", exec.Command(built(t, "token-server"), "-addr", address, "-debug",
		"-issuer", s.issuer, "-realm", "tokens", "-passwd", users, "-key", writeKey(t, filepath.Join(dir, "key.pem"), key)))
	s.log.serves(t, address)
	return s
}

// auth is the configuration of a registry that trusts the token server, and
// sends clients to it under the URL realm. Empty: under its own.
func (s *tokenServer) auth(realm string) string {
	if realm == "" {
		realm = "http://" + s.host + tokenPath
	}
	return tokenAuth(realm, s.jwks)
}

func tokenAuth(realm, jwks string) string {
	return fmt.Sprintf("auth:\n  token:\n    realm: %s\n    service: %s\n    issuer: %s\n    jwks: %s\n", realm, tokenService, tokenIssuer, jwks)
}

// basicAuth is the configuration of a registry that wants the password itself.
func basicAuth(users string) string {
	return "auth:\n  htpasswd:\n    realm: images\n    path: " + users + "\n"
}

// localhost is an address on loopback by its name.
func localhost(t testing.TB, address string) string {
	t.Helper()
	return net.JoinHostPort("localhost", port(t, address))
}

func port(t testing.TB, address string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// jwks is a set of the one key, as registries read it.
func jwks(t testing.TB, key *ecdsa.PrivateKey, id string) string {
	t.Helper()
	point, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	set, err := json.Marshal(map[string]any{"keys": []any{map[string]string{
		"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": id,
		"x": encode(point[1:33]), "y": encode(point[33:]),
	}}})
	if err != nil {
		t.Fatal(err)
	}
	return string(set)
}

// libtrustID is how Docker's libtrust names a key: twelve groups of four
// characters, of the hash of its public half.
func libtrustID(t testing.TB, key *ecdsa.PrivateKey) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	hash := sha256.Sum256(der)
	text := base32.StdEncoding.EncodeToString(hash[:30])
	var groups []string
	for ; text != ""; text = text[4:] {
		groups = append(groups, text[:4])
	}
	return strings.Join(groups, ":")
}
