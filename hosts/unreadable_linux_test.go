package hosts

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// nobody is a user without rights of its own.
const nobody = 65534

// asUser says whether this is a user who may not read everything. Root runs
// the test once more as somebody else, and its own run is over then.
func asUser(t *testing.T) bool {
	t.Helper()
	if os.Geteuid() != 0 {
		return true
	}
	again := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.count=1")
	again.Dir = "/"
	again.Env = append(os.Environ(), "TMPDIR=/tmp")
	again.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if out, err := again.CombinedOutput(); err != nil {
		t.Errorf("as user %d: %v\n%s", nobody, err, out)
	}
	return false
}

// What may not be read is an error for its host alone.
func TestUnreadable(t *testing.T) {
	if !asUser(t) {
		return
	}
	m := newMachine(t, map[string]string{
		"/etc/docker/certs.d/a.example/client.cert":     "",
		"/etc/docker/certs.d/a.example/client.key":      "",
		"/etc/docker/certs.d/b.example/ca.crt":          "",
		"/etc/docker/daemon.json":                       `{"insecure-registries": ["c.example"]}`,
		"/etc/containerd/certs.d/d.example/ca.crt":      "",
		"~/.config/containers/registries.conf":          "[[registry]]\nlocation = \"c.example\"\ninsecure = true",
		"~/.config/containers/registries.conf.d/x.conf": "[[registry]]\nlocation = \"c.example\"\ninsecure = true",
		"~/.cache/containers/short-name-aliases.conf":   "[aliases]\n\"x\" = \"c.example/x\"",
		"/etc/containers/registries.conf":               "[[registry]]\nlocation = \"e.example\"\ninsecure = true",
	})
	closed := []string{
		"/etc/docker/certs.d/a.example/client.key", "/etc/docker/certs.d/b.example", "/etc/docker/daemon.json",
		"/etc/containerd/certs.d", "~/.config/containers/registries.conf", "~/.config/containers/registries.conf.d",
		"~/.cache/containers/short-name-aliases.conf",
	}
	for _, name := range closed {
		m.close(name)
	}
	c := m.load()
	for host, file := range map[string]string{"a.example": "client.key", "b.example": "certs.d/b.example"} {
		if _, err := c.Host(host); !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v, want an error that names %s", host, err, file)
		}
	}
	for host, want := range map[string]string{"c.example": "", "d.example": "", "e.example": "insecure by=/etc/containers/registries.conf"} {
		if got := m.tell(m.host(c, host)); got != want {
			t.Errorf("%s: %q, want %q", host, got, want)
		}
	}
	var unread []string
	for _, err := range c.Unread() {
		unread = append(unread, m.short(err.Error()))
	}
	all := strings.Join(unread, "\n")
	for _, name := range closed[2:] {
		if !strings.Contains(all, name) {
			t.Errorf("unread:\n%s\ndoes not name %s", all, name)
		}
	}

	m.close("/etc/containers/registries.conf")
	if _, err := Load(m.environment()); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("a registries.conf of the system's that may not be read: %v", err)
	}
}

// close takes away the right to read a file.
func (m *machine) close(name string) {
	m.t.Helper()
	path := m.path(name)
	info, err := os.Stat(path)
	if err == nil {
		err = os.Chmod(path, 0)
	}
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { _ = os.Chmod(path, info.Mode()) })
}
