//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// destination is distribution's registry, with nothing in it yet, to which
// images are copied.
type destination struct {
	Image string // the name that the copy gets
	cmd   *exec.Cmd
}

const destinationConfig = `version: 0.1
log:
  accesslog:
    disabled: true
storage:
  filesystem:
    rootdirectory: %s
http:
  addr: 127.0.0.1:0
`

var listening = regexp.MustCompile(`listening on (127\.0\.0\.1:\d+)`)

// startDestination runs a registry that keeps what it gets in dir.
func startDestination(ctx context.Context, dir string) (*destination, error) {
	program := find("registry")
	if program == "" {
		return nil, errors.New("no registry to copy to, which e2e/install builds")
	}
	config := filepath.Join(dir, "registry.yml")
	if err := os.WriteFile(config, fmt.Appendf(nil, destinationConfig, filepath.Join(dir, "storage")), 0o600); err != nil {
		return nil, err
	}
	d := &destination{cmd: exec.CommandContext(ctx, program, "serve", config)}
	d.cmd.Env = []string{"OTEL_TRACES_EXPORTER=none"}
	said, err := d.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	for lines := bufio.NewScanner(said); lines.Scan(); {
		if at := listening.FindStringSubmatch(lines.Text()); at != nil {
			d.Image = at[1] + "/" + repository + ":" + tag
			go func() { _, _ = io.Copy(io.Discard, said) }() // or it waits for a reader some day
			return d, nil
		}
	}
	return nil, errors.Join(errors.New("start the destination: it ended"), d.close())
}

// close ends the registry.
func (d *destination) close() error {
	if err := d.cmd.Process.Kill(); err != nil {
		return fmt.Errorf("end the destination: %w", err)
	}
	_ = d.cmd.Wait() // killed
	return nil
}

// sameImage checks that two names mean the same image.
func sameImage(ctx context.Context, a, b string) error {
	want, err := digestOf(ctx, a)
	if err != nil {
		return err
	}
	got, err := digestOf(ctx, b)
	if err == nil && got != want {
		err = fmt.Errorf("the copy is %s, not %s", got, want)
	}
	return err
}

// digestOf asks a registry what a name of ours means.
func digestOf(ctx context.Context, image string) (string, error) {
	host, _, _ := strings.Cut(image, "/")
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, "http://"+host+"/v2/"+repository+"/manifests/"+tag, nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("Accept", "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", fmt.Errorf("ask for %s: %w", image, err)
	}
	defer func() { _ = resp.Body.Close() }() // it has none
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("ask for %s: %s", image, resp.Status)
	}
	return resp.Header.Get("Docker-Content-Digest"), nil
}
