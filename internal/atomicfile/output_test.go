package atomicfile

import (
	"io"
	"os"
	"path/filepath"
	"testing"
)

func writes(text string) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.WriteString(w, text)
		return err
	}
}

// Missing parents are made, and a link is followed to the file that it names.
func TestWriteOutput(t *testing.T) {
	dir := t.TempDir()
	file, link := filepath.Join(dir, "a", "b", "file"), filepath.Join(dir, "link")
	if err := WriteOutput(file, writes("first")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	if err := WriteOutput(link, writes("second")); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link was replaced: %v, %v", info, err)
	}
	if got := content(t, file); got != "second" {
		t.Errorf("%q is there", got)
	}
	alone(t, filepath.Dir(file), "file")
}

// What is no file is not replaced by one.
func TestWriteOutputToNoFile(t *testing.T) {
	dir := t.TempDir()
	dangling := filepath.Join(dir, "dangling")
	if err := os.Symlink(filepath.Join(dir, "nowhere"), dangling); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"", dir, filepath.Join(dir, "x") + "/", filepath.Join(dir, "..") + "/..", dangling} {
		if err := WriteOutput(path, writes("x")); err == nil {
			t.Errorf("%q was written", path)
		}
	}
	alone(t, dir, "dangling")
}
