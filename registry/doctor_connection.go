package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"
)

// leg is the way of a trip to its host.
type leg struct {
	*trip
	via      *url.URL // the proxy; nil for none
	proxyErr error    // why it is not known which
	err      error    // what the client made of the trip's failure; nil for none
}

// nearest is who is connected to: the proxy, or the host itself.
func (l leg) nearest() string {
	if l.via != nil {
		return l.via.Host
	}
	return l.url.Host
}

// connection reports the hops from proxy to TLS of a trip, where it was the
// first to its host. err is what the client made of its failure, nil for none.
// It tells whether one of these hops was what failed.
func (e *examination) connection(t *trip, err error) (failed bool) {
	origin := t.url.Scheme + "://" + t.url.Host
	if e.told[origin] && err == nil {
		return false
	}
	l := leg{trip: t, err: err}
	l.via, l.proxyErr = e.client.transports.proxyFor(t.url)
	failing := l.failing()
	findings := []Finding{l.proxy()}
	if !e.told[l.nearest()] || failing == HopName || failing == HopTCP {
		findings = append(findings, l.name(), l.tcp())
	}
	e.told[origin], e.told[l.nearest()] = true, true
	for _, f := range append(findings, l.tls()) {
		f.Host = cmp.Or(f.Host, t.url.Host)
		switch {
		case failed:
			e.skipOf(f.Host, e.stopped, f.Hop)
		case f.Hop == failing:
			f.Err = err
			e.fault(f)
			failed = true
		case f.Text != "":
			e.tell(f)
		}
	}
	return failed
}

// failing is the hop of the connection that failed; empty where none of them is.
func (l leg) failing() Hop {
	switch {
	case l.err == nil:
		return ""
	case l.proxyErr != nil, errors.Is(l.err, ErrProxy):
		return HopProxy
	case errors.Is(l.err, ErrUnknownHost), len(l.lookups) > 0 && len(l.dials) == 0 && l.lookups[len(l.lookups)-1].err != nil:
		return HopName
	case slices.ContainsFunc(tlsFaults, func(fault error) bool { return errors.Is(l.err, fault) }):
		return HopTLS
	case l.dialed() && !l.connected():
		return HopTCP
	case l.handshake != nil && (!l.handshake.done || l.handshake.err != nil):
		return HopTLS
	}
	return ""
}

// tlsFaults are what TLS fails of.
var tlsFaults = []error{ErrCertificate, ErrTLS, ErrPlainHTTP, ErrHTTPS, ErrClientCertificate, ErrCertificateFile}

// message is what the failure says of itself.
func (l leg) message() string {
	var failed *Error
	if errors.As(l.err, &failed) && failed.Message != "" {
		return failed.Message
	}
	return l.err.Error()
}

// proxy tells which proxy is in use. Its source is the variable that names it.
func (l leg) proxy() Finding {
	f := Finding{Hop: HopProxy, Status: StatusOK, Text: "none"}
	switch {
	case l.proxyErr != nil:
		f.Text = l.proxyErr.Error()
		return f
	case l.via == nil:
		if variable := proxyVariable(l.url.Scheme, ""); variable != "" {
			f.Text = "none, although " + variable + " is set: NO_PROXY holds, or it is this machine"
		}
		return f
	}
	f.Text = l.via.Scheme + "://" + l.via.Host
	f.Details = map[string]string{"proxy": f.Text}
	if variable := proxyVariable(l.url.Scheme, l.via.Host); variable != "" {
		f.Details["source"] = variable
	}
	if l.failing() == HopProxy {
		said := strings.TrimPrefix(l.message(), "the proxy")
		f.Text += ": " + strings.TrimLeft(strings.TrimPrefix(said, " "+l.via.Host), ": ")
	}
	return f
}

// proxyVariable is the variable of the environment that names the proxy at host
// for URLs of a scheme, or with an empty host any proxy; empty where none does.
func proxyVariable(scheme, host string) string {
	for _, name := range []string{strings.ToUpper(scheme) + "_PROXY", scheme + "_proxy", "ALL_PROXY", "all_proxy"} {
		value := os.Getenv(name)
		if value == "" {
			continue
		}
		if host == "" {
			return name
		}
		for _, text := range []string{value, "http://" + value} {
			if u, err := url.Parse(text); err == nil && strings.EqualFold(u.Host, host) {
				return name
			}
		}
	}
	return ""
}

// name tells the addresses of the host, or of the proxy. Where the connection
// was not made for the trip there is no text.
func (l leg) name() Finding {
	f := Finding{Hop: HopName, Host: l.nearest(), Status: StatusOK}
	if _, err := netip.ParseAddr((&url.URL{Host: f.Host}).Hostname()); err == nil {
		f.Text = "an address, which needs no name"
		return f
	}
	if len(l.lookups) == 0 {
		return f
	}
	last := l.lookups[len(l.lookups)-1]
	f.Duration = last.took
	if l.failing() == HopName {
		f.Text = l.message()
		return f
	}
	f.Text = strings.Join(last.addresses, ", ")
	f.Details = map[string]string{"addresses": f.Text}
	return f
}

// tcp tells where the connection to the host, or to the proxy, leads to.
func (l leg) tcp() Finding {
	f := Finding{Hop: HopTCP, Host: l.nearest(), Status: StatusOK}
	var others []string
	for _, d := range l.dials {
		if d.err != nil {
			others = append(others, fmt.Sprintf("%s: %s", d.address, dialFault(d.err)))
			continue
		}
		f.Text, f.Duration = fmt.Sprintf("%s in %s", d.address, short(d.took)), d.took
		f.Details = map[string]string{"address": d.address}
	}
	switch {
	case l.failing() == HopTCP && len(others) > 1:
		f.Text = strings.Join(others, "; ")
	case l.failing() == HopTCP:
		f.Text = l.message()
	case f.Text != "" && len(others) > 0:
		f.Text += ", but not " + strings.Join(others, "; ")
	}
	return f
}

// dialFault is short for why an address could not be connected to.
func dialFault(err error) string {
	var network net.Error
	switch {
	case isRefused(err):
		return "refused"
	case errors.As(err, &network) && network.Timeout():
		return "no answer"
	case errors.Is(err, context.Canceled):
		return "given up"
	}
	return unwrapDial(err)
}

// short is a duration as people want it.
func short(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return "less than 1 ms"
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}
