package credential

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

func openStore(t *testing.T, path string) *Store {
	t.Helper()
	s, err := OpenStore(path)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func contentOf(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// alone checks that nothing lies about beside what should be in a directory.
func alone(t *testing.T, dir string, want ...string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".davit-lock") || runtime.GOOS != "windows" {
			got = append(got, f.Name())
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("there are %q, want %q", got, want)
	}
}

// private checks the permissions of what has secrets in it.
func private(t *testing.T, path string, want os.FileMode) {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS != "windows" && info.Mode() != want {
		t.Errorf("%s has %v, want %v", path, info.Mode(), want)
	}
}

// useVault installs the helper that keeps what it is given, and returns where
// its arguments are.
func useVault(t *testing.T, others ...string) (arguments string) {
	t.Helper()
	vault := t.TempDir()
	t.Setenv("DAVIT_TEST_VAULT", vault)
	installHelpers(t, append(others, "keeps")...)
	return filepath.Join(vault, "arguments")
}

func TestSaveInANewFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "home", ".docker", "config.json")
	s := openStore(t, path)
	for _, save := range []struct {
		registry string
		c        Credential
	}{
		{"example.com", Credential{Username: "user", Password: "pass"}},
		{"https://index.docker.io/v1/", Credential{Username: "user", Password: "p:a:s:s"}},
		{"localhost:5000", Credential{Username: "user", IdentityToken: "<id>"}},
		{"token.example.com", Credential{IdentityToken: "id"}},
	} {
		where, err := s.Save(t.Context(), save.registry, save.c)
		if err != nil || where != path || where != s.Path() {
			t.Fatalf("%s: stored in %q, %v", save.registry, where, err)
		}
		save.c.Source, save.c.Stored = path, true
		if c, err := s.Lookup(t.Context(), save.registry); err != nil || c != save.c {
			t.Errorf("%s: got %v, %v", save.registry, c, err)
		}
	}
	// dXNlcjpwYXNz is user:pass.
	const want = `{
	"auths": {
		"example.com": {
			"auth": "dXNlcjpwYXNz"
		},
		"https://index.docker.io/v1/": {
			"auth": "dXNlcjpwOmE6czpz"
		},
		"localhost:5000": {
			"auth": "dXNlcjo=",
			"identitytoken": "\u003cid\u003e"
		},
		"token.example.com": {
			"identitytoken": "id"
		}
	}
}
`
	if got := contentOf(t, path); got != want {
		t.Errorf("the file is\n%s\nwant\n%s", got, want)
	}
	private(t, path, 0o600)
	private(t, filepath.Dir(path), 0o700|os.ModeDir)
	alone(t, filepath.Dir(path), "config.json")
}

func TestSaveKeepsWhatElseIsThere(t *testing.T) {
	path := writeConfig(t, `{"psFormat":"<{{.ID}}>","auths":{"z.org":{"auth":"dTpo","email":"a@z.org"},"example.com":{"auth":"dTpo"},"a.org":{}},"proxies":{"default":{"n":12345678901234567890,"x":[1,{}]}},"HttpHeaders":{}}`)
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := openStore(t, path).Save(t.Context(), "example.com", Credential{Username: "user", Password: "pass"}); err != nil {
		t.Fatal(err)
	}
	const want = `{
	"psFormat": "<{{.ID}}>",
	"auths": {
		"z.org": {
			"auth": "dTpo",
			"email": "a@z.org"
		},
		"example.com": {
			"auth": "dXNlcjpwYXNz"
		},
		"a.org": {}
	},
	"proxies": {
		"default": {
			"n": 12345678901234567890,
			"x": [
				1,
				{}
			]
		}
	},
	"HttpHeaders": {}
}
`
	if got := contentOf(t, path); got != want {
		t.Errorf("the file is\n%s\nwant\n%s", got, want)
	}
	private(t, path, 0o600)
}

