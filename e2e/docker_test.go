package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// docker is a Docker Engine that runs for one test.
type docker struct {
	client  string
	socket  string
	runArgs []string // what docker run needs on this engine
}

// startClassicDocker runs Debian's Docker Engine (20.10), with its own image store.
func startClassicDocker(t testing.TB) *docker {
	t.Helper()
	return startClassicDockerWith(t, nil)
}

// startClassicDockerWith is the same with further environment and args.
func startClassicDockerWith(t testing.TB, env []string, args ...string) *docker {
	t.Helper()
	dir := workDir(t)
	driver := "vfs"
	if overlay(t) {
		driver = "overlay2"
	}
	cmd := dockerd(t, debian(t, "dockerd"), dir, append(args, "--storage-driver="+driver)...)
	cmd.Env = append([]string{debianPath()}, env...)
	return serveDocker(t, "dockerd", cmd, dir)
}

// startNewestDocker runs Docker's newest engine, which keeps images in containerd.
func startNewestDocker(t testing.TB) *docker {
	t.Helper()
	dir := workDir(t)
	driver := "native"
	if overlay(t) {
		driver = "overlayfs"
	}
	// It wants a newer runc than Debian's, which e2e/install built.
	path := filepath.Join(dir, "bin")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(built(t, "runc"), filepath.Join(path, "runc")); err != nil {
		t.Fatal(err)
	}
	c := startContainerd(t, path)
	cmd := dockerd(t, built(t, "dockerd"), dir, "--containerd="+c.socket, "--feature=containerd-snapshotter=true", "--storage-driver="+driver)
	cmd.Env = []string{debianPath(path)}
	d := serveDocker(t, "dockerd-newest", cmd, dir)
	d.runArgs = []string{"--security-opt", "seccomp=unconfined"} // its runc is built without seccomp
	return d
}

// dockerd is an engine that keeps everything in dir and touches no network.
func dockerd(t testing.TB, program, dir string, args ...string) *exec.Cmd {
	t.Helper()
	config := filepath.Join(dir, "daemon.json") // not the machine's
	if err := os.WriteFile(config, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	return exec.Command(program, append([]string{
		"--config-file=" + config,
		"--data-root=" + filepath.Join(dir, "data"),
		"--exec-root=" + filepath.Join(dir, "exec"),
		"--pidfile=" + filepath.Join(dir, "pid"),
		"--host=unix://" + filepath.Join(dir, "sock"),
		"--iptables=false", "--ip6tables=false", "--bridge=none",
	}, args...)...)
}

func serveDocker(t testing.TB, name string, cmd *exec.Cmd, dir string) *docker {
	t.Helper()
	d := &docker{client: debian(t, "docker"), socket: filepath.Join(dir, "sock")}
	p := start(t, name, cmd)
	p.await(t, func() bool {
		_, _, err := output(d.command("version"))
		return err == nil
	})
	t.Logf("%s %s", name, strings.TrimSpace(run(t, d.command("version", "--format", "{{.Server.Version}}, API {{.Server.APIVersion}}"))))
	return d
}

// command is docker with args, talking to this engine.
func (d *docker) command(args ...string) *exec.Cmd {
	cmd := exec.Command(d.client, args...)
	cmd.Env = []string{debianPath(), "HOME=" + filepath.Dir(d.socket), "DOCKER_HOST=unix://" + d.socket}
	return cmd
}

func (d *docker) load(t testing.TB, archive string) string {
	t.Helper()
	return run(t, d.command("load", "--input", archive))
}

func (d *docker) names(t testing.TB) []string {
	t.Helper()
	return strings.Fields(run(t, d.command("images", "--format", "{{.Repository}}:{{.Tag}}")))
}

func (d *docker) id(t testing.TB, image string) string {
	t.Helper()
	return strings.TrimSpace(run(t, d.command("image", "inspect", "--format", "{{.Id}}", image)))
}

func (d *docker) run(t testing.TB, image string) string {
	t.Helper()
	args := append([]string{"run", "--rm", "--network=none", "--pull=never"}, d.runArgs...)
	return run(t, d.command(append(args, image)...))
}

// loadStream loads what a program writes to its stdout, through a pipe.
func (d *docker) loadStream(t testing.TB, from *exec.Cmd) error {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	from.Stdout = w
	var complaints strings.Builder
	from.Stderr = &complaints
	err = from.Start()
	_ = w.Close() // the child has its own
	if err != nil {
		t.Fatal(err)
	}
	load := d.command("load")
	load.Stdin = r
	said, stderr, loadErr := output(load)
	_ = r.Close()
	if err := from.Wait(); err != nil {
		return fmt.Errorf("%s: %w: %s", from, err, complaints.String())
	}
	if loadErr != nil {
		return fmt.Errorf("docker load: %w: %s%s", loadErr, said, stderr)
	}
	return nil
}
