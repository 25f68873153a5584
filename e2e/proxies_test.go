package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// proxy is one that lets through who has its password.
type proxy struct {
	*process
	url string // with the credential in it
	log string // the file in which it notes whom it led where
}

// saw waits until the proxy has noted that it led somebody to address, which
// it does at the connection's end.
func (p *proxy) saw(t testing.TB, address string) {
	t.Helper()
	p.await(t, func() bool {
		log, err := os.ReadFile(p.log)
		return err == nil && strings.Contains(string(log), address)
	})
}

// The names that only squid knows. They lead to loopback.
const (
	registryName = "registry.test"
	tokensName   = "tokens.test"
)

const squidConfig = `http_port %[2]s
auth_param basic program /usr/lib/squid/basic_ncsa_auth %[1]s/users
auth_param basic realm office
acl known proxy_auth REQUIRED
http_access allow known
http_access deny all
hosts_file %[1]s/hosts
dns_nameservers 127.0.0.1
access_log stdio:%[1]s/access.log
cache_log %[1]s/cache.log
pid_filename %[1]s/pid
coredump_dir %[1]s
cache deny all
cache_mem 8 MB
max_filedescriptors 1024
pinger_enable off
shutdown_lifetime 0 seconds
visible_hostname squid.test
`

// startSquid runs squid, which wants the office's password and resolves names
// that nothing else knows.
func startSquid(t testing.TB) *proxy {
	t.Helper()
	parent := workDir(t)
	dir := filepath.Join(parent, "squid")
	address := freeAddress(t)
	users, err := os.ReadFile(htpasswd(t, office))
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "users"), string(users))
	writeFile(t, filepath.Join(dir, "hosts"), "127.0.0.1 "+registryName+" "+tokensName+"\n")
	config := filepath.Join(dir, "squid.conf")
	writeFile(t, config, fmt.Sprintf(squidConfig, dir, address))
	// It gives up being root, so that its files are its own user's.
	if err := os.Chmod(parent, 0o711); err != nil {
		t.Fatal(err)
	}
	giveTo(t, "proxy", dir, "users", "hosts", "squid.conf")
	p := start(t, "squid", exec.Command(debian(t, "squid"), "-N", "-f", config))
	p.serves(t, address)
	return &proxy{p, office.in("http", address), filepath.Join(dir, "access.log")}
}

func giveTo(t testing.TB, name, dir string, files ...string) {
	t.Helper()
	who, err := user.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	uid, uidErr := strconv.Atoi(who.Uid)
	gid, gidErr := strconv.Atoi(who.Gid)
	if uidErr != nil || gidErr != nil {
		t.Fatalf("%s is no user of this system: %+v", name, who)
	}
	for _, file := range append(files, ".") {
		if err := os.Chown(filepath.Join(dir, file), uid, gid); err != nil {
			t.Fatal(err)
		}
	}
}

// startTinyproxy runs tinyproxy, which wants the office's password.
func startTinyproxy(t testing.TB) *proxy {
	t.Helper()
	dir := workDir(t)
	address := freeAddress(t)
	log := filepath.Join(dir, "log")
	config := filepath.Join(dir, "tinyproxy.conf")
	writeFile(t, config, fmt.Sprintf("Port %s\nListen 127.0.0.1\nTimeout 60\nMaxClients 50\nBasicAuth %s %s\nLogFile %q\nLogLevel Connect\n",
		port(t, address), office.name, office.password, log))
	p := start(t, "tinyproxy", exec.Command(debian(t, "tinyproxy"), "-d", "-c", config))
	p.serves(t, address)
	return &proxy{p, office.in("http", address), log}
}

// startSOCKS runs microsocks, which wants the office's password.
func startSOCKS(t testing.TB) *proxy {
	t.Helper()
	address := freeAddress(t)
	p := start(t, "microsocks", exec.Command(debian(t, "microsocks"), "-i", "127.0.0.1", "-p", port(t, address),
		"-u", office.name, "-P", office.password))
	p.serves(t, address)
	return &proxy{p, office.in("socks5", address), p.log}
}
