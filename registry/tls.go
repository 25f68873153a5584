package registry

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/davit-cli/davit/hosts"
)

// trust is what a host's certificate is checked against, and what the host is
// shown where it asks for a certificate of ours.
type trust struct {
	roots    *x509.CertPool // nil: the system's CAs
	insecure bool
	pairs    []pair
}

// pair is a certificate of ours.
type pair struct {
	file        string
	certificate tls.Certificate
}

// trustFor reads the certificates for u's host. Files are read once, and hosts
// of which there is nothing particular to say share one trust. bare: the host is
// shown no certificate of ours.
func (t *transports) trustFor(u *url.URL, bare bool) (*trust, error) {
	host, err := t.hostFor(u)
	if err != nil {
		return nil, err
	}
	if bare {
		host.KeyPairs = nil
	}
	return t.trust(u, host)
}

// trustForProxy is trustFor, for a proxy: the registry's CAs have no say there.
func (t *transports) trustForProxy(proxy *url.URL) (*trust, error) {
	host, err := t.ask(proxy)
	if err != nil {
		return nil, err
	}
	return t.trust(proxy, host)
}

func (t *transports) trust(u *url.URL, host hosts.Host) (*trust, error) {
	key := fmt.Sprintf("%q %t %q", host.CAFiles, host.Insecure, host.KeyPairs)
	if len(host.KeyPairs) > 0 { // no other host shares a transport that shows them
		key += " " + net.JoinHostPort(strings.ToLower(u.Hostname()), portOf(u))
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if known := t.trusts[key]; known != nil {
		return known, nil
	}
	read := &trust{roots: t.system, insecure: host.Insecure}
	if len(host.CAFiles) > 0 {
		var err error
		if read.roots, err = withCAs(t.system, host.CAFiles); err != nil {
			return nil, err
		}
	}
	for _, files := range host.KeyPairs {
		p, err := readPair(files)
		if err != nil {
			return nil, err
		}
		read.pairs = append(read.pairs, p)
	}
	t.trusts[key] = read
	return read, nil
}

// withCAs is the system's pool with the certificates of files added. On macOS
// and Windows the system itself is asked first, and the added ones then.
func withCAs(system *x509.CertPool, files []string) (*x509.CertPool, error) {
	var pool *x509.CertPool
	if system != nil {
		pool = system.Clone()
	} else if found, err := x509.SystemCertPool(); err == nil {
		pool = found
	} else {
		pool = x509.NewCertPool() // those that are named here may be all that it takes
	}
	for _, file := range files {
		data, err := os.ReadFile(file) //nolint:gosec // the user's own choice
		if err != nil {
			return nil, fmt.Errorf("%w: read CA certificate: %w", ErrCertificateFile, err)
		}
		if !pool.AppendCertsFromPEM(data) {
			return nil, fmt.Errorf("%w: CA certificate: %s holds no certificate in PEM", ErrCertificateFile, file)
		}
	}
	return pool, nil
}

// readPair reads a certificate of ours. Errors name the file, and repeat nothing
// of what is in it.
func readPair(files hosts.KeyPair) (pair, error) {
	certificate, err := os.ReadFile(files.CertFile)
	if err != nil {
		return pair{}, fmt.Errorf("%w: read client certificate: %w", ErrCertificateFile, err)
	}
	key, err := os.ReadFile(files.KeyFile)
	if err != nil {
		return pair{}, fmt.Errorf("%w: read key of client certificate: %w", ErrCertificateFile, err)
	}
	if isEncrypted(key) {
		return pair{}, fmt.Errorf("%w: key of client certificate: %s is encrypted, and davit reads only keys that are not", ErrCertificateFile, files.KeyFile)
	}
	parsed, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return pair{}, fmt.Errorf("%w: client certificate %s with key %s: %s", ErrCertificateFile, files.CertFile, files.KeyFile, strings.TrimPrefix(err.Error(), "tls: "))
	}
	return pair{files.CertFile, parsed}, nil
}

// isEncrypted tells whether the first private key is (RFC 5958, section 3; RFC 1421).
func isEncrypted(data []byte) bool {
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			return false
		}
		if block.Type == "PRIVATE KEY" || strings.HasSuffix(block.Type, " PRIVATE KEY") {
			return block.Type == "ENCRYPTED PRIVATE KEY" || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED")
		}
	}
}

// config is what connections are made with. What servers ask for is stored in
// requests; nil: nowhere.
func (t *trust) config(requests *sync.Map) *tls.Config {
	return &tls.Config{
		RootCAs:            t.roots,
		InsecureSkipVerify: t.insecure, //nolint:gosec // only where the user asked for it
		GetClientCertificate: func(asked *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			request := certificateRequest{configured: len(t.pairs), takes: asked.AcceptableCAs}
			show := new(tls.Certificate)
			for _, p := range t.pairs {
				if asked.SupportsCertificate(&p.certificate) == nil {
					request.shown, show = p.file, &p.certificate
					break
				}
			}
			if to, ok := asked.Context().Value(leading{}).(lead); ok && requests != nil {
				requests.Store(to.host, request)
			}
			return show, nil
		},
	}
}

// certificateRequest is what a server asked for in its last handshake.
type certificateRequest struct {
	configured int    // certificates that might have been shown
	shown      string // the file of the one that was; empty: none
	takes      [][]byte
}

// requested is what a host asked for; not ok: for no certificate.
func (t *transports) requested(host string) (certificateRequest, bool) {
	stored, ok := t.requests.Load(host)
	if !ok {
		return certificateRequest{}, false
	}
	return stored.(certificateRequest), true
}

