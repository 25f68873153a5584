//go:build linux

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// serving is davit serve, running.
type serving struct {
	host string
	log  string // the file with what it printed
}

var servingOn = regexp.MustCompile(`serving \d+ images? on https?://(127\.0\.0\.1:\d+)`)

// startServe serves paths on loopback, with further flags among them.
func startServe(t testing.TB, args ...string) serving {
	t.Helper()
	p := start(t, "davit serve", davitCommand(t, append([]string{"serve", "--verbose", "--addr", "127.0.0.1:0"}, args...)...))
	s := serving{log: p.log}
	p.await(t, func() bool {
		if m := servingOn.FindStringSubmatch(p.tail()); m != nil {
			s.host = m[1]
		}
		return s.host != ""
	})
	return s
}

// servedImages are what the tests serve: the same image in an archive of davit's,
// in one as Docker 20.10 saves it, in a layout of skopeo's, and in an archive of
// the newest Docker's.
type servedImages struct {
	paths []string
	image realImage // of the archive; the others are its image of this platform
}

// The names of the images, in the order of the paths.
var servedNames = []string{"davit/multi:1", "davit/saved:1", "davit/layout:1", "davit/newest:1"}

func servedFiles(t testing.TB) servedImages {
	return once(t, "served", func(t testing.TB) servedImages {
		r := startRegistry(t)
		dir, err := os.MkdirTemp(shared, "served-")
		if err != nil {
			t.Fatal(err)
		}
		x := multiImage(t)
		r.push(t, "davit/multi", "1", x.index)
		from := r.host + "/davit/multi:1"
		archive, saved := filepath.Join(dir, "archive.tar"), filepath.Join(dir, "saved.tar")
		layout, newest := filepath.Join(dir, "layout"), filepath.Join(dir, "newest.tar")
		runDavit(t, "pull", from, "-p", "all", "--tag", "docker.io/davit/multi:1", "-o", archive).exits(t, 0)
		save := func(d *docker, name, path string) {
			run(t, d.command("pull", "--quiet", from))
			run(t, d.command("tag", from, name))
			run(t, d.command("save", "--output", path, name))
		}
		save(startClassicDocker(t), "davit/saved:1", saved)
		save(startNewestDocker(t), "davit/newest:1", newest)
		run(t, skopeo(t, "copy", "--quiet", "--all", "--src-tls-verify=false", "docker://"+from, "oci:"+layout+":docker.io/davit/layout:1"))
		return servedImages{[]string{archive, saved, layout, newest}, x}
	})
}

// TestServe has every client pull from a file.
func TestServe(t *testing.T) {
	enabled(t)
	files := servedFiles(t)
	s := startServe(t, files.paths...)

	for name, d := range map[string]func(testing.TB) *docker{"classic Docker": startClassicDocker, "newest Docker": startNewestDocker} {
		t.Run(name, func(t *testing.T) {
			d := d(t)
			for _, name := range servedNames {
				run(t, d.command("pull", "--quiet", s.host+"/"+name))
				prints(t, name, d.run(t, s.host+"/"+name), files)
			}
		})
	}
	t.Run("podman", func(t *testing.T) {
		p := newPodman(t)
		for _, name := range servedNames {
			run(t, p.command("pull", "--quiet", "--tls-verify=false", s.host+"/"+name))
			prints(t, name, p.run(t, s.host+"/"+name), files)
		}
	})
	t.Run("containerd", func(t *testing.T) {
		c := startContainerd(t)
		for _, name := range servedNames {
			run(t, c.command("images", "pull", "--plain-http", "--snapshotter", c.snapshotter, s.host+"/"+name))
			prints(t, name, c.run(t, s.host+"/"+name), files)
		}
	})
	t.Run("skopeo", func(t *testing.T) {
		for _, name := range []string{"davit/multi:1", "davit/layout:1"} {
			if got := skopeoCopyAll(t, "docker://"+s.host+"/"+name, "--src-tls-verify=false"); got != files.image.root.Digest {
				t.Errorf("%s: skopeo copied %s, want %s", name, got, files.image.root.Digest)
			}
		}
		for _, name := range servedNames {
			to := filepath.Join(workDir(t), "layout")
			run(t, skopeo(t, "copy", "--quiet", "--src-tls-verify=false", "docker://"+s.host+"/"+name, "oci:"+to+":one"))
			runDavit(t, "verify", to).exits(t, 0)
			tags := run(t, skopeo(t, "list-tags", "--tls-verify=false", "docker://"+s.host+"/"+strings.TrimSuffix(name, ":1")))
			if !strings.Contains(tags, `"1"`) {
				t.Errorf("%s: skopeo lists %s", name, tags)
			}
		}
	})
	t.Run("crane", func(t *testing.T) {
		for _, name := range servedNames {
			to := filepath.Join(workDir(t), "image.tar")
			crane(t, "pull", s.host+"/"+name, to)
			runDavit(t, "verify", to).exits(t, 0)
			if name != "davit/saved:1" { // whose layers are plain tars: crane validates gzip only
				crane(t, "validate", "--platform", pasted(thisPlatform), "--remote", s.host+"/"+name)
			}
		}
		if got := strings.Fields(crane(t, "catalog", s.host)); !slices.Equal(got, []string{"davit/layout", "davit/multi", "davit/newest", "davit/saved"}) {
			t.Errorf("crane's catalog is %q", got)
		}
		for _, name := range []string{"davit/multi:1", "docker.io/davit/multi:1", "davit/layout:1"} {
			if got := strings.TrimSpace(crane(t, "digest", s.host+"/"+name)); got != files.image.root.Digest.String() {
				t.Errorf("%s is %s, want %s", name, got, files.image.root.Digest)
			}
		}
	})
	t.Run("davit", func(t *testing.T) {
		for _, name := range servedNames {
			to := filepath.Join(workDir(t), "image.tar")
			runDavit(t, "pull", s.host+"/"+name, "-o", to).exits(t, 0)
			runDavit(t, "verify", to).exits(t, 0)
		}
		to := filepath.Join(workDir(t), "again.tar")
		runDavit(t, "pull", s.host+"/davit/multi:1", "-p", "all", "--tag", "docker.io/davit/multi:1", "-o", to).exits(t, 0)
		want, err := os.ReadFile(files.paths[0])
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(to); err != nil || string(got) != string(want) {
			t.Errorf("what was pulled from the archive is another archive: %v", err)
		}
	})
}

