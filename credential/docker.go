package credential

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
)

var docker = dialect{title: "Docker's configuration", credsStore: true, address: serverAddress}

// Docker provides what docker login stored in config.json: in the file itself,
// or with the credential helper that the file names. It looks where Docker
// does: in the directory DOCKER_CONFIG, else in .docker in the home directory.
// No such file is no credential.
func Docker() Provider { return dockerDefault(os.Getenv) }

func dockerDefault(getenv func(string) string) Provider {
	known := new(answers)
	return func(ctx context.Context, registry, _ string) (Credential, error) {
		path := dockerPath(getenv)
		if path == "" {
			return Credential{}, nil // no home, so nothing is stored there
		}
		return findInDocker(ctx, path, known, registry)
	}
}

func findInDocker(ctx context.Context, path string, known *answers, registry string) (Credential, error) {
	config, err := docker.read(path)
	if err != nil {
		return Credential{}, err
	}
	return config.find(ctx, known, registry, "")
}

// DockerFile provides what is stored in or through the config.json at path,
// which is read at each call; a helper is asked once for each registry. No file is no credential; a file that cannot be
// read as Docker's configuration is an error that names it.
//
// A helper configured for the registry (credHelpers) goes before the one for
// all (credsStore), and both before the file's own entries (auths). A helper
// that is missing, fails, answers nonsense or does not answer in time is an
// error that names it. Only one that says that it knows no credential for the
// registry is passed over.
func DockerFile(path string) Provider {
	known := new(answers)
	return func(ctx context.Context, registry, _ string) (Credential, error) {
		return findInDocker(ctx, path, known, registry)
	}
}

// dockerPath is where Docker's configuration is, or empty where there is no
// home directory either.
func dockerPath(getenv func(string) string) string {
	if dir := getenv("DOCKER_CONFIG"); dir != "" {
		return filepath.Join(dir, "config.json")
	}
	if home := homeDir(getenv, runtime.GOOS); home != "" {
		return filepath.Join(home, ".docker", "config.json")
	}
	return ""
}

// homeDir is os.UserHomeDir by another getenv, or empty.
func homeDir(getenv func(string) string, goos string) string {
	if goos == "windows" {
		return getenv("USERPROFILE")
	}
	return getenv("HOME")
}
