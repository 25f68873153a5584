package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestReadme clones the repository and runs what README says to run first, on
// a machine that has Go alone (and git, to clone it).
func TestReadme(t *testing.T) {
	enabled(t)
	dir := workDir(t)
	clone := filepath.Join(dir, "davit")
	root := strings.TrimSpace(run(t, exec.Command("git", "rev-parse", "--show-toplevel")))
	run(t, exec.Command("git", "clone", "--quiet", "--no-local", root, clone))
	readme, err := os.ReadFile(filepath.Join(clone, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	commands := firstCommands(string(readme))
	if want := []string{"go run ./cmd/davit demo", "go test ./..."}; strings.Join(commands, "\n") != strings.Join(want, "\n") {
		t.Fatalf("README's first commands are %q, want %q", commands, want)
	}
	env := onlyGo(t, dir)
	for _, command := range commands {
		words := strings.Fields(command)
		cmd := exec.Command(filepath.Join(dir, "bin", words[0]), words[1:]...)
		cmd.Dir, cmd.Env = clone, env
		t.Logf("%s\n%s", command, run(t, cmd))
	}
	if _, err := os.Stat(filepath.Join(clone, "davit-demo.tar")); err != nil {
		t.Error(err)
	}
}

// firstCommands returns the lines of the first fenced block, without comments.
func firstCommands(readme string) []string {
	_, rest, _ := strings.Cut(readme, "\n```")
	_, rest, _ = strings.Cut(rest, "\n") // the block's language
	block, _, _ := strings.Cut(rest, "\n```")
	var commands []string
	for line := range strings.Lines(block) {
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(strings.TrimPrefix(line, "$ ")); line != "" {
			commands = append(commands, line)
		}
	}
	return commands
}

// onlyGo is an environment with Go, git and the shell that every Unix has, an
// empty home, and nothing else.
// Go's caches are the machine's own, so that nothing is fetched or built twice.
func onlyGo(t testing.TB, dir string) []string {
	t.Helper()
	bin, home := filepath.Join(dir, "bin"), filepath.Join(dir, "home")
	for _, d := range []string{bin, home} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"go", "git", "sh"} {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		if path, err = filepath.EvalSymlinks(path); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	env := []string{"PATH=" + bin, "HOME=" + home}
	for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOPROXY"} {
		env = append(env, name+"="+strings.TrimSpace(run(t, exec.Command("go", "env", name))))
	}
	return env
}
