package credential

import "os"

// StoredOptions say where stored credentials are looked for. The zero value is
// as the process's environment says.
type StoredOptions struct {
	// AuthFile is Podman's auth.json in place of the one that REGISTRY_AUTH_FILE
	// names. That it is missing is an error.
	AuthFile string
	// Getenv reads the environment, at each call; nil is os.Getenv.
	Getenv func(string) string
}

// Stored provides what was stored by a login, davit's or another tool's. The
// first of these that knows a credential gives it: the file AuthFile or
// REGISTRY_AUTH_FILE, Docker's config.json (Docker), the files that Podman
// reads by itself (Podman). One that cannot be read, or whose helper fails, is
// an error, and the others are not asked.
func Stored(opts StoredOptions) Provider {
	getenv := opts.Getenv
	if getenv == nil {
		getenv = os.Getenv
	}
	named := podmanVariable(getenv)
	if opts.AuthFile != "" {
		named = PodmanFile(opts.AuthFile)
	}
	return Chain(named, dockerDefault(getenv), podmanDefault(getenv))
}