func TestSaveThroughLinks(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink("nowhere", filepath.Join(dir, "try")); err != nil {
		t.Skipf("no symbolic links here: %v", err)
	}
	for _, name := range []string{"dotfiles", "elsewhere/deep", "home"} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.FromSlash(name)), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	link := func(name, to string) string {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.Symlink(filepath.FromSlash(to), path); err != nil {
			t.Fatal(err)
		}
		return path
	}
	// A directory elsewhere, in which a link leads to another, which goes up
	// from where a third leads to, to a file that is not there yet.
	link("home/.docker", "../dotfiles")
	link("dotfiles/config.json", "second.json")
	link("dotfiles/second.json", "third/../docker.json")
	link("dotfiles/third", "../elsewhere/deep")
	path := filepath.Join(dir, "home", ".docker", "config.json")
	s := openStore(t, path)
	for _, registry := range []string{"example.com", "other.org"} {
		if _, err := s.Save(t.Context(), registry, Credential{Username: "user", Password: "pass"}); err != nil {
			t.Fatal(err)
		}
	}
	target := filepath.Join(dir, "elsewhere", "docker.json")
	if text := contentOf(t, target); !strings.Contains(text, "example.com") || !strings.Contains(text, "other.org") {
		t.Errorf("the target has %s", text)
	}
	private(t, target, 0o600)
	if info, err := os.Lstat(path); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("%v (%v) stands where the link was", info.Mode(), err)
	}
	alone(t, filepath.Join(dir, "dotfiles"), "config.json", "second.json", "third")
	alone(t, filepath.Join(dir, "elsewhere"), "deep", "docker.json")

	loop := link("loop.json", "loop.json")
	if _, err := openStore(t, loop).Save(t.Context(), "example.com", Credential{Username: "user", Password: canary}); err == nil || strings.Contains(err.Error(), canary) {
		t.Errorf("a loop of links: %v", err)
	}
}

func TestSaveInAHelper(t *testing.T) {
	for _, test := range []struct {
		name, config, registry, key string
		c                           Credential
	}{
		{"for all", `{"credsStore":"keeps","auths":{"example.com":{"auth":"dTpo"}}}`, "example.com", "example.com", Credential{Username: "user", Password: canary}},
		{"for one", `{"credsStore":"missing","credHelpers":{"example.com":"keeps"}}`, "example.com", "example.com", Credential{Username: "u:er", Password: canary}},
		{"Docker Hub", `{"credsStore":"keeps"}`, "docker.io", hubKey, Credential{Username: "user", Password: canary}},
		{"an identity token", `{"credsStore":"keeps"}`, "example.com", "example.com", Credential{IdentityToken: canary}},
	} {
		t.Run(test.name, func(t *testing.T) {
			arguments := useVault(t)
			path := writeConfig(t, test.config)
			s := openStore(t, path)
			where, err := s.Save(t.Context(), test.registry, test.c)
			if err != nil || where != "docker-credential-keeps" {
				t.Fatalf("stored in %q, %v", where, err)
			}
			test.c.Source, test.c.Stored = where, true
			if c, err := s.Lookup(t.Context(), test.registry); err != nil || c != test.c {
				t.Errorf("got %v, %v", c, err)
			}
			text := contentOf(t, path)
			if strings.Contains(text, `"auth":`) || strings.Contains(text, canary) {
				t.Errorf("a secret in %s", text)
			}
			if !strings.Contains(text, `"`+test.key+`": {}`) {
				t.Errorf("docker logout would not know of it: %s", text)
			}
			if args := contentOf(t, arguments); args != "[store]\n[get]\n" {
				t.Errorf("the helper's arguments: %s", args)
			}
			if erased, err := s.Erase(t.Context(), test.registry); err != nil || !slices.Equal(erased, []string{where}) {
				t.Errorf("erased in %q, %v", erased, err)
			}
			if c, err := s.Lookup(t.Context(), test.registry); err != nil || !c.Anonymous() {
				t.Errorf("after it was erased: %v, %v", c, err)
			}
			if erased, err := s.Erase(t.Context(), test.registry); err != nil || len(erased) > 0 {
				t.Errorf("erased again, in %q, %v", erased, err)
			}
		})
	}
}

