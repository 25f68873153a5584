package hosts

import (
	"strings"
	"testing"
)

func TestParseMirror(t *testing.T) {
	for written, want := range map[string]Mirror{
		"mirror.lan":                      {Registry: "mirror.lan"},
		" Mirror.LAN:5000 ":               {Registry: "mirror.lan:5000"},
		"harbor.lan/hub":                  {Registry: "harbor.lan", Prefix: "hub"},
		"harbor.lan/hub/":                 {Registry: "harbor.lan", Prefix: "hub"},
		"docker.io=harbor.lan/a/b":        {For: "docker.io", Registry: "harbor.lan", Prefix: "a/b"},
		"index.docker.io=m.lan":           {For: "docker.io", Registry: "m.lan"},
		"GHCR.io=http://m.lan:80/x":       {For: "ghcr.io", Scheme: "http", Registry: "m.lan:80", Prefix: "x"},
		"reg.lan:5000=HTTPS://[::1]:5001": {For: "reg.lan:5000", Scheme: "https", Registry: "[::1]:5001"},
		"https://harbor.lan/v2/hub":       {Scheme: "https", Registry: "harbor.lan", Prefix: "hub"},
		"https://harbor.lan/v2/":          {Scheme: "https", Registry: "harbor.lan"},
		"harbor.lan/v2":                   {Registry: "harbor.lan", Prefix: "v2"},
		"registry-1.docker.io":            {Registry: "docker.io"},
		"mirror":                          {Registry: "mirror"},
		"localhost:5000":                  {Registry: "localhost:5000"},
	} {
		got, err := ParseMirror(written)
		if err != nil || got != want {
			t.Errorf("%q: %+v (%v), want %+v", written, got, err, want)
			continue
		}
		if again, err := ParseMirror(got.String()); err != nil || again != got {
			t.Errorf("%q: read back from %q: %+v (%v)", written, got, again, err)
		}
	}
	for written, want := range map[string]string{
		"":                               "host is missing",
		"docker.io=":                     "host is missing",
		"=mirror.lan":                    "before the =",
		"https://docker.io=mirror.lan":   "before the =",
		"docker.io/library=m.lan":        "before the =",
		"/hub":                           "host is missing",
		"ftp://m.lan":                    "https:// or http://",
		"https://user:s3cret@m.lan":      "log in",
		"user:s3cret@m.lan/x":            "log in",
		"docker.io=u:s3cret@m.lan":       "log in",
		"m.lan/Hub":                      "lowercase: write hub",
		"m.lan/hub:latest":               "no part of a repository",
		"m.lan/../x":                     "no part of a repository",
		"https://m.lan/hub?ns=docker.io": "before the =",
		"https://m.lan/hub?q":            "no part of a repository",
		"m.lan:99999":                    "no host",
		"m lan":                          "no host",
		"m.lan\x1b[31m":                  "no host",
	} {
		_, err := ParseMirror(written)
		if err == nil {
			t.Errorf("%q: no error", written)
			continue
		}
		if got := err.Error(); !strings.Contains(got, want) || strings.Contains(got, "s3cret") || strings.ContainsAny(got, "\x1b\n") {
			t.Errorf("%q: %q, want it to say %q", written, got, want)
		}
	}
}

func TestFlags(t *testing.T) {
	m := newMachine(t, map[string]string{
		"/ca.pem": "", "/me.cert": "", "/me.key": "", "/closed.pem": "",
		"/etc/docker/certs.d/a.example/a.crt":          "",
		"/etc/docker/certs.d/a.example/a.cert":         "",
		"/etc/docker/certs.d/a.example/a.key":          "",
		"/etc/containerd/certs.d/b.example/hosts.toml": `server = "https://b.example"`,
	})
	files := m.load()
	c, err := files.With(Flags{
		CAFiles:      []string{m.path("/ca.pem")},
		KeyPair:      KeyPair{m.path("/me.cert"), m.path("/me.key")},
		KeyPairHosts: []string{"A.example", "docker.io", "c.example:5000"},
		Insecure:     []string{"i.example", "j.example:5000", "[::1]"},
		PlainHTTP:    []string{"b.example", "p.example:5000"},
	})
	if err != nil {
		t.Fatal(err)
	}
	const ca, pair = "ca=/ca.pem", " pair=/me.cert+/me.key"
	for host, want := range map[string]string{
		"a.example":            ca + " ca=/etc/docker/certs.d/a.example/a.crt" + pair + " by=--ca-cert",
		"registry-1.docker.io": ca + pair + " by=--ca-cert",
		"c.example:5000":       ca + pair + " by=--ca-cert",
		"c.example":            ca + " by=--ca-cert",
		"c.example:5000.evil":  ca + " by=--ca-cert",
		"b.example":            "http " + ca + " by=--plain-http",
		"b.example:8080":       ca + " by=--ca-cert",
		"p.example:5000":       "http " + ca + " by=--plain-http",
		"p.example":            ca + " by=--ca-cert",
		"i.example":            "insecure " + ca + " by=--insecure",
		"i.example:5000":       "insecure " + ca + " by=--insecure",
		"i.example.evil":       ca + " by=--ca-cert",
		"evil-i.example":       ca + " by=--ca-cert",
		"j.example:5000":       "insecure " + ca + " by=--insecure",
		"j.example":            ca + " by=--ca-cert",
		"[::1]:5000":           "insecure " + ca + " by=--insecure",
		"../a.example":         ca + " by=--ca-cert",
	} {
		if got := m.tell(m.host(c, host)); got != want {
			t.Errorf("%s:\n got %s\nwant %s", host, got, want)
		}
	}
	if got := m.tell(m.host(files, "i.example")); got != "" {
		t.Errorf("the configuration without flags has got them: %s", got)
	}

	for what, flags := range map[string]Flags{
		"nowhere.pem": {CAFiles: []string{m.path("/nowhere.pem")}},
		"nowhere.key": {KeyPair: KeyPair{m.path("/me.cert"), m.path("/nowhere.key")}},
		"key":         {KeyPair: KeyPair{CertFile: m.path("/me.cert")}},
		"certificate": {KeyPair: KeyPair{KeyFile: m.path("/me.key")}},
		"a.example/x": {Insecure: []string{"a.example/x"}},
		"http://a":    {PlainHTTP: []string{"http://a"}},
	} {
		if _, err := files.With(flags); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%+v: %v, want an error that names %s", flags, err, what)
		}
	}
}

