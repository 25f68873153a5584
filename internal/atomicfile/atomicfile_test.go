package atomicfile

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// alone checks that a directory has these files and no others.
func alone(t *testing.T, dir string, want ...string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range files {
		got = append(got, f.Name())
	}
	if len(got) != len(want) {
		t.Fatalf("there are %q, want %q", got, want)
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("there are %q, want %q", got, want)
		}
	}
}

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.json")
	for _, want := range []string{"first", "", "the third, which is longer"} {
		if err := Write(path, []byte(want)); err != nil {
			t.Fatal(err)
		}
		if got := content(t, path); got != want {
			t.Errorf("%q was written, %q is there", want, got)
		}
		alone(t, dir, "a.json")
	}
}

func TestWriteFunc(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	err := WriteFunc(path, func(w io.Writer) error {
		_, err := io.WriteString(w, "content")
		return err
	})
	if got := content(t, path); got != "content" || err != nil {
		t.Errorf("%q is there, %v", got, err)
	}
	stop := errors.New("stop")
	if err := WriteFunc(path, func(w io.Writer) error {
		_, _ = io.WriteString(w, "half")
		return stop
	}); err != stop {
		t.Errorf("the error is %v", err)
	}
	if got := content(t, path); got != "content" {
		t.Errorf("%q is there after an error", got)
	}
	alone(t, dir, "a")
}

// Errors name the file that was asked for, not the one under way.
func TestErrorNamesTheFile(t *testing.T) {
	dir := t.TempDir()
	missing, taken := filepath.Join(dir, "missing", "a"), filepath.Join(dir, "taken")
	if err := os.Mkdir(taken, 0o777); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{missing, taken} {
		err := Write(path, []byte("x"))
		if err == nil || !strings.HasPrefix(err.Error(), "write "+path+": ") || strings.Contains(err.Error(), infix) {
			t.Errorf("%s: %v", path, err)
		}
	}
	path := filepath.Join(dir, "a")
	err := WriteFunc(path, func(w io.Writer) error {
		_ = w.(writer).f.Close() // so that writing fails
		_, err := io.WriteString(w, "x")
		return err
	})
	if want := "write " + path + ": file already closed"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	alone(t, dir, "taken")
}

func TestPermissionsAreKept(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no such permissions")
	}
	path := filepath.Join(t.TempDir(), "a.json")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if err := Write(path, []byte("new")); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("the permissions are %v (%v), want 0640", info.Mode(), err)
	}
	// A new file has what any new file has.
	other, plain := filepath.Join(filepath.Dir(path), "b"), filepath.Join(filepath.Dir(path), "c")
	if err := os.WriteFile(plain, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := Write(other, nil); err != nil {
		t.Fatal(err)
	}
	got, _ := os.Stat(other)
	want, _ := os.Stat(plain)
	if got.Mode() != want.Mode() {
		t.Errorf("a new file has %v, want %v", got.Mode(), want.Mode())
	}
}

func TestErrorLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.json")
	if err := os.Mkdir(path, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := Write(path, []byte("x")); err == nil {
		t.Error("a directory is replaced by a file")
	}
	alone(t, dir, "a.json")
	if err := Write(filepath.Join(dir, "missing", "a.json"), []byte("x")); err == nil {
		t.Error("a file is written in no directory")
	}
}

func TestLinkIsReplacedItself(t *testing.T) {
	dir := t.TempDir()
	path, victim := filepath.Join(dir, "a.json"), filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(victim, []byte("untouched"), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim, path); err != nil {
		t.Skipf("no symbolic links here: %v", err)
	}
	if err := Write(path, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if got := content(t, victim); got != "untouched" {
		t.Errorf("it was written through a link: %q", got)
	}
	if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() {
		t.Errorf("%v (%v) stands where the link was", info.Mode(), err)
	}
}

func TestClean(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.json")
	for _, name := range []string{"." + "a.json" + infix + "KILLED", ".b.json" + infix + "OTHER", "a.json"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if !UnderWay(".a.json"+infix+"KILLED") || UnderWay("a.json") {
		t.Error("UnderWay does not tell files under way from others")
	}
	if err := Clean(path); err != nil {
		t.Fatal(err)
	}
	alone(t, dir, ".b.json"+infix+"OTHER", "a.json")
}

func TestPrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.json")
	for _, want := range []string{"new", "replaced"} {
		if err := WritePrivate(path, []byte(want)); err != nil {
			t.Fatal(err)
		}
		if got := content(t, path); got != want {
			t.Errorf("%q was written, %q is there", want, got)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if runtime.GOOS != "windows" && info.Mode() != 0o600 {
			t.Errorf("%s: the permissions are %v, want 0600", want, info.Mode())
		}
		if err := os.Chmod(path, 0o666); err != nil { // what the next one must not keep
			t.Fatal(err)
		}
	}
	alone(t, filepath.Dir(path), "a.json")
}
