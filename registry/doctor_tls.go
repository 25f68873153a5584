package registry

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// maxNear is how long before its end a certificate is to be renewed; one that
// was made for less than six weeks, in the last third of its life.
const maxNear = 14 * 24 * time.Hour

func isNearEnd(c *x509.Certificate, left time.Duration) bool {
	return left < min(maxNear, c.NotAfter.Sub(c.NotBefore)/3)
}

// tls tells the version, who signed the certificate, and until when it holds.
func (l leg) tls() Finding {
	f := Finding{Hop: HopTLS, Status: StatusOK}
	if l.handshake != nil {
		f.Duration = l.handshake.took
	}
	switch {
	case l.failing() == HopTLS:
		f.Text, f.Details = l.message(), distrusted(l.err)
		return f
	case l.url.Scheme == "http":
		f.Text = "none: plain HTTP"
		if !isLoopbackHost(l.url.Hostname()) {
			f.Status, f.Text = StatusWarning, "none: plain HTTP, which anybody on the way can read and change"
		}
		return f
	case l.state == nil || len(l.state.PeerCertificates) == 0:
		return f
	}
	leaf, version := l.state.PeerCertificates[0], tls.VersionName(l.state.Version)
	f.Details = map[string]string{
		"version": version, "authority": called(leaf.Issuer), "expires": leaf.NotAfter.UTC().Format(time.RFC3339),
	}
	f.Text = fmt.Sprintf("%s, signed by %q", version, called(leaf.Issuer))
	if len(l.state.VerifiedChains) == 0 {
		f.Status = StatusWarning
		f.Text += ", which is not checked"
		return f
	}
	if chain := l.state.VerifiedChains[0]; len(chain) > 2 {
		root := called(chain[len(chain)-1].Subject)
		f.Details["root"] = root
		f.Text += fmt.Sprintf(" under %q", root)
	}
	f.Text += ", good until " + day(leaf.NotAfter)
	if left := time.Until(leaf.NotAfter); isNearEnd(leaf, left) {
		f.Status, f.Details["days_left"] = StatusWarning, strconv.Itoa(int(left.Hours()/24))
		f.Text += ", which is soon"
	}
	return f
}

// distrusted are the parts of a certificate that is not trusted; nil where the
// handshake failed of something else.
func distrusted(err error) map[string]string {
	var untrusted *tls.CertificateVerificationError
	if !errors.As(err, &untrusted) || len(untrusted.UnverifiedCertificates) == 0 {
		return nil
	}
	sent := untrusted.UnverifiedCertificates
	return map[string]string{
		"authority": called(sent[len(sent)-1].Issuer), "expires": sent[0].NotAfter.UTC().Format(time.RFC3339),
	}
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// called is what an authority is known by.
func called(name pkix.Name) string {
	return cmp.Or(name.CommonName, strings.Join(name.OrganizationalUnit, ", "), strings.Join(name.Organization, ", "), name.String(), "nobody")
}
