package hosts

import (
	"slices"
	"strings"
)

// Route is where a repository of a registry, named as references name it, is
// asked for.
//
// The origin is the registry itself, unless registries.conf's location or the
// server of a hosts.toml puts another in its place: then content comes from
// there, and the image keeps its name. Mirrors are those of flags,
// registries.conf, hosts.toml and daemon.json, in this order; one that is the
// origin itself is left out, and of several that are one the first counts. A
// mirror of a file's whose own configuration is broken is ignored.
func (c *Config) Route(registry, repository string) (Route, error) {
	registry = canonical(registry)
	spaces, err := c.namespaces(registry)
	if err != nil {
		return Route{}, err
	}
	found := c.registries.find(registry, repository)
	var r Route
	if r.Origin, err = c.origin(registry, repository, found, spaces); err != nil {
		return Route{}, err
	}
	if r.Blocked = c.blocked(r.Origin.Registry, r.Origin.Repository); found != nil && found.blocked {
		r.Blocked = found.file
	}
	for _, t := range c.registries.pinned(registry, repository) {
		r.Ignored = append(r.Ignored, Ignored{What: "prefix " + t.prefix, Source: t.file, Why: "prefixes with a tag or digest are not supported"})
	}
	if r.Blocked != "" {
		return r, nil
	}
	if err := c.flagMirrors(&r, registry, repository); err != nil {
		return Route{}, err
	}
	if found != nil {
		c.tableMirrors(&r, found, registry, repository)
	}
	for _, ns := range spaces {
		r.Ignored = append(r.Ignored, ns.ignored...)
		for _, m := range ns.mirrors {
			c.fileMirror(&r, m, repository, ns.file)
		}
	}
	if registry == hub {
		c.daemonMirrors(&r, repository)
	}
	return r, nil
}

// namespaces are the directories with a hosts.toml for the registry,
// containerd's first.
func (c *Config) namespaces(registry string) ([]namespace, error) {
	if !validHost(registry) {
		return nil, nil
	}
	var spaces []namespace
	for _, tool := range []tool{containerd, docker} {
		for _, t := range c.trees {
			if t.tool != tool {
				continue
			}
			ns, err := t.read(registry, c.paths.windows)
			if err != nil {
				return nil, err
			}
			if ns.file != "" {
				spaces = append(spaces, ns)
			}
		}
	}
	return spaces, nil
}

// origin is the place that the registry's content really is at.
func (c *Config) origin(registry, repository string, found *table, spaces []namespace) (Endpoint, error) {
	e := Endpoint{Registry: registry, Repository: repository}
	var near Host
	var err error
	moved := slices.IndexFunc(spaces, func(ns namespace) bool { return ns.server != nil })
	if found != nil {
		e.Registry, e.Repository, err = found.rewrite(found.location, registry, repository)
		if err != nil {
			return Endpoint{}, err
		}
		e.Source = found.file
	}
	if moved >= 0 && e.Registry == registry && e.Repository == repository {
		server := spaces[moved].server
		e.Registry, e.Repository = server.at(repository)
		e.Source, near = spaces[moved].file, server.reach
		found = c.registries.find(e.Registry, e.Repository)
	}
	e.Host, err = c.reach(e.Registry, found.host(), near)
	return e, err
}

// blocked is the file that forbids a repository, or empty.
func (c *Config) blocked(registry, repository string) string {
	if t := c.registries.find(registry, repository); t != nil && t.blocked {
		return t.file
	}
	return ""
}

func (c *Config) flagMirrors(r *Route, registry, repository string) error {
	for _, m := range c.flags.Mirrors {
		if m.For != "" && canonical(m.For) != registry {
			continue
		}
		t := m.target()
		e, err := c.mirror(t, repository, "--mirror")
		if err != nil {
			return err
		}
		r.add(e)
	}
	return nil
}

// tableMirrors adds the mirrors of a [[registry]], in the order that they are
// written in ("Remapping and mirroring registries").
func (c *Config) tableMirrors(r *Route, found *table, registry, repository string) {
	for _, m := range found.mirrors {
		e := Endpoint{NoTags: m.noTags, NoDigests: m.noDigests, Source: found.file}
		var said Host
		if m.insecure {
			said = Host{Insecure: true, Plain: true, Source: found.file}
		}
		var err error
		e.Registry, e.Repository, err = found.rewrite(m.location, registry, repository)
		if err == nil {
			e.Host, err = c.reach(e.Registry, said, Host{})
		}
		c.addOrIgnore(r, "mirror "+m.location, e, err)
	}
}

// fileMirror adds a mirror that a file names by its URL.
func (c *Config) fileMirror(r *Route, m target, repository, file string) {
	e, err := c.mirror(m, repository, file)
	c.addOrIgnore(r, "mirror "+m.named(), e, err)
}

func (c *Config) daemonMirrors(r *Route, repository string) {
	for _, m := range c.daemon.mirrors {
		if m.unsupported != "" {
			r.Ignored = append(r.Ignored, Ignored{What: "mirror " + m.scheme + "://" + m.registry, Source: m.file, Why: m.unsupported})
			continue
		}
		c.fileMirror(r, m.target, repository, m.file)
	}
}

// mirror is the repository at a mirror.
func (c *Config) mirror(m target, repository, source string) (Endpoint, error) {
	e := Endpoint{NoTags: m.noTags, Source: source}
	e.Registry, e.Repository = m.at(repository)
	err := m.reach.readable()
	if err != nil {
		return e, err
	}
	e.Host, err = c.reach(e.Registry, c.registries.find(e.Registry, e.Repository).host(), m.reach)
	return e, err
}

func (c *Config) addOrIgnore(r *Route, what string, e Endpoint, err error) {
	why := ""
	if err != nil {
		why = err.Error()
	} else if file := c.blocked(e.Registry, e.Repository); file != "" {
		why = "it is blocked by " + file
	}
	if why != "" {
		r.Ignored = append(r.Ignored, Ignored{What: what, Source: e.Source, Why: why})
		return
	}
	r.add(e)
}

// add adds a mirror, unless it is the origin or there already.
func (r *Route) add(e Endpoint) {
	if e.Repository == r.Origin.Repository && sameHost(e.Registry, r.Origin.Registry) {
		return
	}
	if !slices.ContainsFunc(r.Mirrors, e.same) {
		r.Mirrors = append(r.Mirrors, e)
	}
}

// same tells whether two mirrors are one.
func (e Endpoint) same(other Endpoint) bool {
	return e.Repository == other.Repository && e.server() == other.server()
}

// server is the host with its port, where the scheme tells one.
func (e Endpoint) server() string {
	if e.Host.Scheme == "http" {
		return "http://" + strings.TrimSuffix(e.Registry, ":80")
	}
	return strings.TrimSuffix(e.Registry, ":443")
}
