package rootfs

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A tar has the same bytes whichever way it takes to its file, and stands
// where the file's offset was.
func TestTarPastTheCache(t *testing.T) {
	layer := asLayer(tarOf(t, file("a", strings.Repeat("x", 3*fileBlock+12345)), file("b", "y"), dir("c/")))
	for _, begin := range []string{"", "something", strings.Repeat("z", directAlign)} {
		var want bytes.Buffer
		want.WriteString(begin)
		path := filepath.Join(t.TempDir(), "tar")
		if err := os.WriteFile(path, []byte(begin), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.Seek(0, 2); err != nil {
			t.Fatal(err)
		}
		tree, err := Merge(context.Background(), []Layer{layer}, Options{SpoolDir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		defer tree.Close()
		if err := tree.WriteTar(context.Background(), &want, TarOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := tree.WriteTar(context.Background(), f, TarOptions{Direct: true}); err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString("!"); err != nil { // the file is as it was before: of any size
			t.Fatal(err)
		}
		want.WriteByte('!')
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want.Bytes()) {
			t.Errorf("behind %d bytes: %d bytes (%v), want %d, the same", len(begin), len(got), err, want.Len())
		}
	}
}

// A file that takes no more is an error, and nobody waits for ever.
func TestTarIntoFileThatFails(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "tar"))
	if err != nil {
		t.Fatal(err)
	}
	tree, err := Merge(context.Background(), []Layer{asLayer(tarOf(t, file("a", strings.Repeat("x", 8*fileBlock))))}, Options{SpoolDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	s, ok := newFileSink(context.Background(), f, true)
	if !ok {
		t.Fatal("the file takes no writes at offsets")
	}
	f.Close()
	if err := tree.tarTo(context.Background(), s, nil); err == nil {
		err = s.end(true)
		if err == nil {
			t.Error("a closed file took a tar")
		}
	} else if s.end(false) == nil {
		t.Error("why it failed is not told")
	}
}