// wantsCertificate says that u's host goes on only with a (better) certificate
// of ours; alert is the reason that it gives, if it does.
func (c *client) wantsCertificate(u *url.URL, alert string) string {
	request, _ := c.transports.requested(u.Host)
	if request.shown != "" {
		message := "the server refuses the client certificate " + c.public(request.shown, 200)
		if alert != "" {
			message += " (" + alert + ")"
		}
		return message
	}
	message := "the server wants a client certificate"
	var names []string
	for _, raw := range request.takes {
		var sequence pkix.RDNSequence
		if rest, err := asn1.Unmarshal(raw, &sequence); err != nil || len(rest) > 0 {
			continue
		}
		var name pkix.Name
		name.FillFromRDNSequence(&sequence)
		if text := c.nameOf(name); text != "" {
			names = append(names, text)
		}
	}
	if len(names) > 0 {
		message += " signed by " + someOf(names)
	}
	if request.configured > 0 {
		message += "; none that is configured fits"
	}
	return message
}

// wantedByNginx is wantsCertificate for nginx, which says so in a page of HTML
// (its own statuses 496 and 495, sent as 400); empty where it says something else.
func (c *client) wantedByNginx(u *url.URL, status int, body []byte) string {
	switch {
	case status != http.StatusBadRequest || u.Scheme != "https":
	case bytes.Contains(body, []byte("No required SSL certificate was sent")):
		return c.wantsCertificate(u, "")
	case bytes.Contains(body, []byte("The SSL certificate error")):
		return c.wantsCertificate(u, "")
	}
	return ""
}

// Alerts that tell of a certificate (RFC 8446, section 6.2). Servers give
// those of the second group for other reasons as well.
var (
	certificateAlerts = []tls.AlertError{
		42,  // bad_certificate
		43,  // unsupported_certificate
		44,  // certificate_revoked
		45,  // certificate_expired
		46,  // certificate_unknown
		48,  // unknown_ca
		116, // certificate_required
	}
	vagueAlerts = []tls.AlertError{
		40, // handshake_failure
		49, // access_denied
		51, // decrypt_error
	}
)

// alertOf is the alert that a server sent, in words, and whether it tells of our
// certificate or the lack of one.
func (c *client) alertOf(u *url.URL, err error) (text string, ours bool) {
	var (
		alert     tls.AlertError
		operation *net.OpError
	)
	switch {
	case errors.As(err, &operation) && operation.Op == "remote error":
		text = operation.Err.Error() // of a type of its own, which tells no number
	case errors.As(err, &alert):
		text = alert.Error()
	default:
		return "", false
	}
	_, requested := c.transports.requested(u.Host)
	for _, known := range certificateAlerts {
		ours = ours || text == known.Error()
	}
	for _, known := range vagueAlerts {
		ours = ours || requested && text == known.Error()
	}
	return c.publicFrom(u, strings.TrimPrefix(text, "tls: "), 100), ours
}

// certificateFault says what is wrong with a server's certificate.
func (c *client) certificateFault(u *url.URL, untrusted *tls.CertificateVerificationError) string {
	var (
		authority x509.UnknownAuthorityError
		host      x509.HostnameError
		invalid   x509.CertificateInvalidError
	)
	switch err := untrusted.Err; {
	case errors.As(err, &authority):
		return c.authorityFault(authority)
	case errors.As(err, &host):
		return c.nameFault(host)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return c.timeFault(invalid, time.Now())
	default:
		return c.publicFrom(u, err.Error(), 200)
	}
}

func (c *client) authorityFault(fault x509.UnknownAuthorityError) string {
	message := "it is signed by an unknown authority"
	if top := fault.Cert; top != nil {
		if top.CheckSignatureFrom(top) == nil || string(top.RawIssuer) == string(top.RawSubject) {
			message = "it is self-signed, by an unknown authority"
		}
		if name := c.nameOf(top.Issuer); name != "" {
			message += ", " + name
		}
	}
	// x509 keeps to itself which of the CAs that we know came near.
	if _, hint, ok := strings.Cut(fault.Error(), "(possibly because of "); ok {
		message += " (possibly because of " + c.public(hint, 200)
	}
	return message
}

func (c *client) nameFault(fault x509.HostnameError) string {
	certificate := fault.Certificate
	var names []string
	for _, name := range certificate.DNSNames {
		names = append(names, c.public(name, 100))
	}
	for _, address := range certificate.IPAddresses {
		names = append(names, address.String())
	}
	common := c.public(certificate.Subject.CommonName, 100)
	switch {
	case len(names) > 0:
		return "it is for another host: for " + someOf(names)
	case common != "":
		return fmt.Sprintf("it names its host as common name alone (%q), which counts no more: it needs a subject alternative name", common)
	}
	return "it is for another host"
}

func (c *client) timeFault(fault x509.CertificateInvalidError, now time.Time) string {
	certificate := fault.Cert
	if certificate == nil {
		return "it has expired, or is not valid yet"
	}
	whose := "it"
	if certificate.IsCA {
		whose = "that of its CA"
		if name := c.nameOf(certificate.Subject); name != "" {
			whose += ", " + name + ","
		}
	}
	said := func(at time.Time) string { return at.UTC().Format("2006-01-02 15:04 MST") }
	if now.Before(certificate.NotBefore) {
		return fmt.Sprintf("%s is not valid before %s; the clock here says %s, and may be wrong", whose, said(certificate.NotBefore), said(now))
	}
	return fmt.Sprintf("%s has expired at %s; the clock here says %s", whose, said(certificate.NotAfter), said(now))
}

// nameOf is how people know an authority, in quotes.
func (c *client) nameOf(name pkix.Name) string {
	text := name.CommonName
	if text == "" {
		text = name.String()
	}
	if text = c.public(text, 100); text == "" {
		return ""
	}
	return fmt.Sprintf("%q", text)
}

// someOf lists names, but not too many.
func someOf(names []string) string {
	const most = 5
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}
