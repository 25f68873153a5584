// Package e2e runs davit against real registries, container engines and tools.
//
// Its tests do nothing unless DAVIT_E2E is 1; e2e/install installs the real
// parts first (Debian, as root). A part that is missing then is a failure.
package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// enabled skips the test unless the end-to-end tests were asked for.
func enabled(t testing.TB) {
	t.Helper()
	if os.Getenv("DAVIT_E2E") != "1" {
		t.Skip("needs real registries and container engines: run e2e/install, then set DAVIT_E2E=1")
	}
}

// built returns a program that e2e/install built.
func built(t testing.TB, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join(".bin", name))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("a real part is missing, run e2e/install: %v", err)
	}
	return path
}

// debian returns a program of a Debian package. The machine may have others
// of that name earlier in the PATH.
func debian(t testing.TB, name string) string {
	t.Helper()
	for _, dir := range []string{"/usr/bin", "/usr/sbin"} {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	t.Fatalf("a real part is missing, run e2e/install: no %s in /usr/bin or /usr/sbin", name)
	return ""
}

// debianPath is a PATH that finds what Debian installed, and what stands in first before it.
func debianPath(first ...string) string {
	path := ""
	for _, dir := range first {
		path += dir + ":"
	}
	return "PATH=" + path + "/usr/sbin:/usr/bin:/sbin:/bin"
}

// output runs a program to its end.
func output(cmd *exec.Cmd) (stdout, stderr string, err error) {
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

// run runs a program to its end and returns what it printed on stdout. It
// fails the test, with all that the program printed, when the program fails.
func run(t testing.TB, cmd *exec.Cmd) string {
	t.Helper()
	stdout, stderr, err := output(cmd)
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", cmd, err, stdout, stderr)
	}
	return stdout
}

// overlay tells whether overlayfs can be mounted where the tests keep their
// files. Where it can't, engines copy whole trees, which is slow but works.
func overlay(t testing.TB) bool {
	t.Helper()
	dir := workDir(t)
	for _, name := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	options := "lowerdir=" + dir + "/lower,upperdir=" + dir + "/upper,workdir=" + dir + "/work"
	merged := filepath.Join(dir, "merged")
	if _, stderr, err := output(exec.Command("mount", "-t", "overlay", "-o", options, "overlay", merged)); err != nil {
		t.Logf("no overlayfs here (%v: %s): engines copy whole trees", err, stderr)
		return false
	}
	run(t, exec.Command("umount", merged))
	return true
}
