package hosts

import (
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/distribution/reference"
)

// hub is Docker Hub's name in references, and hubHost the host of its API.
const (
	hub     = "docker.io"
	hubHost = "registry-1.docker.io"
)

// hostPattern is host or host:port as it may become a part of a path and of a
// URL: a name, or an IPv6 address in brackets.
var hostPattern = regexp.MustCompile(`^(?:[a-z0-9](?:[a-z0-9._-]*[a-z0-9_])?|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?$`)

// canonical is the one way to write a host that may be written in several.
func canonical(host string) string {
	host = strings.ToLower(host)
	switch strings.TrimSuffix(host, ":443") {
	case hub, hubHost, "index.docker.io":
		return hub
	}
	return host
}

// validHost tells whether a canonical host may be looked for. Hosts come from
// strangers too, in redirects: what passes is no path.
func validHost(host string) bool {
	m := hostPattern.FindStringSubmatch(host)
	if m == nil {
		return false
	}
	if m[1] == "" {
		return true
	}
	port, err := strconv.ParseUint(m[1], 10, 16)
	return err == nil && port != 0
}

// validRepository tells whether path may be a repository, or the front of one.
func validRepository(path string) bool {
	_, err := reference.WithName("registry.invalid/" + path)
	return err == nil
}

// hostname is a host without its port and without brackets.
func hostname(host string) string { return (&url.URL{Host: host}).Hostname() }

// address is the address that a host literally is.
func address(host string) (netip.Addr, bool) {
	addr, err := netip.ParseAddr(hostname(host))
	return addr.Unmap(), err == nil
}

// loopback tells whether a host is this machine by its name.
func loopback(host string) bool {
	addr, literal := address(host)
	return literal && addr.IsLoopback() || hostname(host) == "localhost"
}

// sameHost tells whether two hosts are one, a scheme's own port written or not.
func sameHost(a, b string) bool {
	return strings.TrimSuffix(a, ":443") == strings.TrimSuffix(b, ":443") ||
		strings.TrimSuffix(a, ":80") == strings.TrimSuffix(b, ":80")
}

// split takes a registry and the rest of a name apart. On Docker Hub a
// repository of one part is one of library.
func split(name string) (registry, repository string) {
	registry, repository, _ = strings.Cut(name, "/")
	registry = canonical(registry)
	if registry == hub && repository != "" && !strings.Contains(repository, "/") {
		repository = "library/" + repository
	}
	return registry, repository
}

// under puts what stands before a repository, which may be nothing, before it.
func under(prefix, repository string) string { return path.Join(prefix, repository) }
