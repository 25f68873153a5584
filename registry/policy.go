package registry

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/davit-cli/davit/internal/oneline"
)

// What others choose, a token realm or a foreign layer's URL, must not use us to
// reach what only this machine can reach, nor lead from HTTPS to plain HTTP.

// policyError is why policy forbids to go somewhere.
type policyError string

func (e policyError) Error() string { return string(e) }

// checkURL checks what can be seen without a name being resolved. An error is
// a policyError.
func (c *client) checkURL(u *url.URL) error {
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return policyError(fmt.Sprintf("the scheme %q is refused", oneline.Clean(u.Scheme, 20)))
	case u.Scheme == "http" && c.scheme.now() == "https":
		return policyError("plain HTTP is refused, since the registry is on HTTPS")
	}
	host := strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
	registry := (&url.URL{Host: c.host}).Hostname()
	if host == registry {
		return nil
	}
	if address, err := netip.ParseAddr(host); err == nil {
		return c.checkAddress(address)
	}
	last := host[strings.LastIndexByte(host, '.')+1:]
	switch {
	case isLoopbackHost(host):
		return c.checkAddress(netip.AddrFrom4([4]byte{127, 0, 0, 1}))
	case host == "metadata.google.internal" || host == "metadata" || host == "metadata.goog" || strings.HasSuffix(host, ".metadata.goog"):
		return policyError("a cloud's metadata service is refused")
	case strings.ContainsFunc(host, func(r rune) bool { return r >= 0x80 }):
		// In ASCII it may be any of these: ⓛocalhost is localhost (UTS 46).
		return policyError("a host that is not in ASCII is refused")
	case last == "" || last[0] >= '0' && last[0] <= '9':
		// No name, but some resolvers and proxies read it as an address.
		return policyError("a malformed address is refused")
	}
	return nil
}

// checkDialed checks an address that is about to be connected to. An error is
// a policyError.
func (c *client) checkDialed(address string) error {
	parsed, err := netip.ParseAddrPort(address)
	if err != nil {
		return policyError("it resolves to an unreadable address")
	}
	return c.checkAddress(parsed.Addr())
}

// checkAddress refuses addresses that only this machine can reach, unless the
// registry itself is on such. An error is a policyError.
func (c *client) checkAddress(address netip.Addr) error {
	registry, known := c.registryAddress()
	for _, meant := range meanings(address) {
		kind := reach(meant)
		switch {
		case kind == "":
		case known && (registry == plain(address) || registry == meant || kind != metadata && reach(registry) == kind):
		default:
			return policyError(fmt.Sprintf("a %s address is refused, since the registry is not on one", kind))
		}
	}
	return nil
}

// registryAddress is where the registry is, as far as that is known: what was
// connected to, else what its name itself says.
func (c *client) registryAddress() (netip.Addr, bool) {
	if address := c.address.Load(); address != nil {
		return plain(*address), true
	}
	host := (&url.URL{Host: c.host}).Hostname()
	if isLoopbackHost(host) {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1}), true
	}
	address, err := netip.ParseAddr(host)
	return plain(address), err == nil
}

const metadata = "metadata service's"

// metadataServices are the clouds' (AWS, Google, Oracle, Alibaba, Azure) that are
// found under other than link-local addresses, and the one that most share.
var metadataServices = map[netip.Addr]bool{
	netip.MustParseAddr("169.254.169.254"):    true,
	netip.MustParseAddr("169.254.170.2"):      true,
	netip.MustParseAddr("169.254.170.23"):     true,
	netip.MustParseAddr("fd00:ec2::254"):      true,
	netip.MustParseAddr("fd00:ec2::23"):       true,
	netip.MustParseAddr("fd20:ce::254"):       true,
	netip.MustParseAddr("fd00:c1::a9fe:a9fe"): true,
	netip.MustParseAddr("100.100.100.200"):    true,
	netip.MustParseAddr("168.63.129.16"):      true,
	netip.MustParseAddr("192.0.0.192"):        true,
}

// reach names the kind of an address that is not for others to send us to, or
// is empty.
func reach(address netip.Addr) string {
	switch {
	case metadataServices[address]:
		return metadata
	case address.IsLoopback(), address.IsUnspecified(), address.Is4() && address.As4()[0] == 0:
		return "loopback"
	case address.IsLinkLocalUnicast():
		return "link-local"
	case address.IsMulticast():
		return "multicast"
	}
	return ""
}

// Prefixes of IPv6 addresses that stand for IPv4 ones.
var (
	compatible = netip.MustParsePrefix("::/96")          // RFC 4291, section 2.5.5.1
	nat64      = netip.MustParsePrefix("64:ff9b::/96")   // RFC 6052
	localNAT64 = netip.MustParsePrefix("64:ff9b:1::/48") // RFC 8215
	sixToFour  = netip.MustParsePrefix("2002::/16")      // RFC 3056
)

// plain is the address without a zone, and not IPv4 in IPv6's notation.
func plain(address netip.Addr) netip.Addr { return address.Unmap().WithZone("") }

// meanings are the address and the IPv4 addresses that it may stand for.
func meanings(address netip.Addr) []netip.Addr {
	address = plain(address)
	found := []netip.Addr{address}
	if !address.Is6() || address.IsUnspecified() || address.IsLoopback() {
		return found
	}
	bytes := address.As16()
	add := func(a, b, c, d int) {
		found = append(found, netip.AddrFrom4([4]byte{bytes[a], bytes[b], bytes[c], bytes[d]}))
	}
	switch {
	case nat64.Contains(address), compatible.Contains(address):
		add(12, 13, 14, 15)
	case sixToFour.Contains(address):
		add(2, 3, 4, 5)
	case localNAT64.Contains(address):
		// A network may take a part of it, of any of these lengths (RFC 6052,
		// section 2.2). No IPv4 address that is translated begins with 0.
		for _, at := range [][4]int{{6, 7, 9, 10}, {7, 9, 10, 11}, {9, 10, 11, 12}, {12, 13, 14, 15}} {
			if bytes[at[0]] != 0 {
				add(at[0], at[1], at[2], at[3])
			}
		}
	}
	return found
}

// sendGuarded makes one round trip to a URL that checkURL allows, by a transport
// that checks the address. Where that is refused, the error wraps refused.
func (c *client) sendGuarded(step string, req *http.Request, transport http.RoundTripper, refused error) (*http.Response, error) {
	resp, err := c.send(step, req, transport)
	var policy policyError
	var failed *Error
	if errors.As(err, &policy) && errors.As(err, &failed) {
		failed.causes = append(failed.causes, refused)
	}
	return resp, err
}
