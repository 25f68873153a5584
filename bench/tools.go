//go:build linux

package main

import (
	"context"
	"debug/buildinfo"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// tool is a program that writes an image to a tar that docker load takes (args).
type tool struct {
	name    string
	program string // empty where it is not installed
	args    func(image, file string) []string
	rootfs  func(image, file string) []string // to write the file system alone, nil where it cannot
	copy    func(image, to string) []string   // to copy it into another registry
}

func findTools(davit string) []tool {
	return []tool{
		{name: "davit", program: davit, args: func(image, file string) []string {
			return []string{"pull", "--quiet", image, "-o", file}
		}, rootfs: func(image, file string) []string {
			return []string{"pull", "--quiet", "-f", "rootfs", image, "-o", file}
		}, copy: func(image, to string) []string {
			return []string{"copy", "--quiet", image, to}
		}},
		{name: "crane", program: find("crane"), args: func(image, file string) []string {
			return []string{"pull", "--insecure", image, file}
		}, rootfs: func(image, file string) []string {
			return []string{"export", "--insecure", image, file}
		}, copy: func(image, to string) []string {
			return []string{"copy", "--insecure", image, to}
		}},
		{name: "skopeo", program: find("skopeo"), args: func(image, file string) []string {
			return []string{"copy", "--quiet", "--insecure-policy", "--src-tls-verify=false", "docker://" + image, "docker-archive:" + file + ":" + image}
		}, copy: func(image, to string) []string {
			return []string{"copy", "--all", "--quiet", "--insecure-policy", "--src-tls-verify=false", "--dest-tls-verify=false", "docker://" + image, "docker://" + to}
		}},
		{name: "regctl", program: find("regctl"), args: func(image, file string) []string {
			host, _, _ := strings.Cut(image, "/")
			return []string{"image", "export", "--host", "reg=" + host + ",tls=disabled", image, file}
		}, copy: func(image, to string) []string {
			from, _, _ := strings.Cut(image, "/")
			host, _, _ := strings.Cut(to, "/")
			return []string{"image", "copy", "--host", "reg=" + from + ",tls=disabled", "--host", "reg=" + host + ",tls=disabled", image, to}
		}},
	}
}

// withMirrors is davit without a mirror, with the first of them, and so on.
func (t tool) withMirrors(mirrors []string) []tool {
	var tools []tool
	for n := range len(mirrors) + 1 {
		with := t
		with.name = []string{t.name + ", no mirror", t.name + ", 1 mirror", fmt.Sprintf("%s, %d mirrors", t.name, n)}[min(n, 2)]
		with.args = func(image, file string) []string {
			args := t.args(image, file)
			for _, m := range mirrors[:n] {
				args = append(args, "--mirror", m)
			}
			return args
		}
		tools = append(tools, with)
	}
	return tools
}

// find looks for a program among those that e2e/install built, then in the PATH.
func find(name string) string {
	if path, err := filepath.Abs(filepath.Join("e2e", ".bin", name)); err == nil {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return ""
	}
	return path
}

// pull is the command line for an image.
func (t tool) pull(image, file string) []string {
	return append([]string{t.name}, t.args(image, file)...)
}

// command is the tool pulling an image, with an empty home of its own.
func (t tool) command(ctx context.Context, home, image, file string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, t.program, t.args(image, file)...)
	cmd.Env = []string{"HOME=" + home, "TMPDIR=" + home, "PATH=/usr/bin:/bin"}
	cmd.Dir = home
	return cmd
}

// version is what the tool was built from.
func (t tool) version(ctx context.Context) string {
	if t.program == "" {
		return "is not installed"
	}
	if info, err := buildinfo.ReadFile(t.program); err == nil && info.Main.Version != "" {
		return info.Main.Version
	}
	said, err := exec.CommandContext(ctx, t.program, "--version").Output()
	if err != nil {
		return "of unknown version"
	}
	words := strings.Fields(string(said))
	return words[len(words)-1]
}
