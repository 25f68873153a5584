package registry

import (
	"bytes"
	"context"
	"crypto/tls"
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
	// ErrClientCertificate: the server wants a certificate of ours, and there is
	// none, or none that it takes.
	ErrClientCertificate = errors.New("client certificate needed")
	// ErrCertificateFile: a file of certificates or keys that is configured
	// cannot be used. Open has it as well.
	ErrCertificateFile = errors.New("certificate file unusable")
	// ErrProxy: the proxy could not be reached, or does not connect us, or is
	// none. It stands beside the others.
	ErrProxy = errors.New("proxy failure")
	// ErrProxyAuth: the proxy wants a user and a password, or others. It stands
	// beside ErrProxy.
	ErrProxyAuth = errors.New("proxy refuses the credential")
	// ErrProxyRefusal: the proxy does not connect us to a host. It comes beside
	// ErrProxy.
	ErrProxyRefusal = errors.New("proxy does not connect")
	// ErrCredential: one is configured, but cannot be had; nothing was sent in
	// its place.
	ErrCredential = errors.New("credential not available")
	// ErrRealm: the token realm that the registry names is one that no
	// credential, and no request, is sent to.
	ErrRealm = errors.New("token realm refused")
	// ErrChallenge: a registry's 401 that offers nothing that we can meet.
	ErrChallenge = errors.New("no challenge that can be met")
	// ErrForeignURL: the URL of a foreign layer is one that no request is sent
	// to.
	ErrForeignURL = errors.New("foreign layer URL refused")
	// ErrUploadURL: the URL that a registry has content sent to is one that none
	// is sent to.
	ErrUploadURL = errors.New("upload URL refused")
	// ErrUploadLost: the registry has lost what was uploaded of a blob, and its
	// content cannot be read again.
	ErrUploadLost = errors.New("upload lost")
	// ErrBlocked: the configuration forbids the registry.
	ErrBlocked = errors.New("registry blocked")
	// ErrNoCatalog: the registry offers no list of its repositories.
	ErrNoCatalog = errors.New("no list of repositories")
	// ErrClock: a server's clock and ours differ by so much that tokens and
	// certificates fail. Only Diagnose tells of it.
	ErrClock = errors.New("clocks differ")
)

// Codes of the distribution specification that tell what was not found, and
// what is not offered.
const (
	CodeNameUnknown     = "NAME_UNKNOWN"
	CodeManifestUnknown = "MANIFEST_UNKNOWN"
	CodeBlobUnknown     = "BLOB_UNKNOWN"
	CodeUnsupported     = "UNSUPPORTED"
)

