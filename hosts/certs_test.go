package hosts

import (
	"runtime"
	"strings"
	"testing"
)

func TestCertificates(t *testing.T) {
	const pem = "-----BEGIN CERTIFICATE-----\n"
	tests := []struct {
		name  string
		files []string
		env   map[string]string
		uid   int
		goos  string
		want  map[string]string // by host
	}{
		{
			name:  "docker",
			files: []string{"/etc/docker/certs.d/registry.example.com:5000/ca.crt", "/etc/docker/certs.d/registry.example.com:5000/client.cert", "/etc/docker/certs.d/registry.example.com:5000/client.key"},
			want: map[string]string{
				"registry.example.com:5000":  "ca=/etc/docker/certs.d/registry.example.com:5000/ca.crt pair=/etc/docker/certs.d/registry.example.com:5000/client.cert+/etc/docker/certs.d/registry.example.com:5000/client.key by=/etc/docker/certs.d/registry.example.com:5000",
				"Registry.Example.COM:5000":  "ca=/etc/docker/certs.d/registry.example.com:5000/ca.crt pair=/etc/docker/certs.d/registry.example.com:5000/client.cert+/etc/docker/certs.d/registry.example.com:5000/client.key by=/etc/docker/certs.d/registry.example.com:5000",
				"registry.example.com":       "",
				"registry.example.com:443":   "",
				"registry.example.com.evil":  "",
				"evil.registry.example.com":  "",
				"registry.example.com:50000": "",
			},
		},
		{
			name: "several pairs and CAs come in the order of their names",
			files: []string{
				"/etc/docker/certs.d/a.example/2.crt", "/etc/docker/certs.d/a.example/1.crt",
				"/etc/docker/certs.d/a.example/y.cert", "/etc/docker/certs.d/a.example/y.key",
				"/etc/docker/certs.d/a.example/x.cert", "/etc/docker/certs.d/a.example/x.key",
				"/etc/docker/certs.d/a.example/README",
			},
			want: map[string]string{
				"a.example": "ca=/etc/docker/certs.d/a.example/1.crt ca=/etc/docker/certs.d/a.example/2.crt" +
					" pair=/etc/docker/certs.d/a.example/x.cert+/etc/docker/certs.d/a.example/x.key" +
					" pair=/etc/docker/certs.d/a.example/y.cert+/etc/docker/certs.d/a.example/y.key by=/etc/docker/certs.d/a.example",
			},
		},
		{
			name: "of containers' directories the first that has the host counts",
			files: []string{
				"~/.config/containers/certs.d/a.example/user.crt", "/etc/containers/certs.d/a.example/system.crt",
				"/etc/containers/certs.d/b.example/system.crt", "/usr/share/containers/certs.d/b.example/vendor.crt",
				"/etc/containers/certs.rootless.d/1000/c.example/mine.crt", "/etc/containers/certs.rootless.d/c.example/all.crt",
				"/etc/containers/certs.rootful.d/d.example/root.crt",
			},
			uid: 1000,
			want: map[string]string{
				"a.example": "ca=~/.config/containers/certs.d/a.example/user.crt by=~/.config/containers/certs.d/a.example",
				"b.example": "ca=/etc/containers/certs.d/b.example/system.crt by=/etc/containers/certs.d/b.example",
				"c.example": "ca=/etc/containers/certs.rootless.d/1000/c.example/mine.crt by=/etc/containers/certs.rootless.d/1000/c.example",
				"d.example": "",
			},
		},
		{
			name:  "rootful",
			files: []string{"/etc/containers/certs.rootful.d/d.example/root.crt", "/etc/containers/certs.rootless.d/c.example/all.crt"},
			want: map[string]string{
				"c.example": "",
				"d.example": "ca=/etc/containers/certs.rootful.d/d.example/root.crt by=/etc/containers/certs.rootful.d/d.example",
			},
		},
		{
			name: "tools add up, key pairs are the first's",
			files: []string{
				"/etc/containers/certs.d/a.example/p.crt",
				"~/.config/docker/certs.d/a.example/d.crt", "~/.config/docker/certs.d/a.example/d.cert", "~/.config/docker/certs.d/a.example/d.key",
				"~/.docker/certs.d/a.example/desktop.crt",
				"/etc/docker/certs.d/a.example/e.crt", "/etc/docker/certs.d/a.example/e.cert", "/etc/docker/certs.d/a.example/e.key",
				"/etc/containerd/certs.d/a.example/c.crt",
			},
			want: map[string]string{
				"a.example": "ca=/etc/containers/certs.d/a.example/p.crt ca=~/.config/docker/certs.d/a.example/d.crt" +
					" ca=~/.docker/certs.d/a.example/desktop.crt ca=/etc/docker/certs.d/a.example/e.crt ca=/etc/containerd/certs.d/a.example/c.crt" +
					" pair=~/.config/docker/certs.d/a.example/d.cert+~/.config/docker/certs.d/a.example/d.key by=/etc/containers/certs.d/a.example",
			},
		},
		{
			name:  "XDG_CONFIG_HOME",
			files: []string{"/xdg/containers/certs.d/a.example/p.crt", "/xdg/docker/certs.d/a.example/d.crt", "~/.config/containers/certs.d/a.example/no.crt"},
			env:   map[string]string{"XDG_CONFIG_HOME": "/xdg"},
			want:  map[string]string{"a.example": "ca=/xdg/containers/certs.d/a.example/p.crt ca=/xdg/docker/certs.d/a.example/d.crt by=/xdg/containers/certs.d/a.example"},
		},
		{
			name: "containerd's spellings, and a *.cert with its key in it",
			files: []string{
				"/etc/containerd/certs.d/a.example_5000_/a.crt", "/etc/containerd/certs.d/a.example:5000/not-looked-at.crt",
				"/etc/containerd/certs.d/b.example:5000/b.crt",
				"~/.config/containerd/certs.d/c.example/both.cert",
			},
			want: map[string]string{
				"a.example:5000": "ca=/etc/containerd/certs.d/a.example_5000_/a.crt by=/etc/containerd/certs.d/a.example_5000_",
				"b.example:5000": "ca=/etc/containerd/certs.d/b.example:5000/b.crt by=/etc/containerd/certs.d/b.example:5000",
				"c.example":      "pair=~/.config/containerd/certs.d/c.example/both.cert+~/.config/containerd/certs.d/c.example/both.cert by=~/.config/containerd/certs.d/c.example",
			},
		},
		{
			name:  "containerd's default is for hosts that have no directory there",
			files: []string{"/etc/containerd/certs.d/_default/all.crt", "/etc/containerd/certs.d/a.example/a.crt"},
			want: map[string]string{
				"a.example":   "ca=/etc/containerd/certs.d/a.example/a.crt by=/etc/containerd/certs.d/a.example",
				"b.example:1": "ca=/etc/containerd/certs.d/_default/all.crt by=/etc/containerd/certs.d/_default",
			},
		},
		{
			name:  "Docker Hub by all its names",
			files: []string{"/etc/containers/certs.d/docker.io/hub.crt", "/etc/docker/certs.d/registry-1.docker.io/api.crt"},
			want: map[string]string{
				"docker.io":            "ca=/etc/containers/certs.d/docker.io/hub.crt ca=/etc/docker/certs.d/registry-1.docker.io/api.crt by=/etc/containers/certs.d/docker.io",
				"registry-1.docker.io": "ca=/etc/containers/certs.d/docker.io/hub.crt ca=/etc/docker/certs.d/registry-1.docker.io/api.crt by=/etc/containers/certs.d/docker.io",
				"auth.docker.io":       "",
			},
		},
		{
			name:  "addresses",
			files: []string{"/etc/docker/certs.d/[::1]:5000/six.crt", "/etc/docker/certs.d/10.0.0.1:5000/four.crt"},
			want: map[string]string{
				"[::1]:5000":    "ca=/etc/docker/certs.d/[::1]:5000/six.crt by=/etc/docker/certs.d/[::1]:5000",
				"10.0.0.1:5000": "ca=/etc/docker/certs.d/10.0.0.1:5000/four.crt by=/etc/docker/certs.d/10.0.0.1:5000",
			},
		},
		{
			name: "what is no host finds nothing",
			files: []string{
				"/etc/docker/certs.d/stray.crt", "/etc/docker/stray.crt", "/etc/docker/certs.d/a.example/sub/x.crt",
				"/etc/docker/certs.d/_default/d.crt",
			},
			want: map[string]string{"": "", ".": "", "..": "", "a.example/sub": "", "../certs.d": "", "_default": "", "a.example:0": "", "a.example:x": "", `..\docker`: ""},
		},
		{
			name: "Windows",
			files: []string{
				"/data/docker/certs.d/a.example5000/ca.crt", "~/.docker/certs.d/a.example5000/desktop.crt",
				"/data/containerd/certs.d/a.example_5000_/c.crt", "/roaming/containers/certs.d/b.example/p.crt",
				"/data/containers/certs.d/b.example/q.crt", "/etc/docker/certs.d/b.example/not-there.crt",
			},
			env:  map[string]string{"ProgramData": "/data", "APPDATA": "/roaming"},
			goos: "windows",
			want: map[string]string{
				"a.example:5000": "ca=~/.docker/certs.d/a.example5000/desktop.crt ca=/data/docker/certs.d/a.example5000/ca.crt ca=/data/containerd/certs.d/a.example_5000_/c.crt by=~/.docker/certs.d/a.example5000",
				"b.example":      "ca=/roaming/containers/certs.d/b.example/p.crt by=/roaming/containers/certs.d/b.example",
			},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m := newMachine(t, nil)
			for _, file := range test.files {
				if runtime.GOOS == "windows" && strings.Contains(file, ":") {
					t.Skip("Windows has no such file names")
				}
				m.write(file, pem)
			}
			for name, value := range test.env {
				m.env[name] = m.path(value)
			}
			m.uid = test.uid
			if test.goos != "" {
				m.goos, m.uid = test.goos, -1
			}
			c := m.load()
			for host, want := range test.want {
				if got := m.tell(m.host(c, host)); got != want {
					t.Errorf("%s:\n got %s\nwant %s", host, got, want)
				}
			}
		})
	}
}

