package e2e

import (
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// door is a registry with something before it that davit has to get past. All
// doors lead to the same image, which is there for robin and for the job.
type door struct {
	name  string
	host  string    // as references name it
	proxy *proxy    // the way there, where it is the only one
	trust string    // the file of the CA, where it is a private one
	own   certified // what it wants to be shown, where it asks for a certificate
	// tokens tells that docker login gets an identity token for the password.
	tokens bool
	// plain is the host of the registry behind it, which asks for the password
	// alone. Docker Engine goes there where it can't show a certificate.
	plain string
}

// image is the reference of the account's image behind the door.
func (d *door) image(a account) string { return d.host + "/" + a.repository() + ":1" }

// env is the environment of programs that go through the door.
func (d *door) env() []string {
	if d.proxy == nil {
		return nil
	}
	return []string{"HTTPS_PROXY=" + d.proxy.url}
}

// flags are those that davit needs for the door, whoever goes through it.
func (d *door) flags() []string {
	var flags []string
	if d.trust != "" {
		flags = append(flags, "--ca-cert", d.trust)
	}
	if d.own.cert != "" {
		flags = append(flags, "--cert", d.own.cert, "--key", d.own.key)
	}
	return flags
}

// davit is davit with args, on its way through the door.
func (d *door) davit(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	cmd := davitCommand(t, append(args, d.flags()...)...)
	cmd.Env = append(cmd.Env, d.env()...)
	return cmd
}

// greeting is a small image that prints something.
func greeting(t testing.TB) realImage { return once(t, "greeting", makeGreeting) }

func makeGreeting(t testing.TB) realImage {
	t.Helper()
	files, sums := treeLayer(t, gzipped, goroot(t), "opt/go", "LICENSE")
	program, _ := treeLayer(t, gzipped, filepath.Dir(buildHello(t, thisPlatform.Architecture)), "bin", "hello")
	m := makeImage(t, thisPlatform, ocispec.ImageConfig{Entrypoint: []string{"/bin/hello"}}, files, program)
	return realImage{single(m), m, "hello from linux/" + thisPlatform.Architecture + "\n" + sums["opt/go/LICENSE"] + "\n"}
}

// openRegistry is a registry with the image that the doors lead to.
func openRegistry(t testing.TB) *registry {
	t.Helper()
	r := startRegistry(t)
	for _, a := range []account{robin, job} {
		r.push(t, a.repository(), "1", greeting(t).index)
	}
	return r
}

// basicDoor is distribution with a file of passwords.
func basicDoor(t testing.TB, open *registry) *door {
	t.Helper()
	r := open.guarded(t, basicAuth(htpasswd(t, robin, job)))
	return &door{name: "htpasswd", host: r.host, plain: r.host}
}

// tokenDoor is distribution with its own token server.
func tokenDoor(t testing.TB, open *registry) *door {
	t.Helper()
	r := open.guarded(t, startTokenServer(t, htpasswd(t, robin, job)).auth(""))
	return &door{name: "token server", host: r.host, plain: r.host, tokens: true}
}

// privateDoor is nginx with a certificate of a private CA.
func privateDoor(t testing.TB, open *registry) *door {
	t.Helper()
	a, behind := newAuthority(t), basicDoor(t, open)
	n := startNginx(t, nginxOptions{upstream: behind.host, identity: a.server(t, "localhost")})
	return &door{name: "private CA", host: "localhost:" + n.port, trust: a.file, plain: behind.host}
}

// clientDoor is nginx with a certificate of a private CA, which lets in only
// who shows one of another private CA.
func clientDoor(t testing.TB, open *registry) *door {
	t.Helper()
	a, clients, behind := newAuthority(t), newAuthority(t), basicDoor(t, open)
	n := startNginx(t, nginxOptions{upstream: behind.host, identity: a.server(t, "localhost"), clientsOf: clients.file})
	return &door{name: "client certificate", host: "localhost:" + n.port, trust: a.file, own: clients.client(t, "robin"), plain: behind.host}
}

// squidDoor is nginx behind squid, which wants a password of its own. Registry
// and token server have names there that only squid knows.
func squidDoor(t testing.TB, open *registry) *door {
	t.Helper()
	a := newAuthority(t)
	tokens := startTokenServer(t, htpasswd(t, robin, job))
	// The realm has nginx's port, which is known only when it runs; so it is
	// another one that leads to the token server.
	realm := startNginx(t, nginxOptions{upstream: tokens.host, identity: a.server(t, tokensName)})
	behind := open.guarded(t, tokens.auth("https://"+net.JoinHostPort(tokensName, realm.port)+tokenPath))
	front := startNginx(t, nginxOptions{upstream: behind.host, identity: a.server(t, registryName)})
	return &door{name: "squid", host: net.JoinHostPort(registryName, front.port), proxy: startSquid(t), trust: a.file, plain: behind.host, tokens: true}
}

// allDoors are one of each kind.
func allDoors(t testing.TB) []*door {
	t.Helper()
	open := openRegistry(t)
	return []*door{basicDoor(t, open), tokenDoor(t, open), privateDoor(t, open), clientDoor(t, open), squidDoor(t, open)}
}

// seen checks that what went through the door went through its proxy, to the
// registry and to the token server.
func (d *door) seen(t testing.TB) {
	t.Helper()
	if d.proxy == nil {
		return
	}
	for _, name := range []string{d.host, tokensName} {
		d.proxy.saw(t, name)
	}
}

// gets checks that davit has got the whole image.
func (r ran) gets(t testing.TB, x realImage) {
	t.Helper()
	r.exits(t, 0)
	if want := x.root.Digest.String(); !strings.Contains(r.stdout, want) {
		t.Errorf("%s printed no %s:\n%s", r.command, want, r.stdout)
	}
}
