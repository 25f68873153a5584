package cli_test

import (
	"os"
	"os/exec"
	"path/filepath"
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
