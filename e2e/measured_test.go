//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// The kernel counts to a program what its parent had resident when it started
// it. So a test that measures a program's memory has it started by a small
// process: this very test program, which runs nothing else then.

// measureWord has this program do so: measureWord FILE PROGRAM ARG…
const measureWord = "measure-memory"

func init() {
	if len(os.Args) > 3 && os.Args[1] == measureWord {
		os.Exit(measure(os.Args[2], os.Args[3:]...))
	}
}

// measuredCommand is a program that writes the peak of its resident set, in
// bytes, to a file.
func measuredCommand(cmd *exec.Cmd, file string) *exec.Cmd {
	measured := exec.Command(os.Args[0], append([]string{measureWord, file}, cmd.Args...)...)
	measured.Dir, measured.Env = cmd.Dir, cmd.Env
	return measured
}

// measure runs the program of its arguments and returns its exit code.
func measure(file string, args ...string) int {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	memory := cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10
	if err := os.WriteFile(file, fmt.Append(nil, memory), 0o666); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return cmd.ProcessState.ExitCode()
}

// measuredMemory is what a program of measuredCommand has written.
func measuredMemory(t testing.TB, file string) int64 {
	t.Helper()
	b, err := os.ReadFile(filepath.Clean(file))
	if err != nil {
		t.Fatal(err)
	}
	memory, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return memory
}
