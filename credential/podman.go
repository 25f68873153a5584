package credential

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
)

// AuthFileVariable names a file to be read in place of those that Podman reads
// by itself.
const AuthFileVariable = "REGISTRY_AUTH_FILE"

// podman is auth.json, as containers-auth.json(5) has it. Podman does not know
// credsStore there, and it calls Docker Hub docker.io.
var podman = dialect{title: "Podman's auth.json", namespaces: true, address: func(host string) string { return host }}

// Podman provides what podman login stored: in the file REGISTRY_AUTH_FILE
// where that is set, else in the files that Podman reads, in its order: on
// Linux containers/auth.json in the directory XDG_RUNTIME_DIR or, where that is
// not set, /run/containers/UID/auth.json; elsewhere .config/containers/auth.json
// in the home directory; then containers/auth.json in XDG_CONFIG_HOME, which is
// .config in the home directory by itself. No such file is no credential, and
// neither is one in another user's directory that is closed to us.
func Podman() Provider {
	files, variable := podmanDefault(os.Getenv), podmanVariable(os.Getenv)
	return func(ctx context.Context, registry, repository string) (Credential, error) {
		find := files
		if os.Getenv(AuthFileVariable) != "" {
			find = variable
		}
		return find(ctx, registry, repository)
	}
}

// PodmanFile provides what is stored in or through the auth.json at path. The
// file is read once, at the first call, so that it may be a pipe. That it is
// missing, or cannot be read as an auth.json, is an error that names it.
//
// Keys of auths may be a repository (quay.io/team/app), a namespace
// (quay.io/team) or a registry (quay.io); the most specific one is taken.
// Helpers are as in DockerFile, but only those for one registry (credHelpers).
func PodmanFile(path string) Provider {
	read := sync.OnceValues(func() (*config, error) {
		config, err := podman.read(path)
		if err == nil && config.missing {
			err = fmt.Errorf("read %s %s: %w", podman.title, path, fs.ErrNotExist)
		}
		return config, err
	})
	known := new(answers)
	return func(ctx context.Context, registry, repository string) (Credential, error) {
		config, err := read()
		if err != nil {
			return Credential{}, err
		}
		return config.find(ctx, known, registry, repository)
	}
}

// podmanVariable provides from the file REGISTRY_AUTH_FILE. Unlike a file that
// is named for one command it may be missing, to us as to Podman: systems set
// the variable for all, before anybody has logged in.
func podmanVariable(getenv func(string) string) Provider {
	known := new(answers)
	return func(ctx context.Context, registry, repository string) (Credential, error) {
		path := getenv(AuthFileVariable)
		if path == "" {
			return Credential{}, nil
		}
		config, err := podman.read(path)
		if err != nil {
			return Credential{}, fmt.Errorf("%s: %w", AuthFileVariable, err)
		}
		return config.find(ctx, known, registry, repository)
	}
}

// podmanDefault provides from the files that Podman reads by itself.
func podmanDefault(getenv func(string) string) Provider {
	known := new(answers)
	return func(ctx context.Context, registry, repository string) (Credential, error) {
		for _, path := range podmanPaths(getenv, runtime.GOOS, os.Getuid()) {
			// After su, XDG_RUNTIME_DIR is often the other user's. What we may
			// not even look for there is not ours.
			if _, err := os.Lstat(path); errors.Is(err, fs.ErrPermission) {
				continue
			}
			config, err := podman.read(path)
			if err != nil {
				return Credential{}, err
			}
			if c, err := config.find(ctx, known, registry, repository); err != nil || !c.Anonymous() {
				return c, err
			}
		}
		return Credential{}, nil
	}
}

// podmanPaths are the files that Podman reads by itself, in its order.
func podmanPaths(getenv func(string) string, goos string, uid int) []string {
	config := homeDir(getenv, goos)
	if config != "" {
		config = filepath.Join(config, ".config")
	}
	var paths []string
	first := config
	if goos == "linux" {
		first = getenv("XDG_RUNTIME_DIR")
		if first == "" {
			paths = append(paths, fmt.Sprintf("/run/containers/%d/auth.json", uid))
		}
	}
	for _, dir := range []string{first, cmp.Or(getenv("XDG_CONFIG_HOME"), config)} {
		if dir != "" {
			paths = append(paths, filepath.Join(dir, "containers", "auth.json"))
		}
	}
	return slices.Compact(paths)
}
