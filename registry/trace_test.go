package registry

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/davit-cli/davit/credential"
)

func credentialOf(username, password string) credential.Credential {
	return credential.Credential{Username: username, Password: password}
}

func TestTrace(t *testing.T) {
	b := newBlob(1000)
	realm := newTokens(t, httptest.NewServer)
	realm.answer = func(w http.ResponseWriter, _ *http.Request, _ int) {
		http.SetCookie(w, &http.Cookie{Name: "session", Value: canary})
		_, _ = w.Write([]byte(`{"token":"` + canary + `"}`))
	}
	store := serve(t, b.send)
	server := serve(t, func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Ratelimit-Remaining", "99;w=21600")
		switch {
		case req.Header.Get("Authorization") == "":
			realm.challenge(w)
		case strings.Contains(req.URL.Path, "/blobs/"):
			target := strings.Replace(store.URL, "http://", "http://user:"+canary+"@", 1) + "/data?X-Signature=" + canary + "#" + canary
			http.Redirect(w, req, target, http.StatusTemporaryRedirect)
		default:
			sendManifest(w)
		}
	})
	var trace lines
	r := open(t, server, Options{Credentials: given("me", canary), Trace: trace.add})
	if _, err := r.Manifest(t.Context(), "v1"); err != nil {
		t.Fatal(err)
	}
	if err := b.check(r, 10, 20); err != nil {
		t.Fatal(err)
	}
	text := trace.String()
	for _, want := range []string{
		"GET " + server.URL + "/v2/team/app/manifests/v1\n",
		host(server) + ": 401 Unauthorized",
		`scope="repository:team/app:pull"`,
		"GET " + realm.URL + "/token (with Basic credential)\n",
		"GET " + server.URL + "/v2/team/app/manifests/v1 (with Bearer credential)\n",
		"Ratelimit-Remaining: 99;w=21600",
		"/blobs/" + b.Digest.String() + " bytes=10-29 (with Bearer credential)\n",
		"307 Temporary Redirect",
		"Location: " + store.URL + "/data\n",
		"GET " + store.URL + "/data bytes=10-29\n",
		host(store) + ": 206 Partial Content",
		"Content-Range: bytes 10-29/1000",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the trace does not say %q", want)
		}
	}
	for _, secret := range []string{canary, basic("me", canary), "Cookie", "X-Signature", "session"} {
		if strings.Contains(text, secret) {
			t.Errorf("the trace has %q", secret)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}
