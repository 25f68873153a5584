package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"
	"unicode"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/ref"
)

func referenceTo(registry string) ref.Reference {
	return ref.Reference{Registry: registry, Repository: "team/app"}
}

type failing struct{ err error }

func (f failing) RoundTrip(*http.Request) (*http.Response, error) { return nil, f.err }

func TestTransportFailures(t *testing.T) {
	dial := func(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }
	for _, test := range []struct {
		name  string
		err   error
		is    error
		says  string
		again bool // worth a retry, at first contact
	}{
		{"unknown host", dial(&net.DNSError{Err: "no such host", Name: "registry.test", IsNotFound: true}), ErrUnknownHost, "unknown host", false},
		{"no name server", dial(&net.DNSError{Err: "server misbehaving", IsTemporary: true}), ErrUnreachable, "name resolution fails (server misbehaving)", false},
		{"refused", dial(os.NewSyscallError("connect", syscall.ECONNREFUSED)), ErrRefused, "connection refused", false},
		{"no route", dial(os.NewSyscallError("connect", syscall.EHOSTUNREACH)), ErrUnreachable, "", false},
		{"dial timeout", dial(context.DeadlineExceeded), ErrUnreachable, "no connection within 15s", false},
		{"proxy refused", &net.OpError{Op: "proxyconnect", Net: "tcp", Err: dial(os.NewSyscallError("connect", syscall.ECONNREFUSED))}, ErrProxy, "the proxy: connection refused", false},
		{"unknown authority", &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}, ErrCertificate, "signed by an unknown authority", false},
		{"expired", &tls.CertificateVerificationError{Err: x509.CertificateInvalidError{Reason: x509.Expired}}, ErrCertificate, "expired", false},
		{"another host's", &tls.CertificateVerificationError{Err: x509.HostnameError{Certificate: &x509.Certificate{}, Host: "x"}}, ErrCertificate, "for another host", false},
		{"alert", &net.OpError{Op: "remote error", Err: tls.AlertError(40)}, ErrTLS, "handshake failure", false},
		{"no TLS", tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"}, ErrTLS, "does not speak TLS", false},
		{"HTTP", tls.RecordHeaderError{RecordHeader: [5]byte([]byte("HTTP/"))}, ErrPlainHTTP, "speaks HTTP, not HTTPS", false},
		{"HTTP, by http.Client", http.ErrSchemeMismatch, ErrPlainHTTP, "speaks HTTP, not HTTPS", false},
		{"cut", io.EOF, io.EOF, "the connection was cut", true},
		{"cut before the request", errors.New(closedIdle), nil, "the connection was cut", true},
		{"reset", &net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}, syscall.ECONNRESET, "the connection was cut", true},
		{"silence", &net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}, os.ErrDeadlineExceeded, "no answer within 30s", true},
		{"garbage", errors.New("malformed HTTP response \"\x1b[31m\n\""), nil, "malformed HTTP response", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			var sent events
			r, err := Open(referenceTo("registry.test"), Options{Transport: failing{test.err}, Events: sent.add, Retries: 1})
			if err != nil {
				t.Fatal(err)
			}
			r.client.backoff = 1
			_, err = r.Manifest(t.Context(), "v1")
			var e *Error
			if !errors.As(err, &e) || e.Status != 0 || e.Host != "registry.test" {
				t.Fatalf("got %v", err)
			}
			if test.is != nil && !errors.Is(err, test.is) {
				t.Errorf("%v is not %v", err, test.is)
			}
			if !strings.HasPrefix(err.Error(), "get manifest team/app:v1 from registry.test: ") || !strings.Contains(err.Error(), test.says) || strings.ContainsFunc(err.Error(), unicode.IsControl) {
				t.Errorf("unclear: %q", err)
			}
			if again := len(sent.of(image.EventRetry)) > 0; again != test.again {
				t.Errorf("tried again: %v", again)
			}
		})
	}
}

