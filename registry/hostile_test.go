package registry

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/davit-cli/davit/credential"
	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/registrytest"
	"github.com/davit-cli/davit/ref"
)

// What is not wanted is not waited for.
func TestDiscardHangs(t *testing.T) {
	for _, test := range []struct{ length, took int64 }{{4000, int64(drainTimeout)}, {-1, 0}, {maxDrained + 1, 0}} {
		synctest.Test(t, func(t *testing.T) {
			var body silent
			body.ctx, body.close = context.WithCancel(t.Context())
			begin := time.Now()
			discard(&http.Response{Body: body, ContentLength: test.length})
			if took := time.Since(begin); took != time.Duration(test.took) || body.ctx.Err() == nil {
				t.Errorf("length %d: took %v, closed: %v", test.length, took, body.ctx.Err() != nil)
			}
		})
	}
}

// dripping gives a byte each 20 seconds.
type dripping struct{ silent }

func (d dripping) Read(p []byte) (int, error) {
	select {
	case <-time.After(20 * time.Second):
		p[0] = ' '
		return 1, nil
	case <-d.ctx.Done():
		return 0, d.ctx.Err()
	}
}

func TestSmallBodyDrips(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var body dripping
		body.ctx, body.close = context.WithCancel(t.Context())
		begin := time.Now()
		_, err := readAll(body, 1<<20)
		if took := time.Since(begin); !errors.Is(err, errSlow) || took != smallTimeout {
			t.Errorf("%v after %v", err, took)
		}
	})
}

func knowing(t *testing.T, secrets, recent []string) *client {
	t.Helper()
	r, err := Open(referenceTo("registry.test"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	r.client.session.secrets.known, r.client.session.secrets.recent = secrets, recent
	return r.client
}

func TestTokenOfAsterisks(t *testing.T) {
	var stars []string
	for n := 8; n < 24; n++ {
		stars = append(stars, strings.Repeat("*", n))
	}
	if got := knowing(t, nil, stars).public("a "+strings.Repeat("*", 23), 1000); got != "a ***" {
		t.Errorf("got %q", got)
	}
	c := knowing(t, nil, nil)
	for range 40 {
		c.transports.given = answering(func(*http.Request) *http.Response {
			return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(`{"token":"*"}`))}
		})
		acc := c.account(credentialOf("", ""))
		if _, err := acc.renew(t.Context(), &authorizer{client: c, registry: "registry.test"}, challenge{"bearer", map[string]string{"realm": "https://auth.test"}}, atRealm, nil); err != nil {
			t.Fatal(err)
		}
	}
	if got := c.public("a * b", 100); got != "a * b" {
		t.Errorf("got %q", got)
	}
}

func TestFormsOfSecrets(t *testing.T) {
	const secret = "pä ss/w\"<&>'+:\t\tö="
	c := knowing(t, append(formsOf(secret), base64Of("me:"+secret)...), nil)
	quoted, err := json.Marshal(secret)
	if err != nil {
		t.Fatal(err)
	}
	for _, said := range []string{
		secret, url.QueryEscape(secret), url.PathEscape(secret), strings.ToLower(url.QueryEscape(secret)),
		html.EscapeString(secret), string(quoted[1 : len(quoted)-1]),
		base64.StdEncoding.EncodeToString([]byte(secret)), base64.RawURLEncoding.EncodeToString([]byte(secret)),
		base64.RawStdEncoding.EncodeToString([]byte("me:" + secret)),
	} {
		if got := c.public("it said "+said, 1000); got != "it said ***" {
			t.Errorf("%q becomes %q", said, got)
		}
	}
	// A text that ends within a secret.
	body := strings.Repeat("\x00", maxPublic-len("no: ")-len(canary)+1) + "no: " + canary[:len(canary)-1]
	if got := knowing(t, formsOf(canary), nil).public(body, 300); strings.Contains(got, canary[:4]) {
		t.Errorf("a cut secret in %q", got)
	}
}

