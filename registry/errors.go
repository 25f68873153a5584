package registry

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"syscall"

	"github.com/davit-cli/davit/image"
)

// Why a request got no answer, or not the registry's. An *Error wraps one of
// these where it is the cause.
var (
	// ErrUnknownHost: no such name.
	ErrUnknownHost = errors.New("unknown host")
	// ErrRefused: nothing listens there.
	ErrRefused = errors.New("connection refused")
	// ErrUnreachable: no way there, or no answer to the attempt to connect.
	ErrUnreachable = errors.New("unreachable")
	// ErrCertificate: the server's certificate is not trusted.
	ErrCertificate = errors.New("certificate not trusted")
	// ErrTLS: no agreement on TLS for another reason.
	ErrTLS = errors.New("TLS failure")
	// ErrPlainHTTP: the server speaks HTTP where HTTPS was spoken to it.
	ErrPlainHTTP = errors.New("server speaks HTTP, not HTTPS")
	// ErrHTTPS: the server speaks HTTPS where HTTP was spoken to it.
	ErrHTTPS = errors.New("server speaks HTTPS, not HTTP")
	// ErrProxy: the proxy could not be reached. It stands beside the others.
	ErrProxy = errors.New("proxy failure")
	// ErrCredential: one is configured, but cannot be had; nothing was sent in
	// its place.
	ErrCredential = errors.New("credential not available")
	// ErrRealm: the token realm that the registry names is one that no
	// credential, and no request, is sent to.
	ErrRealm = errors.New("token realm refused")
	// ErrForeignURL: the URL of a foreign layer is one that no request is sent
	// to.
	ErrForeignURL = errors.New("foreign layer URL refused")
	// ErrBlocked: the configuration forbids the registry.
	ErrBlocked = errors.New("registry blocked")
	// ErrClock: a server's clock and ours differ by so much that tokens and
	// certificates fail. Only Diagnose tells of it.
	ErrClock = errors.New("clocks differ")
)

// Codes of the distribution specification that tell what was not found.
const (
	CodeNameUnknown     = "NAME_UNKNOWN"
	CodeManifestUnknown = "MANIFEST_UNKNOWN"
	CodeBlobUnknown     = "BLOB_UNKNOWN"
)

// Error is a request that failed: refused by a server, or without an answer.
// It wraps image.ErrNotFound for 404, image.ErrUnauthorized for a registry's
// or a realm's 401 and 403, or one of this package's sentinels. Its text is
// one line. Nothing in it is a secret.
//
// A refusal that may pass comes inside an image.RetryError.
type Error struct {
	Step    string // what was to be done: "get manifest library/alpine:3"
	Method  string
	Host    string // who refused or failed, host or host:port
	Path    string // of the URL, never with its query
	Status  int    // 0 where no answer came
	Code    string // the registry's own, as CodeManifestUnknown
	Message string // the registry's own, or what went wrong
	// Credential tells, for 401 and 403, where the credential that was used
	// came from; empty where none was.
	Credential string
	// Refused is the source of a stored credential that the realm refused, so
	// that it was left out.
	Refused string
	// Scope is what a token needs, where the registry has told.
	Scope string

	transient bool // may pass, although no server says so
	causes    []error
}

func (e *Error) Error() string {
	var text strings.Builder
	text.WriteString(e.Step)
	if e.Host != "" {
		text.WriteString(" from " + e.Host)
	}
	if e.Status != 0 {
		text.WriteString(": " + statusText(e.Status))
	}
	switch {
	case e.Message != "":
		text.WriteString(": " + e.Message)
	case e.Code != "":
		text.WriteString(": " + e.Code)
	}
	if e.Status == http.StatusNotFound {
		switch e.Code {
		case CodeNameUnknown:
			text.WriteString(" (there is no such repository)")
		case CodeManifestUnknown:
			text.WriteString(" (no such tag or digest, or no such repository)")
		}
	}
	if errors.Is(e, image.ErrUnauthorized) {
		switch {
		case e.Credential != "":
			text.WriteString("; with the credential from " + e.Credential)
		case e.Refused != "":
			text.WriteString("; the credential from " + e.Refused + " was refused, and anonymous access too")
		default:
			text.WriteString("; no credential was used")
		}
		if e.Scope != "" {
			text.WriteString("; the token needs the scope " + e.Scope)
		}
	}
	return text.String()
}