func TestStatusErrors(t *testing.T) {
	for _, test := range []struct {
		name, contentType, body string
		status                  int
		is                      error
		code, says              string
	}{
		{"no such tag", "application/json", `{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{"Tag":"v1"}}]}`, 404, image.ErrNotFound, CodeManifestUnknown, "404 Not Found: manifest unknown (no such tag or digest, or no such repository)"},
		{"no such image", "application/json", `{"errors":[{"code":"NAME_UNKNOWN","message":"repository name not known to registry"}]}`, 404, image.ErrNotFound, CodeNameUnknown, "404 Not Found: repository name not known to registry (there is no such repository)"},
		{"a page", "text/html", `<html><body>404</body></html>`, 404, image.ErrNotFound, "", "404 Not Found"},
		{"plain text", "text/plain; charset=utf-8", "404 page not found\n", 404, image.ErrNotFound, "", "404 page not found"},
		{"denied", "application/json", `{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}`, 403, image.ErrUnauthorized, "DENIED", "403 Forbidden: requested access to the resource is denied; no credential was used"},
		{"OAuth2", "application/json", `{"error":"invalid_scope","error_description":"no such scope"}`, 400, nil, "invalid_scope", "no such scope"},
		{"code alone", "application/json", `{"errors":[{"code":"UNSUPPORTED"}]}`, 405, nil, "UNSUPPORTED", "405 Method Not Allowed: UNSUPPORTED"},
		{"escapes", "application/json", `{"errors":[{"code":"X\u001b[0m","message":"a\u001b]0;b\u0007\r\nc\u202ed\u0000"}]}`, 400, nil, "X[0m", "400 Bad Request: a]0;b cd"},
		{"long", "text/plain", strings.Repeat("x", 100_000), 400, nil, "", "400 Bad Request: " + strings.Repeat("x", 300) + "…"},
		{"broken JSON", "application/json", `{"errors":`, 400, nil, "", "400 Bad Request"},
		{"odd JSON", "application/json", `{"errors":"x","error":{"a":1}}`, 400, nil, "", "400 Bad Request"},
		{"a strange status", "", "", 299, nil, "", "299"},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", test.contentType)
				w.WriteHeader(test.status)
				_, _ = io.WriteString(w, test.body)
			})
			_, err := open(t, server, Options{}).Manifest(t.Context(), "v1")
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("got %v", err)
			}
			if e.Status != test.status || e.Code != test.code || e.Method != "GET" || e.Path != "/v2/team/app/manifests/v1" || e.Host != host(server) {
				t.Errorf("got %+v", *e)
			}
			for _, sentinel := range []error{image.ErrNotFound, image.ErrUnauthorized, image.ErrVerification} {
				if errors.Is(err, sentinel) != (sentinel == test.is) {
					t.Errorf("%v: is %v: %v", err, sentinel, errors.Is(err, sentinel))
				}
			}
			if want := "get manifest team/app:v1 from " + host(server) + ": " + test.says; err.Error() != want && !strings.HasSuffix(err.Error(), ": "+test.says) {
				t.Errorf("got  %q\nwant %q", err, want)
			}
		})
	}
}

// A realm's 404 is not the image's.
func TestRealmNotFound(t *testing.T) {
	realm := newTokens(t, httptest.NewServer)
	realm.answer = func(w http.ResponseWriter, _ *http.Request, _ int) { w.WriteHeader(http.StatusNotFound) }
	server := serve(t, guardedBy(realm, is("never")))
	_, err := open(t, server, Options{}).Manifest(t.Context(), "v1")
	if err == nil || errors.Is(err, image.ErrNotFound) || !strings.Contains(err.Error(), "get token for team/app from "+host(realm.Server)) {
		t.Errorf("got %v", err)
	}
}

// What a realm or a registry repeats of our secrets does not get into messages.
func TestEchoedSecrets(t *testing.T) {
	for _, spoiled := range []string{canary, canary[:4] + "\u0000\u001b" + canary[4:], basic("me", canary)} {
		realm := newTokens(t, httptest.NewServer)
		realm.answer = func(w http.ResponseWriter, _ *http.Request, _ int) {
			_, _ = io.WriteString(w, `{"token":"t0ken-canary"}`)
		}
		server := serve(t, func(w http.ResponseWriter, req *http.Request) {
			if req.Header.Get("Authorization") == "" {
				realm.challenge(w)
				return
			}
			w.Header().Set("Content-Type", "text/plain")
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, strings.Repeat("x", 290)+" "+spoiled+" "+req.Header.Get("Authorization"))
		})
		var trace lines
		_, err := open(t, server, Options{Credentials: given("me", canary), Trace: trace.add}).Manifest(t.Context(), "v1")
		if err == nil {
			t.Fatal("no error")
		}
		for _, text := range []string{err.Error(), trace.String()} {
			if strings.Contains(text, canary[:8]) || strings.Contains(text, "t0ken") || strings.Contains(text, basic("me", canary)[:9]) {
				t.Errorf("a secret in %q", text)
			}
		}
	}
}
