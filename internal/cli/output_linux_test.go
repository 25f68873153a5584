package cli_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/davit-cli/davit/internal/registrytest"
)

// A file is never put in the place of a pipe or a device, nor of a link to one.
func TestOutputIsNoPipe(t *testing.T) {
	t.Parallel()
	server := registrytest.Start(t, registrytest.Options{})
	server.Push("app", "v1", registrytest.Image{Layers: []registrytest.Layer{{Files: []registrytest.File{registrytest.Text("f", "x")}}}})
	dir := t.TempDir()
	pipe, link := filepath.Join(dir, "pipe"), filepath.Join(dir, "link")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("pipe", link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{pipe, link} {
		for _, args := range [][]string{{"cat", server.Host() + "/app:v1", "f"}, {"manifest", server.Host() + "/app:v1"}, {"config", server.Host() + "/app:v1"}} {
			davit := exec.Command("davit", append(args, "-o", path)...)
			_ = davit.Run()
			if code := davit.ProcessState.ExitCode(); code != 1 {
				t.Errorf("%s -o %s: exit code %d", args[0], path, code)
			}
			if info, err := os.Stat(path); err != nil || info.Mode().Type() != os.ModeNamedPipe {
				t.Errorf("%s -o %s: it is no pipe any more: %v, %v", args[0], path, info, err)
			}
		}
	}
}

// Commands that look end without a word where whoever read their output has
// gone, as head does; the others say so.
func TestReaderHasGone(t *testing.T) {
	t.Parallel()
	server := registrytest.Start(t, registrytest.Options{})
	app := server.Push("app", "v1", registrytest.Image{Layers: []registrytest.Layer{{Files: []registrytest.File{registrytest.Text("f", "x")}}}})
	name, archive := server.Host()+"/app:v1", filepath.Join(t.TempDir(), "app.tar")
	if out, err := exec.Command("davit", "pull", name, "-o", archive).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, args := range [][]string{
		{"tags", server.Host() + "/app"}, {"catalog", server.Host()}, {"platforms", name}, {"manifest", name}, {"config", name},
		{"digest", name}, {"inspect", name}, {"files", name}, {"files", name, "--json"}, {"cat", name, "f"}, {"diff", name, archive},
		{"verify", archive}, {"completion", "bash"},
		{"--help"}, {"pull", "--help"},
		{"pull", name, "-o", "-"}, {"blob", server.Host() + "/app@" + app.Config.Digest.String()},
	} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		_ = r.Close()
		var said strings.Builder
		davit := exec.Command("davit", args...)
		davit.Stdout, davit.Stderr = w, &said
		_ = davit.Run()
		_ = w.Close()
		if code := davit.ProcessState.ExitCode(); code != 141 {
			t.Errorf("%s: exit code %d, %s", args, code, said.String())
		}
		if want := args[len(args)-1] != "--help" && (args[0] == "pull" || args[0] == "blob"); strings.Contains(said.String(), "davit: whoever read the output has gone\n") != want {
			t.Errorf("%s says %q", args, said.String())
		}
	}
}

// Help that could not be printed is an error, as any other result is.
func TestHelpToNoRoom(t *testing.T) {
	t.Parallel()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = full.Close() }()
	for _, args := range [][]string{{}, {"--help"}, {"pull", "--help"}, {"help", "files"}, {"--version"}} {
		var said strings.Builder
		davit := exec.Command("davit", args...)
		davit.Stdout, davit.Stderr = full, &said
		_ = davit.Run()
		want := "davit: print the help: write /dev/stdout: no space left on device\n"
		if code := davit.ProcessState.ExitCode(); code != 1 || said.String() != want {
			t.Errorf("%q: exit code %d, %q", args, code, said.String())
		}
	}
}