func (e *Error) Unwrap() []error { return e.causes }

// refusal reads an answer that grants no content. It closes the body. at is
// where it came from.
func (c *client) refusal(step string, resp *http.Response, at location) error {
	e := c.read(step, resp, resp.Request.URL)
	switch {
	case e.Status == http.StatusNotFound:
		e.causes = append(e.causes, image.ErrNotFound)
	case at.auth != nil && (e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden):
		e.causes = append(e.causes, image.ErrUnauthorized)
		var scope string
		e.Credential, e.Refused, scope = at.auth.used()
		var wanted []string
		for _, challenge := range parseChallenges(resp.Header) {
			if challenge.scheme == "bearer" && challenge.params["scope"] != "" {
				scope = challenge.params["scope"]
			}
			wanted = append(wanted, challenge.scheme)
		}
		e.Scope = c.public(scope, 200)
		if e.Message == "" && len(wanted) > 0 {
			e.Message = c.public("it asks for "+strings.Join(wanted, " or "), 200)
		}
	}
	return orBusy(e, resp)
}

// tokenRefusal reads a realm's answer that grants no token. It closes the body.
// source is the credential that was shown, refused one that was left out, and
// scope what was asked for.
func (c *client) tokenRefusal(step string, resp *http.Response, source, refused, scope string) error {
	e := c.read(step, resp, nil) // its query is what the message may be about, and no secret
	if e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden {
		e.causes = append(e.causes, image.ErrUnauthorized)
		e.Credential, e.Refused, e.Scope = source, refused, c.public(scope, 200)
	}
	return orBusy(e, resp)
}

// read is what a server says in a refusal. It closes the body. asked is the URL
// where that may be signed.
func (c *client) read(step string, resp *http.Response, asked *url.URL) *Error {
	defer func() { _ = resp.Body.Close() }()
	e := &Error{
		Step: step, Method: resp.Request.Method, Host: resp.Request.URL.Host, Path: resp.Request.URL.Path,
		Status: resp.StatusCode,
	}
	body, _ := readSome(resp.Body, maxPublic)
	code, message := parseErrorBody(resp.Header.Get("Content-Type"), body)
	if resp.Request.URL.Scheme == "http" && e.Status == http.StatusBadRequest && bytes.Contains(body, []byte("HTTP request to an HTTPS server")) {
		message = "the server speaks HTTPS, not HTTP" // as servers in Go say it
		e.causes = append(e.causes, ErrHTTPS)
	}
	e.Code, e.Message = c.publicFrom(asked, code, 60), c.publicFrom(asked, message, 300)
	return e
}

// orBusy is e, or an image.RetryError of it where it may pass.
func orBusy(e *Error, resp *http.Response) error {
	if mayPass(e.Status) {
		return &image.RetryError{After: retryAfter(resp.Header), Busy: isBusy(e.Status), Err: e}
	}
	return e
}

// failure is the error for a round trip without a (useful) answer: an *Error,
// or ctx's own error where that has ended.
func (c *client) failure(step string, req *http.Request, err error) error {
	var already *Error
	if errors.As(err, &already) {
		return err
	}
	if ctx := req.Context(); ctx.Err() != nil {
		return fmt.Errorf("%s from %s: %w", step, req.URL.Host, context.Cause(ctx))
	}
	e := &Error{Step: step, Method: req.Method, Host: req.URL.Host, Path: req.URL.Path}
	var dial bool
	e.Message, e.causes, dial, e.transient = c.diagnose(req.URL, err)
	if _, met := c.contacted.Load(req.URL.Host); dial && !met {
		e.transient = false // it has not been there, so that waiting is not likely to help
	}
	return e
}