func TestSignatureInFailure(t *testing.T) {
	var trace lines
	r, err := Open(referenceTo("registry.test"), Options{
		Transport: failing{errors.New(`malformed MIME header line: GET /data?X-Sig=a%2f` + canary + `&n=1 HTTP/1.1`)}, Trace: trace.add,
	})
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = r.client.get(t.Context(), "get blob", location{url: mustParse(t, "https://cdn.test/data?X-Sig=a%2f"+canary+"&n=1")}, http.Header{}, false)
	if err == nil || strings.Contains(err.Error()+trace.String(), canary) || !strings.Contains(err.Error(), "malformed") {
		t.Errorf("%v\n%s", err, trace.String())
	}
	resp := &http.Response{
		StatusCode: http.StatusForbidden, Request: &http.Request{Method: http.MethodGet, URL: mustParse(t, "https://cdn.test/data?X-Sig="+canary)},
		Body: io.NopCloser(strings.NewReader(`<Error><Code>` + canary + `</Code><Message>no</Message></Error>`)),
	}
	var refused *Error
	if !errors.As(r.client.refusal("get blob", resp, location{url: resp.Request.URL}), &refused) || refused.Code != "***" {
		t.Errorf("got %+v", refused)
	}
}

// connecting is a transport that connects to an address and then fails.
type connecting struct {
	address string
	err     error
}

func (c connecting) RoundTrip(req *http.Request) (*http.Response, error) {
	httptrace.ContextClientTrace(req.Context()).ConnectDone("tcp", c.address, nil)
	return nil, c.err
}

// A name of loopback that leads elsewhere gets nothing in plain.
func TestNoFallbackForNameOfLoopbackElsewhere(t *testing.T) {
	plainServer := serve(t, func(_ http.ResponseWriter, req *http.Request) { t.Errorf("asked for %s", req.URL) })
	var trace lines
	proxy := registrytest.StartProxy(t, registrytest.ProxyOptions{Resolve: map[string]string{"x.localhost": host(plainServer)}})
	r := openBare(t, "x.localhost:5000", Options{Proxy: http.ProxyURL(proxy.URL("http"))})
	if _, err := r.Manifest(t.Context(), "v1"); !errors.Is(err, ErrPlainHTTP) {
		t.Errorf("through a proxy: %v", err)
	}
	away := openBare(t, "x.localhost:5000", Options{Transport: connecting{"203.0.113.5:5000", tls.RecordHeaderError{}}, Trace: trace.add})
	if _, err := away.Manifest(t.Context(), "v1"); !errors.Is(err, ErrTLS) || strings.Contains(trace.String(), "http://") {
		t.Errorf("elsewhere: %v\n%s", err, trace.String())
	}
	if isLoopbackAddress("203.0.113.5:80") || !isLoopbackAddress("[::1]:80") || isLoopbackAddress("x.localhost:80") {
		t.Error("loopback addresses are not told apart")
	}
	// As after the fallback, where the name has changed.
	req := onLoopback((&http.Request{Method: http.MethodGet, URL: mustParse(t, "http://192.0.2.1:1/"), Header: http.Header{}}).WithContext(t.Context()))
	direct := openBare(t, "x.localhost:5000", Options{})
	if _, err := direct.client.transports.toRealm(req.URL).RoundTrip(req); err == nil || !strings.Contains(err.Error(), "leads elsewhere now") {
		t.Errorf("got %v", err)
	}
}

func TestRealmOnEmbeddedAddress(t *testing.T) {
	address := netip.MustParseAddr("52.1.2.3")
	for _, test := range []struct {
		host    string
		allowed bool
	}{
		{"[fd20:ce::254]", false}, {"[fd00:c1::a9fe:a9fe]", false}, {"[fd00:ec2::23]", false},
		{"metadata.goog", false}, {"METADATA.goog.", false},
		{"[64:ff9b:1::7f00:1]", false}, {"[64:ff9b:1:a9fe:a9:fe00::]", false},
		{"[2002:7f00:1::]", false}, {"[2002:a9fe:a9fe::1]", false}, {"[::7f00:1]", false}, {"[::a9fe:a9fe]", false},
		{"[2002:808:808::1]", true}, {"[64:ff9b::808:808]", true}, {"[64:ff9b:1::808:808]", true}, {"[fd00::1]", true},
	} {
		r, err := Open(ref.Reference{Registry: "registry.example", Repository: "app"}, Options{})
		if err != nil {
			t.Fatal(err)
		}
		r.client.address.Store(&address)
		_, err = r.client.realm(challenge{"bearer", map[string]string{"realm": "https://" + test.host + "/token"}})
		if (err == nil) != test.allowed {
			t.Errorf("%s: %v", test.host, err)
		}
	}
}

