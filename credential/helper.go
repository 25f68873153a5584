package credential

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/davit-cli/davit/internal/flight"
	"github.com/davit-cli/davit/internal/oneline"
)

// A helper may ask a person for a passphrase or an agent far away, but a pull
// must not wait for it for ever.
var (
	helperTimeout = 30 * time.Second
	helperGrace   = time.Second // for what a killed helper left holding its pipes
)

const (
	helperPrefix = "docker-credential-"
	helperOutput = 1 << 20 // bytes; identity tokens are some KiB
	// noCredential is what helpers say where they know nothing.
	// https://github.com/docker/docker-credential-helpers/blob/v0.9.3/credentials/error.go
	noCredential = "credentials not found in native keychain"
	// tokenUser in place of a name says that the secret is an identity token.
	tokenUser = "<token>"
)

// errNotKnown is a helper's answer that it knows no such credential.
var errNotKnown = errors.New(noCredential)

// answers are what helpers have given, by helper and address: many repositories
// of a registry ask for the same, and some helpers ask a person. The zero value
// works; errors are for those who wait for them, and are not kept.
type answers struct {
	asking flight.Group[Credential]

	mu    sync.Mutex
	given map[string]Credential
}

// get is getFromHelper, asked once. Callers that come meanwhile wait.
func (a *answers) get(ctx context.Context, suffix, address string) (Credential, error) {
	key := suffix + "\n" + address
	return a.asking.Do(ctx, key, func(ctx context.Context) (Credential, error) {
		a.mu.Lock()
		known, ok := a.given[key]
		a.mu.Unlock()
		if ok {
			return known, nil
		}
		found, err := getFromHelper(ctx, suffix, address)
		if err != nil {
			return Credential{}, err
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.given == nil {
			a.given = map[string]Credential{}
		}
		a.given[key] = found
		return found, nil
	})
}

// getFromHelper asks docker-credential-<suffix> for address's credential. What
// it does not know is the zero Credential.
func getFromHelper(ctx context.Context, suffix, address string) (Credential, error) {
	name, stdout, err := runHelper(ctx, suffix, "get", address, "")
	if errors.Is(err, errNotKnown) {
		return Credential{}, nil
	}
	if err != nil {
		return Credential{}, err
	}
	var answer struct{ Username, Secret string }
	if err := json.Unmarshal(stdout, &answer); err != nil {
		return Credential{}, fmt.Errorf("%s: its answer is not the JSON that helpers give", name)
	}
	c := Credential{Source: name, Stored: true}
	if answer.Username == tokenUser {
		c.IdentityToken = answer.Secret
	} else {
		c.Username, c.Password = answer.Username, answer.Secret
	}
	if c.Anonymous() {
		return Credential{}, nil
	}
	return c, nil
}

// storeInHelper has docker-credential-<suffix> keep address's credential, and
// returns the program's name.
func storeInHelper(ctx context.Context, suffix, address string, c Credential) (string, error) {
	said := struct{ ServerURL, Username, Secret string }{address, c.Username, c.Password}
	if c.IdentityToken != "" {
		said.Username, said.Secret = tokenUser, c.IdentityToken
	}
	input, err := json.Marshal(said)
	if err != nil {
		return "", err
	}
	name, _, err := runHelper(ctx, suffix, "store", string(input), said.Secret)
	return name, err
}

// eraseFromHelper has docker-credential-<suffix> forget address's credential,
// and returns the program's name, or none where it knows no such credential.
func eraseFromHelper(ctx context.Context, suffix, address string) (string, error) {
	// Many helpers erase what they do not have without a word.
	if c, err := getFromHelper(ctx, suffix, address); err == nil && c.Anonymous() {
		return "", nil
	}
	name, _, err := runHelper(ctx, suffix, "erase", address, "")
	if errors.Is(err, errNotKnown) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return name, nil
}

// runHelper runs docker-credential-<suffix> with a verb and returns the
// program's name and what it answers. The error names the program; it is
// errNotKnown where that is what the helper says. secret is what input has of
// that kind: no error repeats it.
//
// oras-go can do this too, but it lends the helper our stderr, keeps whatever
// it babbles, and waits for as long as a grandchild holds the pipe.
func runHelper(ctx context.Context, suffix, verb, input, secret string) (name string, answer []byte, err error) {
	if strings.ContainsAny(suffix, `/\`) {
		return "", nil, fmt.Errorf("%q is no name of a credential helper", suffix)
	}
	name = helperProgram(suffix)
	ctx, cancel := context.WithTimeoutCause(ctx, helperTimeout,
		fmt.Errorf("no answer within %v", helperTimeout))
	defer cancel()
	cmd := exec.CommandContext(ctx, name, verb)
	cmd.Stdin = strings.NewReader(input)
	stdout, stderr := &bounded{limit: helperOutput}, &bounded{limit: 4096}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.WaitDelay = helperGrace
	killWhole(cmd)

	err = cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil // it has ended well; what it left running holds the pipe
	}
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return name, nil, fmt.Errorf("%s: %w", name, context.Cause(ctx))
	case errors.Is(err, exec.ErrNotFound):
		return name, nil, fmt.Errorf("%s: there is no such program on the PATH", name)
	case errors.As(err, &exit):
		if oneline.Clean(string(stdout.kept), 200) == noCredential {
			return name, nil, fmt.Errorf("%s: %w", name, errNotKnown)
		}
		// What helpers have to say of a failure they say on stdout, where
		// credentials also go.
		said := fitToRepeat(stdout.kept, secret)
		if strings.ContainsAny(said, "{}") {
			said = ""
		}
		if said == "" {
			said = fitToRepeat(stderr.kept, secret)
		}
		if said == "" {
			said = exit.Error()
		}
		return name, nil, fmt.Errorf("%s: %s", name, said)
	case err != nil:
		return name, nil, fmt.Errorf("%s: %w", name, err)
	case stdout.over:
		return name, nil, fmt.Errorf("%s: answers with more than %d bytes", name, helperOutput)
	}
	return name, stdout.kept, nil
}

// helperProgram is the name of the program for a suffix. In WSL the helper may
// be a program of Windows.
func helperProgram(suffix string) string {
	name := helperPrefix + suffix
	if _, err := exec.LookPath(name); errors.Is(err, exec.ErrNotFound) && runtime.GOOS == "linux" {
		if _, err := exec.LookPath(name + ".exe"); err == nil {
			return name + ".exe"
		}
	}
	return name
}

// fitToRepeat is a line of what a helper said of its failure, or empty where
// that has any of the secret in it.
func fitToRepeat(said []byte, secret string) string {
	start := secret[:min(len(secret), 8)]
	escaped, _ := json.Marshal(start)
	if start != "" && (strings.Contains(string(said), start) || strings.Contains(string(said), strings.Trim(string(escaped), `"`))) {
		return ""
	}
	return oneline.Clean(string(said), 200)
}

// bounded keeps the first limit bytes and takes, but drops, the rest.
type bounded struct {
	kept  []byte
	limit int
	over  bool
}

func (b *bounded) Write(p []byte) (int, error) {
	kept := min(len(p), b.limit-len(b.kept))
	b.kept = append(b.kept, p[:kept]...)
	b.over = b.over || kept < len(p)
	return len(p), nil
}
