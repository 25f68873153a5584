package e2e

import (
	"errors"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// ran is what is left of a run of davit.
type ran struct {
	command        string
	stdout, stderr string
	code           int
}

// runDavit runs davit to its end, however it ends.
func runDavit(t testing.TB, args ...string) ran {
	t.Helper()
	return endOf(t, davitCommand(t, args...))
}

func endOf(t testing.TB, cmd *exec.Cmd) ran {
	t.Helper()
	stdout, stderr, err := output(cmd)
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		t.Fatalf("%s: %v", cmd, err)
	}
	return ran{cmd.String(), stdout, stderr, cmd.ProcessState.ExitCode()}
}

// exits checks the exit code.
func (r ran) exits(t testing.TB, want ...int) {
	t.Helper()
	if !slices.Contains(want, r.code) {
		t.Fatalf("%s: exit %d, want %d\n%s%s", r.command, r.code, want, r.stdout, r.stderr)
	}
}

// says checks that the messages have all of texts.
func (r ran) says(t testing.TB, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(r.stderr, text) {
			t.Errorf("%s said nothing of %q:\n%s", r.command, text, r.stderr)
		}
	}
}
