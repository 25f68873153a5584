package e2e

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// podman is Debian's, with images and containers of its own for one test.
type podman struct {
	client string
	dir    string
	driver string
}

func newPodman(t testing.TB) *podman {
	t.Helper()
	p := &podman{client: debian(t, "podman"), dir: workDir(t), driver: "vfs"}
	if overlay(t) {
		p.driver = "overlay"
	}
	return p
}

func (p *podman) command(args ...string) *exec.Cmd {
	cmd := exec.Command(p.client, append([]string{
		"--root", filepath.Join(p.dir, "root"),
		"--runroot", filepath.Join(p.dir, "run"),
		"--tmpdir", filepath.Join(p.dir, "tmp"),
		"--storage-driver", p.driver,
		"--cgroup-manager", "cgroupfs",
		"--events-backend", "none",
		"--runtime", "runc",
	}, args...)...)
	cmd.Env = []string{debianPath(), "HOME=" + p.dir}
	return cmd
}

func (p *podman) load(t testing.TB, archive string) string {
	t.Helper()
	return run(t, p.command("load", "--input", archive))
}

func (p *podman) names(t testing.TB) []string {
	t.Helper()
	return strings.Fields(run(t, p.command("images", "--format", "{{.Repository}}:{{.Tag}}")))
}

func (p *podman) id(t testing.TB, image string) string {
	t.Helper()
	return "sha256:" + strings.TrimSpace(run(t, p.command("image", "inspect", "--format", "{{.Id}}", image)))
}

func (p *podman) run(t testing.TB, image string) string {
	t.Helper()
	return p.runWith(t, image)
}

// runWith is podman run with further args.
func (p *podman) runWith(t testing.TB, args ...string) string {
	t.Helper()
	// Without the limits podman raises them, for which root in a sandbox may lack the right.
	return run(t, p.command(append([]string{"run", "--rm", "--network=none", "--pull=never",
		"--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"}, args...)...))
}
