package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// asRobin is davit pull of the door's image in robin's name, without the flags
// that the door needs. Its home directory is the one returned.
func asRobin(t testing.TB, d *door, flags ...string) (cmd *exec.Cmd, home string) {
	t.Helper()
	cmd = davitCommand(t, append([]string{"pull", d.image(robin)}, flags...)...)
	cmd.Env = append(cmd.Env, "DAVIT_USERNAME="+robin.name, "DAVIT_PASSWORD="+robin.password)
	return cmd, cmd.Dir
}

// TestPrivateCA has davit trust nginx's private CA in each way that there is.
func TestPrivateCA(t *testing.T) {
	enabled(t)
	open := openRegistry(t)
	d, other, x := privateDoor(t, open), newAuthority(t), greeting(t)

	t.Run("unknown", func(t *testing.T) {
		cmd, _ := asRobin(t, d)
		r := endOf(t, cmd)
		r.exits(t, 1)
		r.says(t, "certificate", "--ca-cert")
	})
	t.Run("another CA", func(t *testing.T) {
		cmd, _ := asRobin(t, d, "--ca-cert", other.file)
		endOf(t, cmd).exits(t, 1)
	})
	t.Run("ca-cert", func(t *testing.T) {
		cmd, _ := asRobin(t, d, "--ca-cert", other.file, "--ca-cert", d.trust)
		endOf(t, cmd).gets(t, x)
	})
	t.Run("SSL_CERT_FILE", func(t *testing.T) {
		cmd, _ := asRobin(t, d)
		cmd.Env = append(cmd.Env, "SSL_CERT_FILE="+d.trust)
		endOf(t, cmd).gets(t, x)
	})
	t.Run("insecure", func(t *testing.T) {
		for _, flag := range []string{"--insecure", "--insecure=" + d.host} {
			cmd, _ := asRobin(t, d, flag)
			r := endOf(t, cmd)
			r.gets(t, x)
			r.says(t, "warning: ", d.host)
		}
		cmd, _ := asRobin(t, d, "--insecure=other.test")
		endOf(t, cmd).exits(t, 1)
	})
	t.Run("plain HTTP is no way out", func(t *testing.T) {
		cmd, _ := asRobin(t, d, "--plain-http")
		endOf(t, cmd).exits(t, 1)
	})
}

// TestClientCertificate shows nginx a certificate in each way that there is.
func TestClientCertificate(t *testing.T) {
	enabled(t)
	open := openRegistry(t)
	d, stranger, x := clientDoor(t, open), newAuthority(t).client(t, "robin"), greeting(t)

	t.Run("none", func(t *testing.T) {
		cmd, _ := asRobin(t, d, "--ca-cert", d.trust)
		endOf(t, cmd).exits(t, 1, 4)
	})
	t.Run("a stranger's", func(t *testing.T) {
		cmd, _ := asRobin(t, d, "--ca-cert", d.trust, "--cert", stranger.cert, "--key", stranger.key)
		endOf(t, cmd).exits(t, 1, 4)
	})
	t.Run("flags", func(t *testing.T) {
		cmd, _ := asRobin(t, d, d.flags()...)
		endOf(t, cmd).gets(t, x)
	})
	t.Run("half of it", func(t *testing.T) {
		cmd, _ := asRobin(t, d, "--ca-cert", d.trust, "--cert", d.own.cert)
		endOf(t, cmd).exits(t, 2)
	})
}

