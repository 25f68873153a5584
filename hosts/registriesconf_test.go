package hosts

import (
	"strings"
	"testing"
)

func TestRegistriesConf(t *testing.T) {
	// The example of containers-registries.conf(5), and more.
	const example = `
unqualified-search-registries = ["example.com"]
credential-helpers = ["secretservice"]
something-new = { a = 1 }

[[registry]]
prefix = "example.com/foo"
insecure = false
blocked = false
location = "internal-registry-for-example.com/bar"

[[registry.mirror]]
location = "example-mirror-0.local/mirror-for-foo"

[[registry.mirror]]
location = "example-mirror-1.local/mirrors/foo"
insecure = true

[[registry]]
location = "registry.com"

[[registry.mirror]]
location = "mirror.registry.com"

[[registry]]
prefix = "example.com/foo/deep"
blocked = true

[[registry]]
prefix = "*.wild.example"
insecure = true
[[registry.mirror]]
location = "cache.lan:5000/wild"

[[registry]]
prefix = "*.moved.wild.example"
location = "new.example"

[[registry]]
prefix = "one.wild.example"
location = "one.wild.example"

[[registry]]
prefix = "Registry.Example.com:5000/"
location = "registry.example.com:5000"
mirror-by-digest-only = true
[[registry.mirror]]
location = "digests.lan"

[[registry]]
prefix = "restricted.example"
location = "restricted.example"
[[registry.mirror]]
location = "by-digest.lan"
pull-from-mirror = "digest-only"
[[registry.mirror]]
location = "by-tag.lan"
pull-from-mirror = "tag-only"
[[registry.mirror]]
location = "both.lan"
pull-from-mirror = "all"
[[registry.mirror]]
location = "both.lan/"
[[registry.mirror]]
location = "restricted.example"
[[registry.mirror]]
location = "example.com/foo/deep"

[[registry]]
prefix = "docker.io"
location = "hub.lan/proxy"

[[registry]]
prefix = "tohub.example"
location = "docker.io"

[[registry]]
prefix = "toforbidden.example"
location = "forbidden.example"
[[registry]]
location = "forbidden.example/secret"
blocked = true

[[registry]]
prefix = "pinned.example/app:1.0"
location = "pinned.example/app:2.0"
blocked = true

[[registry]]
location = "insecure.example/team"
insecure = true
`
	m := newMachine(t, map[string]string{"/etc/containers/registries.conf": example})
	c := m.load()
	const from = " from=/etc/containers/registries.conf"
	const insecure = " insecure by=/etc/containers/registries.conf"
	for name, want := range map[string]string{
		"example.com/foo/image": `internal-registry-for-example.com/bar/image` + from + `
			mirror example-mirror-0.local/mirror-for-foo/image` + from + `
			mirror example-mirror-1.local/mirrors/foo/image` + from + insecure,
		"example.com/foo": `internal-registry-for-example.com/bar` + from + `
			mirror example-mirror-0.local/mirror-for-foo` + from + `
			mirror example-mirror-1.local/mirrors/foo` + from + insecure,
		"example.com/foobar":         `example.com/foobar`,
		"example.com.evil/foo/image": `example.com.evil/foo/image`,
		"example.com:5000/foo/image": `example.com:5000/foo/image`,
		"EXAMPLE.com/foo/deep/image": `example.com/foo/deep/image` + from + `
			blocked by /etc/containers/registries.conf`,
		"registry.com/image": `registry.com/image` + from + `
			mirror mirror.registry.com/image` + from,

		"x.wild.example/app": `x.wild.example/app` + from + insecure + `
			mirror cache.lan:5000/wild/app` + from,
		"x.y.wild.example/a/b": `x.y.wild.example/a/b` + from + insecure + `
			mirror cache.lan:5000/wild/a/b` + from,
		"wild.example/app":                  `wild.example/app`,
		"notwild.example/app":               `notwild.example/app`,
		"x.wild.example.evil/app":           `x.wild.example.evil/app`,
		"evil.com/x.wild.example/app":       `evil.com/x.wild.example/app`,
		"x.moved.wild.example/app":          `new.example/app` + from,
		"x.moved.wild.example:5000/app":     `new.example:5000/app` + from,
		"one.wild.example/app":              `one.wild.example/app` + from,
		"registry.example.com:5000/app":     "registry.example.com:5000/app" + from + "\nmirror digests.lan/app no-tags" + from,
		"registry.example.com/app":          `registry.example.com/app`,
		"registry.example.com:50001/app":    `registry.example.com:50001/app`,
		"registry.example.com:5000.com/app": `registry.example.com:5000.com/app`,

		"restricted.example/app": `restricted.example/app` + from + `
			mirror by-digest.lan/app no-tags` + from + `
			mirror by-tag.lan/app no-digests` + from + `
			mirror both.lan/app` + from + `
			ignored mirror example.com/foo/deep (/etc/containers/registries.conf): it is blocked by /etc/containers/registries.conf`,

		"docker.io/library/alpine": `hub.lan/proxy/library/alpine` + from,
		"tohub.example/alpine":     `docker.io/library/alpine` + from,
		"tohub.example/a/b":        `docker.io/a/b` + from,

		"toforbidden.example/secret/app": `forbidden.example/secret/app` + from + `
			blocked by /etc/containers/registries.conf`,
		"toforbidden.example/app": `forbidden.example/app` + from,

		"pinned.example/app": `pinned.example/app
			ignored prefix pinned.example/app:1.0 (/etc/containers/registries.conf): prefixes with a tag or digest are not supported`,
		"pinned.example/app2":       `pinned.example/app2`,
		"insecure.example/team/app": `insecure.example/team/app` + from + insecure,
		"insecure.example/teams":    `insecure.example/teams`,
	} {
		same(t, name, m.tellRoute(m.route(c, name)), want)
	}
	for host, want := range map[string]string{
		"x.wild.example:8443": "insecure by=/etc/containers/registries.conf",
		"one.wild.example":    "",
		"insecure.example":    "",
		"registry.com":        "",
	} {
		if got := m.tell(m.host(c, host)); got != want {
			t.Errorf("host %s: %q, want %q", host, got, want)
		}
	}
	if _, err := m.load().Route("x.moved.wild.example", ""); err == nil {
		t.Error("a route to no repository")
	}
}

