package partial

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// derive opens a partial of an output that is derived, a file where content is
// told, else a directory with a file in it.
func derive(t *testing.T, dir, output, content string) *Partial {
	t.Helper()
	p, err := OpenIn(dir, output, []Slot{slotA}, slotA.Offset+slotA.Size, false)
	if err != nil {
		t.Fatalf("OpenIn: %v", err)
	}
	t.Cleanup(func() { p.Close() })
	if _, err := os.Lstat(p.Derived()); !os.IsNotExist(err) {
		t.Fatalf("something derived is there already (%v)", err)
	}
	path := p.Derived()
	if content == "" {
		content = "in it"
		path = filepath.Join(path, "usr", "file")
		err = os.MkdirAll(filepath.Dir(path), 0o755)
	}
	if err = errors.Join(err, os.WriteFile(path, []byte(content), 0o644)); err != nil {
		t.Fatal(err)
	}
	return p
}

func wantFile(t *testing.T, path, want string) {
	t.Helper()
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("%s holds %q (%v), want %q", path, got, err, want)
	}
}

func wantGone(t *testing.T, path string) {
	t.Helper()
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("%s is still there (%v)", path, err)
	}
}

func TestDerivedFile(t *testing.T) {
	output := filepath.Join(t.TempDir(), "out")
	p := derive(t, output+Suffix, output, "first")
	write(t, p, slotA, blobA, 0)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	wantGone(t, output)
	p = derive(t, output+Suffix, output, "second")
	if n := sum(p.Place(slotA.Digest).Written()); n != slotA.Size {
		t.Errorf("%d bytes of the data outlived the process, want %d", n, slotA.Size)
	}
	if err := p.CommitDerived(); err != nil {
		t.Fatal(err)
	}
	wantFile(t, output, "second")
	wantGone(t, output+Suffix)
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

func TestDerivedDirectory(t *testing.T) {
	output := filepath.Join(t.TempDir(), "out")
	if err := derive(t, output+Suffix, output, "").CommitDerived(); err != nil {
		t.Fatal(err)
	}
	wantFile(t, filepath.Join(output, "usr", "file"), "in it")
	wantGone(t, output+Suffix)
}

// A directory that is there may be a mount point: it is filled, not replaced.
func TestDerivedDirectoryFillsAnEmptyOne(t *testing.T) {
	output := t.TempDir()
	before, err := os.Stat(output)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(output, Suffix)
	if err := derive(t, dir, output, "").CommitDerived(); err != nil {
		t.Fatal(err)
	}
	wantFile(t, filepath.Join(output, "usr", "file"), "in it")
	wantGone(t, dir)
	if after, err := os.Stat(output); err != nil || !os.SameFile(before, after) {
		t.Errorf("the directory was replaced (%v)", err)
	}
	if err := derive(t, dir, output, "").CommitDerived(); err == nil {
		t.Error("what was there was replaced")
	}
}

// What a killed process left in the scratch directory is gone with the next run.
func TestScratch(t *testing.T) {
	output := filepath.Join(t.TempDir(), "out")
	p := derive(t, output+Suffix, output, "first")
	for range 2 {
		scratch, err := p.Scratch()
		if err == nil {
			err = os.WriteFile(filepath.Join(scratch, "left"), nil, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := p.lock.release(); err != nil { // and nothing else: it was killed
		t.Fatal(err)
	}
	p.lock = nil
	p = derive(t, output+Suffix, output, "second")
	wantGone(t, filepath.Join(output+Suffix, scratchName))
	if _, err := p.Scratch(); err != nil {
		t.Fatal(err)
	}
	if err := p.CommitDerived(); err != nil {
		t.Fatal(err)
	}
	wantFile(t, output, "second")
	wantGone(t, output+Suffix)
}