// A helper's marker that stands already is nothing to write for.
func TestSaveInAHelperLeavesTheFile(t *testing.T) {
	useVault(t)
	const config = `{"credsStore":"keeps","auths":{"example.com":{}}}`
	path := writeConfig(t, config)
	if _, err := openStore(t, path).Save(t.Context(), "example.com", Credential{Username: "user", Password: canary}); err != nil {
		t.Fatal(err)
	}
	if got := contentOf(t, path); got != config {
		t.Errorf("the file was written: %s", got)
	}
}

func TestSaveFailsClosed(t *testing.T) {
	installHelpers(t, "fails", "echoes")
	login := Credential{Username: "user", Password: canary}
	for _, test := range []struct {
		name, config, registry string
		c                      Credential
		says                   string
	}{
		{"no such helper", `{"credsStore":"missing"}`, "example.com", login, "docker-credential-missing"},
		{"a helper that fails", `{"credsStore":"fails"}`, "example.com", login, "docker-credential-fails: the keychain is"},
		{"a helper that repeats", `{"credsStore":"echoes"}`, "example.com", login, "docker-credential-echoes: exit status 1"},
		{"a helper that repeats a token", `{"credsStore":"echoes"}`, "example.com", Credential{IdentityToken: canary}, "docker-credential-echoes: exit status 1"},
		{"a malformed file", `{"auths":{"a.org":{"auth":"dTpo"}}`, "example.com", login, "config.json"},
		{"malformed auths", `{"auths":["` + canary + `"]}`, "example.com", login, "config.json"},
		{"no object", `[]`, "example.com", login, "config.json"},
		{"a name with a colon", `{}`, "example.com", Credential{Username: "us:er", Password: canary}, "colon"},
		{"no name", `{}`, "example.com", Credential{Password: canary}, "neither"},
		{"no password", `{}`, "example.com", Credential{Username: "user"}, "neither"},
		{"a token of any kind", `{}`, "example.com", Credential{Username: "user", Token: canary}, "neither"},
		{"a registry's token too", `{}`, "example.com", Credential{Username: "user", Password: "p", RegistryToken: canary}, "more than"},
		{"no registry", `{}`, "", login, "no registry"},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := writeConfig(t, test.config)
			where, err := openStore(t, path).Save(t.Context(), test.registry, test.c)
			if err == nil || where != "" || !strings.Contains(err.Error(), test.says) {
				t.Fatalf("stored in %q: %v does not say %q", where, err, test.says)
			}
			if strings.Contains(err.Error(), canary) || strings.ContainsAny(err.Error(), "\x1b\n") {
				t.Errorf("unfit for a message: %q", err)
			}
			if got := contentOf(t, path); got != test.config {
				t.Errorf("the file was written: %s", got)
			}
			alone(t, filepath.Dir(path), "config.json")
		})
	}
}

func TestErase(t *testing.T) {
	for _, test := range []struct {
		name, auths, registry, want string
		found                       bool
	}{
		{"a host", `"example.com":{"auth":"dTpo"},"other.org":{"auth":"dTpo"}`, "example.com", `"other.org":{"auth":"dTpo"}`, true},
		{"old keys", `"a.org":{},"http://example.com":{"auth":"dTpo"},"https://example.com/v1/":{},"example.com/v2/":{"auth":"%"}`, "https://example.com", `"a.org":{}`, true},
		{"Docker Hub's keys", `"https://index.docker.io/v1/":{"auth":"dTpo"},"docker.io":{},"registry-1.docker.io":{}`, "docker.io", ``, true},
		{"an empty entry", `"example.com":{}`, "example.com", ``, false},
		{"a longer host", `"example.com.evil.net":{"auth":"dTpo"}`, "example.com", `"example.com.evil.net":{"auth":"dTpo"}`, false},
		{"another port", `"example.com:5000":{"auth":"dTpo"}`, "example.com", `"example.com:5000":{"auth":"dTpo"}`, false},
		{"Podman's namespaces", `"example.com/team":{"auth":"dTpo"}`, "example.com", `"example.com/team":{"auth":"dTpo"}`, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := writeConfig(t, `{"auths":{`+test.auths+`},"psFormat":""}`)
			s := openStore(t, path)
			where, err := s.Erase(t.Context(), test.registry)
			if err != nil || len(where) > 0 != test.found || test.found && where[0] != path {
				t.Fatalf("erased in %q, %v", where, err)
			}
			got := strings.NewReplacer(" ", "", "\n", "", "\t", "").Replace(contentOf(t, path))
			if want := `{"auths":{` + test.want + `},"psFormat":""}`; got != want {
				t.Errorf("the file is %s, want %s", got, want)
			}
			if c, err := s.Lookup(t.Context(), test.registry); err != nil || !c.Anonymous() {
				t.Errorf("still there: %v, %v", c, err)
			}
		})
	}
}

func TestEraseNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), ".docker")
	if where, err := openStore(t, filepath.Join(dir, "config.json")).Erase(t.Context(), "example.com"); err != nil || where != nil {
		t.Errorf("erased in %q, %v", where, err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("a directory was made: %v", err)
	}
	const config = `{ "auths": {} }`
	path := writeConfig(t, config)
	if where, err := openStore(t, path).Erase(t.Context(), "example.com"); err != nil || where != nil || contentOf(t, path) != config {
		t.Errorf("erased in %q, %v: %s", where, err, contentOf(t, path))
	}
}

// What an old docker login left in the helper under another key goes, too.
func TestEraseOldKeysInAHelper(t *testing.T) {
	arguments := useVault(t)
	path := writeConfig(t, `{"credsStore":"keeps","auths":{"https://example.com":{}}}`)
	if _, err := storeInHelper(t.Context(), "keeps", "https://example.com", Credential{Username: "u", Password: canary}); err != nil {
		t.Fatal(err)
	}
	where, err := openStore(t, path).Erase(t.Context(), "example.com")
	if err != nil || !slices.Equal(where, []string{"docker-credential-keeps"}) {
		t.Errorf("erased in %q, %v", where, err)
	}
	if c, err := getFromHelper(t.Context(), "keeps", "https://example.com"); err != nil || !c.Anonymous() {
		t.Errorf("still there: %v, %v", c, err)
	}
	if args := contentOf(t, arguments); strings.Contains(args, canary) {
		t.Errorf("a secret among the arguments: %s", args)
	}
}

func TestEraseWithAHelperThatCannot(t *testing.T) {
	installHelpers(t, "fails", "none")
	for _, test := range []struct{ suffix, says string }{{"fails", "docker-credential-fails: the keychain"}, {"missing", "docker-credential-missing"}, {"none", ""}} {
		path := writeConfig(t, `{"credsStore":"`+test.suffix+`","auths":{"example.com":{"auth":"dTpo"}}}`)
		where, err := openStore(t, path).Erase(t.Context(), "example.com")
		if (err != nil) != (test.says != "") || err != nil && !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v does not say %q", test.suffix, err, test.says)
		}
		// The file's own does not stay because of it.
		if !slices.Equal(where, []string{path}) || strings.Contains(contentOf(t, path), "dTpo") {
			t.Errorf("%s: erased in %q, and the file is %s", test.suffix, where, contentOf(t, path))
		}
	}
	const malformed = `{"auths":`
	path := writeConfig(t, malformed)
	if _, err := openStore(t, path).Erase(t.Context(), "example.com"); err == nil || !strings.Contains(err.Error(), path) || contentOf(t, path) != malformed {
		t.Errorf("a malformed file: %v, %s", err, contentOf(t, path))
	}
}

