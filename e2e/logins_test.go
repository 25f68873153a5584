package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// logins are the tools with which people log in.
type logins struct {
	docker *docker
	podman *podman
	pass   []string // the environment in which docker-credential-pass keeps secrets
}

// newLogins starts a Docker Engine that gets through all doors, except where a
// certificate has to be shown.
func newLogins(t testing.TB, doors ...*door) *logins {
	t.Helper()
	var env, args []string
	for _, d := range doors {
		env = append(env, d.env()...)
		if d.proxy != nil { // what isn't on loopback by its name
			args = append(args, "--insecure-registry="+d.host)
		}
	}
	return &logins{docker: startClassicDockerWith(t, env, args...), podman: newPodman(t), pass: newPass(t)}
}

// newPass sets up pass, the store behind docker-credential-pass, with a key of
// its own.
func newPass(t testing.TB) []string {
	t.Helper()
	dir := workDir(t)
	keys := filepath.Join(dir, "gnupg")
	if err := os.Mkdir(keys, 0o700); err != nil {
		t.Fatal(err)
	}
	env := []string{
		debianPath(filepath.Dir(built(t, "docker-credential-pass"))),
		"HOME=" + dir, "GNUPGHOME=" + keys, "PASSWORD_STORE_DIR=" + filepath.Join(dir, "store"),
	}
	do := func(program string, args ...string) {
		cmd := exec.Command(debian(t, program), args...)
		cmd.Env = env
		run(t, cmd)
	}
	t.Cleanup(func() { do("gpgconf", "--kill", "all") }) // the agent that gpg has started
	do("gpg", "--batch", "--quiet", "--passphrase", "", "--quick-gen-key", "tests@davit.test", "default", "default", "never")
	do("pass", "init", "tests@davit.test")
	return env
}

// dockerLogin logs the account in behind the door with docker login, in a new
// DOCKER_CONFIG that begins as config. It returns the directory.
func (l *logins) dockerLogin(t testing.TB, d *door, a account, config string) string {
	t.Helper()
	dir := workDir(t)
	host := d.host
	if d.own.cert != "" {
		// To a registry on loopback the engine shows no certificate.
		host = d.plain
	}
	writeFile(t, filepath.Join(dir, "config.json"), strings.ReplaceAll(config, "HOST", host))
	cmd := l.docker.command("login", "--username", a.name, "--password-stdin", host)
	if config != "{}" { // or it would find the helper by itself
		cmd.Env = append(cmd.Env, l.pass...)
	}
	cmd.Env = append(cmd.Env, "DOCKER_CONFIG="+dir)
	cmd.Stdin = strings.NewReader(a.password)
	run(t, cmd)
	if host != d.host {
		rename(t, filepath.Join(dir, "config.json"), host, d.host)
		if config != "{}" {
			l.passRename(t, host, d.host)
		}
	}
	return dir
}

// passRename gives what the helper keeps for one host to another.
func (l *logins) passRename(t testing.TB, from, to string) {
	t.Helper()
	helper := func(verb, input string) []byte {
		cmd := exec.Command(built(t, "docker-credential-pass"), verb)
		cmd.Env = l.pass
		cmd.Stdin = strings.NewReader(input)
		return []byte(run(t, cmd))
	}
	kept := map[string]string{}
	if err := json.Unmarshal(helper("get", from), &kept); err != nil {
		t.Fatal(err)
	}
	kept["ServerURL"] = to
	text, err := json.Marshal(kept)
	if err != nil {
		t.Fatal(err)
	}
	helper("store", string(text))
	helper("erase", from)
}

// podmanLogin logs the account in with podman login, for key: the door's host,
// or a repository there. file is the auth.json.
func (l *logins) podmanLogin(t testing.TB, d *door, a account, key, file string) {
	t.Helper()
	cmd := l.podman.command("login", "--authfile", file, "--username", a.name, "--password-stdin")
	if d.trust == "" {
		cmd.Args = append(cmd.Args, "--tls-verify=false")
	} else {
		cmd.Args = append(cmd.Args, "--cert-dir", d.certificates(t, workDir(t)))
	}
	cmd.Args = append(cmd.Args, key)
	cmd.Env = append(cmd.Env, d.env()...)
	cmd.Stdin = strings.NewReader(a.password)
	run(t, cmd)
}

// certificates puts what the door needs into dir, as Docker and Podman have it
// in their certs.d.
func (d *door) certificates(t testing.TB, dir string) string {
	t.Helper()
	for name, from := range map[string]string{"ca.crt": d.trust, "client.cert": d.own.cert, "client.key": d.own.key} {
		if from == "" {
			continue
		}
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(dir, name), string(text))
	}
	return dir
}

// authFile is a config.json or auth.json.
type authFile struct {
	Auths map[string]struct {
		Auth          string `json:"auth"`
		IdentityToken string `json:"identitytoken"`
	} `json:"auths"`
}

func readAuthFile(t testing.TB, path string) authFile {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var f authFile
	if err := json.Unmarshal(text, &f); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return f
}

// rename gives what is stored for one host to another.
func rename(t testing.TB, path, from, to string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, path, strings.ReplaceAll(string(text), `"`+from+`"`, `"`+to+`"`))
}
