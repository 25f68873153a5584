package hosts

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// registriesConf is what the registries.conf files say, put together.
type registriesConf struct {
	tables  map[string]*table // by prefix
	aliases aliases
	unread  []error // of the user's files, what may not be read
}

// table is one [[registry]].
type table struct {
	prefix   string
	location string // empty: what it is asked for, as it stands
	insecure bool
	blocked  bool
	mirrors  []mirrorTable
	file     string
}

// mirrorTable is one [[registry.mirror]].
type mirrorTable struct {
	location          string
	insecure          bool
	noTags, noDigests bool
}

// registriesTOML is a file as it is written: in the format of today, and the
// lists of the format before it ("VERSION 1 FORMAT"), which have the same
// meaning as tables with nothing but insecure or blocked.
type registriesTOML struct {
	Registry []struct {
		Prefix             string
		Location           string
		Insecure           bool
		Blocked            bool
		MirrorByDigestOnly bool   `toml:"mirror-by-digest-only"`
		PullFromMirror     string `toml:"pull-from-mirror"`
		Mirror             []struct {
			Location       string
			Insecure       bool
			PullFromMirror string `toml:"pull-from-mirror"`
		}
	}
	Aliases    map[string]string
	Registries struct {
		Insecure, Block struct{ Registries []string }
	}
}

// loadRegistriesConf reads registries.conf, its drop-ins, and what overrides
// them, as containers-registries.conf(5) has it in "DESCRIPTION": of the main
// files the first that is there; drop-ins by their file names, whatever their
// directory, and of one name the one whose directory goes first. A table
// replaces an earlier one of the same prefix. What the user may not read of
// the system's is an error, since it may forbid something; of a home that is
// not the user's it is passed over.
//
// Earlier versions of these tools read the user's drop-ins after all others,
// and none of the system's where the user has a registries.conf: see alias.
func loadRegistriesConf(p paths) (*registriesConf, error) {
	conf := &registriesConf{tables: map[string]*table{}, aliases: aliases{}}
	if path := p.getenv("CONTAINERS_REGISTRIES_CONF"); path != "" {
		if err := conf.read(path, true); err != nil {
			return nil, fmt.Errorf("CONTAINERS_REGISTRIES_CONF: %w", err)
		}
	} else {
		for _, dir := range append(present(p.userContainers), p.systemContainers...) {
			user := dir == p.userContainers
			err := conf.read(filepath.Join(dir, "registries.conf"), user)
			if missing(err) || conf.passOver(err, user) {
				continue
			}
			if err != nil {
				return nil, err
			}
			break
		}
		files, err := conf.dropIns(p)
		if err != nil {
			return nil, err
		}
		for _, path := range files {
			user := p.userOwns(filepath.Dir(path))
			if err := conf.read(path, user); err != nil && !missing(err) && !conf.passOver(err, user) {
				return nil, err
			}
		}
	}
	if path := p.getenv("CONTAINERS_REGISTRIES_CONF_OVERRIDE"); path != "" {
		if err := conf.read(path, true); err != nil {
			return nil, fmt.Errorf("CONTAINERS_REGISTRIES_CONF_OVERRIDE: %w", err)
		}
	}
	return conf, nil
}

// passOver tells whether the error is that a file of the user may not be read,
// and notes it.
func (c *registriesConf) passOver(err error, user bool) bool {
	if !user || !errors.Is(err, fs.ErrPermission) {
		return false
	}
	c.unread = append(c.unread, err)
	return true
}

// dropIns are the files of registries.conf.d in the order that they are read in.
func (c *registriesConf) dropIns(p paths) ([]string, error) {
	files := map[string]string{}
	for _, dir := range slices.Backward(p.dropIns("registries", ".conf.d")) {
		entries, err := os.ReadDir(dir)
		if missing(err) || c.passOver(err, p.userOwns(dir)) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read containers' configuration: %w", err)
		}
		for _, entry := range entries {
			if !entry.IsDir() && strings.HasSuffix(entry.Name(), ".conf") {
				files[entry.Name()] = filepath.Join(dir, entry.Name())
			}
		}
	}
	var ordered []string
	for _, name := range slices.Sorted(maps.Keys(files)) {
		ordered = append(ordered, files[name])
	}
	return ordered, nil
}