func TestSavesAtOnce(t *testing.T) {
	path := writeConfig(t, `{"auths":{"erased.org":{"auth":"dTpo"},"kept.org":{"auth":"dTpo"}},"psFormat":"x"}`)
	const n = 16
	registry := func(i int) string { return fmt.Sprintf("r%d.example.com", i) }
	ctx, cancel := context.WithCancel(t.Context())
	var readers, writers sync.WaitGroup
	readers.Go(func() { // whoever reads meanwhile finds a whole file
		for ctx.Err() == nil {
			if c, err := DockerFile(path)(ctx, "kept.org", ""); err != nil || c.Anonymous() {
				t.Errorf("while it is written: %v, %v", c, err)
				return
			}
		}
	})
	for i := range n {
		writers.Go(func() {
			s, err := OpenStore(path)
			if err == nil {
				_, err = s.Save(ctx, registry(i), Credential{Username: fmt.Sprint("u", i), Password: "p"})
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	writers.Go(func() {
		if _, err := openStore(t, path).Erase(ctx, "erased.org"); err != nil {
			t.Error(err)
		}
	})
	writers.Wait()
	cancel()
	readers.Wait()
	s := openStore(t, path)
	for i := range n {
		if c, err := s.Lookup(t.Context(), registry(i)); err != nil || c.Username != fmt.Sprint("u", i) {
			t.Errorf("%s is lost: %v, %v", registry(i), c, err)
		}
	}
	if c, err := s.Lookup(t.Context(), "erased.org"); err != nil || !c.Anonymous() {
		t.Errorf("erased.org is there: %v, %v", c, err)
	}
	if text := contentOf(t, path); !strings.Contains(text, `"psFormat": "x"`) {
		t.Errorf("the file is %s", text)
	}
	alone(t, filepath.Dir(path), "config.json")
}

// The lock's file comes and goes; there is one owner all the same.
func TestLockHasOneOwner(t *testing.T) {
	path := lockOf(filepath.Join(t.TempDir(), "config.json"))
	var owners, worst atomic.Int32
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 40 {
				unlock, err := lock(t.Context(), path)
				if err != nil {
					t.Error(err)
					return
				}
				if n := owners.Add(1); n > 1 {
					worst.Store(n)
				}
				runtime.Gosched()
				owners.Add(-1)
				if err := unlock(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if n := worst.Load(); n > 1 {
		t.Errorf("%d owners at once", n)
	}
}

func TestSaveWaitsForTheLock(t *testing.T) {
	const config = `{"auths":{}}`
	path := writeConfig(t, config)
	unlock, err := lock(t.Context(), lockOf(path))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		_, err := openStore(t, path).Save(ctx, "example.com", Credential{Username: "user", Password: canary})
		ended <- err
	}()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("with the lock held: %v", err)
	}
	if got := contentOf(t, path); got != config {
		t.Errorf("written without the lock: %s", got)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	if _, err := openStore(t, path).Save(t.Context(), "example.com", Credential{Username: "user", Password: "p"}); err != nil {
		t.Error(err)
	}
}

// A davit that was killed while it wrote leaves the old file, and beside it one
// with a secret, which does not stay.
func TestSaveClearsWhatAKilledOneLeft(t *testing.T) {
	path := writeConfig(t, `{}`)
	left := filepath.Join(filepath.Dir(path), ".config.json.davit-new-KILLED")
	for _, file := range []string{left, lockOf(path)} {
		if err := os.WriteFile(file, []byte(canary), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := openStore(t, path).Save(t.Context(), "example.com", Credential{Username: "user", Password: "p"}); err != nil {
		t.Fatal(err)
	}
	alone(t, filepath.Dir(path), "config.json")
}

func TestOpenStoreWhereDockerLooks(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("DOCKER_CONFIG", dir)
	if got := openStore(t, "").Path(); got != filepath.Join(dir, "config.json") {
		t.Errorf("DOCKER_CONFIG: %s", got)
	}
	t.Setenv("DOCKER_CONFIG", "")
	t.Setenv("HOME", dir)
	t.Setenv("USERPROFILE", dir)
	if got := openStore(t, "").Path(); got != filepath.Join(dir, ".docker", "config.json") {
		t.Errorf("home: %s", got)
	}
	t.Setenv("HOME", "")
	t.Setenv("USERPROFILE", "")
	if s, err := OpenStore(""); err == nil {
		t.Errorf("no home: %s", s.Path())
	}
}
