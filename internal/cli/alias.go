package cli

import (
	"fmt"
	"strings"

	"github.com/davit-cli/davit/hosts"
	"github.com/davit-cli/davit/ref"
)

// alias is a short name that the configuration of Podman's family gives a
// meaning of its own.
type alias struct{ short, name, source string }

func (a alias) String() string {
	return fmt.Sprintf("%s is %s, by the alias in %s", a.short, a.name, a.source)
}

// parseName reads an image's name as people write it, where short names may be
// aliases. One that means what it would mean anyway is not told.
func parseName(config *hosts.Config, name string) (ref.Reference, *alias, error) {
	r, err := ref.Parse(name)
	if err != nil {
		return r, nil, usageError{err}
	}
	short, rest := cutShort(strings.TrimSpace(name))
	if short == "" {
		return r, nil, nil
	}
	full, source := config.Alias(short)
	if full == "" {
		return r, nil, nil
	}
	meant, err := ref.Parse(full + rest)
	if err != nil {
		return r, nil, fmt.Errorf("alias of %s in %s: %w", short, source, err)
	}
	if meant == r {
		return r, nil, nil
	}
	return meant, &alias{short, full, source}, nil
}

// parseOne reads the one image that a command takes.
func parseOne(cmd string, args []string, flags *registryFlags) (ref.Reference, *alias, error) {
	if err := flags.reach.misplaced(args); err != nil {
		return ref.Reference{}, nil, err
	}
	if len(args) != 1 {
		return ref.Reference{}, nil, usagef("%s takes one image, such as: davit %s alpine", cmd, cmd)
	}
	config, err := flags.reach.files()
	if err != nil {
		return ref.Reference{}, nil, err
	}
	return parseName(config, args[0])
}

// cutShort parts a name without registry and namespace from its tag and digest.
// short is empty where the name is none.
func cutShort(name string) (short, rest string) {
	if strings.Contains(name, "/") {
		return "", ""
	}
	if i := strings.IndexAny(name, ":@"); i >= 0 {
		return name[:i], name[i:]
	}
	return name, ""
}
