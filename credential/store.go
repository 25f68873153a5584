package credential

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/davit-cli/davit/internal/atomicfile"
)

// Store is Docker's configuration as a place to keep credentials, for login
// and logout. Docker finds there what davit saves, and the other way round.
// Any number of processes may change one Store at once and lose nothing of
// each other's; Docker itself takes no part in their lock.
type Store struct{ path string }

// OpenStore is the Store in the config.json at path, which need not be there.
// An empty path is Docker's own (see Docker). Nothing is read yet.
func OpenStore(path string) (*Store, error) {
	if path == "" {
		path = dockerPath(os.Getenv)
	}
	if path == "" {
		return nil, errors.New("find Docker's configuration: neither DOCKER_CONFIG nor a home directory is set")
	}
	return &Store{path}, nil
}

// Path is the config.json. What Save says it has stored there is readable as
// it is to whoever may read the file.
func (s *Store) Path() string { return s.path }

// Lookup is what is stored for a registry: the zero Credential is nothing.
func (s *Store) Lookup(ctx context.Context, registry string) (Credential, error) {
	return DockerFile(s.path)(ctx, registry, "")
}

// Save stores a user name with a password, or an identity token, for a
// registry, in the place of what was stored for it. It goes where Docker puts
// it: to the credential helper that is configured for the registry (credHelpers)
// or for all (credsStore), else into the file. It returns that place: the
// helper's name or Path.
//
// The file is replaced whole and durably, a link's target in the link's place.
// It has the permissions 0600, whatever it had before, and keeps its owner and
// whatever else is in it. A directory that is missing is made, for this user
// alone. On error the file is as it was.
func (s *Store) Save(ctx context.Context, registry string, c Credential) (where string, err error) {
	defer func() {
		if err != nil {
			where, err = "", fmt.Errorf("store the credential for %s: %w", registry, err)
		}
	}()
	host := hostOf(registry)
	key := serverAddress(host)
	switch {
	case host == "":
		return "", errors.New("no registry is named")
	case c.IdentityToken == "" && (c.Username == "" || c.Password == ""):
		return "", errors.New("it is neither a user name with a password nor an identity token")
	case c.Token != "" || c.RegistryToken != "" || c.IdentityToken != "" && c.Password != "":
		return "", errors.New("it is more than a user name with a password, or an identity token")
	}
	config, err := docker.read(s.path)
	if err != nil {
		return "", err
	}
	suffix := config.helper(host)
	if suffix == "" {
		entry, err := encodeEntry(c)
		if err != nil {
			return "", err
		}
		return s.path, s.edit(ctx, func(auths object) object { return auths.with(key, entry) })
	}
	where, err = storeInHelper(ctx, suffix, key, c)
	if err != nil {
		return "", fmt.Errorf("%w (%s)", err, s.path)
	}
	// The empty entry is how docker logout knows of it, and it is the end of a
	// password that was stored before there was a helper.
	if entry, found := config.Auths[key]; found && string(entry) == "{}" {
		return where, nil
	}
	return where, s.edit(ctx, func(auths object) object { return auths.with(key, json.RawMessage("{}")) })
}

// encodeEntry is the credential as it stands in auths.
func encodeEntry(c Credential) (json.RawMessage, error) {
	if strings.Contains(c.Username, ":") {
		return nil, errors.New("a user name with a colon cannot be told from its password in the file")
	}
	var entry struct {
		Auth          string `json:"auth,omitempty"`
		IdentityToken string `json:"identitytoken,omitempty"`
	}
	if c.Username != "" {
		entry.Auth = base64.StdEncoding.EncodeToString([]byte(c.Username + ":" + c.Password))
	}
	entry.IdentityToken = c.IdentityToken
	return json.Marshal(entry)
}

