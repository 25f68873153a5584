package hosts

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"slices"
)

// Config is how hosts are reached, as flags and files say it. Its methods may
// be called from many goroutines at once.
//
// What the sources say of one host is put together. They are, those that go
// before others first:
//
//   - flags
//   - containers' registries.conf, its drop-ins and what overrides them
//   - Docker's daemon.json
//   - the certs.d directories: containers', of which the first that has the
//     host counts; Docker's; containerd's, in which hosts.toml takes the place
//     of the certificates that lie beside it
//
// Every CA that one of them names is trusted, key pairs are those of the first
// that has any, so is the scheme, and Insecure need be said only once.
type Config struct {
	paths      paths
	flags      Flags
	registries *registriesConf
	daemon     daemonJSON
	trees      []tree
	unread     []error
}

// Flags go before all files.
type Flags struct {
	// CAFiles are trusted for every host.
	CAFiles []string
	// KeyPair is shown to the hosts of KeyPairHosts, each with the port that is
	// written or none. The zero KeyPair: none.
	KeyPair      KeyPair
	KeyPairHosts []string
	// Insecure are hosts whose certificate is not checked: host:port, or host
	// for that host with any port.
	Insecure []string
	// PlainHTTP are hosts that are spoken to in plain HTTP, each with the port
	// that is written or none.
	PlainHTTP []string
	// Mirrors are asked before those of files.
	Mirrors []Mirror
}

// Load reads registries.conf, daemon.json and what belongs to them. What is
// malformed there is an error that names the file. The certs.d directories are
// read when a host is asked for.
func Load(env Environment) (*Config, error) {
	c := &Config{paths: env.paths()}
	c.trees = c.paths.trees()
	var err error
	if c.registries, err = loadRegistriesConf(c.paths); err != nil {
		return nil, err
	}
	c.unread = slices.Clone(c.registries.unread)
	if err := c.registries.aliases.readCache(c.paths.aliasCache); errors.Is(err, fs.ErrPermission) {
		c.unread = append(c.unread, err)
	} else if err != nil {
		return nil, err
	}
	daemon, unread, err := loadDaemonJSON(c.paths.daemons())
	if err != nil {
		return nil, err
	}
	c.daemon = daemon
	c.unread = append(c.unread, unread...)
	return c, nil
}

// With is the configuration with flags before it, in place of those that it
// had. A certificate or key that cannot be read, and a name that is no host,
// is an error.
func (c *Config) With(flags Flags) (*Config, error) {
	if pair := flags.KeyPair; (pair.CertFile == "") != (pair.KeyFile == "") {
		return nil, errors.New("a client certificate needs its key, and a key its certificate")
	}
	given := Host{CAFiles: flags.CAFiles}
	if flags.KeyPair != (KeyPair{}) {
		given.KeyPairs = []KeyPair{flags.KeyPair}
	}
	if err := given.readable(); err != nil {
		return nil, err
	}
	for _, host := range slices.Concat(flags.KeyPairHosts, flags.Insecure, flags.PlainHTTP) {
		if !validHost(canonical(host)) {
			return nil, fmt.Errorf("%q is no host or host:port", host)
		}
	}
	with := *c
	with.flags = flags
	return &with, nil
}

// Unread tells which files and directories there are that we may not read and
// that are passed over, for the reason why a certificate that somebody put
// there is not known.
func (c *Config) Unread() []error {
	unread := slices.Clone(c.unread)
	for _, t := range c.trees {
		if err := t.closed(); err != nil {
			unread = append(unread, err)
		}
	}
	return unread
}

// Host is how host or host:port is reached; docker.io is Docker Hub, and so is
// the host of its API. A file that cannot be read or is malformed is an error
// that names it, where it is for this host alone.
func (c *Config) Host(host string) (Host, error) {
	host = canonical(host)
	return c.reach(host, c.registries.find(host, "").host(), Host{})
}

// host is what a table says of the registry that it is for. There may be none.
func (t *table) host() Host {
	if t == nil || !t.insecure {
		return Host{}
	}
	return Host{Insecure: true, Plain: true, Source: t.file}
}

// reach is how a canonical host is reached: registries is what registries.conf
// says of it, near what was said beside its name.
func (c *Config) reach(host string, registries, near Host) (Host, error) {
	h := c.flags.host(host)
	h.merge(near)
	h.merge(registries)
	h.merge(c.daemon.find(host))
	if !validHost(host) {
		return h, nil // nothing is configured for what is no host
	}
	seen := false // in one of containers' trees
	for _, t := range c.trees {
		if t.tool == containers && seen {
			continue
		}
		ns, err := t.read(host, c.paths.windows)
		if err != nil {
			return Host{}, err
		}
		seen = seen || t.tool == containers && ns.own.Source != ""
		h.merge(ns.own)
	}
	return h, nil
}

func (f *Flags) host(host string) Host {
	var h Host
	is := func(written string) bool { return canonical(written) == host }
	if slices.ContainsFunc(f.PlainHTTP, is) {
		h.merge(Host{Scheme: "http", Source: "--plain-http"})
	}
	if slices.ContainsFunc(f.Insecure, func(written string) bool {
		u := url.URL{Host: canonical(written)}
		return is(written) || u.Port() == "" && u.Hostname() == hostname(host)
	}) {
		h.merge(Host{Insecure: true, Source: "--insecure"})
	}
	h.merge(Host{CAFiles: f.CAFiles, Source: "--ca-cert"})
	if f.KeyPair != (KeyPair{}) && slices.ContainsFunc(f.KeyPairHosts, is) {
		h.merge(Host{KeyPairs: []KeyPair{f.KeyPair}, Source: "--cert"})
	}
	return h
}
