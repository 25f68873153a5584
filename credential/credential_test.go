package credential

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

const canary = "s3cret-canary"

// The test binary plays the helpers, by the name that it is run under.
func TestMain(m *testing.M) {
	name := strings.TrimSuffix(filepath.Base(os.Args[0]), ".exe")
	if suffix, ok := strings.CutPrefix(name, helperPrefix); ok {
		os.Exit(playHelper(suffix))
	}
	os.Exit(m.Run())
}

func playHelper(suffix string) int {
	input, _ := io.ReadAll(os.Stdin)
	asked := string(input)
	switch suffix {
	case "keeps":
		return keep(os.Args[1:], input)
	case "echoes":
		fmt.Println(asked)
		fmt.Fprintln(os.Stderr, "cannot store", asked)
		return 1
	case "crlf":
		fmt.Printf("{\"Username\":\"user\",\r\n\"Secret\":%q}\r\n", canary)
	case "none-crlf":
		fmt.Print(noCredential, "\r\n")
		return 1
	case "good":
		fmt.Printf(`{"ServerURL":%q,"Username":"from %s","Secret":%q}`, asked, asked, canary)
	case "token":
		fmt.Printf(`{"ServerURL":%q,"Username":"<token>","Secret":%q}`, asked, canary)
	case "none":
		fmt.Println(noCredential)
		return 1
	case "fails":
		fmt.Println("the keychain is \x1b[31mlocked")
		return 1
	case "leaks":
		fmt.Printf(`{"Secret":%q}`, canary)
		fmt.Fprintln(os.Stderr, "half done")
		return 1
	case "hangs":
		time.Sleep(time.Hour)
	case "parent":
		child := exec.Command(helperPrefix + "child")
		child.Stdout = os.Stdout
		_ = child.Run()
	case "child":
		if _, err := net.Dial("unix", os.Getenv("DAVIT_TEST_SOCKET")); err == nil {
			time.Sleep(time.Hour)
		}
	case "babbles":
		fmt.Print("Your password is " + canary)
	case "floods":
		fmt.Print(strings.Repeat(" ", helperOutput), "{}")
	}
	return 0
}

