package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// davitLogin logs the account in with davit login, into the DOCKER_CONFIG dir.
func davitLogin(t testing.TB, l *logins, d *door, a account, dir string) ran {
	t.Helper()
	cmd := d.davit(t, "login", d.host, "-u", a.name, "--password-stdin")
	cmd.Env = append(append(cmd.Env, l.pass...), "DOCKER_CONFIG="+dir)
	cmd.Stdin = strings.NewReader(a.password)
	return endOf(t, cmd)
}

// TestLogin logs in and out with davit, and shows it to the tools that read
// the same file: Docker Engine, podman, davit itself.
func TestLogin(t *testing.T) {
	enabled(t)
	open := openRegistry(t)
	doors := []*door{basicDoor(t, open), tokenDoor(t, open), privateDoor(t, open), squidDoor(t, open)}
	l := newLogins(t, doors...)
	x := greeting(t)
	for _, d := range doors {
		for _, begun := range []struct{ name, config string }{
			{"file", `{"HttpHeaders":{"X-Of-The-User":"kept"},"auths":{"other.example":{"auth":"dTpw"}}}`},
			{"credHelpers", `{"HttpHeaders":{"X-Of-The-User":"kept"},"credHelpers":{"` + d.host + `":"pass"}}`},
			{"credsStore", `{"HttpHeaders":{"X-Of-The-User":"kept"},"credsStore":"pass"}`},
		} {
			t.Run(d.name+"/"+begun.name, func(t *testing.T) {
				dir := workDir(t)
				config := filepath.Join(dir, "config.json")
				writeFile(t, config, begun.config)

				davitLogin(t, l, d, account{robin.name, "not " + robin.password}, dir).exits(t, 4)
				if got := read(t, config); got != begun.config {
					t.Errorf("a refused login has changed config.json: %s", got)
				}
				davitLogin(t, l, d, robin, dir).exits(t, 0)
				checkStored(t, config, begun.name != "file", d.host)

				tools := toolsWith(t, l, d, dir)
				if begun.name == "credsStore" {
					delete(tools, "podman") // it heeds credHelpers alone
				}
				for name, pull := range tools {
					if _, stderr, err := pull(); err != nil {
						t.Errorf("%s, after davit login: %v\n%s", name, err, stderr)
					}
				}
				if got := l.docker.run(t, d.image(robin)); got != x.prints {
					t.Errorf("the image prints %q, want %q", got, x.prints)
				}

				out := davitCommand(t, "logout", d.host)
				out.Env = append(append(out.Env, l.pass...), "DOCKER_CONFIG="+dir)
				endOf(t, out).exits(t, 0)
				run(t, l.docker.command("image", "rm", "--force", d.image(robin)))
				run(t, l.podman.command("image", "rm", "--all", "--force"))
				for name, pull := range tools {
					if _, _, err := pull(); err == nil {
						t.Errorf("%s still gets in after davit logout", name)
					}
				}
				if got := read(t, config); !strings.Contains(got, "X-Of-The-User") || begun.name == "file" && !strings.Contains(got, "other.example") {
					t.Errorf("what is not davit's is gone from config.json: %s", got)
				}
			})
		}
	}
}

// checkStored checks what davit login has stored, and how.
func checkStored(t testing.TB, config string, helper bool, host string) {
	t.Helper()
	text := read(t, config)
	stored := readAuthFile(t, config).Auths[host]
	if inFile := stored.Auth != "" || stored.IdentityToken != ""; inFile == helper {
		t.Errorf("davit login has stored a secret in the file: %t, with a helper: %t", inFile, helper)
	}
	if helper {
		for _, secret := range robin.secrets() {
			if strings.Contains(text, secret) {
				t.Error("the secret is in config.json beside the helper")
			}
		}
	}
	if !strings.Contains(text, `"X-Of-The-User"`) {
		t.Errorf("what is not davit's is gone from config.json: %s", text)
	}
	info, err := os.Stat(config)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("config.json has mode %v", info.Mode())
	}
}

