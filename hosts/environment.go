package hosts

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
)

// Environment is where configuration is looked for. The zero value is this
// machine and whoever runs the program.
type Environment struct {
	// Getenv is os.Getenv where nil.
	Getenv func(string) string
	// Home is the home directory; os.UserHomeDir's where empty.
	Home string
	// Root is put before the paths of the system's files, such as /etc/docker.
	Root string
	// Getuid is os.Getuid where nil.
	Getuid func() int
	// GOOS is runtime.GOOS where empty.
	GOOS string
}

// paths are the places of configuration, worked out.
type paths struct {
	getenv  func(string) string
	home    string // empty: none
	windows bool
	uid     int

	userConfig       string // ~/.config; empty: none
	userContainers   string // containers' directory of the user
	systemContainers []string
	docker           string // /etc/docker
	daemon           string // Docker's daemon.json
	containerd       string // /etc/containerd
	aliasCache       string // what Podman recorded; empty: none
}

func (e Environment) paths() paths {
	p := paths{getenv: e.Getenv, home: e.Home}
	if p.getenv == nil {
		p.getenv = os.Getenv
	}
	if p.home == "" {
		p.home, _ = os.UserHomeDir() // without a home nothing is configured there
	}
	getuid := e.Getuid
	if getuid == nil {
		getuid = os.Getuid
	}
	p.uid = getuid()
	goos := e.GOOS
	if goos == "" {
		goos = runtime.GOOS
	}
	p.windows = goos == "windows"

	p.userConfig = p.getenv("XDG_CONFIG_HOME")
	if p.userConfig == "" {
		p.userConfig = below(p.home, ".config")
	}
	if p.windows {
		data := p.getenv("ProgramData")
		p.userContainers = below(p.getenv("APPDATA"), "containers")
		p.systemContainers = present(below(data, "containers"))
		p.docker = below(data, "docker")
		p.daemon = below(p.docker, "config", "daemon.json")
		p.containerd = below(data, "containerd")
		return p
	}
	system := func(path string) string { return filepath.Join(e.Root, path) }
	p.userContainers = below(p.userConfig, "containers")
	p.systemContainers = []string{system("/etc/containers"), system("/usr/share/containers")}
	p.docker = system("/etc/docker")
	p.daemon = below(p.docker, "daemon.json")
	p.containerd = system("/etc/containerd")

	// containers-registries.conf(5), "Short-Name Aliasing: Modes".
	cache := system("/var/cache")
	if p.uid != 0 {
		if cache = p.getenv("XDG_CACHE_HOME"); cache == "" {
			cache = below(p.home, ".cache")
		}
	}
	p.aliasCache = below(cache, "containers", "short-name-aliases.conf")
	return p
}

// dropIns are containers' directories name+ext, those that go before others
// first: the user's, then the system's, of which some are for root or for
// everybody else alone (containers-registries.conf(5), containers-certs.d(5)).
func (p paths) dropIns(name, ext string) []string {
	dirs := present(below(p.userContainers, name+ext))
	for _, base := range p.systemContainers {
		switch {
		case p.uid == 0:
			dirs = append(dirs, filepath.Join(base, name+".rootful"+ext))
		case p.uid > 0:
			rootless := filepath.Join(base, name+".rootless"+ext)
			dirs = append(dirs, filepath.Join(rootless, strconv.Itoa(p.uid)), rootless)
		}
		dirs = append(dirs, filepath.Join(base, name+ext))
	}
	return dirs
}

// userOwns tells whether a directory of drop-ins is the user's.
func (p paths) userOwns(dir string) bool { return filepath.Dir(dir) == p.userContainers }

// daemons are the daemon.json files: that of Docker's rootless mode, Docker
// Desktop's, the system's.
func (p paths) daemons() []string {
	return present(below(p.userConfig, "docker", "daemon.json"), below(p.home, ".docker", "daemon.json"), p.daemon)
}

// below joins a path to a directory; there is nothing below no directory.
func below(dir string, elem ...string) string {
	if dir == "" {
		return ""
	}
	return filepath.Join(append([]string{dir}, elem...)...)
}

// present drops the paths that there are not.
func present(paths ...string) []string {
	return slices.DeleteFunc(paths, func(path string) bool { return path == "" })
}
