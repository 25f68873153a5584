package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"
)

// way is how a trip got to its host.
type way struct {
	*trip
	via      *url.URL // the proxy; nil for none
	proxyErr error    // why it is not known which
	err      error    // what the client made of the trip's failure; nil for none
}

// nearest is who is connected to: the proxy, or the host itself.
func (w way) nearest() string {
	if w.via != nil {
		return w.via.Host
	}
	return w.url.Host
}

// connection reports the hops from proxy to TLS of a trip, where it was the
// first to its host. err is what the client made of its failure, nil for none.
// It tells whether one of these hops was what failed.
func (e *examination) connection(t *trip, err error) (failed bool) {
	origin := t.url.Scheme + "://" + t.url.Host
	if e.told[origin] && err == nil {
		return false
	}
	w := way{trip: t, err: err}
	w.via, w.proxyErr = e.client.proxyFor(t.url)
	failing := w.failing()
	findings := []Finding{w.proxy()}
	if !e.told[w.nearest()] || failing == HopName || failing == HopTCP {
		findings = append(findings, w.name(), w.tcp())
	}
	e.told[origin], e.told[w.nearest()] = true, true
	for _, f := range append(findings, w.tls()) {
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
func (w way) failing() Hop {
	switch {
	case w.err == nil:
		return ""
	case w.proxyErr != nil, errors.Is(w.err, ErrProxy):
		return HopProxy
	case errors.Is(w.err, ErrUnknownHost), len(w.lookups) > 0 && len(w.dials) == 0 && w.lookups[len(w.lookups)-1].err != nil:
		return HopName
	case errors.Is(w.err, ErrCertificate), errors.Is(w.err, ErrTLS), errors.Is(w.err, ErrPlainHTTP), errors.Is(w.err, ErrHTTPS):
		return HopTLS
	case w.dialed() && !w.connected():
		return HopTCP
	case w.handshake != nil && (!w.handshake.done || w.handshake.err != nil):
		return HopTLS
	}
	return ""
}

// message is what the failure says of itself.
func (w way) message() string {
	var failed *Error
	if errors.As(w.err, &failed) && failed.Message != "" {
		return failed.Message
	}
	return w.err.Error()
}

// proxy tells which proxy is in use, and which variable names it.
func (w way) proxy() Finding {
	f := Finding{Hop: HopProxy, Status: StatusOK, Text: "none"}
	switch {
	case w.proxyErr != nil:
		f.Text = w.proxyErr.Error()
		return f
	case w.via == nil:
		if variable := proxyVariable(w.url.Scheme, ""); variable != "" {
			f.Text = "none, although " + variable + " is set: NO_PROXY holds, or it is this machine"
		}
		return f
	}
	f.Text = w.via.Scheme + "://" + w.via.Host
	f.Details = map[string]string{"proxy": f.Text}
	if variable := proxyVariable(w.url.Scheme, w.via.Host); variable != "" {
		f.Text += ", from " + variable
		f.Details["variable"] = variable
	}
	if w.failing() == HopProxy {
		f.Text += ": " + strings.TrimPrefix(w.message(), "the proxy: ")
	}
	return f
}

// proxyFor is the proxy for a URL, nil for none.
func (c *client) proxyFor(u *url.URL) (*url.URL, error) {
	if c.transports.proxy == nil {
		return nil, nil
	}
	return c.transports.proxy(&http.Request{URL: u})
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
func (w way) name() Finding {
	f := Finding{Hop: HopName, Host: w.nearest(), Status: StatusOK}
	if _, err := netip.ParseAddr((&url.URL{Host: f.Host}).Hostname()); err == nil {
		f.Text = "an address, which needs no name"
		return f
	}
	if len(w.lookups) == 0 {
		return f
	}
	last := w.lookups[len(w.lookups)-1]
	f.Duration = last.took
	if w.failing() == HopName {
		f.Text = w.message()
		return f
	}
	f.Text = strings.Join(last.addresses, ", ")
	f.Details = map[string]string{"addresses": f.Text}
	return f
}

// tcp tells where the connection to the host, or to the proxy, leads to.
func (w way) tcp() Finding {
	f := Finding{Hop: HopTCP, Host: w.nearest(), Status: StatusOK}
	var others []string
	for _, d := range w.dials {
		if d.err != nil {
			others = append(others, fmt.Sprintf("%s: %s", d.address, dialFault(d.err)))
			continue
		}
		f.Text, f.Duration = fmt.Sprintf("%s in %s", d.address, short(d.took)), d.took
		f.Details = map[string]string{"address": d.address}
	}
	switch {
	case w.failing() == HopTCP && len(others) > 1:
		f.Text = strings.Join(others, "; ")
	case w.failing() == HopTCP:
		f.Text = w.message()
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
