package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// anyToken finds each JSON Web Token, so each bearer token of the tests.
var anyToken = regexp.MustCompile(`eyJ[\w-]{8,}\.[\w-]*`)

// keeps checks that none of the accounts' secrets, nor any token, is in what a
// program has let be seen.
func keeps(t testing.TB, what, text string, more ...string) {
	t.Helper()
	secrets := more
	for _, a := range []account{robin, job, office, mistaken} {
		secrets = append(secrets, a.secrets()...)
	}
	for _, secret := range secrets {
		if secret != "" && strings.Contains(text, secret) {
			t.Errorf("%s shows the secret %s:\n%s", what, secret, text)
		}
	}
	if found := anyToken.FindString(text); found != "" {
		t.Errorf("%s shows the token %s:\n%s", what, found, text)
	}
}

// mistaken has a password that nobody takes, and is no less secret.
var mistaken = account{robin.name, "canary-of-the-mistaken-2e47f8"}

// TestNoSecrets runs davit with all that it can tell, where it succeeds and
// where it fails, and looks for secrets in what it has said.
func TestNoSecrets(t *testing.T) {
	enabled(t)
	open := openRegistry(t)
	doors := []*door{basicDoor(t, open), tokenDoor(t, open), squidDoor(t, open)}
	l := newLogins(t, doors...)
	password := func(a account) []string {
		return []string{"DAVIT_USERNAME=" + a.name, "DAVIT_PASSWORD=" + a.password}
	}
	for _, d := range doors {
		docker := l.dockerLogin(t, d, robin, "{}")
		identity := readAuthFile(t, filepath.Join(docker, "config.json")).Auths[d.host].IdentityToken
		broken := workDir(t)
		writeFile(t, filepath.Join(broken, "config.json"), `{"auths":{"`+d.host+`":{"auth":"`+robin.secrets()[1]+`"}`)
		unreachable := []string{"HTTPS_PROXY=" + office.in("http", freeAddress(t))}
		refused := unreachable
		if d.proxy != nil {
			refused = []string{"HTTPS_PROXY=" + strings.Replace(d.proxy.url, office.password, mistaken.password, 1)}
		}
		for _, test := range []struct {
			name  string
			image string
			env   []string
			code  []int
		}{
			{"succeeds", d.image(robin), password(robin), []int{0}},
			{"identity token", d.image(robin), []string{"DOCKER_CONFIG=" + docker}, []int{0}},
			{"wrong password", d.image(robin), password(mistaken), []int{4}},
			{"wrong token", d.image(robin), []string{"DAVIT_TOKEN=" + mistaken.password}, []int{4}},
			{"not there", d.host + "/robin/nothing:1", password(robin), []int{3, 4}},
			{"broken file", d.image(robin), []string{"DOCKER_CONFIG=" + broken}, []int{1, 4}},
			{"no such registry", "nothing.test/robin/app:1", append(password(robin), unreachable...), []int{1}},
			{"refused by the proxy", "registry.test:1/robin/app:1", append(password(robin), refused...), []int{1}},
		} {
			for _, flags := range [][]string{{"--verbose"}, {"--debug"}, {"--json", "--debug"}, {"--progress", "json", "--debug"}} {
				t.Run(d.name+"/"+test.name+"/"+strings.Join(flags, " "), func(t *testing.T) {
					cmd := d.davit(t, append([]string{"pull", test.image}, flags...)...)
					cmd.Env = append(cmd.Env, test.env...)
					r := endOf(t, cmd)
					r.exits(t, test.code...)
					keeps(t, "its output", r.stdout+r.stderr, identity)
				})
			}
			t.Run(d.name+"/"+test.name+"/doctor", func(t *testing.T) {
				for _, flags := range [][]string{{"--debug"}, {"--json"}} {
					cmd := d.davit(t, append([]string{"doctor", test.image}, flags...)...)
					cmd.Env = append(cmd.Env, test.env...)
					r := endOf(t, cmd)
					r.exits(t, test.code...)
					keeps(t, "davit doctor's output", r.stdout+r.stderr, identity)
				}
			})
		}
	}
}

// TestNoSecretsOfProcess looks for secrets in the process's arguments, and in
// what is left of it when it crashes in the midst of a transfer.
func TestNoSecretsOfProcess(t *testing.T) {
	enabled(t)
	open := startRegistry(t)
	open.push(t, "robin/large", "1", randomImage(t, 20e6))
	d := &door{}
	users := htpasswd(t, robin)
	for name, r := range map[string]*registry{
		"password": open.guarded(t, basicAuth(users)),
		"token":    open.guarded(t, startTokenServer(t, users).auth("")),
	} {
		d.host = r.host
		for signal, crash := range map[string]os.Signal{"SIGQUIT": syscall.SIGQUIT, "SIGABRT": syscall.SIGABRT} {
			t.Run(name+"/"+signal, func(t *testing.T) {
				p := startTinyproxy(t)
				archive := filepath.Join(workDir(t), "image.tar")
				cmd := d.davit(t, "pull", d.host+"/robin/large:1", "-u", robin.name, "--password-stdin",
					"--debug", "--limit-rate", "100K", "--output", archive)
				cmd.Env = append(cmd.Env, "HTTP_PROXY="+p.url, "HTTPS_PROXY="+p.url, "GOTRACEBACK=system")
				cmd.Stdin = strings.NewReader(robin.password)
				running := start(t, "davit", cmd)
				running.await(t, func() bool {
					journal, err := os.ReadFile(filepath.Join(archive+".davit-part", "journal"))
					return err == nil && len(journal) > 0
				})
				arguments := commandLines(t, cmd.Process.Pid)
				if !strings.Contains(arguments, "--password-stdin") {
					t.Errorf("these are not davit's arguments: %q", arguments)
				}
				keeps(t, "the argument list", arguments)

				if err := cmd.Process.Signal(crash); err != nil {
					t.Fatal(err)
				}
				<-running.ended
				said := read(t, running.log)
				if !strings.Contains(said, "goroutine ") {
					t.Errorf("it has not crashed:\n%s", said)
				}
				keeps(t, "the crash", said)
				keepsFiles(t, filepath.Dir(archive))
			})
		}
	}
}

// commandLines are the arguments of a process and of those that it has started.
func commandLines(t testing.TB, pid int) string {
	t.Helper()
	name := strconv.Itoa(pid)
	all := read(t, filepath.Join("/proc", name, "cmdline"))
	children, _, _ := output(exec.Command("pgrep", "--parent", name)) // fails where there is none
	for child := range strings.FieldsSeq(children) {
		if line, err := os.ReadFile(filepath.Join("/proc", child, "cmdline")); err == nil {
			all += "\n" + string(line)
		}
	}
	return strings.ReplaceAll(all, "\x00", " ")
}

// keepsFiles checks that no secret was written to a small file below dir: the
// large ones are content.
func keepsFiles(t testing.TB, dir string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no files below %s: %v", dir, err)
	}
	for _, file := range files {
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Size() < 1<<20 {
			keeps(t, file, read(t, file))
		}
	}
}