// keep is the helper that keeps what it is given, a file for each address in
// the directory of DAVIT_TEST_VAULT, and its arguments beside them.
func keep(args []string, input []byte) int {
	vault := os.Getenv("DAVIT_TEST_VAULT")
	log, err := os.OpenFile(filepath.Join(vault, "arguments"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return 2
	}
	if _, err := fmt.Fprintln(log, args); err != nil {
		return 2
	}
	place := func(address string) string { return filepath.Join(vault, fmt.Sprintf("%x", address)) }
	switch args[0] {
	case "get":
		kept, err := os.ReadFile(place(string(input)))
		if err != nil {
			fmt.Println(noCredential)
			return 1
		}
		fmt.Print(string(kept))
	case "store":
		var given struct{ ServerURL, Username, Secret string }
		if json.Unmarshal(input, &given) != nil || os.WriteFile(place(given.ServerURL), input, 0o600) != nil {
			return 2
		}
	case "erase":
		_ = os.Remove(place(string(input))) // without a word, as most do
	}
	return 0
}

func installHelpers(t *testing.T, suffixes ...string) {
	t.Helper()
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, suffix := range suffixes {
		name := filepath.Join(dir, helperPrefix+suffix)
		if runtime.GOOS == "windows" {
			name += ".exe"
		}
		if err := os.Symlink(self, name); err != nil {
			program, err := os.ReadFile(self)
			if err == nil {
				err = os.WriteFile(name, program, 0o700)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Setenv("PATH", dir)
	t.Setenv("GORACE", "atexit_sleep_ms=0") // or each helper takes a second to end
}

func writeConfig(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestGiven(t *testing.T) {
	for _, test := range []struct {
		tied, asked string
		want        bool
	}{
		{"", "example.com", true},
		{"example.com", "example.com", true},
		{"https://example.com/", "example.com", true},
		{"EXAMPLE.com", "example.com", true},
		{"example.com", "example.com.evil.net", false},
		{"example.com", "example.com:5000", false},
		{"index.docker.io", "docker.io", true},
		{"https://index.docker.io/v1/", "docker.io", true},
		{"registry-1.docker.io", "docker.io", true},
	} {
		c, err := Given("user", canary, "--username", test.tied)(t.Context(), test.asked, "app")
		if err != nil {
			t.Fatal(err)
		}
		if got := !c.Anonymous(); got != test.want {
			t.Errorf("given for %q, asked for %q: %v, want %v", test.tied, test.asked, got, test.want)
		}
		if test.want && (c.Source != "--username" || c.Stored || c.Password != canary) {
			t.Errorf("wrong credential: source %q, stored %v", c.Source, c.Stored)
		}
	}
	if c, err := Given("", "", "--username", "")(t.Context(), "example.com", "app"); err != nil || !c.Anonymous() {
		t.Errorf("nothing given: %v, %v", c, err)
	}
}

func TestGivenToken(t *testing.T) {
	for _, test := range []struct {
		username, token, tied, asked string
		want                         Credential
	}{
		{"", canary, "", "example.com", Credential{Token: canary, Source: "--token-stdin"}},
		{"user", canary, "example.com", "example.com", Credential{Username: "user", Token: canary, Source: "--token-stdin"}},
		{"", canary, "example.com", "sub.example.com", Credential{}},
		{"user", "", "", "example.com", Credential{}},
	} {
		c, err := GivenToken(test.username, test.token, "--token-stdin", test.tied)(t.Context(), test.asked, "app")
		if err != nil || c != test.want {
			t.Errorf("%q for %q, asked for %q: got %v (%v), want %v", test.username, test.tied, test.asked, c, err, test.want)
		}
	}
}

// environ is a getenv of these variables.
func environ(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func TestEnvironmentToken(t *testing.T) {
	for _, test := range []struct {
		name string
		env  []string
		want Credential
		says []string // of the error
	}{
		{"alone", []string{TokenVariable, canary}, Credential{Token: canary, Source: TokenVariable}, nil},
		{"with a name", []string{TokenVariable, canary, UsernameVariable, "u"}, Credential{Username: "u", Token: canary, Source: TokenVariable}, nil},
		{"for this registry", []string{TokenVariable, canary, RegistryVariable, "example.com"}, Credential{Token: canary, Source: TokenVariable}, nil},
		{"for another", []string{TokenVariable, canary, RegistryVariable, "other.org"}, Credential{}, nil},
		{"beside a password", []string{TokenVariable, canary, UsernameVariable, "u", PasswordVariable, canary}, Credential{}, []string{TokenVariable, PasswordVariable}},
		{"beside a password, for another", []string{TokenVariable, canary, PasswordVariable, canary, RegistryVariable, "other.org"}, Credential{}, nil},
		{"a name alone", []string{UsernameVariable, "u"}, Credential{}, []string{UsernameVariable, TokenVariable, PasswordVariable}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := Environment(environ(test.env...))(t.Context(), "example.com", "app")
			if c != test.want || (err != nil) != (test.says != nil) {
				t.Fatalf("got %v, %v", c, err)
			}
			for _, says := range test.says {
				if !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), canary) {
					t.Errorf("%q does not say %s, or says too much", err, says)
				}
			}
		})
	}
}

func TestEnvironment(t *testing.T) {
	get := func(pairs ...string) Provider { return Environment(environ(pairs...)) }
	c, err := get(UsernameVariable, "u", PasswordVariable, canary)(t.Context(), "example.com", "app")
	if err != nil || c.Username != "u" || c.Password != canary || c.Source != UsernameVariable || c.Stored {
		t.Errorf("got %v, %v", c, err)
	}
	c, err = get(UsernameVariable, "u", PasswordVariable, canary, RegistryVariable, "other.org")(t.Context(), "example.com", "app")
	if err != nil || !c.Anonymous() {
		t.Errorf("another registry's: got %v, %v", c, err)
	}
	if _, err = get(UsernameVariable, "u")(t.Context(), "example.com", "app"); err == nil || !strings.Contains(err.Error(), PasswordVariable) {
		t.Errorf("without a password: %v", err)
	}
	_, err = get(PasswordVariable, canary)(t.Context(), "example.com", "app")
	if err == nil || strings.Contains(err.Error(), canary) {
		t.Errorf("without a name: %v", err)
	}
	if c, err = get(PasswordVariable, canary, RegistryVariable, "other.org")(t.Context(), "example.com", "app"); err != nil || !c.Anonymous() {
		t.Errorf("another registry's, without a name: got %v, %v", c, err)
	}
}

// Without DAVIT_REGISTRY it is for the registries that a command is about, and
// not for mirrors of theirs.
func TestEnvironmentForRegistries(t *testing.T) {
	set := []string{UsernameVariable, "u", PasswordVariable, canary}
	for _, test := range []struct {
		registry   string // DAVIT_REGISTRY
		registries []string
		asked      string
		want       bool
	}{
		{"", []string{"example.com", "docker.io"}, "example.com", true},
		{"", []string{"example.com", "docker.io"}, "index.docker.io", true},
		{"", []string{"example.com"}, "mirror.example.com", false},
		{"", []string{"example.com"}, "example.com:5000", false},
		{"mirror.example.com", []string{"example.com"}, "mirror.example.com", true},
		{"mirror.example.com", []string{"example.com"}, "example.com", false},
		{"", nil, "mirror.example.com", true},
	} {
		c, err := Environment(environ(append(set, RegistryVariable, test.registry)...), test.registries...)(t.Context(), test.asked, "app")
		if err != nil || c.Anonymous() == test.want {
			t.Errorf("%+v: got %v, %v", test, c, err)
		}
	}
	// Half a credential is no fault of a mirror's.
	if c, err := Environment(environ(UsernameVariable, "u"), "example.com")(t.Context(), "mirror.example.com", "app"); err != nil || !c.Anonymous() {
		t.Errorf("half a credential: got %v, %v", c, err)
	}
}

func TestChain(t *testing.T) {
	none := Given("", "", "", "")
	bad := errors.New("bad")
	fails := func(context.Context, string, string) (Credential, error) { return Credential{}, bad }
	c, err := Chain(nil, none, Given("first", "p", "a", ""), fails)(t.Context(), "example.com", "app")
	if err != nil || c.Username != "first" {
		t.Errorf("got %v, %v", c, err)
	}
	if _, err := Chain(none, fails, Given("later", "p", "a", ""))(t.Context(), "example.com", "app"); !errors.Is(err, bad) {
		t.Errorf("an error was passed over: %v", err)
	}
	if c, err := Chain()(t.Context(), "example.com", "app"); err != nil || !c.Anonymous() {
		t.Errorf("an empty chain: %v, %v", c, err)
	}
}

func TestPrintedCredentialHasNoSecret(t *testing.T) {
	c := Credential{Username: "u", Password: canary, IdentityToken: canary, RegistryToken: canary, Token: canary, Source: "a file"}
	type holder struct {
		Value   Credential
		Pointer *Credential
	}
	var printed []string
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, value := range []any{c, &c, []Credential{c}, map[string]Credential{"a": c}, holder{c, nil}, &holder{Value: c}, fmt.Errorf("e: %v", c)} {
			printed = append(printed, fmt.Sprintf(verb, value))
		}
	}
	encoded, err := json.Marshal(holder{c, &c})
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("text", "c", c, "holder", holder{Value: c})
	slog.New(slog.NewJSONHandler(&log, nil)).Info("json", "c", c, "holder", holder{Value: c})
	for _, text := range append(printed, string(encoded), log.String()) {
		if strings.Contains(text, canary) || strings.Contains(text, fmt.Sprintf("%x", canary)) {
			t.Errorf("printed: %s", text)
		}
	}
	for _, text := range []string{fmt.Sprint(c), fmt.Sprintf("%+v", holder{Value: c}), string(encoded)} {
		if !strings.Contains(text, "credential from a file") {
			t.Errorf("printed: %s", text)
		}
	}
}

func TestDockerFile(t *testing.T) {
	// dXNlcjpwYXNz is user:pass; dTpo is u:h.
	const auth = `{"auth":"dXNlcjpwYXNz"}`
	for _, test := range []struct {
		name, config, asked string
		want                Credential // without Source
	}{
		{"a host", `{"auths":{"example.com":` + auth + `}}`, "example.com", Credential{Username: "user", Password: "pass"}},
		{"with port", `{"auths":{"localhost:5000":` + auth + `}}`, "localhost:5000", Credential{Username: "user", Password: "pass"}},
		{"another port", `{"auths":{"localhost:5000":` + auth + `}}`, "localhost:5001", Credential{}},
		{"https URL", `{"auths":{"https://example.com":` + auth + `}}`, "example.com", Credential{Username: "user", Password: "pass"}},
		{"URL with path", `{"auths":{"https://example.com/v2/":` + auth + `}}`, "example.com", Credential{Username: "user", Password: "pass"}},
		{"Docker Hub", `{"auths":{"https://index.docker.io/v1/":` + auth + `}}`, "docker.io", Credential{Username: "user", Password: "pass"}},
		{"Docker Hub, short", `{"auths":{"docker.io":` + auth + `}}`, "docker.io", Credential{Username: "user", Password: "pass"}},
		{"Docker Hub, both", `{"auths":{"docker.io":{"auth":"dTpo"},"https://index.docker.io/v1/":` + auth + `}}`, "docker.io", Credential{Username: "user", Password: "pass"}},
		{"identity token", `{"auths":{"example.com":{"auth":"PHRva2VuPjo=","identitytoken":"id"}}}`, "example.com", Credential{Username: "<token>", IdentityToken: "id"}},
		{"registry token", `{"auths":{"example.com":{"registrytoken":"rt"}}}`, "example.com", Credential{RegistryToken: "rt"}},
		{"name and password", `{"auths":{"example.com":{"username":"user","password":"pass"}}}`, "example.com", Credential{Username: "user", Password: "pass"}},
		{"a repository is no key of Docker's", `{"auths":{"example.com/app":` + auth + `}}`, "example.com", Credential{}},
		{"a namespace is no host", `{"auths":{"example.com/team":` + auth + `}}`, "example.com", Credential{}},
		{"a longer host is another", `{"auths":{"example.com.evil.net":` + auth + `}}`, "example.com", Credential{}},
		{"empty entry", `{"auths":{"example.com":{}}}`, "example.com", Credential{}},
		{"nothing", `{}`, "example.com", Credential{}},
		{"empty file", " \n", "example.com", Credential{}},
		{"a null entry", `{"auths":{"example.com":null}}`, "example.com", Credential{}},
		{"no entries", `{"auths":null}`, "example.com", Credential{}},
		{"another's broken entry", `{"auths":{"other.org":{"auth":"%"},"example.com":` + auth + `}}`, "example.com", Credential{Username: "user", Password: "pass"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := writeConfig(t, test.config)
			c, err := DockerFile(path)(t.Context(), test.asked, "app")
			if err != nil {
				t.Fatal(err)
			}
			if !test.want.Anonymous() {
				test.want.Source, test.want.Stored = path, true
			}
			if c != test.want {
				t.Errorf("wrong credential: user %q, password %q, tokens %q %q, source %q", c.Username, c.Password, c.IdentityToken, c.RegistryToken, c.Source)
			}
		})
	}
}

func TestDockerFileSameKeyEveryTime(t *testing.T) {
	path := writeConfig(t, `{"auths":{"https://example.com/v2/":{"auth":"dTpo"},"http://example.com":{"auth":"dXNlcjpwYXNz"}}}`)
	for range 50 {
		c, err := DockerFile(path)(t.Context(), "example.com", "app")
		if err != nil || c.Username != "user" {
			t.Fatalf("got %q, %v", c.Username, err)
		}
	}
}

func TestDockerFileMalformed(t *testing.T) {
	for _, config := range []string{
		`{"auths":`,
		`[]`,
		`{"auths":[]}`,
		`{"credsStore":7}`,
		`{"credHelpers":[]}`,
		`{"auths":{"example.com":{"auth":"%%"}}}`,
		`{"auths":{"example.com":{"auth":"czNjcmV0LWNhbmFyeQ=="}}}`, // the canary without a colon
		`{"auths":{"example.com":"` + canary + `"}}`,
	} {
		path := writeConfig(t, config)
		_, err := DockerFile(path)(t.Context(), "example.com", "app")
		if err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: the error %v does not name the file", config, err)
		} else if strings.Contains(err.Error(), canary) {
			t.Errorf("%s: a secret in %v", config, err)
		}
	}
}

func TestDockerLooksWhereDockerDoes(t *testing.T) {
	path := writeConfig(t, `{"auths":{"example.com":{"auth":"dXNlcjpwYXNz"}}}`)
	t.Setenv("DOCKER_CONFIG", filepath.Dir(path))
	if c, err := Docker()(t.Context(), "example.com", "app"); err != nil || c.Source != path {
		t.Errorf("DOCKER_CONFIG: %v, %v", c, err)
	}
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	if c, err := Docker()(t.Context(), "example.com", "app"); err != nil || !c.Anonymous() {
		t.Errorf("no file: %v, %v", c, err)
	}
	home := t.TempDir()
	t.Setenv("DOCKER_CONFIG", "")
	t.Setenv("HOME", home)
	t.Setenv("USERPROFILE", home)
	stored := filepath.Join(home, ".docker", "config.json")
	if err := os.MkdirAll(filepath.Dir(stored), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path, stored); err != nil {
		t.Fatal(err)
	}
	if c, err := Docker()(t.Context(), "example.com", "app"); err != nil || c.Source != stored {
		t.Errorf("home: %v, %v", c, err)
	}
}

func TestHelpers(t *testing.T) {
	installHelpers(t, "good", "token", "none", "crlf", "none-crlf")
	for _, test := range []struct {
		name, config, asked string
		want                Credential
	}{
		{"for all", `{"credsStore":"good"}`, "example.com", Credential{Username: "from example.com", Password: canary, Source: "docker-credential-good"}},
		{"for one", `{"credsStore":"missing","credHelpers":{"example.com":"good"}}`, "example.com", Credential{Username: "from example.com", Password: canary, Source: "docker-credential-good"}},
		{"Docker Hub", `{"credsStore":"good"}`, "docker.io", Credential{Username: "from https://index.docker.io/v1/", Password: canary, Source: "docker-credential-good"}},
		{"Docker Hub, short key", `{"credHelpers":{"docker.io":"good"}}`, "docker.io", Credential{Username: "from https://index.docker.io/v1/", Password: canary, Source: "docker-credential-good"}},
		{"identity token", `{"credsStore":"token"}`, "example.com", Credential{IdentityToken: canary, Source: "docker-credential-token"}},
		{"knows none", `{"credsStore":"none"}`, "example.com", Credential{}},
		{"none, but an entry", `{"credsStore":"none","auths":{"example.com":{"auth":"dXNlcjpwYXNz"}}}`, "example.com", Credential{Username: "user", Password: "pass", Source: "file"}},
		{"none for this one", `{"credsStore":"missing","credHelpers":{"example.com":""},"auths":{"example.com":{"auth":"dXNlcjpwYXNz"}}}`, "example.com", Credential{Username: "user", Password: "pass", Source: "file"}},
		{"Windows' line ends", `{"credsStore":"crlf"}`, "example.com", Credential{Username: "user", Password: canary, Source: "docker-credential-crlf"}},
		{"knows none, says Windows", `{"credsStore":"none-crlf"}`, "example.com", Credential{}},
		{"another's helper is not asked", `{"credHelpers":{"other.org":"missing"}}`, "example.com", Credential{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := writeConfig(t, test.config)
			if test.want.Source == "file" {
				test.want.Source = path
			}
			test.want.Stored = !test.want.Anonymous()
			c, err := DockerFile(path)(t.Context(), test.asked, "app")
			if err != nil {
				t.Fatal(err)
			}
			if c != test.want {
				t.Errorf("wrong credential: user %q, source %q, want %q, %q", c.Username, c.Source, test.want.Username, test.want.Source)
			}
		})
	}
}

// Many repositories of a registry ask at the same time: a helper may ask a
// person each time.
func TestHelperIsAskedOnce(t *testing.T) {
	installHelpers(t, "keeps")
	vault := t.TempDir()
	t.Setenv("DAVIT_TEST_VAULT", vault)
	find := DockerFile(writeConfig(t, `{"credsStore":"keeps"}`))
	var asking sync.WaitGroup
	for i := range 8 {
		asking.Go(func() {
			if c, err := find(t.Context(), "example.com", fmt.Sprint("app", i)); err != nil || !c.Anonymous() {
				t.Errorf("got %v, %v", c, err)
			}
		})
	}
	asking.Wait()
	if _, err := find(t.Context(), "other.example", "app"); err != nil {
		t.Error(err)
	}
	if asked, err := os.ReadFile(filepath.Join(vault, "arguments")); err != nil || string(asked) != "[get]\n[get]\n" {
		t.Errorf("asked %q, %v; want once a registry", asked, err)
	}
}

func TestHelperFailsClosed(t *testing.T) {
	installHelpers(t, "fails", "leaks", "hangs", "babbles", "floods")
	defer func(d time.Duration) { helperTimeout = d }(helperTimeout)
	for _, test := range []struct{ suffix, says string }{
		{"missing", "no such program"},
		{"fails", "the keychain is [31mlocked"},
		{"leaks", "half done"},
		{"babbles", "not the JSON"},
		{"floods", "more than"},
		{"hangs", "no answer within"},
		{"../bin/evil", "no name of a credential helper"},
	} {
		t.Run(test.suffix, func(t *testing.T) {
			helperTimeout = time.Minute
			if test.suffix == "hangs" {
				helperTimeout = 10 * time.Millisecond
			}
			// The entry must not be used in the helper's place.
			path := writeConfig(t, `{"credsStore":"`+test.suffix+`","auths":{"example.com":{"auth":"dXNlcjpwYXNz"}}}`)
			c, err := DockerFile(path)(t.Context(), "example.com", "app")
			if err == nil || !c.Anonymous() {
				t.Fatalf("no error, but %v", c)
			}
			for _, want := range []string{test.suffix, test.says, path} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
			if strings.Contains(err.Error(), canary) || strings.ContainsAny(err.Error(), "\x1b\n") {
				t.Errorf("unfit for a message: %q", err)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	helperTimeout = time.Minute
	if _, err := DockerFile(writeConfig(t, `{"credsStore":"hangs"}`))(ctx, "example.com", "app"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