// Erase forgets what is stored for a registry, under every name that Docker
// has ever stored it, by the helper that is configured for it and in the file.
// It returns where there was something: the helper's name, Path, both, or
// nothing. Where one cannot be had the other is erased all the same, and the
// error tells of the one. The file is replaced as Save does it.
func (s *Store) Erase(ctx context.Context, registry string) (where []string, err error) {
	host := hostOf(registry)
	config, err := docker.read(s.path)
	if err != nil {
		return nil, fmt.Errorf("erase the credential for %s: %w", registry, err)
	}
	keys := keysFor(docker, config.Auths, host, "")
	var faults []error
	if suffix := config.helper(host); suffix != "" {
		// An old key in the file tells of one in the helper.
		for _, address := range slices.Compact(append([]string{serverAddress(host)}, keys...)) {
			name, err := eraseFromHelper(ctx, suffix, address)
			if err != nil {
				faults = append(faults, fmt.Errorf("%w (%s)", err, s.path))
				break // the others would fail the same way
			}
			if name != "" && !slices.Contains(where, name) {
				where = append(where, name)
			}
		}
	}
	if len(keys) > 0 {
		held := slices.ContainsFunc(keys, func(key string) bool {
			c, err := config.entry(ctx, key)
			return err != nil || !c.Anonymous()
		})
		err := s.edit(ctx, func(auths object) object {
			return slices.DeleteFunc(auths, func(m member) bool { return docker.rank(m.name, host, "") > 0 })
		})
		if err != nil {
			faults = append(faults, err)
		} else if held {
			where = append(where, s.path)
		}
	}
	if len(faults) > 0 {
		return where, fmt.Errorf("erase the credential for %s: %w", registry, errors.Join(faults...))
	}
	return where, nil
}

// edit changes the file's auths, while no other davit does.
func (s *Store) edit(ctx context.Context, change func(auths object) object) (err error) {
	if err := os.MkdirAll(filepath.Dir(s.path), 0o700); err != nil {
		return err
	}
	path, err := followLinks(s.path)
	if err != nil {
		return err
	}
	unlock, err := lock(ctx, lockOf(path))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	data, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	data, err = editAuths(data, change)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := atomicfile.Clean(path); err != nil { // a killed davit may have left a secret
		return err
	}
	return atomicfile.WritePrivate(path, data)
}

// editAuths changes the auths of a configuration and nothing else but the
// white space, which becomes Docker's.
func editAuths(data []byte, change func(auths object) object) ([]byte, error) {
	document, err := readObject(data)
	if err != nil {
		return nil, err
	}
	// Go's readers, which Docker's is, take a name in any case and every
	// occurrence of it.
	isAuths := func(m member) bool { return strings.EqualFold(m.name, "auths") }
	if !slices.ContainsFunc(document, isAuths) {
		document = append(document, member{name: "auths", value: json.RawMessage("{}")})
	}
	for i, m := range document {
		if !isAuths(m) {
			continue
		}
		auths, err := readObject(m.value)
		if err != nil {
			return nil, fmt.Errorf("auths: %w", err)
		}
		if document[i].value, err = change(auths).encode(); err != nil {
			return nil, err
		}
	}
	text, err := document.encode()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := json.Indent(&b, text, "", "\t"); err != nil {
		return nil, err
	}
	b.WriteByte('\n')
	return b.Bytes(), nil
}

// followLinks is the file that a path leads to, which need not be there. The
// directory must be.
func followLinks(path string) (string, error) {
	for range 40 { // as many as Linux follows
		dir, name := filepath.Split(path) // which cleans nothing: a/../b goes through a
		dir, err := filepath.EvalSymlinks(cmp.Or(dir, "."))
		if err != nil {
			return "", err
		}
		path = filepath.Join(dir, name)
		to, err := os.Readlink(path)
		if err != nil {
			return path, nil // it is none
		}
		if !filepath.IsAbs(to) {
			to = dir + string(filepath.Separator) + to
		}
		path = to
	}
	return "", fmt.Errorf("%s: too many links", path)
}