func TestTagsThatNeverEnd(t *testing.T) {
	for _, test := range []struct {
		says string
		page func(n int) (link string, size int)
	}{
		{"leads back", func(n int) (string, int) { return fmt.Sprint("/v2/team/app/tags/list?last=", n%3), 0 }},
		{"larger than 64 MiB", func(n int) (string, int) { return fmt.Sprint("/v2/team/app/tags/list?last=", n), 4_000_000 }},
	} {
		pages := 0
		r, err := Open(referenceTo("registry.test"), Options{Transport: answering(func(*http.Request) *http.Response {
			pages++
			link, size := test.page(pages)
			return &http.Response{
				StatusCode: http.StatusOK, Header: http.Header{"Link": {"<" + link + ">"}}, ContentLength: -1,
				Body: io.NopCloser(bytes.NewReader(append(bytes.Repeat([]byte(" "), size), `{"tags":[]}`...))),
			}
		})})
		if err != nil {
			t.Fatal(err)
		}
		err = r.Tags(t.Context(), func([]string) error { return nil })
		if err == nil || !strings.Contains(err.Error(), test.says) || pages > 17 {
			t.Errorf("%d pages, %v", pages, err)
		}
		if strings.Contains(test.says, "larger") && !errors.Is(err, image.ErrVerification) {
			t.Errorf("got %v", err)
		}
	}
}

// A credential that no header takes is in no message about that.
func TestCredentialThatFitsNoHeader(t *testing.T) {
	for _, secret := range []string{"s3cret\x1bcanary", "s3cret\ncanary", "s3cret-\u009bcanary"} {
		for _, c := range []credential.Credential{{RegistryToken: secret}, {Token: secret}, {Username: "me", Password: secret}, {IdentityToken: secret}} {
			server := serve(t, func(w http.ResponseWriter, req *http.Request) {
				w.Header().Set("WWW-Authenticate", fmt.Sprintf("Bearer realm=\"http://%s/token\"", req.Host))
				w.WriteHeader(http.StatusUnauthorized)
			})
			var trace lines
			_, err := open(t, server, Options{Credentials: credentialGiven(c), Trace: trace.add, Retries: -1}).Manifest(t.Context(), "v1")
			if err == nil || strings.Contains(err.Error()+trace.String(), "canary") {
				t.Errorf("%q: %v\n%s", secret, err, trace.String())
			}
		}
	}
}

// A registry that wants a token for another scope each time does not fill the
// memory with them.
func TestTokensForEndlessScopes(t *testing.T) {
	realm := newTokens(t, httptest.NewServer)
	asked := 0
	server := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if asked++; asked%2 == 0 {
			sendManifest(w)
			return
		}
		w.Header().Set("WWW-Authenticate", fmt.Sprintf("Bearer realm=%q,scope=\"repository:team/app:%d\"", realm.URL, asked))
		w.WriteHeader(http.StatusUnauthorized)
	})
	r := open(t, server, Options{})
	for range maxTokens + 10 {
		if _, err := r.Manifest(t.Context(), "v1"); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(r.auth.account.tokens); n > maxTokens {
		t.Errorf("%d tokens are kept", n)
	}
	// Nor with one that is as large as a header may be.
	for size, want := range map[int]int{1 << 10: 1, 8 << 10: 1, 200 << 10: 0} {
		header := http.Header{"Www-Authenticate": {`Bearer realm="https://auth.test",scope="` + strings.Repeat("x", size) + `"`, `Basic realm="x"`}}
		if found := parseChallenges(header); len(found) != want+1 || found[want].scheme != "basic" {
			t.Errorf("%d bytes: %d challenges", size, len(found))
		}
	}
}
