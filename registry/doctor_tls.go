package registry

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// nearExpiry is how long before a certificate's end it is time to renew it.
const nearExpiry = 14 * 24 * time.Hour

// tls tells the version, who signed the certificate, and until when it holds.
func (l leg) tls() Finding {
	f := Finding{Hop: HopTLS, Status: StatusOK}
	if l.handshake != nil {
		f.Duration = l.handshake.took
	}
	switch {
	case l.failing() == HopTLS:
		f.Text, f.Details = l.certificateFault()
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
	if left := time.Until(leaf.NotAfter); left < nearExpiry {
		days := strconv.Itoa(int(left.Hours() / 24))
		f.Status, f.Details["days_left"] = StatusWarning, days
		f.Text += ", for " + days + " days"
	}
	return f
}

// certificateFault says what is wrong with a server's certificate, or what else
// the handshake failed of.
func (l leg) certificateFault() (text string, details map[string]string) {
	var untrusted *tls.CertificateVerificationError
	if !errors.As(l.err, &untrusted) || len(untrusted.UnverifiedCertificates) == 0 {
		return l.message(), nil
	}
	leaf := untrusted.UnverifiedCertificates[0]
	last := untrusted.UnverifiedCertificates[len(untrusted.UnverifiedCertificates)-1]
	authority := called(last.Issuer)
	details = map[string]string{"authority": authority, "expires": leaf.NotAfter.UTC().Format(time.RFC3339)}
	var (
		unknown x509.UnknownAuthorityError
		other   x509.HostnameError
		invalid x509.CertificateInvalidError
	)
	why := l.message()
	switch {
	case errors.As(untrusted.Err, &other):
		why = "it is for " + namesOf(leaf) + ", not for " + l.url.Hostname()
	case errors.As(untrusted.Err, &invalid) && invalid.Reason == x509.Expired:
		why = validity(cmp.Or(invalid.Cert, leaf), time.Now())
	case errors.As(untrusted.Err, &unknown) && slices.Equal(leaf.RawIssuer, leaf.RawSubject):
		why = fmt.Sprintf("signed by itself, %q", authority)
	case errors.As(untrusted.Err, &unknown):
		why = fmt.Sprintf("signed by %q", authority)
	}
	return "the certificate is not trusted: " + strings.TrimPrefix(why, "the certificate is not trusted: "), details
}

// validity says how a certificate's time and ours differ.
func validity(c *x509.Certificate, now time.Time) string {
	if now.Before(c.NotBefore) {
		return "it is good from " + day(c.NotBefore) + " on, and this machine's clock says " + day(now)
	}
	return "it expired on " + day(c.NotAfter) + "; this machine's clock says " + day(now)
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// maxNames is how many of a certificate's names are told.
const maxNames = 5

// namesOf are the hosts that a certificate is for.
func namesOf(c *x509.Certificate) string {
	names := slices.Clone(c.DNSNames)
	for _, address := range c.IPAddresses {
		names = append(names, address.String())
	}
	switch {
	case len(names) == 0:
		return "no host (it names none as subject alternative names)"
	case len(names) > maxNames:
		names = append(names[:maxNames], strconv.Itoa(len(names)-maxNames)+" others")
	}
	return strings.Join(names, ", ")
}

// called is what an authority is known by.
func called(name pkix.Name) string {
	return cmp.Or(name.CommonName, strings.Join(name.OrganizationalUnit, ", "), strings.Join(name.Organization, ", "), name.String(), "nobody")
}