func TestBrokenCertificates(t *testing.T) {
	m := newMachine(t, map[string]string{
		"/etc/docker/certs.d/nokey.example/client.cert":         "",
		"/etc/docker/certs.d/nocert.example/client.key":         "",
		"/etc/containers/certs.d/podman.example/me.cert":        "",
		"/etc/docker/certs.d/file.example":                      "",
		"/etc/docker/certs.d/fine.example/ca.crt":               "",
		"/etc/containerd/certs.d/gone.example/hosts.toml":       `ca = "gone.crt"`,
		"/etc/containerd/certs.d/gone.example/beside.crt":       "",
		"/etc/containerd/certs.d/malformed.example/hosts.toml":  "server = \"https://a.example\"\nserver = oops\n",
		"/etc/containerd/certs.d/kind.example/hosts.toml":       "\nskip_verify = \"yes\"\n",
		"/etc/containerd/certs.d/secret.example/hosts.toml":     `[host."https://user:s3cret@mirror.example"]`,
		"/etc/containerd/certs.d/ability.example/hosts.toml":    "[host.\"https://m.example\"]\ncapabilities = [\"fly\"]",
		"/etc/containerd/certs.d/ca.example/hosts.toml":         `ca = 5`,
		"/etc/containerd/certs.d/pair.example/hosts.toml":       `client = [["a", "b", "c"]]`,
		"/etc/containerd/certs.d/unreachable.example/empty.txt": "",
	})
	c := m.load()
	for host, want := range map[string][]string{
		"nokey.example":     {"nokey.example/client.cert", "client.key is missing", "*.crt"},
		"nocert.example":    {"nocert.example/client.key", "client.cert is missing"},
		"podman.example":    {"podman.example/me.cert", "me.key is missing"},
		"file.example":      {"certs.d/file.example"},
		"gone.example":      {"gone.example/gone.crt"},
		"malformed.example": {"malformed.example/hosts.toml", "line 2"},
		"kind.example":      {"kind.example/hosts.toml", "line 2"},
		"secret.example":    {"secret.example/hosts.toml", "password"},
		"ability.example":   {"ability.example/hosts.toml", `"fly"`},
		"ca.example":        {"ca.example/hosts.toml", "no path"},
		"pair.example":      {"pair.example/hosts.toml", "no pair"},
	} {
		_, err := c.Host(host)
		if err == nil {
			t.Errorf("%s: no error", host)
			continue
		}
		text := m.short(err.Error())
		for _, part := range want {
			if !strings.Contains(text, part) {
				t.Errorf("%s: %s\ndoes not say %q", host, text, part)
			}
		}
		if strings.Contains(text, "s3cret") || strings.Contains(text, "\n") {
			t.Errorf("%s: %q", host, text)
		}
		if _, err := c.Route(host, "app"); err == nil {
			t.Errorf("%s: a route in spite of it", host)
		}
	}
	// The others are none the worse for it.
	for _, host := range []string{"fine.example", "other.example", "unreachable.example"} {
		m.host(c, host)
		m.route(c, host+"/app")
	}
}

// A home that is no directory has no configuration.
func TestNoHome(t *testing.T) {
	m := newMachine(t, map[string]string{"~": ""})
	c := m.load()
	if got := m.tell(m.host(c, "a.example")); got != "" {
		t.Error(got)
	}
	if r := m.route(c, "docker.io/library/alpine"); len(r.Mirrors) > 0 {
		t.Error(r)
	}
}