// read adds what the file at path says. user tells whether the file is the
// user's own.
func (c *registriesConf) read(path string, user bool) error {
	var file registriesTOML
	if _, err := readTOML(path, &file); err != nil {
		return err
	}
	here := map[string]*table{}
	add := func(t *table) error {
		var err error
		if t.prefix, err = cleanName(t.prefix, true); err != nil {
			return fmt.Errorf("prefix %w", err)
		}
		if t.location, err = cleanName(t.location, false); err != nil {
			return fmt.Errorf("location %w", err)
		}
		if t.prefix == "" {
			t.prefix = t.location
		}
		if t.prefix == "" {
			return errors.New("it has neither a prefix nor a location")
		}
		if here[t.prefix] == nil { // of several in one file the first
			here[t.prefix] = t
		}
		return nil
	}
	for i, written := range file.Registry {
		t := &table{prefix: written.Prefix, location: written.Location, insecure: written.Insecure, blocked: written.Blocked, file: path}
		err := add(t)
		if err == nil && written.PullFromMirror != "" {
			err = errors.New("pull-from-mirror belongs to a [[registry.mirror]]")
		}
		for _, m := range written.Mirror {
			if err != nil {
				break
			}
			if written.MirrorByDigestOnly && m.PullFromMirror != "" {
				err = errors.New("it has both mirror-by-digest-only and a mirror with pull-from-mirror")
				break
			}
			var mirror mirrorTable
			if mirror, err = readMirror(m.Location, m.Insecure, m.PullFromMirror); err == nil {
				mirror.noTags = mirror.noTags || written.MirrorByDigestOnly
				t.mirrors = append(t.mirrors, mirror)
			}
		}
		if err != nil {
			return fmt.Errorf("read %s: [[registry]] number %d: %w", path, i+1, err)
		}
	}
	v1 := file.Registries
	for _, name := range slices.Concat(v1.Insecure.Registries, v1.Block.Registries) {
		t := &table{
			location: name,
			insecure: slices.Contains(v1.Insecure.Registries, name),
			blocked:  slices.Contains(v1.Block.Registries, name),
			file:     path,
		}
		if err := add(t); err != nil {
			return fmt.Errorf("read %s: [registries]: %w", path, err)
		}
	}
	maps.Copy(c.tables, here)
	return c.aliases.read(file.Aliases, path, user)
}

func readMirror(location string, insecure bool, pull string) (mirrorTable, error) {
	m := mirrorTable{insecure: insecure}
	var err error
	if m.location, err = cleanName(location, false); err != nil {
		return m, fmt.Errorf("the location of a mirror %w", err)
	}
	if m.location == "" {
		return m, errors.New("a mirror has no location")
	}
	switch pull {
	case "", "all":
	case "digest-only":
		m.noTags = true
	case "tag-only":
		m.noDigests = true
	default:
		return m, fmt.Errorf("pull-from-mirror is %q: want all, digest-only or tag-only", pull)
	}
	return m, nil
}

// cleanName checks a prefix or location, HOST[:PORT][/PATH], and writes its
// host in the canonical way. wildcard allows *.HOST.
func cleanName(name string, wildcard bool) (string, error) {
	name = strings.TrimRight(name, "/")
	if name == "" {
		return "", nil
	}
	host, path, _ := strings.Cut(name, "/")
	if path, ok := strings.CutPrefix(path, "/"); ok && strings.HasSuffix(host, ":") {
		if host, _, _ = strings.Cut(path, "/"); !strings.Contains(host, "@") {
			return "", fmt.Errorf("%q has a scheme: leave it out (insecure = true allows plain HTTP)", name)
		}
	}
	if strings.Contains(host, "@") {
		return "", errors.New("has a user name or password: leave it out")
	}
	host = canonical(host)
	bare, wild := strings.CutPrefix(host, "*.")
	switch {
	case wild && (!wildcard || path != "" || strings.Contains(bare, ":")):
		return "", fmt.Errorf("%q has a wildcard that is not the first part of a prefix without port and path: *.example.com", name)
	case !validHost(bare):
		return "", fmt.Errorf("%q does not begin with a host or host:port", name)
	case path == "":
		return host, nil
	}
	return host + "/" + path, nil
}

// find gives the table for a repository of a registry, or for the registry
// itself where repository is empty: the one with the longest prefix
// ("Choosing a [[registry]] TOML table"). Nil: none.
func (c *registriesConf) find(registry, repository string) *table {
	var found *table
	for _, prefix := range slices.Sorted(maps.Keys(c.tables)) {
		_, ok := c.tables[prefix].rest(registry, repository)
		if ok && (found == nil || len(prefix) > len(found.prefix)) {
			found = c.tables[prefix] // of two as long the wildcard, as with Podman
		}
	}
	return found
}

// rest is what follows the prefix in the name of a repository; ok tells
// whether the name has the prefix at all. A prefix ends where a part of the
// name does, and a port is a part of its host. Only a wildcard, which cannot
// have one, stands for hosts of any port.
func (t *table) rest(registry, repository string) (rest string, ok bool) {
	if domain, wild := strings.CutPrefix(t.prefix, "*"); wild {
		host, port, hasPort := strings.Cut(registry, ":")
		if hasPort {
			port = ":" + port
		}
		return strings.TrimSuffix(port+"/"+repository, "/"), strings.HasSuffix(host, domain) && host != domain
	}
	rest, ok = strings.CutPrefix(strings.TrimSuffix(registry+"/"+repository, "/"), t.prefix)
	return rest, ok && (rest == "" || rest[0] == '/')
}

// pinned gives the tables whose prefix is the repository with a tag or a
// digest, in order.
func (c *registriesConf) pinned(registry, repository string) []*table {
	var found []*table
	for _, prefix := range slices.Sorted(maps.Keys(c.tables)) {
		rest, ok := strings.CutPrefix(prefix, registry+"/"+repository)
		if ok && rest != "" && (rest[0] == ':' || rest[0] == '@') {
			found = append(found, c.tables[prefix])
		}
	}
	return found
}

// rewrite is where a repository with the table's prefix is, at a location.
func (t *table) rewrite(location, registry, repository string) (string, string, error) {
	if location == "" {
		return registry, repository, nil
	}
	rest, _ := t.rest(registry, repository)
	at, path := split(location + rest)
	if !validHost(at) || !validRepository(path) {
		return "", "", fmt.Errorf("%s: the location %s makes %s/%s of %s/%s, which is no repository", t.file, location, at, path, registry, repository)
	}
	return at, path, nil
}
