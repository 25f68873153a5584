package hosts

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// machine is a machine with configuration files: those whose names begin with
// ~ are the user's, the others the system's.
type machine struct {
	t    *testing.T
	dir  string
	env  map[string]string
	uid  int
	goos string
}

func newMachine(t *testing.T, files map[string]string) *machine {
	t.Helper()
	m := &machine{t: t, dir: t.TempDir(), env: map[string]string{}, uid: 1000, goos: "linux"}
	for name, text := range files {
		m.write(name, text)
	}
	return m
}

// path is where a file really is.
func (m *machine) path(name string) string {
	if rest, ok := strings.CutPrefix(name, "~"); ok {
		name = "/home/user" + rest
	}
	return filepath.Join(m.dir, filepath.FromSlash(name))
}

func (m *machine) write(name, text string) {
	m.t.Helper()
	path := m.path(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) environment() Environment {
	return Environment{
		Getenv: func(name string) string { return m.env[name] },
		Home:   m.path("~"),
		Root:   m.dir,
		Getuid: func() int { return m.uid },
		GOOS:   m.goos,
	}
}

func (m *machine) load() *Config {
	m.t.Helper()
	c, err := Load(m.environment())
	if err != nil {
		m.t.Fatal(err)
	}
	return c
}

func (m *machine) host(c *Config, host string) Host {
	m.t.Helper()
	h, err := c.Host(host)
	if err != nil {
		m.t.Fatal(err)
	}
	return h
}

func (m *machine) route(c *Config, name string) Route {
	m.t.Helper()
	registry, repository, _ := strings.Cut(name, "/")
	r, err := c.Route(registry, repository)
	if err != nil {
		m.t.Fatal(err)
	}
	return r
}

// short writes paths as the tests name them.
func (m *machine) short(s string) string {
	s = strings.ReplaceAll(s, m.path("~"), "~")
	return filepath.ToSlash(strings.ReplaceAll(s, m.dir, ""))
}

// tell is a host on one line.
func (m *machine) tell(h Host) string {
	var words []string
	if h.Scheme != "" {
		words = append(words, h.Scheme)
	}
	if h.Insecure {
		words = append(words, "insecure")
	}
	for _, file := range h.CAFiles {
		words = append(words, "ca="+m.short(file))
	}
	for _, pair := range h.KeyPairs {
		words = append(words, "pair="+m.short(pair.CertFile)+"+"+m.short(pair.KeyFile))
	}
	if h.Source != "" {
		words = append(words, "by="+m.short(h.Source))
	}
	return strings.Join(words, " ")
}

// tellRoute is a route, a line for each part of it.
func (m *machine) tellRoute(r Route) string {
	tell := func(e Endpoint) string {
		words := []string{e.Registry + "/" + e.Repository}
		if e.NoTags {
			words = append(words, "no-tags")
		}
		if e.NoDigests {
			words = append(words, "no-digests")
		}
		if e.Source != "" {
			words = append(words, "from="+m.short(e.Source))
		}
		if host := m.tell(e.Host); host != "" {
			words = append(words, host)
		}
		return strings.Join(words, " ")
	}
	lines := []string{tell(r.Origin)}
	for _, mirror := range r.Mirrors {
		lines = append(lines, "mirror "+tell(mirror))
	}
	if r.Blocked != "" {
		lines = append(lines, "blocked by "+m.short(r.Blocked))
	}
	for _, ignored := range r.Ignored {
		lines = append(lines, "ignored "+m.short(ignored.String()))
	}
	return strings.Join(lines, "\n")
}

// same compares texts, whose indentation in the test does not count.
func same(t *testing.T, what, got, want string) {
	t.Helper()
	var lines []string
	for line := range strings.Lines(want) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	if diff := cmp.Diff(strings.Join(lines, "\n"), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}