// toolsWith pull the image behind the door with what dir, a DOCKER_CONFIG, has.
func toolsWith(t testing.TB, l *logins, d *door, dir string) map[string]func() (string, string, error) {
	t.Helper()
	// Podman has no DOCKER_CONFIG: it looks in the home directory.
	home := workDir(t)
	if err := os.Symlink(dir, filepath.Join(home, ".docker")); err != nil {
		t.Fatal(err)
	}
	certificates := workDir(t)
	return map[string]func() (string, string, error){
		"docker": func() (string, string, error) {
			cmd := l.docker.command("pull", "--quiet", d.image(robin))
			cmd.Env = append(append(cmd.Env, l.pass...), "DOCKER_CONFIG="+dir)
			return output(cmd)
		},
		"podman": func() (string, string, error) {
			tls := "--tls-verify=false"
			if d.trust != "" {
				tls = "--cert-dir=" + d.certificates(t, certificates)
			}
			cmd := l.podman.command("pull", "--quiet", tls, d.image(robin))
			// The helper's home is where its key is.
			cmd.Env = append(append(append(cmd.Env, l.pass...), d.env()...), "HOME="+home)
			return output(cmd)
		},
		"davit": func() (string, string, error) {
			cmd := d.davit(t, "pull", d.image(robin))
			cmd.Env = append(append(cmd.Env, l.pass...), "DOCKER_CONFIG="+dir)
			return output(cmd)
		},
	}
}

func read(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestLoginPassword answers login -p, which would show the password to
// everybody on the machine, with what to do instead.
func TestLoginPassword(t *testing.T) {
	enabled(t)
	d := basicDoor(t, openRegistry(t))
	r := endOf(t, d.davit(t, "login", d.host, "-u", robin.name, "-p", robin.password))
	r.exits(t, 2)
	r.says(t, "--password-stdin")
	if strings.Contains(r.stdout+r.stderr, robin.password) {
		t.Errorf("it repeats the password: %s%s", r.stdout, r.stderr)
	}
}

// TestToken hands davit's bearer token to curl.
func TestToken(t *testing.T) {
	enabled(t)
	d := tokenDoor(t, openRegistry(t))
	const script = `curl -fsS -H "Authorization: Bearer $("$DAVIT" token "$IMAGE")" -H "Accept: $ACCEPT" "$URL"`
	x := greeting(t)
	curl := func(env ...string) (string, string, error) {
		cmd := davitCommand(t)
		cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-c", script}
		cmd.Env = append(cmd.Env, "DAVIT="+davit, "IMAGE="+d.image(robin), "ACCEPT="+x.root.MediaType,
			"URL=http://"+d.host+"/v2/"+robin.repository()+"/manifests/1")
		cmd.Env = append(cmd.Env, env...)
		return output(cmd)
	}
	got, stderr, err := curl("DAVIT_USERNAME="+robin.name, "DAVIT_PASSWORD="+robin.password)
	if err != nil || got != string(x.raw) {
		t.Errorf("curl with davit's token: %v\n%s%s", err, got, stderr)
	}
	if got, _, err := curl(); err == nil {
		t.Errorf("curl gets the manifest without davit's credential: %s", got)
	}
}

// TestTokenKinds gives davit tokens without telling of which kind they are.
func TestTokenKinds(t *testing.T) {
	enabled(t)
	open := openRegistry(t)
	d := tokenDoor(t, open)
	l := newLogins(t, d)
	bearer := d.davit(t, "token", d.image(robin))
	bearer.Env = append(bearer.Env, "DAVIT_USERNAME="+robin.name, "DAVIT_PASSWORD="+robin.password)
	docker := l.dockerLogin(t, d, robin, "{}")
	for name, token := range map[string]string{
		"bearer":  strings.TrimSpace(run(t, bearer)),
		"refresh": readAuthFile(t, filepath.Join(docker, "config.json")).Auths[d.host].IdentityToken,
	} {
		t.Run(name, func(t *testing.T) {
			if token == "" {
				t.Fatal("no token to give")
			}
			cmd := d.davit(t, "pull", d.image(robin), "--token-stdin")
			cmd.Stdin = strings.NewReader(token)
			endOf(t, cmd).gets(t, greeting(t))

			cmd = d.davit(t, "pull", d.image(robin))
			cmd.Env = append(cmd.Env, "DAVIT_TOKEN="+token)
			endOf(t, cmd).gets(t, greeting(t))

			cmd = d.davit(t, "pull", d.image(robin), "--token-stdin")
			cmd.Stdin = strings.NewReader("not" + token)
			endOf(t, cmd).exits(t, 4)
		})
	}
}
