package credential

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"oras.land/oras-go/v2/registry/remote/credentials"
)

// dialect is what sets Docker's and Podman's files apart, which have one format.
type dialect struct {
	title string // for messages
	// namespaces says that a key of auths with a path is for the repositories
	// below it alone.
	namespaces bool
	// credsStore says that a helper may be configured for all registries.
	credsStore bool
	// address is what a host is called today: as a key, and to helpers.
	address func(host string) string
}

// config is what davit reads of such a file by itself; the entries of auths
// are oras-go's to decode.
type config struct {
	Auths       map[string]json.RawMessage `json:"auths"`
	CredsStore  string                     `json:"credsStore"`
	CredHelpers map[string]string          `json:"credHelpers"`

	dialect dialect
	path    string
	missing bool
}

// read reads the file at path, once. One that is not there is as good as an
// empty one; the config says that it is missing.
func (d dialect) read(path string) (*config, error) {
	c := &config{dialect: d, path: path}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		c.missing = true
		return c, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", d.title, err)
	}
	if len(strings.TrimSpace(string(data))) == 0 {
		return c, nil
	}
	if err := json.Unmarshal(data, c); err != nil {
		return nil, fmt.Errorf("read %s %s: %w", d.title, path, err)
	}
	return c, nil
}

// find is what is stored in the file, or through it, for a repository. A
// helper goes before the file's own entries, which answer only where the
// helper says that it knows nothing. known keeps what helpers have answered.
func (c *config) find(ctx context.Context, known *answers, registry, repository string) (Credential, error) {
	host := hostOf(registry)
	if suffix := c.helper(host); suffix != "" {
		found, err := known.get(ctx, suffix, c.dialect.address(host))
		if err != nil {
			return Credential{}, fmt.Errorf("credential for %s (%s): %w", registry, c.path, err)
		}
		if !found.Anonymous() {
			return found, nil
		}
	}
	for _, key := range keysFor(c.dialect, c.Auths, host, repository) {
		found, err := c.entry(ctx, key)
		if err != nil || !found.Anonymous() {
			return found, err
		}
	}
	return Credential{}, nil
}

// helper is the suffix of the helper for host, or empty. An empty one that
// stands under the host's name says that none is to be asked.
func (c *config) helper(host string) string {
	if keys := keysFor(c.dialect, c.CredHelpers, host, ""); len(keys) > 0 {
		return c.CredHelpers[keys[0]]
	}
	if c.dialect.credsStore {
		return c.CredsStore
	}
	return ""
}

// entry is what stands in the file itself under a key.
func (c *config) entry(ctx context.Context, key string) (Credential, error) {
	malformed := fmt.Errorf("read %s %s: the entry %q of auths is malformed", c.dialect.title, c.path, key)
	alone, err := json.Marshal(map[string]any{"auths": map[string]any{"entry": c.Auths[key]}})
	if err != nil {
		return Credential{}, malformed
	}
	// oras-go's errors may quote the secret, so that they stay here.
	store, err := credentials.NewMemoryStoreFromDockerConfig(alone)
	if err != nil {
		return Credential{}, malformed
	}
	found, err := store.Get(ctx, "entry")
	if err != nil {
		return Credential{}, malformed
	}
	credential := Credential{
		Username:      found.Username,
		Password:      found.Password,
		IdentityToken: found.RefreshToken,
		RegistryToken: found.AccessToken,
	}
	if credential.Anonymous() {
		return Credential{}, nil
	}
	credential.Source, credential.Stored = c.path, true
	return credential, nil
}

// keysFor gives the keys of m that are for a repository of host: the most
// specific first, then the host's own name, then its other spellings, in
// order, so that the same file always gives the same credential.
func keysFor[V any](d dialect, m map[string]V, host, repository string) []string {
	var keys []string
	for key := range m {
		if d.rank(key, host, repository) > 0 {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, func(a, b string) int {
		return cmp.Or(d.rank(b, host, repository)-d.rank(a, host, repository), strings.Compare(a, b))
	})
	return keys
}

// rank is how well a key fits a repository of host; 0 is not at all. A key
// without a scheme but with a path is for what is below that path: nothing to
// Docker, but for the paths that it wrote itself when it began.
func (d dialect) rank(key, host, repository string) int {
	_, path, _ := strings.Cut(key, "/")
	switch {
	case hostOf(key) != host:
		return 0
	case key == d.address(host):
		return 2
	case strings.Contains(key, "://") || path == "":
		return 1
	case d.namespaces && (repository == path || strings.HasPrefix(repository, path+"/")):
		return 2 + len(path)
	case !d.namespaces && slices.Contains([]string{"v1", "v1/", "v2", "v2/"}, path):
		return 1
	}
	return 0
}
