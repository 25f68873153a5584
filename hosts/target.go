package hosts

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"strings"
)

// target is a registry, or the part of it below a prefix, that a URL names.
type target struct {
	scheme   string
	registry string
	prefix   string // of repositories; empty: none
	noTags   bool
	reach    Host // what is said beside the URL
}

// targetOf reads the URL of a registry or mirror: https where it names no
// scheme. unsupported is what keeps davit from using it as it stands. Errors
// never repeat a password.
//
// wholePath says that the URL's path takes the place of /v2 (containerd's
// override_path); else the API is found below the path, at PATH/v2.
func targetOf(written string, wholePath bool) (t target, unsupported string, err error) {
	if strings.Contains(written, "@") {
		return target{}, "", errors.New("a URL of a mirror or server cannot have a user name or password")
	}
	full := written
	if !strings.Contains(full, "://") {
		full = "https://" + full
	}
	u, err := url.Parse(full)
	if err != nil {
		return target{}, "", fmt.Errorf("%q is no URL", written)
	}
	t = target{scheme: u.Scheme, registry: canonical(u.Host)}
	switch {
	case t.scheme != "http" && t.scheme != "https":
		return target{}, "", fmt.Errorf("%q: the scheme must be https or http", written)
	case u.RawQuery != "" || u.Fragment != "":
		return target{}, "", fmt.Errorf("%q: a URL of a registry ends with its path", written)
	case !validHost(t.registry):
		return target{}, "", fmt.Errorf("%q names no host or host:port", written)
	}

	// A path within /v2 is a prefix of repositories; what stands before /v2
	// has no counterpart in a repository's name.
	api := path.Clean("/" + u.Path)
	if !wholePath && !strings.HasSuffix(api, "/v2") {
		api = path.Join(api, "v2")
	}
	prefix, ok := strings.CutPrefix(api+"/", "/v2/")
	t.prefix = strings.TrimSuffix(prefix, "/")
	if !ok || t.prefix != "" && !validRepository(t.prefix) {
		return t, "its API is at " + api + " and not at /v2", nil
	}
	return t, "", nil
}

// at is where the target has a repository.
func (t target) at(repository string) (registry, path string) {
	return split(t.registry + "/" + under(t.prefix, repository))
}

// named is the target for messages: as the URL, with the prefix as the
// repositories have it.
func (t target) named() string { return t.scheme + "://" + under(t.registry, t.prefix) }
