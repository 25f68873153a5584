package partial

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// nobody is a user without rights of its own.
const nobody = 65534

// asUser says whether this is a user who may not do everything. Root runs the
// test once more as somebody else, and its own run is over then.
func asUser(t *testing.T) bool {
	t.Helper()
	if os.Geteuid() != 0 {
		return true
	}
	again := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.count=1")
	again.Dir = "/"
	again.Env = append(os.Environ(), "TMPDIR=/tmp")
	again.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if out, err := again.CombinedOutput(); err != nil {
		t.Errorf("as user %d: %v\n%s", nobody, err, out)
	}
	return false
}

// readOnly derives a directory as images have them: one that its owner may not
// write to, with another such one in it.
func readOnly(t *testing.T, dir, output string) *Partial {
	t.Helper()
	p := derive(t, dir, output, "")
	t.Cleanup(func() { _ = p.removeDerived() })
	for _, path := range []string{filepath.Join(p.Derived(), "usr"), p.Derived()} {
		if err := os.Chmod(path, 0o555); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func wantMode(t *testing.T, path string, want os.FileMode) {
	t.Helper()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
		t.Errorf("%s: %v (%v), want the mode %v", path, info, err, want)
		return
	}
	t.Cleanup(func() { _ = os.Chmod(path, 0o755) })
}

func TestReadOnlyDirectory(t *testing.T) {
	if !asUser(t) {
		return
	}
	output := filepath.Join(t.TempDir(), "out")
	if err := readOnly(t, output+Suffix, output).CommitDerived(); err != nil {
		t.Fatal(err)
	}
	wantFile(t, filepath.Join(output, "usr", "file"), "in it")
	wantGone(t, output+Suffix)
	wantMode(t, output, 0o555)
	wantMode(t, filepath.Join(output, "usr"), 0o555)
}

func TestReadOnlyDirectoryFillsAnEmptyOne(t *testing.T) {
	if !asUser(t) {
		return
	}
	output := t.TempDir()
	dir := filepath.Join(output, Suffix)
	if err := readOnly(t, dir, output).CommitDerived(); err != nil {
		t.Fatal(err)
	}
	wantFile(t, filepath.Join(output, "usr", "file"), "in it")
	wantGone(t, dir)
	wantMode(t, filepath.Join(output, "usr"), 0o555)
}

// What a killed process leaves of a directory does not keep the next one out.
func TestReadOnlyDirectoryIsRemoved(t *testing.T) {
	if !asUser(t) {
		return
	}
	output := filepath.Join(t.TempDir(), "out")
	p := readOnly(t, output+Suffix, output)
	if err := p.lock.release(); err != nil { // as it does by being killed
		t.Fatal(err)
	}
	derive(t, output+Suffix, output, "") // which checks that nothing is there
}
