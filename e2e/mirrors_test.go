package e2e

import (
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// mirrored is an origin and registries with the same images.
type mirrored struct {
	origin  *counted
	mirrors []*counted
	image   *index
}

const mirroredRepository = "team/large"

func startMirrored(t testing.TB, mirrors int, sizes ...int64) *mirrored {
	t.Helper()
	m := &mirrored{origin: startCounted(t), image: randomImage(t, sizes...)}
	m.origin.push(t, mirroredRepository, "1", m.image)
	for range mirrors {
		m.mirrors = append(m.mirrors, m.origin.guarded(t, "").counted(t))
	}
	return m
}

func (m *mirrored) size() int64 {
	var n int64
	for _, l := range m.image.images[0].layers {
		n += l.descriptor.Size
	}
	return n
}

// pull pulls the image and checks that the archive is what the origin alone
// gives. It returns what davit printed and how long it took.
func (m *mirrored) pull(t testing.TB, env []string, flags ...string) (ran, time.Duration) {
	t.Helper()
	name := m.origin.host + "/" + mirroredRepository + ":1"
	honest := filepath.Join(workDir(t), "origin.tar")
	runDavit(t, "pull", name, "--output", honest).exits(t, 0)
	for _, c := range append(m.mirrors, m.origin) {
		c.forget()
	}
	path := filepath.Join(workDir(t), "mirrored.tar")
	cmd := davitCommand(t, append([]string{"pull", "--verbose", name, "--output", path}, flags...)...)
	cmd.Env = append(cmd.Env, env...)
	began := time.Now()
	r := endOf(t, cmd)
	took := time.Since(began)
	r.exits(t, 0)
	if got, want := sumOf(t, path), sumOf(t, honest); got != want {
		t.Errorf("the archive is %s, the origin's %s", got, want)
	}
	for i, c := range m.mirrors {
		t.Logf("mirror %d: %s", i+1, served(c.total(m.image), m.size()))
	}
	t.Logf("origin: %s; %.2f s", served(m.origin.total(m.image), m.size()), took.Seconds())
	return r, took
}

// TestMirrors pulls from one mirror, then from two, each of which gives
// 10 MB/s in all.
func TestMirrors(t *testing.T) {
	enabled(t)
	m := startMirrored(t, 2, 30e6, 20e6, 10e6)
	const each = 10e6
	first, second := m.mirrors[0].slowed(each), m.mirrors[1].slowed(each)

	_, one := m.pull(t, nil, "--mirror", first.host)
	if n := m.origin.total(m.image); n > 0 {
		t.Errorf("with a mirror that has everything the origin gave %d bytes", n)
	}
	_, two := m.pull(t, nil, "--mirror", first.host, "--mirror", m.origin.host+"="+second.host)
	t.Logf("two mirrors are %.2f times as fast as one", one.Seconds()/two.Seconds())
	for i, c := range m.mirrors {
		if n := c.total(m.image); n < m.size()/3 {
			t.Errorf("of two equal mirrors, mirror %d gave %s", i+1, served(n, m.size()))
		}
	}
	all := m.origin.total(m.image) + first.total(m.image) + second.total(m.image)
	if all > m.size()*11/10 {
		t.Errorf("together they gave %s", served(all, m.size()))
	}
}

// TestMirrorOfWrongBytes has a mirror that spoils all layers: it costs no more
// than what it sent itself.
func TestMirrorOfWrongBytes(t *testing.T) {
	enabled(t)
	m := startMirrored(t, 2, 30e6, 20e6, 10e6)
	m.mirrors[0].spoiled = true
	bad, good := m.mirrors[0].slowed(20e6), m.mirrors[1].slowed(20e6)
	r, _ := m.pull(t, nil, "--mirror", bad.host, "--mirror", good.host)
	r.says(t, bad.host)
	if n := bad.total(m.image); n == 0 || n > m.size() {
		t.Errorf("the bad mirror gave %s", served(n, m.size()))
	}
	if n := good.total(m.image) + m.origin.total(m.image); n > m.size()*11/10 {
		t.Errorf("the good mirror and the origin gave %s", served(n, m.size()))
	}
	if n := m.origin.total(m.image); n > m.size()/10 {
		t.Errorf("the origin gave %s, though one mirror was good", served(n, m.size()))
	}

	// A bad one alone leaves everything to the origin.
	m.pull(t, nil, "--mirror", bad.host)
	if n := m.origin.total(m.image); n < m.size() || n > m.size()*11/10 {
		t.Errorf("the origin gave %s", served(n, m.size()))
	}
}

// TestMirrorDown passes over mirrors that aren't there or have nothing.
func TestMirrorDown(t *testing.T) {
	enabled(t)
	m := startMirrored(t, 1, 5e6)
	empty := startRegistry(t)
	for name, host := range map[string]string{"not there": freeAddress(t), "has nothing": empty.host} {
		t.Run(name, func(t *testing.T) {
			m.pull(t, nil, "--mirror", host, "--mirror", m.mirrors[0].host)
			if n := m.origin.total(m.image); n > 0 {
				t.Errorf("the origin gave %s, though one mirror was good", served(n, m.size()))
			}
		})
	}
}

// TestOriginDown takes the image from a mirror, and says so, where the origin
// is away. It keeps its name.
func TestOriginDown(t *testing.T) {
	enabled(t)
	m := startMirrored(t, 1, 5e6)
	away := freeAddress(t) // nobody is there
	path := filepath.Join(workDir(t), "image.tar")
	r := runDavit(t, "pull", away+"/"+mirroredRepository+":1", "--mirror", m.mirrors[0].host, "--output", path)
	r.exits(t, 0)
	r.says(t, m.mirrors[0].host)
	if want := away + "/" + mirroredRepository + ":1@" + m.image.root.Digest.String(); !strings.Contains(r.stdout, want) {
		t.Errorf("it printed no %s:\n%s", want, r.stdout)
	}
	// What the origin says is not there isn't asked of a mirror.
	empty := httptest.NewServer(nil)
	defer empty.Close()
	runDavit(t, "pull", strings.TrimPrefix(empty.URL, "http://")+"/"+mirroredRepository+":1", "--mirror", m.mirrors[0].host).exits(t, 3)
}

// TestRegistriesConf finds mirrors, prefixes and blocked registries in
// containers' registries.conf, as podman does.
func TestRegistriesConf(t *testing.T) {
	enabled(t)
	m := startMirrored(t, 1, 5e6)
	conf := filepath.Join(workDir(t), "registries.conf")
	podman := newPodman(t)
	for _, test := range []struct {
		name, registry, text string
		code                 int
	}{
		{"location", "images.test", "[[registry]]\nprefix = \"images.test\"\nlocation = \"ORIGIN\"\ninsecure = true\n", 0},
		{"mirror", "images.test", "[[registry]]\nprefix = \"images.test/team\"\nlocation = \"AWAY/team\"\ninsecure = true\n[[registry.mirror]]\nlocation = \"MIRROR/team\"\ninsecure = true\n", 0},
		{"another prefix", "images.test", "[[registry]]\nprefix = \"images.test/other\"\nlocation = \"ORIGIN\"\ninsecure = true\n", 1},
		{"insecure", "ORIGIN", "[[registry]]\nlocation = \"ORIGIN\"\ninsecure = true\n", 0},
		{"blocked", "ORIGIN", "[[registry]]\nlocation = \"ORIGIN\"\ninsecure = true\nblocked = true\n", 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			names := strings.NewReplacer("ORIGIN", m.origin.host, "MIRROR", m.mirrors[0].host, "AWAY", freeAddress(t))
			writeFile(t, conf, names.Replace(test.text))
			image := names.Replace(test.registry) + "/" + mirroredRepository + ":1"
			variable := "CONTAINERS_REGISTRIES_CONF=" + conf

			cmd := davitCommand(t, "pull", image)
			cmd.Env = append(cmd.Env, variable)
			r := endOf(t, cmd)
			r.exits(t, test.code)
			if test.name == "blocked" {
				r.says(t, conf)
			}
			cmd = podman.command("pull", "--quiet", image)
			cmd.Env = append(cmd.Env, variable)
			if _, stderr, err := output(cmd); (err == nil) != (test.code == 0) {
				t.Errorf("davit's exit code is %d, but podman pull: %v %s", r.code, err, stderr)
			}
		})
	}
}
