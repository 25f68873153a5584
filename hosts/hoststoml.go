package hosts

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// namespace is what a host's directory says.
type namespace struct {
	own     Host     // of the host itself
	server  *target  // where it really is; nil: where its name says
	mirrors []target // preferred first
	ignored []Ignored
	file    string // hosts.toml; empty: there is none
}

// hostsTOML is a hosts.toml as it is written (containerd's docs/hosts.md,
// "hosts.toml Content Description").
type hostsTOML struct {
	hostTOML
	Server string
	Host   map[string]hostTOML
}

type hostTOML struct {
	Capabilities []string
	CA           any  // a path or several
	Client       any  // a path, several, or pairs of them
	SkipVerify   bool `toml:"skip_verify"`
	OverridePath bool `toml:"override_path"`
	Header       map[string]any
}

// read reads the host's directory in the tree: hosts.toml, and where there is
// none the certificates. No directory is the zero namespace.
func (t tree) read(host string, windows bool) (namespace, error) {
	dir, err := t.dir(host, windows)
	if err != nil || dir == "" {
		return namespace{}, err
	}
	if t.tool != containers {
		path := filepath.Join(dir, "hosts.toml")
		data, err := os.ReadFile(path)
		if err != nil && !missing(err) {
			return namespace{}, fmt.Errorf("read configuration: %w", err)
		}
		if len(data) > 0 {
			return readHostsTOML(path, data, host)
		}
	}
	own, err := t.readCertificates(dir)
	return namespace{own: own}, err
}

func readHostsTOML(path string, data []byte, host string) (namespace, error) {
	var file hostsTOML
	meta, err := decodeTOML(path, data, &file)
	if err != nil {
		return namespace{}, err
	}
	r := hostsReader{path: path, ns: namespace{file: path}}

	// In the order of the file, which a map does not keep.
	var order []string
	for _, key := range meta.Keys() {
		if len(key) >= 2 && key[0] == "host" && !slices.Contains(order, key[1]) {
			order = append(order, key[1])
		}
	}
	for _, written := range order {
		if err := r.host(written, file.Host[written], host); err != nil {
			return namespace{}, fmt.Errorf("read %s: host %w", path, err)
		}
	}
	if err := r.server(file.Server, file.hostTOML, host); err != nil {
		return namespace{}, fmt.Errorf("read %s: server %w", path, err)
	}
	return r.ns, r.ns.own.readable()
}

// hostsReader makes a namespace of a hosts.toml.
type hostsReader struct {
	path string
	ns   namespace
}

// host reads one [host."URL"]. One that is the host itself tells how that is
// reached; the others are mirrors.
func (r *hostsReader) host(written string, c hostTOML, host string) error {
	t, unsupported, err := targetOf(written, c.OverridePath)
	if err != nil {
		return err
	}
	pull, resolve, err := c.capabilities()
	if err != nil {
		return err
	}
	if t.reach, err = r.reach(t, c); err != nil {
		return err
	}
	switch {
	case unsupported != "":
		r.ignore("mirror "+t.scheme+"://"+t.registry, unsupported)
	case t.is(host):
		r.ns.own.merge(t.reach)
	case pull:
		t.noTags = !resolve
		r.ns.mirrors = append(r.ns.mirrors, t)
	}
	return nil
}

// server reads what stands at the top of the file. Where another host is the
// server, the one that the file is for is never asked.
func (r *hostsReader) server(written string, c hostTOML, host string) error {
	t := target{registry: host}
	var unsupported string
	var err error
	if written != "" {
		if t, unsupported, err = targetOf(written, c.OverridePath); err != nil {
			return err
		}
	}
	if t.reach, err = r.reach(t, c); err != nil {
		return err
	}
	switch {
	case unsupported != "":
		r.ignore("server "+t.scheme+"://"+t.registry, unsupported)
	case t.is(host):
		r.ns.own.merge(t.reach)
	default:
		r.ns.server = &t
	}
	return nil
}

// is tells whether the target is the host itself, from the root of its
// repositories.
func (t target) is(host string) bool { return sameHost(t.registry, host) && t.prefix == "" }

func (r *hostsReader) ignore(what, why string) {
	r.ns.ignored = append(r.ns.ignored, Ignored{What: what, Source: r.path, Why: why})
}

// reach is how a host of the file is reached.
func (r *hostsReader) reach(t target, c hostTOML) (Host, error) {
	h := Host{Scheme: t.scheme, Insecure: c.SkipVerify, Source: r.path}
	switch {
	case h.Insecure && h.Scheme == "http":
		h.Scheme, h.Plain = "", true // containerd tries HTTPS then, and HTTP where there is none
	case h.Insecure && !loopback(t.registry):
		h.Scheme = "https" // with no certificate checked, but TLS
	}
	var err error
	if h.CAFiles, err = r.files("ca", c.CA); err != nil {
		return Host{}, err
	}
	if h.KeyPairs, err = r.keyPairs(c.Client); err != nil {
		return Host{}, err
	}
	if len(c.Header) > 0 { // its values may be secret
		names := slices.Sorted(maps.Keys(c.Header))
		r.ignore(fmt.Sprintf("headers %q for %s", names, t.registry), "headers are not supported")
	}
	return h, nil
}

// capabilities tells whether the host may be asked for content, and for what
// tags stand for. With none written it may be asked for all.
func (c hostTOML) capabilities() (pull, resolve bool, err error) {
	for _, capability := range c.Capabilities {
		switch strings.ToLower(capability) {
		case "pull", "resolve", "push":
		default:
			return false, false, fmt.Errorf("has the capability %q: want pull, resolve or push", capability)
		}
	}
	has := func(name string) bool {
		return len(c.Capabilities) == 0 ||
			slices.ContainsFunc(c.Capabilities, func(s string) bool { return strings.EqualFold(s, name) })
	}
	return has("pull"), has("resolve"), nil
}

// keyPairs reads the field client: a file with both, several of them, or
// pairs of a certificate and its key, which is in the same file where empty.
func (r *hostsReader) keyPairs(client any) ([]KeyPair, error) {
	var pairs []KeyPair
	list, ok := client.([]any)
	if !ok && client != nil {
		list = []any{client}
	}
	for _, entry := range list {
		files, err := r.files("client", entry)
		if err != nil {
			return nil, err
		}
		_, isPair := entry.([]any)
		switch {
		case !isPair:
			pairs = append(pairs, KeyPair{CertFile: files[0], KeyFile: files[0]})
		case len(files) == 2 && files[1] == "":
			pairs = append(pairs, KeyPair{CertFile: files[0], KeyFile: files[0]})
		case len(files) == 2:
			pairs = append(pairs, KeyPair{CertFile: files[0], KeyFile: files[1]})
		default:
			return nil, errors.New("has a client that is no pair of a certificate and a key")
		}
	}
	return pairs, nil
}

// files reads one path or several, relative to the directory of hosts.toml. An
// empty one stays empty.
func (r *hostsReader) files(field string, value any) ([]string, error) {
	list, ok := value.([]any)
	if !ok && value != nil {
		list = []any{value}
	}
	var files []string
	for _, entry := range list {
		path, ok := entry.(string)
		if !ok {
			return nil, fmt.Errorf("has a %s that is no path and no list of paths", field)
		}
		if path != "" && !filepath.IsAbs(path) {
			path = filepath.Join(filepath.Dir(r.path), path)
		}
		files = append(files, path)
	}
	return files, nil
}
