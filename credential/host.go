package credential

import "strings"

// hubKey is what Docker stores Docker Hub's credential under.
const hubKey = "https://index.docker.io/v1/"

// hub is Docker Hub's name in references.
const hub = "docker.io"

// hostOf reads the registry's host from what people and tools write for one:
// a host, a URL, a key of config.json. All of Docker Hub's names give hub.
func hostOf(name string) string {
	name = strings.ToLower(strings.TrimSpace(name))
	if _, rest, ok := strings.Cut(name, "://"); ok {
		name = rest
	}
	name, _, _ = strings.Cut(name, "/")
	switch name {
	case "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com":
		return hub
	}
	return name
}

// serverAddress is what a credential helper is asked for.
func serverAddress(host string) string {
	if host == hub {
		return hubKey
	}
	return host
}