// Codes of the distribution specification that tell why a push is refused.
const (
	CodeManifestBlobUnknown = "MANIFEST_BLOB_UNKNOWN"
	CodeManifestInvalid     = "MANIFEST_INVALID"
	CodeDigestInvalid       = "DIGEST_INVALID"
	CodeUploadInvalid       = "BLOB_UPLOAD_INVALID"
	CodeUploadUnknown       = "BLOB_UPLOAD_UNKNOWN"
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
		text.WriteString(toOrFrom(e.Step) + e.Host)
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
	if e.Status != 0 && errors.Is(e, ErrNoCatalog) {
		text.WriteString(" (it offers no list of its repositories)")
	}
	if errors.Is(e, image.ErrUnauthorized) {
		switch {
		case e.Credential != "":
			text.WriteString("; with the credential from " + e.Credential)
			if isPush(e.Step) && (e.Status == http.StatusForbidden || e.Scope != "") {
				text.WriteString(", which may not push there")
			}
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

// isPush tells whether a step gives the host something.
func isPush(step string) bool { return strings.HasPrefix(step, "push ") }

// toOrFrom stands between a step and its host.
func toOrFrom(step string) string {
	if isPush(step) {
		return " to "
	}
	return " from "
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
		known := false
		for _, challenge := range parseChallenges(resp.Header) {
			if challenge.scheme == "bearer" && challenge.params["scope"] != "" {
				scope = challenge.params["scope"]
			}
			known = known || challenge.scheme == "basic" || challenge.scheme == "bearer"
			wanted = append(wanted, challenge.scheme)
		}
		if e.Status == http.StatusUnauthorized && !known {
			e.causes = append(e.causes, ErrChallenge)
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
	if resp.Request.URL.Scheme == "http" && e.Status == http.StatusBadRequest && speaksHTTPS(body) {
		message = "the server speaks HTTPS, not HTTP"
		e.causes = append(e.causes, ErrHTTPS)
	}
	if wanted := c.wantedByNginx(resp.Request.URL, e.Status, body); wanted != "" {
		message = wanted
		e.causes = append(e.causes, ErrClientCertificate)
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
		return fmt.Errorf("%s%s%s: %w", step, toOrFrom(step), req.URL.Host, context.Cause(ctx))
	}
	e := &Error{Step: step, Method: req.Method, Host: req.URL.Host, Path: req.URL.Path}
	f := c.diagnose(req.URL, err)
	e.Message, e.causes, e.transient = f.message, f.causes, f.transient
	if _, met := c.contacted.Load(req.URL.Host); f.dial && !met {
		e.transient = false // it has not been there, so that waiting is not likely to help
	}
	return e
}

// fault is what a round trip failed of.
type fault struct {
	message   string
	causes    []error
	dial      bool // there was not even a connection
	transient bool
}

// diagnose says in words what a round trip failed of.
func (c *client) diagnose(u *url.URL, err error) fault {
	var way *wayError
	var proxy *url.URL
	if errors.As(err, &way) {
		proxy, err = way.proxy, way.error
	}
	if f := c.proxyFault(u, proxy, err); f != nil {
		return *f
	}
	f := c.hostFault(u, err)
	if proxy != nil {
		f.message += " (through the proxy " + c.public(proxy.Host, 200) + ")"
	}
	return f
}

// closedIdle ends the text of net/http's error, which has no name, for a
// connection that was cut before anything was sent: a new one too.
const closedIdle = "http: server closed idle connection"

// hostFault is diagnose for what is no proxy's fault.
func (c *client) hostFault(u *url.URL, err error) fault {
	sentinel := func(s error) []error { return []error{s, err} }
	var (
		dns       *net.DNSError
		operation *net.OpError
		untrusted *tls.CertificateVerificationError
		record    tls.RecordHeaderError
		network   net.Error
		policy    policyError
	)
	errors.As(err, &operation)
	dial := operation != nil && operation.Op == "dial"
	alert, ours := c.alertOf(u, err)
	switch {
	case errors.As(err, &policy):
		return fault{c.publicFrom(u, unwrapDial(err), 200), []error{err}, true, false}
	case errors.Is(err, ErrCertificateFile):
		return fault{c.publicFrom(u, err.Error(), 400), []error{err}, false, false}
	case errors.As(err, &dns) && dns.IsNotFound:
		return fault{"unknown host", sentinel(ErrUnknownHost), true, true}
	case errors.As(err, &dns):
		return fault{"name resolution fails (" + c.publicFrom(u, dns.Err, 100) + ")", sentinel(ErrUnreachable), true, true}
	case isRefused(err):
		return fault{"connection refused", sentinel(ErrRefused), dial, true}
	case errors.Is(err, http.ErrSchemeMismatch), errors.As(err, &record) && string(record.RecordHeader[:]) == "HTTP/":
		return fault{"the server speaks HTTP, not HTTPS", sentinel(ErrPlainHTTP), false, false}
	case errors.As(err, &untrusted):
		return fault{"the certificate is not trusted: " + c.certificateFault(u, untrusted), sentinel(ErrCertificate), false, false}
	case errors.As(err, &record):
		return fault{"the server does not speak TLS", sentinel(ErrTLS), false, false}
	case ours:
		return fault{c.wantsCertificate(u, alert), sentinel(ErrClientCertificate), false, false}
	case alert != "":
		return fault{"TLS: " + alert, sentinel(ErrTLS), false, false}
	case dial && operation.Timeout():
		return fault{fmt.Sprintf("no connection within %v", dialTimeout), sentinel(ErrUnreachable), true, true}
	case dial:
		return fault{c.publicFrom(u, operation.Err.Error(), 200), sentinel(ErrUnreachable), true, true}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return c.cutFault(u, err)
	case operation != nil && operation.Op != "read" && errors.Is(err, net.ErrClosed): // by the transport, when reading failed
		return c.cutFault(u, err)
	case strings.HasSuffix(err.Error(), closedIdle):
		return c.cutFault(u, err)
	case errors.Is(err, errStalled):
		return fault{err.Error(), []error{err}, false, true}
	case errors.As(err, &network) && network.Timeout():
		if strings.Contains(err.Error(), "handshake") {
			return fault{fmt.Sprintf("no TLS handshake within %v", handshakeTimeout), sentinel(ErrTLS), false, true}
		}
		return fault{fmt.Sprintf("no answer within %v", headerTimeout), []error{err}, false, true}
	case operation != nil:
		return fault{c.publicFrom(u, operation.Error(), 200), []error{err}, false, true}
	}
	return fault{c.publicFrom(u, err.Error(), 200), []error{err}, false, false}
}

// cutFault is a connection that ended. The alert of a server that refuses our
// certificate is lost at times: with TLS 1.3 the connection may be gone before
// it is read.
func (c *client) cutFault(u *url.URL, err error) fault {
	f := fault{"the connection was cut", []error{err}, false, true}
	_, met := c.contacted.Load(u.Host)
	request, asked := c.transports.requested(u.Host)
	switch {
	case met || !asked:
		return f
	case request.shown == "":
		f.message += " after the server asked for a client certificate, and none was shown"
	default:
		f.message += " after the server was shown the client certificate " + c.public(request.shown, 200)
	}
	f.causes = append(f.causes, ErrClientCertificate)
	return f
}

// speaksHTTPS tells whether a server says, in its 400, that it was to be spoken to
// with HTTPS: as Go's, nginx and Apache say it.
func speaksHTTPS(body []byte) bool {
	for _, text := range []string{"HTTP request to an HTTPS server", "plain HTTP request was sent to HTTPS port", "speaking plain HTTP to an SSL-enabled server"} {
		if bytes.Contains(body, []byte(text)) {
			return true
		}
	}
	return false
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
