package credential

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"oras.land/oras-go/v2/registry/remote/credentials"
)

// Docker provides what docker login stored in config.json: in the file itself,
// or with the credential helper that the file names. It looks where Docker
// does: in the directory DOCKER_CONFIG, else in .docker in the home directory.
// No such file is no credential.
func Docker() Provider {
	return func(ctx context.Context, registry, repository string) (Credential, error) {
		dir := os.Getenv("DOCKER_CONFIG")
		if dir == "" {
			home, err := os.UserHomeDir()
			if err != nil {
				return Credential{}, nil // no home, so nothing is stored there
			}
			dir = filepath.Join(home, ".docker")
		}
		return DockerFile(filepath.Join(dir, "config.json"))(ctx, registry, repository)
	}
}

// DockerFile provides what is stored in or through the config.json at path,
// which is read at each call. No file is no credential; a file that cannot be
// read as Docker's configuration is an error that names it.
//
// A helper configured for the registry (credHelpers) goes before the one for
// all (credsStore), and both before the file's own entries (auths). A helper
// that is missing, fails, answers nonsense or does not answer in time is an
// error that names it. Only one that says that it knows no credential for the
// registry is passed over.
func DockerFile(path string) Provider {
	return func(ctx context.Context, registry, _ string) (Credential, error) {
		config, err := readConfig(path)
		if err != nil {
			return Credential{}, err
		}
		host := hostOf(registry)
		if suffix := config.helper(host); suffix != "" {
			c, err := askHelper(ctx, suffix, serverAddress(host))
			if err != nil {
				return Credential{}, fmt.Errorf("credential for %s (%s): %w", registry, path, err)
			}
			if !c.Anonymous() {
				return c, nil
			}
		}
		return config.entry(ctx, host)
	}
}

// config is what davit reads of config.json by itself; the entries of auths
// are oras-go's to decode.
type config struct {
	Auths       map[string]json.RawMessage `json:"auths"`
	CredsStore  string                     `json:"credsStore"`
	CredHelpers map[string]string          `json:"credHelpers"`

	path string
}

func readConfig(path string) (*config, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &config{path: path}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read Docker's configuration: %w", err)
	}
	c := &config{path: path}
	if len(strings.TrimSpace(string(data))) == 0 {
		return c, nil
	}
	if err := json.Unmarshal(data, c); err != nil {
		return nil, fmt.Errorf("read Docker's configuration %s: %w", path, err)
	}
	return c, nil
}

// helper is the suffix of the helper for host, or empty.
func (c *config) helper(host string) string {
	for _, key := range matching(c.CredHelpers, host) {
		if suffix := c.CredHelpers[key]; suffix != "" {
			return suffix
		}
	}
	return c.CredsStore
}

// entry is what stands in the file itself for host.
func (c *config) entry(ctx context.Context, host string) (Credential, error) {
	keys := matching(c.Auths, host)
	if len(keys) == 0 {
		return Credential{}, nil
	}
	store, err := credentials.NewFileStore(c.path)
	if err != nil {
		return Credential{}, fmt.Errorf("read Docker's configuration %s: malformed", c.path)
	}
	for _, key := range keys {
		found, err := store.Get(ctx, key)
		if err != nil {
			// The cause may quote the secret, so that it stays here.
			return Credential{}, fmt.Errorf("read Docker's configuration %s: the entry %q of auths is malformed", c.path, key)
		}
		credential := Credential{
			Username:      found.Username,
			Password:      found.Password,
			IdentityToken: found.RefreshToken,
			RegistryToken: found.AccessToken,
			Source:        c.path,
			Stored:        true,
		}
		if !credential.Anonymous() {
			return credential, nil
		}
	}
	return Credential{}, nil
}

// matching gives the keys that name host: first the one that Docker writes
// today, then the others in order, so that the same file always gives the same
// credential. A key with a path and no scheme, as Podman writes them, is for
// one namespace and not for the host.
func matching[V any](m map[string]V, host string) []string {
	var keys []string
	for key := range m {
		_, path, _ := strings.Cut(key, "/")
		whole := strings.Contains(key, "://") || path == "" || path == "v1/" || path == "v2/" || path == "v1" || path == "v2"
		if whole && hostOf(key) == host {
			keys = append(keys, key)
		}
	}
	first := serverAddress(host)
	slices.SortFunc(keys, func(a, b string) int {
		switch {
		case a == b:
			return 0
		case a == first:
			return -1
		case b == first:
			return 1
		}
		return strings.Compare(a, b)
	})
	return keys
}
