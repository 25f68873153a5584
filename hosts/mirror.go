package hosts

import (
	"errors"
	"fmt"
	"strings"

	"github.com/davit-cli/davit/internal/oneline"
)

// Mirror is a mirror as the flag names it.
type Mirror struct {
	// For is the registry that it mirrors, as references name it. Empty: all.
	For string
	// Scheme is "http" or "https" where one is written.
	Scheme string
	// Registry is the mirror's host or host:port.
	Registry string
	// Prefix goes before the repository's path, as the project of a proxy cache
	// does. Empty: none.
	Prefix string
}

// ParseMirror reads [REGISTRY=]HOST[:PORT][/PREFIX], where https:// or http://
// may stand before HOST. Errors never repeat a password.
func ParseMirror(s string) (Mirror, error) {
	s = strings.TrimSpace(s)
	if strings.Contains(s, "@") {
		return Mirror{}, errors.New("mirror: a user name and password cannot be part of it: leave out what stands before the @, and log in to the mirror")
	}
	invalid := func(format string, args ...any) (Mirror, error) {
		return Mirror{}, fmt.Errorf("mirror %q: %s", oneline.Clean(s, 200), fmt.Sprintf(format, args...))
	}
	var m Mirror
	rest := s
	if registry, after, ok := strings.Cut(s, "="); ok {
		m.For, rest = canonical(registry), after
		if !validHost(m.For) {
			return invalid("what stands before the = is no registry: write REGISTRY=HOST[/PREFIX], with docker.io or example.com:5000 for REGISTRY")
		}
	}
	if scheme, after, ok := strings.Cut(rest, "://"); ok {
		m.Scheme, rest = strings.ToLower(scheme), after
		if m.Scheme != "http" && m.Scheme != "https" {
			return invalid("the scheme must be https:// or http://")
		}
	}
	host, prefix, _ := strings.Cut(rest, "/")
	m.Registry = canonical(host)
	m.Prefix = strings.Trim(prefix, "/")
	if m.Scheme != "" && (m.Prefix == "v2" || strings.HasPrefix(m.Prefix, "v2/")) {
		m.Prefix = strings.TrimLeft(m.Prefix[len("v2"):], "/") // a URL of the API
	}
	switch {
	case host == "":
		return invalid("the mirror's host is missing: write [REGISTRY=]HOST[/PREFIX]")
	case !validHost(m.Registry):
		return invalid("the mirror is no host or host:port")
	case m.Prefix == "":
	case strings.ToLower(m.Prefix) != m.Prefix && validRepository(strings.ToLower(m.Prefix)):
		return invalid("the prefix must be lowercase: write %s", strings.ToLower(m.Prefix))
	case !validRepository(m.Prefix):
		return invalid("the prefix is no part of a repository: want components of a-z and 0-9 with single . or _, __ or - between them, separated by slashes")
	}
	return m, nil
}

// String is the mirror as ParseMirror reads it.
func (m Mirror) String() string {
	s := under(m.Registry, m.Prefix)
	if m.Scheme != "" {
		s = m.Scheme + "://" + s
	}
	if m.For != "" {
		s = m.For + "=" + s
	}
	return s
}

func (m Mirror) target() target {
	return target{
		scheme:   m.Scheme,
		registry: canonical(m.Registry),
		prefix:   m.Prefix,
		reach:    Host{Scheme: m.Scheme, Source: "--mirror"},
	}
}
