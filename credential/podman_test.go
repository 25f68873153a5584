package credential

import (
	"encoding/base64"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// entry is an entry of auths for a user.
func entry(user string) string {
	return `{"auth":"` + base64.StdEncoding.EncodeToString([]byte(user+":p")) + `"}`
}

func TestPodmanFile(t *testing.T) {
	installHelpers(t, "good", "none")
	const namespaces = `"quay.io/team/app":%APP,"quay.io/team":%TEAM,"quay.io":%HOST`
	for _, test := range []struct {
		name, auths, others, registry, repository string
		want                                      string // the user
	}{
		{"a repository", namespaces, "", "quay.io", "team/app", "APP"},
		{"a namespace", namespaces, "", "quay.io", "team/other", "TEAM"},
		{"deep in it", namespaces, "", "quay.io", "team/other/deep", "TEAM"},
		{"below the repository", namespaces, "", "quay.io", "team/app/deep", "APP"},
		{"the host", namespaces, "", "quay.io", "other/app", "HOST"},
		{"a longer name", namespaces, "", "quay.io", "team-b/app", "HOST"},
		{"a longer name of the repository", namespaces, "", "quay.io", "team/application", "TEAM"},
		{"another host", namespaces, "", "quay.io.evil.net", "team/app", ""},
		{"another port", namespaces, "", "quay.io:5000", "team/app", ""},
		{"a port", `"localhost:5000/team":%TEAM`, "", "localhost:5000", "team/app", "TEAM"},
		{"no entry for the host", `"quay.io/team":%TEAM`, "", "quay.io", "other/app", ""},
		{"an empty one", `"quay.io/team":{},"quay.io":%HOST`, "", "quay.io", "team/app", "HOST"},
		{"another's broken one", `"quay.io/team":{"auth":"%%"},"quay.io":%HOST`, "", "quay.io", "other/app", "HOST"},
		{"old URL", `"https://quay.io/v1/":%OLD`, "", "quay.io", "team/app", "OLD"},
		{"old URL, http", `"http://quay.io":%OLD`, "", "quay.io", "team/app", "OLD"},
		{"old URL and host", `"https://quay.io/v1/":%OLD,"quay.io":%HOST`, "", "quay.io", "team/app", "HOST"},
		{"v1 is a namespace", `"quay.io/v1":%OLD`, "", "quay.io", "team/app", ""},
		{"Docker Hub", `"docker.io":%HUB,"https://index.docker.io/v1/":%OLD`, "", "docker.io", "library/alpine", "HUB"},
		{"Docker Hub, as Docker has it", `"https://index.docker.io/v1/":%OLD`, "", "docker.io", "library/alpine", "OLD"},
		{"Docker Hub, a namespace", `"docker.io":%HUB,"docker.io/team":%TEAM`, "", "docker.io", "team/app", "TEAM"},
		{"a helper", `"quay.io/team":%TEAM`, `"credHelpers":{"quay.io":"good"}`, "quay.io", "team/app", "from quay.io"},
		{"a helper for Docker Hub", ``, `"credHelpers":{"docker.io":"good"}`, "docker.io", "library/alpine", "from docker.io"},
		{"a helper that knows none", `"quay.io/team":%TEAM`, `"credHelpers":{"quay.io":"none"}`, "quay.io", "team/app", "TEAM"},
		{"a helper for another", `"quay.io/team":%TEAM`, `"credHelpers":{"ghcr.io":"missing"}`, "quay.io", "team/app", "TEAM"},
		{"credsStore is Docker's", ``, `"credsStore":"missing"`, "quay.io", "team/app", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			auths := test.auths
			for _, user := range []string{"APP", "TEAM", "HOST", "HUB", "OLD"} {
				auths = strings.ReplaceAll(auths, "%"+user, entry(user))
			}
			text := `{"auths":{` + auths + `}`
			if test.others != "" {
				text += "," + test.others
			}
			path := writeConfig(t, text+"}")
			c, err := PodmanFile(path)(t.Context(), test.registry, test.repository)
			if err != nil || c.Username != test.want {
				t.Fatalf("got %q of %v, %v, want %q", c.Username, c, err, test.want)
			}
			if test.want != "" && (!c.Stored || c.Source != path && c.Source != "docker-credential-good") {
				t.Errorf("source %q, stored %v", c.Source, c.Stored)
			}
		})
	}
}