func TestRegistriesConfFiles(t *testing.T) {
	insecure := func(host string) string { return "[[registry]]\nlocation = \"" + host + "\"\ninsecure = true\n" }
	blocked := func(host string) string { return "[[registry]]\nlocation = \"" + host + "\"\nblocked = true\n" }
	tests := []struct {
		name  string
		files map[string]string
		env   map[string]string
		goos  string
		want  map[string]string // the host's file, by host
	}{
		{
			name: "the first main file alone, and all drop-ins by their names",
			files: map[string]string{
				"~/.config/containers/registries.conf":              insecure("user.example"),
				"/etc/containers/registries.conf":                   insecure("etc.example"),
				"/usr/share/containers/registries.conf":             insecure("usr.example"),
				"~/.config/containers/registries.conf.d/50-a.conf":  insecure("a.example"),
				"/etc/containers/registries.conf.d/10-b.conf":       insecure("b.example") + insecure("a.example"),
				"/etc/containers/registries.conf.d/90-c.conf":       insecure("c.example"),
				"/usr/share/containers/registries.conf.d/90-c.conf": insecure("hidden.example"),
				"/etc/containers/registries.conf.d/d.conf.bak":      insecure("bak.example"),
				"/etc/containers/registries.conf.d/dir.conf/e.conf": insecure("dir.example"),
				"/usr/share/containers/registries.conf.d/a.conf":    insecure("vendor.example"),
				"/etc/containers/registries.rootless.conf.d/r.conf": insecure("rootless.example"),
				"/etc/containers/registries.rootful.conf.d/r.conf":  insecure("rootful.example"),
			},
			want: map[string]string{
				"user.example":     "~/.config/containers/registries.conf",
				"etc.example":      "",
				"usr.example":      "",
				"a.example":        "~/.config/containers/registries.conf.d/50-a.conf",
				"b.example":        "/etc/containers/registries.conf.d/10-b.conf",
				"c.example":        "/etc/containers/registries.conf.d/90-c.conf",
				"hidden.example":   "",
				"bak.example":      "",
				"dir.example":      "",
				"vendor.example":   "/usr/share/containers/registries.conf.d/a.conf",
				"rootless.example": "/etc/containers/registries.rootless.conf.d/r.conf",
				"rootful.example":  "",
			},
		},
		{
			name: "a later file's table takes the place of an earlier's",
			files: map[string]string{
				"/etc/containers/registries.conf":             insecure("a.example") + insecure("b.example"),
				"/etc/containers/registries.conf.d/safe.conf": "[[registry]]\nlocation = \"a.example\"",
			},
			want: map[string]string{"a.example": "", "b.example": "/etc/containers/registries.conf"},
		},
		{
			name: "in one file the first table of a prefix counts",
			files: map[string]string{
				"/etc/containers/registries.conf": insecure("a.example") + "[[registry]]\nlocation = \"A.example/\"",
			},
			want: map[string]string{"a.example": "/etc/containers/registries.conf"},
		},
		{
			name: "CONTAINERS_REGISTRIES_CONF is all there is",
			files: map[string]string{
				"/mine.conf":                               insecure("mine.example"),
				"/etc/containers/registries.conf":          insecure("etc.example"),
				"/etc/containers/registries.conf.d/a.conf": insecure("a.example"),
			},
			env:  map[string]string{"CONTAINERS_REGISTRIES_CONF": "/mine.conf"},
			want: map[string]string{"mine.example": "/mine.conf", "etc.example": "", "a.example": ""},
		},
		{
			name: "CONTAINERS_REGISTRIES_CONF_OVERRIDE goes over all",
			files: map[string]string{
				"/over.conf": "[[registry]]\nlocation = \"a.example\"\n" + insecure("over.example"),
				"/etc/containers/registries.conf.d/z.conf": insecure("a.example") + insecure("z.example"),
			},
			env:  map[string]string{"CONTAINERS_REGISTRIES_CONF_OVERRIDE": "/over.conf"},
			want: map[string]string{"over.example": "/over.conf", "a.example": "", "z.example": "/etc/containers/registries.conf.d/z.conf"},
		},
		{
			name: "XDG_CONFIG_HOME",
			files: map[string]string{
				"/xdg/containers/registries.conf":      insecure("xdg.example"),
				"~/.config/containers/registries.conf": insecure("home.example"),
			},
			env:  map[string]string{"XDG_CONFIG_HOME": "/xdg"},
			want: map[string]string{"xdg.example": "/xdg/containers/registries.conf", "home.example": ""},
		},
		{
			name: "Windows",
			files: map[string]string{
				"/roaming/containers/registries.conf":       insecure("user.example"),
				"/data/containers/registries.conf.d/x.conf": insecure("data.example"),
				"/etc/containers/registries.conf.d/x2.conf": insecure("etc.example"),
			},
			env:  map[string]string{"APPDATA": "/roaming", "ProgramData": "/data"},
			goos: "windows",
			want: map[string]string{"user.example": "/roaming/containers/registries.conf", "data.example": "/data/containers/registries.conf.d/x.conf", "etc.example": ""},
		},
		{
			name: "version 1",
			files: map[string]string{
				"/etc/containers/registries.conf": "[registries.search]\nregistries = ['docker.io', 'quay.io']\n" +
					"[registries.insecure]\nregistries = ['in.example', 'both.example:5000']\n" +
					"[registries.block]\nregistries = ['both.example:5000', 'no.example']\n",
			},
			want: map[string]string{"in.example": "/etc/containers/registries.conf", "both.example:5000": "/etc/containers/registries.conf", "no.example": "", "docker.io": ""},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m := newMachine(t, test.files)
			for name, value := range test.env {
				m.env[name] = m.path(value)
			}
			if test.goos != "" {
				m.goos, m.uid = test.goos, -1
			}
			c := m.load()
			for host, want := range test.want {
				h := m.host(c, host)
				if got := m.short(h.Source); got != want || h.Insecure != (want != "") {
					t.Errorf("%s: insecure %v by %q, want by %q", host, h.Insecure, got, want)
				}
			}
		})
	}

	m := newMachine(t, map[string]string{
		"/etc/containers/registries.conf":          "[registries.block]\nregistries = ['no.example']",
		"/etc/containers/registries.conf.d/x.conf": blocked("*.no.example"[2:] + "/app"),
	})
	if got := m.short(m.route(m.load(), "no.example/other").Blocked); got != "/etc/containers/registries.conf" {
		t.Errorf("blocked by %q", got)
	}
	if got := m.short(m.route(m.load(), "no.example/app").Blocked); got != "/etc/containers/registries.conf.d/x.conf" {
		t.Errorf("blocked by %q", got)
	}
}

