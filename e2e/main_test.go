package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What all tests of one run share.
var (
	shared string // a directory for images and archives, removed at the end
	davit  string // the program, as it is released: a static binary
)

func TestMain(m *testing.M) {
	if os.Getenv("DAVIT_E2E") != "1" {
		os.Exit(m.Run())
	}
	os.Exit(withShared(m))
}

func withShared(m *testing.M) int {
	dir, err := os.MkdirTemp("", "davit-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	shared = dir
	davit = filepath.Join(dir, "davit")
	build := exec.Command("go", "build", "-trimpath", "-o", davit, "github.com/davit-cli/davit/cmd/davit")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintf(os.Stderr, "build davit: %v\n", err)
		return 1
	}
	return m.Run()
}

// workDir returns a new directory with a short path (sockets need one) that is
// removed at the test's end, with whatever engines left mounted in it.
func workDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "davit-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unmountBelow(dir); err != nil {
			t.Errorf("%v; %s stays", err, dir)
			return
		}
		if err := removeAll(dir); err != nil {
			t.Errorf("remove a test's files: %v", err)
		}
	})
	return dir
}

// removeAll removes a directory into which a process may still write that
// outlives its test: podman's, which tidies up behind a container.
func removeAll(dir string) error {
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	deadline := time.After(patience)
	for {
		err := os.RemoveAll(dir)
		if err == nil {
			return nil
		}
		select {
		case <-poll.C:
		case <-deadline:
			return err
		}
	}
}

// unmountBelow unmounts all that is mounted below dir, the last first.
func unmountBelow(dir string) error {
	points, err := mountPoints(dir)
	if err != nil {
		return err
	}
	for i := len(points) - 1; i >= 0; i-- {
		if _, stderr, err := output(exec.Command("umount", points[i])); err != nil {
			return fmt.Errorf("unmount %s: %w: %s", points[i], err, stderr)
		}
	}
	if points, err = mountPoints(dir); err == nil && len(points) > 0 {
		err = errors.New("still mounted: " + strings.Join(points, " "))
	}
	return err
}

func mountPoints(dir string) ([]string, error) {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil, fmt.Errorf("list the mounts: %w", err)
	}
	var points []string
	for line := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(line); len(fields) > 1 && strings.HasPrefix(fields[1], dir+"/") {
			points = append(points, fields[1])
		}
	}
	return points, nil
}

// davitCommand is davit with args, in an environment of its own: an empty home
// and nothing that the machine's user has set.
func davitCommand(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(davit, args...)
	cmd.Dir = t.TempDir()
	cmd.Env = []string{"HOME=" + cmd.Dir, "PATH=/usr/bin:/bin"}
	return cmd
}