func TestPodmanFileMalformed(t *testing.T) {
	for _, text := range []string{
		`{"auths":`,
		`[]`,
		`{"auths":{"quay.io/team":{"auth":"%%"},"quay.io":` + entry("HOST") + `}}`,
		`{"auths":{"quay.io":{"auth":"czNjcmV0LWNhbmFyeQ=="}}}`, // the canary without a colon
		`{"auths":{"quay.io":"` + canary + `"}}`,
	} {
		path := writeConfig(t, text)
		c, err := PodmanFile(path)(t.Context(), "quay.io", "team/app")
		if err == nil || !c.Anonymous() || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v, and the error %v does not name the file", text, c, err)
		} else if strings.Contains(err.Error(), canary) {
			t.Errorf("%s: a secret in %v", text, err)
		}
	}
	path := filepath.Join(t.TempDir(), "missing.json")
	if _, err := PodmanFile(path)(t.Context(), "quay.io", "team/app"); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("missing: %v", err)
	}
}

// A shell's <(command) can be read once.
func TestPodmanFileIsReadOnce(t *testing.T) {
	path := writeConfig(t, `{"auths":{"quay.io":`+entry("u")+`}}`)
	provider := PodmanFile(path)
	for range 2 {
		if c, err := provider(t.Context(), "quay.io", "app"); err != nil || c.Username != "u" {
			t.Fatalf("got %v, %v", c, err)
		}
		_ = os.Remove(path)
	}
}

func TestPodmanPaths(t *testing.T) {
	const home, run, config = "/home/u", "/run/user/7", "/etc/u"
	for _, test := range []struct {
		goos string
		env  []string
		want []string
	}{
		{"linux", []string{"HOME", home, "XDG_RUNTIME_DIR", run}, []string{"/run/user/7/containers/auth.json", "/home/u/.config/containers/auth.json"}},
		{"linux", []string{"HOME", home}, []string{"/run/containers/7/auth.json", "/home/u/.config/containers/auth.json"}},
		{"linux", []string{"HOME", home, "XDG_RUNTIME_DIR", run, "XDG_CONFIG_HOME", config}, []string{"/run/user/7/containers/auth.json", "/etc/u/containers/auth.json"}},
		{"linux", nil, []string{"/run/containers/7/auth.json"}},
		{"darwin", []string{"HOME", home, "XDG_RUNTIME_DIR", run}, []string{"/home/u/.config/containers/auth.json"}},
		{"darwin", []string{"HOME", home, "XDG_CONFIG_HOME", config}, []string{"/home/u/.config/containers/auth.json", "/etc/u/containers/auth.json"}},
		{"windows", []string{"HOME", "/cygwin", "USERPROFILE", home}, []string{"/home/u/.config/containers/auth.json"}},
		{"windows", nil, nil},
	} {
		got := podmanPaths(environ(test.env...), test.goos, 7)
		for i := range got {
			got[i] = filepath.ToSlash(got[i])
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s with %q: got %q, want %q", test.goos, test.env, got, test.want)
		}
	}
}