func TestMalformedRegistriesConf(t *testing.T) {
	for text, want := range map[string]string{
		"[[registry]]\nlocation = \"a.example\"\ninsecure = \"maybe\"": "line 3",
		"x = 1\ny =\n":                                            "line 2",
		"[[registry]]\ninsecure = true":                           "neither",
		"[[registry]]\nlocation = \"https://a.example\"":          "scheme",
		"[[registry]]\nlocation = \"https://u:s3cret@a.example\"": "password",
		"[[registry]]\nlocation = \"u:s3cret@a.example/x\"":       "password",
		"[[registry]]\nlocation = \"*.example\"":                  "wildcard",
		"[[registry]]\nprefix = \"*.example.com:5000\"":           "wildcard",
		"[[registry]]\nprefix = \"*.example.com/app\"":            "wildcard",
		"[[registry]]\nprefix = \"example.*.com\"":                "host",
		"[[registry]]\nprefix = \"../x\"":                         "host",
		"[[registry]]\nlocation = \"ok.example\"\n[[registry]]\nlocation = \"a.example\"\n[[registry.mirror]]\n":                                  "number 2",
		"[[registry]]\nlocation = \"a.example\"\npull-from-mirror = \"all\"":                                                                      "[[registry.mirror]]",
		"[[registry]]\nlocation = \"a.example\"\n[[registry.mirror]]\nlocation = \"b\"\npull-from-mirror = \"odd\"":                               `"odd"`,
		"[[registry]]\nlocation = \"a.example\"\nmirror-by-digest-only = true\n[[registry.mirror]]\nlocation = \"b\"\npull-from-mirror = \"all\"": "both",
		"[registries.insecure]\nregistries = ['http://a.example']":                                                                                "[registries]",
		"[aliases]\n\"a.example/x\" = \"b.example/x\"":                                                                                            `"a.example/x"`,
		"[aliases]\n\"x:1\" = \"b.example/x\"":                                                                                                    `"x:1"`,
		"[aliases]\n\"x\" = \"x\"":                                                                                                                `"x"`,
		"[aliases]\n\"x\" = \"b.example/x:1\"":                                                                                                    `"b.example/x:1"`,
		"[aliases]\n\"x\" = \"a.example/x\"\n\"x\" = \"b/x\"":                                                                                     "line 3",
	} {
		for _, file := range []string{"/etc/containers/registries.conf", "~/.config/containers/registries.conf.d/x.conf"} {
			_, err := Load(newMachine(t, map[string]string{file: text}).environment())
			if err == nil {
				t.Errorf("%q: no error", text)
				continue
			}
			if got := err.Error(); !strings.Contains(got, "registries.conf") || !strings.Contains(got, want) || strings.Contains(got, "s3cret") {
				t.Errorf("%q: %s\nwant it to say %q", text, got, want)
			}
		}
	}
	m := newMachine(t, nil)
	for _, name := range []string{"CONTAINERS_REGISTRIES_CONF", "CONTAINERS_REGISTRIES_CONF_OVERRIDE"} {
		m.env = map[string]string{name: m.path("/nowhere.conf")}
		if _, err := Load(m.environment()); err == nil || !strings.HasPrefix(err.Error(), name+": ") || !strings.Contains(err.Error(), "nowhere.conf") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A location that makes no repository is told when it is asked for.
	m = newMachine(t, map[string]string{"/etc/containers/registries.conf": "[[registry]]\nprefix = \"*.a.example\"\nlocation = \"b.example/x\""})
	if got := m.route(m.load(), "c.a.example/app").Origin; got.Registry != "b.example" || got.Repository != "x/app" {
		t.Error(got)
	}
	if _, err := m.load().Route("c.a.example:5000", "app"); err == nil || !strings.Contains(err.Error(), "registries.conf") {
		t.Error(err)
	}
}

func TestAlias(t *testing.T) {
	tests := []struct {
		name  string
		files map[string]string
		uid   int
		want  string // of x
		from  string
	}{
		{"none", nil, 1000, "", ""},
		{"one", map[string]string{"/etc/containers/registries.conf.d/000-shortnames.conf": "[aliases]\n  # docker\n  \"alpine\" = \"docker.io/library/alpine\"\n  \"x\" = \"quay.io/x/x\"\n"},
			1000, "quay.io/x/x", "/etc/containers/registries.conf.d/000-shortnames.conf"},
		{"Docker Hub's library", map[string]string{"/etc/containers/registries.conf": "aliases = { x = \"docker.io/x\" }"},
			1000, "docker.io/library/x", "/etc/containers/registries.conf"},
		{"later file", map[string]string{
			"/etc/containers/registries.conf.d/000.conf": "[aliases]\nx = \"a.example/x\"",
			"/etc/containers/registries.conf.d/100.conf": "[aliases]\nx = \"b.example/x\"",
		}, 1000, "b.example/x", "/etc/containers/registries.conf.d/100.conf"},
		{"taken back", map[string]string{
			"/etc/containers/registries.conf.d/000.conf": "[aliases]\nx = \"a.example/x\"",
			"/etc/containers/registries.conf.d/100.conf": "[aliases]\nx = \"\"",
		}, 1000, "", ""},
		{"the user's later file", map[string]string{
			"/etc/containers/registries.conf.d/000.conf":       "[aliases]\nx = \"a.example/x\"",
			"~/.config/containers/registries.conf.d/100.conf":  "[aliases]\nx = \"b.example/x\"",
			"/usr/share/containers/registries.conf.d/050.conf": "[aliases]\nx = \"c.example/x\"",
		}, 1000, "b.example/x", "~/.config/containers/registries.conf.d/100.conf"},
		{"the user's earlier file: not clear", map[string]string{
			"/etc/containers/registries.conf.d/100.conf":      "[aliases]\nx = \"a.example/x\"",
			"~/.config/containers/registries.conf.d/000.conf": "[aliases]\nx = \"b.example/x\"",
		}, 1000, "", ""},
		{"the user's earlier file, of the same mind", map[string]string{
			"/etc/containers/registries.conf.d/100.conf":      "[aliases]\nx = \"a.example/x\"",
			"~/.config/containers/registries.conf.d/000.conf": "[aliases]\nx = \"a.example/x\"",
		}, 1000, "a.example/x", "/etc/containers/registries.conf.d/100.conf"},
		{"the user's record goes before all", map[string]string{
			"/etc/containers/registries.conf.d/100.conf":      "[aliases]\nx = \"a.example/x\"",
			"~/.config/containers/registries.conf.d/000.conf": "[aliases]\nx = \"b.example/x\"",
			"~/.cache/containers/short-name-aliases.conf":     "[aliases]\n\"x\" = \"c.example/x\"",
			"/var/cache/containers/short-name-aliases.conf":   "[aliases]\n\"x\" = \"d.example/x\"",
		}, 1000, "c.example/x", "~/.cache/containers/short-name-aliases.conf"},
		{"root's record", map[string]string{
			"~/.cache/containers/short-name-aliases.conf":   "[aliases]\n\"x\" = \"c.example/x\"",
			"/var/cache/containers/short-name-aliases.conf": "[aliases]\n\"x\" = \"d.example/x\"",
		}, 0, "d.example/x", "/var/cache/containers/short-name-aliases.conf"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m := newMachine(t, test.files)
			m.uid = test.uid
			name, from := m.load().Alias("x")
			if name != test.want || m.short(from) != test.from {
				t.Errorf("x is %q by %q, want %q by %q", name, m.short(from), test.want, test.from)
			}
			if name, _ := m.load().Alias("y"); name != "" {
				t.Errorf("y is %q", name)
			}
		})
	}
	m := newMachine(t, map[string]string{"~/.cache/containers/short-name-aliases.conf": "[aliases"})
	if _, err := Load(m.environment()); err == nil || !strings.Contains(err.Error(), "short-name-aliases.conf") {
		t.Error(err)
	}
	m.env["XDG_CACHE_HOME"] = m.path("/elsewhere")
	m.load()
}
