package e2e

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// nginx is one that speaks TLS before servers that don't.
type nginx struct {
	port   string
	access string // the file with its access log
}

type nginxOptions struct {
	upstream  string    // host:port
	identity  certified // the server's own
	clientsOf string    // the CA whose clients alone are let in; empty: everybody
}

func startNginx(t testing.TB, o nginxOptions) *nginx {
	t.Helper()
	dir := workDir(t)
	address := freeAddress(t)
	n := &nginx{port: port(t, address), access: filepath.Join(dir, "access.log")}
	var c strings.Builder
	line := func(words ...string) { c.WriteString(strings.Join(words, " ") + "\n") }
	line("daemon off; user root; worker_processes 1;")
	line("pid", filepath.Join(dir, "pid;"))
	line("error_log stderr; events { } http {")
	line("access_log", n.access+";")
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		line(kind+"_temp_path", filepath.Join(dir, kind)+";")
	}
	line("server {")
	line("listen", address, "ssl;")
	line("ssl_certificate", o.identity.cert+"; ssl_certificate_key", o.identity.key+";")
	if o.clientsOf != "" {
		line("ssl_client_certificate", o.clientsOf+"; ssl_verify_client on;")
	}
	line("client_max_body_size 0; proxy_buffering off;")
	line("proxy_set_header Host $http_host; proxy_set_header X-Forwarded-Proto https;")
	line("location / { proxy_pass http://"+o.upstream, "; }")
	line("} }")
	config := filepath.Join(dir, "nginx.conf")
	writeFile(t, config, c.String())
	p := start(t, "nginx", exec.Command(debian(t, "nginx"), "-p", dir, "-c", config, "-e", "stderr"))
	p.serves(t, address)
	return n
}
