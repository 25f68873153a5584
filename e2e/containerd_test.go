package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// containerd is one that runs for one test.
type containerd struct {
	client      string
	socket      string
	snapshotter string
	containers  int
}

const containerdConfig = `version = 2
root = %q
state = %q
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = %q
`

// startContainerd runs Debian's containerd. Programs in path come before Debian's.
func startContainerd(t testing.TB, path ...string) *containerd {
	t.Helper()
	dir := workDir(t)
	c := &containerd{client: debian(t, "ctr"), socket: filepath.Join(dir, "sock"), snapshotter: "native"}
	if overlay(t) {
		c.snapshotter = "overlayfs"
	}
	config := filepath.Join(dir, "config.toml")
	text := fmt.Sprintf(containerdConfig, filepath.Join(dir, "root"), filepath.Join(dir, "state"), c.socket)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(debian(t, "containerd"), "--config", config)
	cmd.Env = []string{debianPath(path...)}
	p := start(t, "containerd", cmd)
	p.await(t, func() bool {
		_, _, err := output(c.command("version"))
		return err == nil
	})
	return c
}

// command is ctr with args, talking to this containerd.
func (c *containerd) command(args ...string) *exec.Cmd {
	cmd := exec.Command(c.client, append([]string{"--address", c.socket, "--namespace", "davit"}, args...)...)
	cmd.Env = []string{debianPath()}
	return cmd
}

func (c *containerd) load(t testing.TB, archive string) string {
	t.Helper()
	return run(t, c.command("images", "import", "--snapshotter", c.snapshotter, archive))
}

func (c *containerd) names(t testing.TB) []string {
	t.Helper()
	return strings.Fields(run(t, c.command("images", "list", "--quiet")))
}

func (c *containerd) id(t testing.TB, image string) string {
	t.Helper()
	list := run(t, c.command("images", "list"))
	for line := range strings.Lines(list) {
		if fields := strings.Fields(line); len(fields) > 2 && fields[0] == image {
			return fields[2]
		}
	}
	t.Fatalf("no %s in\n%s", image, list)
	return ""
}

func (c *containerd) run(t testing.TB, image string) string {
	t.Helper()
	c.containers++
	return run(t, c.command("run", "--rm", "--snapshotter", c.snapshotter, image, fmt.Sprintf("test%d", c.containers)))
}