// TestCertsDirectories finds CA and client certificate where Docker, Podman
// and containerd look for them.
func TestCertsDirectories(t *testing.T) {
	enabled(t)
	open, podman := openRegistry(t), newPodman(t)
	for _, d := range []*door{privateDoor(t, open), clientDoor(t, open)} {
		// hosts is containerd's way to say the same.
		hosts := func(dir string) string {
			text := "server = \"https://" + d.host + "\"\n[host.\"https://" + d.host + "\"]\n  capabilities = [\"pull\", \"resolve\"]\n  ca = \"ca.crt\"\n"
			if d.own.cert != "" {
				text += "  client = [[\"client.cert\", \"client.key\"]]\n"
			}
			writeFile(t, filepath.Join(d.certificates(t, dir), "hosts.toml"), text)
			return dir
		}
		docker := func(dir string) string { return d.certificates(t, dir) }
		for _, place := range []struct {
			name  string
			dir   string // below the home directory, or of the machine
			write func(dir string) string
		}{
			{"Podman", ".config/containers/certs.d", docker},
			{"rootless Docker", ".config/docker/certs.d", docker},
			{"Docker", "/etc/docker/certs.d", docker},
			{"rootless containerd", ".config/containerd/certs.d", hosts},
			{"containerd", "/etc/containerd/certs.d", hosts},
		} {
			t.Run(d.name+"/"+place.name, func(t *testing.T) {
				cmd, home := asRobin(t, d)
				dir := filepath.Join(place.dir, d.host)
				if filepath.IsAbs(dir) {
					lend(t, dir)
				} else {
					dir = filepath.Join(home, dir)
				}
				place.write(dir)
				if place.name == "Podman" {
					pull := podman.command("pull", "--quiet", "--creds", robin.name+":"+robin.password, d.image(robin))
					pull.Env = append(pull.Env, "HOME="+home)
					run(t, pull)
				}
				endOf(t, cmd).gets(t, greeting(t))

				if err := os.RemoveAll(dir); err != nil {
					t.Fatal(err)
				}
				again, _ := asRobin(t, d)
				again.Dir = home
				again.Env = append(again.Env, "HOME="+home)
				endOf(t, again).exits(t, 1, 4)
			})
		}
	}
}

// lend makes a directory of the machine's that a test may fill. At the test's
// end it is removed, with what above it was not there before.
func lend(t testing.TB, dir string) {
	t.Helper()
	first := dir
	for parent := filepath.Dir(first); ; parent = filepath.Dir(first) {
		if _, err := os.Stat(parent); err == nil {
			break
		}
		first = parent
	}
	if _, err := os.Stat(dir); err == nil {
		t.Fatalf("%s is somebody's", dir)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(first); err != nil {
			t.Errorf("remove what a test has lent: %v", err)
		}
	})
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
}

// TestProxies goes through each kind of proxy with a password.
func TestProxies(t *testing.T) {
	enabled(t)
	open := openRegistry(t)
	d, x := basicDoor(t, open), greeting(t)
	for name, startProxy := range map[string]func(testing.TB) *proxy{
		"squid": startSquid, "tinyproxy": startTinyproxy, "SOCKS5": startSOCKS,
	} {
		t.Run(name, func(t *testing.T) {
			p := startProxy(t)
			// Loopback is reached without a proxy, unless one is asked for.
			cmd, _ := asRobin(t, d, "--proxy", p.url)
			endOf(t, cmd).gets(t, x)
			p.saw(t, d.host)

			cmd, _ = asRobin(t, d, "--proxy", strings.Replace(p.url, office.password, "wrong", 1))
			r := endOf(t, cmd)
			r.exits(t, 1)
			r.says(t, "proxy")
			if strings.Contains(r.stdout+r.stderr, "wrong@") {
				t.Errorf("it tells the proxy's password: %s", r.stderr)
			}

			cmd, _ = asRobin(t, d, "--proxy", strings.Replace(p.url, office.password, "wrong", 1))
			cmd.Env = append(cmd.Env, "NO_PROXY=127.0.0.0/8")
			endOf(t, cmd).gets(t, x)
		})
	}

	t.Run("environment", func(t *testing.T) {
		d := squidDoor(t, open)
		pull := func(env ...string) ran {
			cmd, _ := asRobin(t, d, "--ca-cert", d.trust)
			cmd.Env = append(cmd.Env, env...)
			return endOf(t, cmd)
		}
		pull("HTTPS_PROXY="+d.proxy.url).gets(t, x)
		pull("ALL_PROXY="+d.proxy.url).gets(t, x)
		pull("https_proxy="+d.proxy.url).gets(t, x)
		d.seen(t)
		pull().exits(t, 1)
		pull("HTTPS_PROXY="+d.proxy.url, "NO_PROXY=.test").exits(t, 1)
	})
}
