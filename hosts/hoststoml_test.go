package hosts

import (
	"os"
	"strings"
	"testing"
)

func TestHostsTOML(t *testing.T) {
	const dir = "/etc/containerd/certs.d/"
	m := newMachine(t, map[string]string{
		// containerd's docs/hosts.md, "Setup a Local Mirror for Docker".
		dir + "docker.io/hosts.toml": `
server = "https://registry-1.docker.io"    # Exclude this to not use upstream

[host."https://public-mirror.example.com"]
  capabilities = ["pull"]                  # Requires less trust, won't resolve tag to digest from this host
[host."https://docker-mirror.internal"]
  capabilities = ["pull", "resolve"]
  ca = "docker-mirror.crt"                 # Or absolute path
`,
		dir + "docker.io/docker-mirror.crt": "",
		dir + "docker.io/beside.crt":        "",

		// The same, "host field(s)".
		dir + "many.example/hosts.toml": `
[host."https://mirror.registry"]
  capabilities = ["pull"]
  skip_verify = false
  dial_timeout = "1s"
  [host."https://mirror.registry".header]
    x-custom-2 = ["s3cret1", "s3cret2"]

[host."https://mirror-bak.registry/us"]
  capabilities = ["pull"]
  skip_verify = true

[host."http://mirror.registry"]
  capabilities = ["Pull"]

[host."https://test-1.registry"]
  capabilities = ["pull", "resolve", "push"]
  ca = ["1.pem", "2.pem"]
  client = [["client.cert", "client.key"],["both.pem", ""]]

[host."https://test-2.registry"]
  client = "both.pem"

[host."https://test-3.registry"]
  client = ["1.pem", "2.pem"]
  skip_verify = true

[host."http://test-4.registry:5000"]
  skip_verify = true

[host."https://non-compliant-mirror.registry/v2/upstream"]
  capabilities = ["pull"]
  override_path = true

[host."https://elsewhere.registry/api"]
  override_path = true

[host."https://within.registry/v2"]

[host."https://push.registry"]
  capabilities = ["push"]

[host."https://broken.registry"]
  ca = "missing.pem"
[host."bare.registry:8443"]
`,
		dir + "many.example/1.pem":       "",
		dir + "many.example/2.pem":       "",
		dir + "many.example/client.cert": "",
		dir + "many.example/client.key":  "",
		dir + "many.example/both.pem":    "",

		// As a registry's own settings are mostly written.
		dir + "own.example_5000_/hosts.toml": `
server = "https://own.example:5000"
[host."https://own.example:5000"]
  capabilities = ["pull", "resolve"]
  ca = "ca.crt"
  client = [["client.cert", "client.key"]]
`,
		dir + "own.example_5000_/ca.crt":      "",
		dir + "own.example_5000_/client.cert": "",
		dir + "own.example_5000_/client.key":  "",
		dir + "top.example/hosts.toml":        "skip_verify = true\nca = '" + "top.crt'",
		dir + "top.example/top.crt":           "",
		dir + "192.168.31.250_5000_/hosts.toml": `
[host."http://192.168.31.250:5000"]
  capabilities = ["pull", "resolve", "push"]
`,
		dir + "localhost_5000_/hosts.toml": `skip_verify = true`,
		dir + "empty.example/hosts.toml":   "",
		dir + "empty.example/ca.crt":       "",

		// Only the mirror, "Setup Default Mirror for All Registries".
		dir + "only.example/hosts.toml": "server = \"https://registry.example.com\"\nskip_verify = true",
		dir + "api.example/hosts.toml":  "server = \"https://registry.example.com/v2/api\"\noverride_path = true",
		dir + "odd.example/hosts.toml":  "server = \"https://registry.example.com/api\"",
		dir + "hub.example/hosts.toml":  "server = \"docker.io\"",

		"/etc/docker/certs.d/dockers.example/hosts.toml":      "[host.\"https://m.lan\"]",
		"~/.config/containerd/certs.d/two.example/hosts.toml": "[host.\"https://user.lan\"]\n[host.\"https://both.lan\"]",
		dir + "two.example/hosts.toml":                        "[host.\"https://system.lan\"]\n[host.\"https://both.lan\"]",
		// Not a place for a hosts.toml.
		"/etc/containers/certs.d/podman.example/hosts.toml": "[host.\"https://m.lan\"]",
	})
	c := m.load()
	const at = "/etc/containerd/certs.d/"
	_, missing := os.Open(m.path(at + "many.example/missing.pem"))
	for name, want := range map[string]string{
		"docker.io/library/alpine": `docker.io/library/alpine https by=` + at + `docker.io/hosts.toml
			mirror public-mirror.example.com/library/alpine no-tags from=` + at + `docker.io/hosts.toml https by=` + at + `docker.io/hosts.toml
			mirror docker-mirror.internal/library/alpine from=` + at + `docker.io/hosts.toml https ca=` + at + `docker.io/docker-mirror.crt by=` + at + `docker.io/hosts.toml`,
		"many.example/app": `many.example/app
			mirror mirror.registry/app no-tags from=F https by=F
			mirror mirror.registry/app no-tags from=F http by=F
			mirror test-1.registry/app from=F https ca=D/1.pem ca=D/2.pem pair=D/client.cert+D/client.key pair=D/both.pem+D/both.pem by=F
			mirror test-2.registry/app from=F https pair=D/both.pem+D/both.pem by=F
			mirror test-3.registry/app from=F https insecure pair=D/1.pem+D/1.pem pair=D/2.pem+D/2.pem by=F
			mirror test-4.registry:5000/app from=F insecure by=F
			mirror non-compliant-mirror.registry/upstream/app no-tags from=F https by=F
			mirror within.registry/app from=F https by=F
			mirror bare.registry:8443/app from=F https by=F
			ignored headers ["x-custom-2"] for mirror.registry (F): headers are not supported
			ignored mirror https://mirror-bak.registry (F): its API is at /us/v2 and not at /v2
			ignored mirror https://elsewhere.registry (F): its API is at /api and not at /v2
			ignored mirror https://broken.registry (F): read certificates: ` + m.short(missing.Error()),
		"own.example:5000/app": `own.example:5000/app https ca=` + at + `own.example_5000_/ca.crt pair=` +
			at + `own.example_5000_/client.cert+` + at + `own.example_5000_/client.key by=` + at + `own.example_5000_/hosts.toml`,
		"top.example/app":         `top.example/app https insecure ca=` + at + `top.example/top.crt by=` + at + `top.example/hosts.toml`,
		"192.168.31.250:5000/app": `192.168.31.250:5000/app http by=` + at + `192.168.31.250_5000_/hosts.toml`,
		"localhost:5000/app":      `localhost:5000/app insecure by=` + at + `localhost_5000_/hosts.toml`,
		"empty.example/app":       `empty.example/app ca=` + at + `empty.example/ca.crt by=` + at + `empty.example`,
		"only.example/app":        `registry.example.com/app from=` + at + `only.example/hosts.toml https insecure by=` + at + `only.example/hosts.toml`,
		"api.example/a/b":         `registry.example.com/api/a/b from=` + at + `api.example/hosts.toml https by=` + at + `api.example/hosts.toml`,
		"odd.example/app": `odd.example/app
			ignored server https://registry.example.com (` + at + `odd.example/hosts.toml): its API is at /api/v2 and not at /v2`,
		"hub.example/alpine": `docker.io/library/alpine from=` + at + `hub.example/hosts.toml https by=` + at + `hub.example/hosts.toml`,
		"dockers.example/app": `dockers.example/app
			mirror m.lan/app from=/etc/docker/certs.d/dockers.example/hosts.toml https by=/etc/docker/certs.d/dockers.example/hosts.toml`,
		"two.example/app": `two.example/app
			mirror user.lan/app from=~/.config/containerd/certs.d/two.example/hosts.toml https by=~/.config/containerd/certs.d/two.example/hosts.toml
			mirror both.lan/app from=~/.config/containerd/certs.d/two.example/hosts.toml https by=~/.config/containerd/certs.d/two.example/hosts.toml
			mirror system.lan/app from=` + at + `two.example/hosts.toml https by=` + at + `two.example/hosts.toml`,
		"podman.example/app": `podman.example/app`,
		"other.example/app":  `other.example/app`,
	} {
		many := at + "many.example"
		want = strings.NewReplacer("=F", "="+many+"/hosts.toml", "(F)", "("+many+"/hosts.toml)", "D/", many+"/").Replace(want)
		same(t, name, m.tellRoute(m.route(c, name)), want)
	}
	// A mirror's certificates are for its use as a mirror alone.
	for _, host := range []string{"docker-mirror.internal", "test-3.registry", "registry.example.com"} {
		if got := m.tell(m.host(c, host)); got != "" {
			t.Errorf("%s: %s", host, got)
		}
	}
}

func TestDefaultHostsTOML(t *testing.T) {
	m := newMachine(t, map[string]string{
		"/etc/containerd/certs.d/_default/hosts.toml":  "[host.\"https://registry.example.com\"]\n  capabilities = [\"pull\", \"resolve\"]",
		"/etc/containerd/certs.d/a.example/hosts.toml": "",
	})
	c := m.load()
	const at = "/etc/containerd/certs.d/_default/hosts.toml"
	for name, want := range map[string]string{
		"ghcr.io/a/b":              "ghcr.io/a/b\nmirror registry.example.com/a/b from=" + at + " https by=" + at,
		"registry.example.com/a/b": "registry.example.com/a/b https by=" + at,
		"a.example/a/b":            "a.example/a/b",
	} {
		same(t, name, m.tellRoute(m.route(c, name)), want)
	}
}