func prints(t *testing.T, name, got string, files servedImages) {
	t.Helper()
	if got != files.image.prints {
		t.Errorf("%s printed %q, want %q", name, got, files.image.prints)
	}
}

// TestServeMany has fifty clients pull at once.
func TestServeMany(t *testing.T) {
	enabled(t)
	files := servedFiles(t)
	s := startServe(t, files.paths...)
	dir := workDir(t)
	var clients sync.WaitGroup
	for i := range 50 {
		clients.Go(func() {
			to := filepath.Join(dir, fmt.Sprint(i))
			_, stderr, err := output(craneCommand(t, "pull", "--format=oci", s.host+"/"+servedNames[i%len(servedNames)], to))
			if err != nil {
				t.Errorf("client %d: %v: %s", i, err, stderr)
			}
		})
	}
	clients.Wait()
	for i := range len(servedNames) {
		runDavit(t, "verify", filepath.Join(dir, fmt.Sprint(i))).exits(t, 0)
	}
	if log, err := os.ReadFile(s.log); err != nil || strings.Contains(string(log), "warning: ") {
		t.Errorf("%v, %s", err, log)
	}
}

// TestServeGuarded asks for a password, over TLS.
func TestServeGuarded(t *testing.T) {
	enabled(t)
	files := servedFiles(t)
	ca := newAuthority(t)
	own := ca.server(t, "127.0.0.1")
	certs := filepath.Join(workDir(t), "certs")
	if err := os.Mkdir(certs, 0o700); err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(ca.file)
	if err == nil {
		err = os.WriteFile(filepath.Join(certs, "ca.crt"), pem, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := davitCommand(t, "serve", files.paths[0], "--addr", "127.0.0.1:0", "--tls-cert", own.cert, "--tls-key", own.key, "-u", "robin", "--password-stdin")
	cmd.Stdin = strings.NewReader("canary-7431")
	p := start(t, "davit serve", cmd)
	host := ""
	p.await(t, func() bool {
		if m := servingOn.FindStringSubmatch(p.tail()); m != nil {
			host = m[1]
		}
		return host != ""
	})
	name := host + "/davit/multi:1"
	run(t, skopeo(t, "copy", "--quiet", "--src-cert-dir", certs, "--src-creds", "robin:canary-7431", "docker://"+name, "dir:"+filepath.Join(workDir(t), "image")))
	engine := newPodman(t)
	run(t, engine.command("pull", "--quiet", "--cert-dir", certs, "--creds", "robin:canary-7431", name))
	prints(t, name, engine.run(t, name), files)
	pull := func(password string) ran {
		cmd := davitCommand(t, "pull", name, "-o", "image.tar", "--ca-cert", ca.file, "-u", "robin", "--password-stdin")
		cmd.Stdin = strings.NewReader(password)
		return endOf(t, cmd)
	}
	pull("canary-7431").exits(t, 0)
	pull("other").exits(t, 4)
	if _, stderr, err := output(engine.command("pull", "--quiet", "--cert-dir", certs, "--creds", "robin:other", name)); err == nil {
		t.Errorf("podman pulled with a wrong password: %s", stderr)
	}
}

// TestServeMirror has podman and containerd find docker.io's images in a file
// by their own names.
func TestServeMirror(t *testing.T) {
	enabled(t)
	files := servedFiles(t)
	s := startServe(t, files.paths...)
	const name = "docker.io/davit/multi:1"
	t.Run("podman", func(t *testing.T) {
		for _, location := range []string{s.host, s.host + "/docker.io"} {
			p := newPodman(t)
			conf := filepath.Join(p.dir, "registries.conf")
			text := fmt.Sprintf("[[registry]]\nprefix = \"docker.io\"\nlocation = \"127.0.0.1:1\"\n[[registry.mirror]]\nlocation = %q\ninsecure = true\n", location)
			if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := p.command("pull", "--quiet", name)
			cmd.Env = append(cmd.Env, "CONTAINERS_REGISTRIES_CONF="+conf)
			run(t, cmd)
			prints(t, name, p.run(t, name), files)
		}
	})
	t.Run("containerd", func(t *testing.T) {
		c := startContainerd(t)
		dir := filepath.Join(workDir(t), "hosts")
		if err := os.MkdirAll(filepath.Join(dir, "docker.io"), 0o700); err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprintf("server = \"http://127.0.0.1:1\"\n[host.\"http://%s\"]\ncapabilities = [\"pull\", \"resolve\"]\n", s.host)
		if err := os.WriteFile(filepath.Join(dir, "docker.io", "hosts.toml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		run(t, c.command("images", "pull", "--hosts-dir", dir, "--snapshotter", c.snapshotter, name))
		prints(t, name, c.run(t, name), files)
		if log, err := os.ReadFile(s.log); err != nil || !strings.Contains(string(log), "?ns=docker.io ") {
			t.Errorf("containerd does not say which registry it means: %v", err)
		}
	})
}
