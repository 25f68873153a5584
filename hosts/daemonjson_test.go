package hosts

import (
	"runtime"
	"strings"
	"testing"
)

func TestDaemonJSON(t *testing.T) {
	m := newMachine(t, map[string]string{
		"/etc/docker/daemon.json": `{
  "log-driver": "json-file",
  "registry-mirrors": ["https://mirror.gcr.io", "http://hub.lan:5000/", "https://mirror.gcr.io/", "https://paths.lan/hub", "https://registry-1.docker.io"],
  "insecure-registries": ["hub.lan:5000", "HTTP://reg.lan", "10.0.0.0/8", "fd00::/8", "docker.io", "::1", "192.168.1.7:80"]
}`,
		"~/.config/docker/daemon.json": "\ufeff{\"registry-mirrors\": [\"https://rootless.lan\"]}",
		"~/.docker/daemon.json":        "",
	})
	c := m.load()
	const by = "/etc/docker/daemon.json"
	same(t, "docker.io", m.tellRoute(m.route(c, "docker.io/library/alpine")), `
		docker.io/library/alpine
		mirror rootless.lan/library/alpine from=~/.config/docker/daemon.json https by=~/.config/docker/daemon.json
		mirror mirror.gcr.io/library/alpine from=`+by+` https by=`+by+`
		mirror hub.lan:5000/library/alpine from=`+by+` http insecure by=`+by+`
		ignored mirror https://paths.lan (`+by+`): its API is at /hub/v2 and not at /v2`)
	same(t, "ghcr.io", m.tellRoute(m.route(c, "ghcr.io/library/alpine")), "ghcr.io/library/alpine")
	for host, insecure := range map[string]bool{
		"hub.lan:5000": true, "hub.lan": false, "hub.lan:50001": false, "hub.lan:5000.evil": false,
		"reg.lan": true, "REG.lan": true, "reg.lan:443": false, "evil-reg.lan": false, "reg.lan.evil": false,
		"10.1.2.3": true, "10.1.2.3:5000": true, "11.0.0.1": false, "10.1.2.3.evil": false, "10.0.0.1.nip.io": false,
		"[fd00::1]:5000": true, "[fe80::1]": false, "[::ffff:10.0.0.1]": true,
		"docker.io": false, "registry-1.docker.io": false,
		"[::1]": true, "192.168.1.7:80": true, "192.168.1.7": false,
	} {
		h := m.host(c, host)
		if h.Insecure != insecure || h.Scheme != "" || insecure != (m.short(h.Source) == by) {
			t.Errorf("%s: %s, want insecure: %v", host, m.tell(h), insecure)
		}
	}
}

func TestDaemonJSONOnWindows(t *testing.T) {
	m := newMachine(t, map[string]string{"/data/docker/config/daemon.json": `{"insecure-registries": ["reg.lan"]}`})
	m.goos, m.uid = "windows", -1
	if m.host(m.load(), "reg.lan").Insecure {
		t.Error("without ProgramData")
	}
	m.env["ProgramData"] = m.path("/data")
	if !m.host(m.load(), "reg.lan").Insecure {
		t.Error("not read")
	}
}

func TestMalformedDaemonJSON(t *testing.T) {
	for text, want := range map[string]string{
		"{\n\"registry-mirrors\": [\n]":                          "line 3",
		"{\n\"registry-mirrors\": \"https://a\"}":                "line 2",
		`{"registry-mirrors": ["ftp://a.lan"]}`:                  "ftp://a.lan",
		`{"registry-mirrors": ["https://user:s3cret@a.lan"]}`:    "password",
		`{"registry-mirrors": ["https://a.lan/?q"]}`:             "registry-mirrors",
		`{"registry-mirrors": [""]}`:                             "registry-mirrors",
		`{"registry-mirrors": ["https://a b"]}`:                  "registry-mirrors",
		`{"insecure-registries": ["a.lan/path"]}`:                "insecure-registries",
		`{"insecure-registries": ["10.0.0.0/64"]}`:               "insecure-registries",
		`{"insecure-registries": ["https://user:s3cret@a.lan"]}`: "password",
	} {
		_, err := Load(newMachine(t, map[string]string{"/etc/docker/daemon.json": text}).environment())
		if err == nil {
			t.Errorf("%s: no error", text)
			continue
		}
		if got := err.Error(); !strings.Contains(got, "daemon.json") || !strings.Contains(got, want) || strings.Contains(got, "s3cret") {
			t.Errorf("%s: %s\nwant it to say %q", text, got, want)
		}
	}
	for _, text := range []string{"", " \n", "{}"} {
		newMachine(t, map[string]string{"/etc/docker/daemon.json": text}).load()
	}
}

// The zero Environment is this machine, whatever it has.
func TestZeroEnvironment(t *testing.T) {
	p := Environment{}.paths()
	if p.windows != (runtime.GOOS == "windows") {
		t.Error(p)
	}
	if !p.windows && p.docker != "/etc/docker" {
		t.Errorf("Docker's directory is %q", p.docker)
	}
}
