package e2e

import (
	"encoding/base64"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// account is somebody whom a real part lets in. Passwords are canaries: no
// other text looks like them.
type account struct{ name, password string }

var (
	// robin is a person. Distribution's token server grants each account what
	// is below its own name.
	robin = account{"robin", "canary-of-robin-5d1f7a"}
	// job is what a GitLab job logs in as.
	job = account{"gitlab-ci-token", "canary-of-the-job-c3e90b"}
	// office is whom the proxies let through.
	office = account{"office", "canary-of-the-proxy-81b2d6"}
)

// repository is where the account's image is.
func (a account) repository() string { return a.name + "/app" }

// secrets are the forms that the account's password may be met in.
func (a account) secrets() []string {
	return []string{a.password, base64.StdEncoding.EncodeToString([]byte(a.name + ":" + a.password))}
}

// in is a URL with the account's name and password.
func (a account) in(scheme, host string) string {
	return (&url.URL{Scheme: scheme, Host: host, User: url.UserPassword(a.name, a.password)}).String()
}

// htpasswd writes a file with the accounts, as Apache's program does.
func htpasswd(t testing.TB, accounts ...account) string {
	t.Helper()
	var lines strings.Builder
	for _, a := range accounts {
		cmd := exec.Command(debian(t, "htpasswd"), "-niB", a.name)
		cmd.Stdin = strings.NewReader(a.password)
		lines.WriteString(strings.TrimSpace(run(t, cmd)) + "\n")
	}
	path := filepath.Join(workDir(t), "htpasswd")
	writeFile(t, path, lines.String())
	return path
}
