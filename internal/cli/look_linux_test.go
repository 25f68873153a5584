package cli_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/davit-cli/davit/internal/registrytest"
)

// onTerminal runs davit on a terminal, and returns its exit code and what is
// shown, once the end of it is.
func onTerminal(t *testing.T, end string, args ...string) (int, string) {
	t.Helper()
	term := newTerminal(t)
	davit := exec.Command("davit", args...)
	davit.Dir = t.TempDir()
	davit.Env = append(os.Environ(), "TERM=xterm", "DOCKER_CONFIG="+davit.Dir)
	davit.Stdin, davit.Stdout, davit.Stderr = term.tty, term.tty, term.tty
	_ = davit.Run()
	eventually(t, "the end is shown", func() bool { return strings.HasSuffix(term.text(), end) })
	return davit.ProcessState.ExitCode(), term.text()
}

// A terminal gets of a manifest what it can show, with a line's end; a pipe gets
// the exact bytes.
func TestManifestOnTerminal(t *testing.T) {
	t.Parallel()
	server := registrytest.Start(t, registrytest.Options{})
	raw := "{\"schemaVersion\":2,\"manifests\":[],\"annotations\":{\"x\":\"a\u009b31mb\"}}"
	server.PushRaw("app", "v1", "application/vnd.oci.image.index.v1+json", []byte(raw))
	want := "{\"schemaVersion\":2,\"manifests\":[],\"annotations\":{\"x\":\"a31mb\"}}\r\n"
	if code, got := onTerminal(t, "}\r\n", "manifest", server.Host()+"/app:v1"); code != 0 || got != want {
		t.Errorf("exit code %d, shown %q, want %q", code, got, want)
	}
	if got, _ := output(t, "manifest", server.Host()+"/app:v1"); got != raw {
		t.Errorf("piped %q, want %q", got, raw)
	}
}

// A blob is not for a terminal.
func TestBlobOnTerminal(t *testing.T) {
	t.Parallel()
	server := registrytest.Start(t, registrytest.Options{})
	app := server.Push("app", "v1", registrytest.Image{})
	code, got := onTerminal(t, "--help\r\n", "blob", server.Host()+"/app@"+app.Config.Digest.String())
	if code != 2 || !strings.HasPrefix(got, "davit: a blob is not written to a terminal") {
		t.Errorf("exit code %d, shown %q", code, got)
	}
	if n := server.BlobBytes(); n != 0 {
		t.Errorf("%d bytes were served", n)
	}
}