// diagnose says in words what a round trip failed of. dial: there was not even
// a connection.
func (c *client) diagnose(u *url.URL, err error) (message string, causes []error, dial, transient bool) {
	sentinel := func(s error) []error { return []error{s, err} }
	var (
		dns       *net.DNSError
		operation *net.OpError
		untrusted *tls.CertificateVerificationError
		record    tls.RecordHeaderError
		alert     tls.AlertError
		network   net.Error
		policy    policyError
	)
	errors.As(err, &operation)
	dial = operation != nil && (operation.Op == "dial" || operation.Op == "proxyconnect")
	defer func() {
		if operation != nil && operation.Op == "proxyconnect" {
			message, causes = "the proxy: "+message, append(causes, ErrProxy)
		}
	}()
	switch {
	case errors.As(err, &policy):
		return c.publicFrom(u, unwrapDial(err), 200), []error{err}, true, false
	case errors.As(err, &dns) && dns.IsNotFound:
		return "unknown host", sentinel(ErrUnknownHost), true, true
	case errors.As(err, &dns):
		return "name resolution fails (" + c.publicFrom(u, dns.Err, 100) + ")", sentinel(ErrUnreachable), true, true
	case isRefused(err):
		return "connection refused", sentinel(ErrRefused), dial, true
	case errors.Is(err, http.ErrSchemeMismatch), errors.As(err, &record) && string(record.RecordHeader[:]) == "HTTP/":
		return "the server speaks HTTP, not HTTPS", sentinel(ErrPlainHTTP), false, false
	case errors.As(err, &untrusted):
		return "the certificate is not trusted: " + c.certificateFault(u, untrusted.Err), sentinel(ErrCertificate), false, false
	case errors.As(err, &record):
		return "the server does not speak TLS", sentinel(ErrTLS), false, false
	case errors.As(err, &alert):
		return "TLS: " + c.publicFrom(u, strings.TrimPrefix(alert.Error(), "tls: "), 100), sentinel(ErrTLS), false, false
	case dial && operation.Timeout():
		return fmt.Sprintf("no connection within %v", dialTimeout), sentinel(ErrUnreachable), true, true
	case dial:
		return c.publicFrom(u, operation.Err.Error(), 200), sentinel(ErrUnreachable), true, true
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "the connection was cut", []error{err}, false, true
	case errors.Is(err, errStalled):
		return err.Error(), []error{err}, false, true
	case errors.As(err, &network) && network.Timeout():
		if strings.Contains(err.Error(), "handshake") {
			return fmt.Sprintf("no TLS handshake within %v", handshakeTimeout), sentinel(ErrTLS), false, true
		}
		return fmt.Sprintf("no answer within %v", headerTimeout), []error{err}, false, true
	case operation != nil:
		return c.publicFrom(u, operation.Error(), 200), []error{err}, false, true
	}
	return c.publicFrom(u, err.Error(), 200), []error{err}, false, false
}

// certificateFault says what is wrong with a certificate.
func (c *client) certificateFault(u *url.URL, err error) string {
	var (
		authority x509.UnknownAuthorityError
		host      x509.HostnameError
		invalid   x509.CertificateInvalidError
	)
	switch {
	case errors.As(err, &authority):
		return "it is signed by an unknown authority"
	case errors.As(err, &host):
		return "it is for another host"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "it has expired, or is not valid yet"
	}
	return c.publicFrom(u, err.Error(), 200)
}

// isRefused tells whether nothing listens. Windows has a number of its own.
func isRefused(err error) bool {
	var errno syscall.Errno
	return errors.As(err, &errno) && (errno == syscall.ECONNREFUSED || runtime.GOOS == "windows" && errno == 10061)
}

// unwrapDial is the text of err without net's "dial tcp …:".
func unwrapDial(err error) string {
	var operation *net.OpError
	if errors.As(err, &operation) {
		err = operation.Err
	}
	return err.Error()
}
