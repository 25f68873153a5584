package credential

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

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

// askHelper runs docker-credential-<suffix> get for address. What it does not
// know is the zero Credential.
//
// oras-go can do this too, but it lends the helper our stderr, keeps whatever
// it babbles, and waits for as long as a grandchild holds the pipe.
func askHelper(ctx context.Context, suffix, address string) (Credential, error) {
	name := helperPrefix + suffix
	if strings.ContainsAny(suffix, `/\`) {
		return Credential{}, fmt.Errorf("%q is no name of a credential helper", suffix)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, helperTimeout,
		fmt.Errorf("no answer within %v", helperTimeout))
	defer cancel()
	cmd := exec.CommandContext(ctx, name, "get")
	cmd.Stdin = strings.NewReader(address)
	stdout, stderr := &bounded{limit: helperOutput}, &bounded{limit: 4096}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.WaitDelay = helperGrace
	killWhole(cmd)

	err := cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil // it has ended well; what it left running holds the pipe
	}
	var exit *exec.ExitError
	said := oneline.Clean(string(stdout.kept), 200)
	switch {
	case ctx.Err() != nil:
		return Credential{}, fmt.Errorf("%s: %w", name, context.Cause(ctx))
	case errors.Is(err, exec.ErrNotFound):
		return Credential{}, fmt.Errorf("%s: there is no such program on the PATH", name)
	case errors.As(err, &exit) && said == noCredential:
		return Credential{}, nil
	case errors.As(err, &exit):
		// What helpers have to say of a failure they say on stdout, where
		// credentials also go.
		if said == "" || strings.ContainsAny(said, "{}") {
			said = oneline.Clean(string(stderr.kept), 200)
		}
		if said == "" {
			said = exit.Error()
		}
		return Credential{}, fmt.Errorf("%s: %s", name, said)
	case err != nil:
		return Credential{}, fmt.Errorf("%s: %w", name, err)
	case stdout.over:
		return Credential{}, fmt.Errorf("%s: answers with more than %d bytes", name, helperOutput)
	}
	var answer struct{ Username, Secret string }
	if err := json.Unmarshal(stdout.kept, &answer); err != nil {
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
