package registry

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// A registry chooses the realm that gets the user's credential, and that may
// be another host: Docker Hub and GitLab need it. It must not use us to reach
// what only this machine can reach.

// realm is the token realm that a Bearer challenge names, where policy allows it.
func (c *client) realm(ch challenge) (*url.URL, error) {
	step := "get token from the realm that " + c.host + " names"
	refuse := func(host string, err error) error {
		return &Error{Step: step, Host: host, Message: c.public(err.Error(), 200), causes: []error{ErrRealm}}
	}
	realm, err := url.Parse(ch.params["realm"])
	if err != nil || realm.Hostname() == "" {
		return nil, refuse("", errors.New("the challenge names no realm that is a URL"))
	}
	if realm.User != nil {
		return nil, refuse(realm.Host, errors.New("the realm's URL carries a user"))
	}
	realm.Fragment, realm.RawFragment = "", ""
	if err := c.checkRealm(realm); err != nil {
		return nil, refuse(realm.Host, err)
	}
	return realm, nil
}

// checkRealm checks what can be seen without a name being resolved.
func (c *client) checkRealm(realm *url.URL) error {
	switch {
	case realm.Scheme != "http" && realm.Scheme != "https":
		return fmt.Errorf("a realm of scheme %q is refused", clean(realm.Scheme, 20))
	case realm.Scheme == "http" && c.scheme.now() == "https":
		return errors.New("a realm on plain HTTP is refused, since the registry is on HTTPS")
	}
	host := strings.ToLower(strings.TrimSuffix(realm.Hostname(), "."))
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
	case host == "metadata.google.internal" || host == "metadata":
		return errors.New("a realm on a cloud's metadata service is refused")
	case last == "" || last[0] >= '0' && last[0] <= '9':
		// No name, but some resolvers and proxies read it as an address.
		return errors.New("a realm on a malformed address is refused")
	}
	return nil
}

// checkDialed checks an address that is about to be connected to.
func (c *client) checkDialed(address string) error {
	parsed, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: it resolves to an unreadable address", ErrRealm)
	}
	if err := c.checkAddress(parsed.Addr()); err != nil {
		return fmt.Errorf("%w: %w", ErrRealm, err)
	}
	return nil
}

// checkAddress refuses addresses that only this machine can reach, unless the
// registry itself is on such.
func (c *client) checkAddress(address netip.Addr) error {
	address = embedded(address)
	kind := reach(address)
	if kind == "" {
		return nil
	}
	if registry, ok := c.registryAddress(); ok {
		if registry == address || kind != metadata && reach(registry) == kind {
			return nil
		}
	}
	return fmt.Errorf("a realm on a %s address is refused, since the registry is not on one", kind)
}

// registryAddress is where the registry is, as far as that is known: what was
// connected to, else what its name itself says.
func (c *client) registryAddress() (netip.Addr, bool) {
	if address := c.address.Load(); address != nil {
		return embedded(*address), true
	}
	host := (&url.URL{Host: c.host}).Hostname()
	if isLoopbackHost(host) {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1}), true
	}
	address, err := netip.ParseAddr(host)
	return embedded(address), err == nil
}

const metadata = "metadata service's"

// metadataServices are the clouds' (AWS, Alibaba, Azure, Oracle) that are
// found under other than link-local addresses, and the one that most share.
var metadataServices = map[netip.Addr]bool{
	netip.MustParseAddr("169.254.169.254"): true,
	netip.MustParseAddr("169.254.170.2"):   true,
	netip.MustParseAddr("fd00:ec2::254"):   true,
	netip.MustParseAddr("100.100.100.200"): true,
	netip.MustParseAddr("168.63.129.16"):   true,
	netip.MustParseAddr("192.0.0.192"):     true,
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

var nat64 = netip.MustParsePrefix("64:ff9b::/96")

// embedded is the IPv4 address that an IPv6 one stands for, else the address
// itself; without a zone.
func embedded(address netip.Addr) netip.Addr {
	address = address.Unmap().WithZone("")
	if nat64.Contains(address) {
		bytes := address.As16()
		return netip.AddrFrom4([4]byte(bytes[12:]))
	}
	return address
}

// sendToRealm makes one round trip to a token realm that policy allows.
func (c *client) sendToRealm(step string, req *http.Request) (*http.Response, error) {
	if c.atRegistry(req.URL) {
		return c.send(step, req, c.transports.to(req.URL))
	}
	return c.send(step, req, c.transports.toRealm(req.URL))
}