// Flags, registries.conf, hosts.toml, daemon.json: in this order, each once.
func TestMirrors(t *testing.T) {
	m := newMachine(t, map[string]string{
		"/etc/containers/registries.conf": "[[registry]]\nlocation = \"docker.io\"\n" +
			"[[registry.mirror]]\nlocation = \"two.lan\"\n[[registry.mirror]]\nlocation = \"flag.lan/hub\"\npull-from-mirror = \"digest-only\"",
		"/etc/containerd/certs.d/docker.io/hosts.toml": "[host.\"https://three.lan\"]\n[host.\"https://two.lan:443\"]",
		"/etc/docker/daemon.json":                      `{"registry-mirrors": ["https://four.lan", "https://three.lan", "http://two.lan"], "insecure-registries": ["flag.lan"]}`,
		"/etc/docker/certs.d/two.lan/two.crt":          "",
		"/etc/docker/certs.d/broken.lan/me.key":        "",
	})
	flags := Flags{}
	for _, written := range []string{
		"flag.lan/hub", "docker.io=http://one.lan", "ghcr.io=other.lan", "docker.io", "https://registry-1.docker.io:443", "http://ghcr.io", "quay.io=docker.io",
	} {
		mirror, err := ParseMirror(written)
		if err != nil {
			t.Fatal(err)
		}
		flags.Mirrors = append(flags.Mirrors, mirror)
	}
	c, err := m.load().With(flags)
	if err != nil {
		t.Fatal(err)
	}
	const conf, toml, json = "/etc/containers/registries.conf", "/etc/containerd/certs.d/docker.io/hosts.toml", "/etc/docker/daemon.json"
	for name, want := range map[string]string{
		"docker.io/library/alpine": `docker.io/library/alpine from=` + conf + `
			mirror flag.lan/hub/library/alpine from=--mirror insecure by=` + json + `
			mirror one.lan/library/alpine from=--mirror http by=--mirror
			mirror ghcr.io/library/alpine from=--mirror http by=--mirror
			mirror two.lan/library/alpine from=` + conf + ` ca=/etc/docker/certs.d/two.lan/two.crt by=/etc/docker/certs.d/two.lan
			mirror three.lan/library/alpine from=` + toml + ` https by=` + toml + `
			mirror four.lan/library/alpine from=` + json + ` https by=` + json + `
			mirror two.lan/library/alpine from=` + json + ` http ca=/etc/docker/certs.d/two.lan/two.crt by=` + json,
		"ghcr.io/a/b": `ghcr.io/a/b
			mirror flag.lan/hub/a/b from=--mirror insecure by=` + json + `
			mirror other.lan/a/b from=--mirror
			mirror docker.io/a/b from=--mirror`,
		"quay.io/app": `quay.io/app
			mirror flag.lan/hub/app from=--mirror insecure by=` + json + `
			mirror docker.io/library/app from=--mirror
			mirror ghcr.io/app from=--mirror http by=--mirror`,
		"ghcr.io.evil/a/b": `ghcr.io.evil/a/b
			mirror flag.lan/hub/a/b from=--mirror insecure by=` + json + `
			mirror docker.io/a/b from=--mirror
			mirror ghcr.io/a/b from=--mirror http by=--mirror`,
	} {
		got := m.tellRoute(m.route(c, name))
		same(t, name, got, want)
		for range 5 {
			if again := m.tellRoute(m.route(c, name)); again != got {
				t.Errorf("%s: another route each time", name)
			}
		}
	}
	// A mirror that was asked for by name is not dropped in silence.
	c, err = m.load().With(Flags{Mirrors: []Mirror{{Registry: "broken.lan"}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Route("docker.io", "library/alpine"); err == nil || !strings.Contains(err.Error(), "me.key") {
		t.Error(err)
	}
}