// files makes a file of each kind with an entry for quay.io and returns an
// environment that leads to them.
func files(t *testing.T) (env []string, named, dockers, podmans string) {
	t.Helper()
	dir := t.TempDir()
	write := func(name string) string {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(`{"auths":{"quay.io":`+entry(name)+`}}`), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	named, dockers, podmans = write("named.json"), write("docker/config.json"), write("config/containers/auth.json")
	return []string{
		AuthFileVariable, named, "DOCKER_CONFIG", filepath.Dir(dockers), "XDG_CONFIG_HOME", filepath.Join(dir, "config"),
		"XDG_RUNTIME_DIR", filepath.Join(dir, "run"), "HOME", filepath.Join(dir, "home"), "USERPROFILE", filepath.Join(dir, "home"),
	}, named, dockers, podmans
}

func TestStoredOrder(t *testing.T) {
	env, named, dockers, podmans := files(t)
	other := writeConfig(t, `{"auths":{"quay.io":`+entry("flag")+`}}`)
	if c, err := Stored(StoredOptions{AuthFile: other, Getenv: environ(env...)})(t.Context(), "quay.io", "app"); err != nil || c.Source != other {
		t.Errorf("AuthFile: got %v, %v", c, err)
	}
	provider := Stored(StoredOptions{Getenv: environ(env...)})
	for _, want := range []string{named, dockers, podmans} {
		if c, err := provider(t.Context(), "quay.io", "app"); err != nil || c.Source != want || !c.Stored {
			t.Errorf("got %v, %v, want it from %s", c, err, want)
		}
		if err := os.Remove(want); err != nil {
			t.Fatal(err)
		}
	}
	if c, err := provider(t.Context(), "quay.io", "app"); err != nil || !c.Anonymous() {
		t.Errorf("without any file: got %v, %v", c, err)
	}
	// What a file does not know the next one is asked for.
	if c, err := Stored(StoredOptions{AuthFile: other, Getenv: environ(env...)})(t.Context(), "ghcr.io", "app"); err != nil || !c.Anonymous() {
		t.Errorf("unknown: got %v, %v", c, err)
	}
}

func TestStoredFailsClosed(t *testing.T) {
	env, named, dockers, podmans := files(t)
	getenv := environ(env...)
	missing := filepath.Join(t.TempDir(), "missing.json")
	_, err := Stored(StoredOptions{AuthFile: missing, Getenv: getenv})(t.Context(), "quay.io", "app")
	if err == nil || !strings.Contains(err.Error(), missing) {
		t.Errorf("a missing AuthFile: %v", err)
	}
	for _, path := range []string{podmans, dockers, named} {
		if err := os.WriteFile(path, []byte(`{"auths":`), 0o600); err != nil {
			t.Fatal(err)
		}
		// Those before it do not know this registry, so that it is asked.
		c, err := Stored(StoredOptions{Getenv: getenv})(t.Context(), "ghcr.io", "app")
		if err == nil || !c.Anonymous() || !strings.Contains(err.Error(), path) {
			t.Errorf("malformed %s: got %v, %v", path, c, err)
		}
	}
	_, err = Stored(StoredOptions{Getenv: getenv})(t.Context(), "quay.io", "app")
	if err == nil || !strings.Contains(err.Error(), AuthFileVariable) {
		t.Errorf("the error does not name the variable: %v", err)
	}
}

func TestPodmanLooksWherePodmanDoes(t *testing.T) {
	env, named, _, podmans := files(t)
	for i := 0; i < len(env); i += 2 {
		t.Setenv(env[i], env[i+1])
	}
	if c, err := Podman()(t.Context(), "quay.io", "app"); err != nil || c.Source != named {
		t.Errorf("%s: got %v, %v", AuthFileVariable, c, err)
	}
	// That file stands in place of the others, whatever it knows.
	if err := os.Remove(named); err != nil {
		t.Fatal(err)
	}
	if c, err := Podman()(t.Context(), "quay.io", "app"); err != nil || !c.Anonymous() {
		t.Errorf("no such file: got %v, %v", c, err)
	}
	t.Setenv(AuthFileVariable, "")
	if c, err := Podman()(t.Context(), "quay.io", "app"); err != nil || c.Source != podmans {
		t.Errorf("got %v, %v", c, err)
	}
	if runtime.GOOS == "linux" {
		first := filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "containers", "auth.json")
		if err := os.MkdirAll(filepath.Dir(first), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(podmans, first); err != nil {
			t.Fatal(err)
		}
		if c, err := Podman()(t.Context(), "quay.io", "app"); err != nil || c.Source != first {
			t.Errorf("XDG_RUNTIME_DIR: got %v, %v", c, err)
		}
	}
}
