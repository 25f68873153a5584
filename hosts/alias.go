package hosts

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/distribution/reference"
)

// aliases are what short names stand for, by short name
// (containers-registries.conf(5), "Short-Name Aliasing").
type aliases map[string]alias

type alias struct {
	name string // empty: an earlier alias is taken back
	file string
	user bool // the file is the user's own
	// split says that Podman's versions do not agree: today's lets a drop-in of
	// the system that sorts later go before the user's file, earlier ones never.
	split bool
}

// read adds what a file says, over what files before it said.
func (a aliases) read(written map[string]string, file string, user bool) error {
	for _, short := range slices.Sorted(maps.Keys(written)) {
		if named, err := reference.Parse(short); err != nil || !bare(named) || hasHost(short) {
			return fmt.Errorf("read %s: the alias %q is no name without a registry and a tag", file, short)
		}
		next := alias{file: file, user: user}
		if value := written[short]; value != "" {
			named, err := reference.ParseNormalizedNamed(value)
			if err != nil || !bare(named) || !hasHost(value) {
				return fmt.Errorf("read %s: the alias %q stands for %q, which is no name with a registry and without a tag", file, short, value)
			}
			next.name = named.Name()
		}
		if before, ok := a[short]; ok && before.name != next.name && before.user && !user {
			next.split, next.user = true, true
		}
		a[short] = next
	}
	return nil
}

// readCache adds what Podman recorded of its users' choices, which goes before
// all other files. A file that cannot be read is an error that wraps
// fs.ErrPermission.
func (a aliases) readCache(path string) error {
	if path == "" {
		return nil
	}
	var file struct{ Aliases map[string]string }
	if _, err := readTOML(path, &file); err != nil {
		if missing(err) {
			return nil
		}
		return err
	}
	return a.read(file.Aliases, path, true)
}

// bare tells whether a reference is a name and nothing else.
func bare(r reference.Reference) bool {
	named, ok := r.(reference.Named)
	return ok && reference.IsNameOnly(named)
}

// hasHost tells whether a name begins with a registry, as Docker tells it from
// a part of the repository.
func hasHost(name string) bool {
	first, _, more := strings.Cut(name, "/")
	return more && (strings.ContainsAny(first, ".:") || first == "localhost")
}

// Alias is the full name (docker.io/library/alpine) that registries.conf and
// its drop-ins, or Podman's record of its users' choices, give to a short name
// (alpine) without tag and digest, and the file that says so. Both are empty
// where there is none, or none that is clear: where a later version of Podman
// would take another than an earlier.
func (c *Config) Alias(short string) (name, source string) {
	found := c.registries.aliases[short]
	if found.name == "" || found.split {
		return "", ""
	}
	return found.name, found.file
}
