package blobfile

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
)

func content(s string) image.Content {
	return image.Content{Descriptor: image.Descriptor{Digest: digest.FromString(s), Size: int64(len(s))}, Bytes: []byte(s)}
}

func where(dir string) Where {
	return Where{File: filepath.Join(dir, "blob"), Partial: filepath.Join(dir, ".davit-part", "x")}
}

func TestPut(t *testing.T) {
	for _, s := range []string{"", "some bytes"} {
		f, w := New(Options{}), where(t.TempDir())
		if err := f.Put(t.Context(), content(s), w); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(w.File); err != nil || string(b) != s {
			t.Errorf("the file has %q (%v), want %q", b, err, s)
		}
		if _, err := os.Lstat(w.Partial); !os.IsNotExist(err) {
			t.Errorf("the partial is still there: %v", err)
		}
		if p, err := f.Place(t.Context(), content(s).Descriptor, w); p != nil || err != nil {
			t.Errorf("Place: %v, %v, want neither", p, err)
		}
	}
}

func TestBusy(t *testing.T) {
	a, b, w, c := New(Options{}), New(Options{}), where(t.TempDir()), content("x")
	p, err := a.Place(t.Context(), c.Descriptor, w)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []*Files{a, b} {
		if _, err := f.Place(t.Context(), c.Descriptor, w); !errors.Is(err, image.ErrBusy) {
			t.Errorf("a second Place: %v, want ErrBusy", err)
		}
	}
	if n := a.UnderWay(); n != 1 {
		t.Errorf("%d blobs are under way, want 1", n)
	}
	if _, err := p.WriteAt(c.Bytes, 0); err != nil {
		t.Fatal(err)
	}
	if err := b.Done(c.Descriptor); err == nil {
		t.Error("Done takes a blob without a place")
	}
	if err := a.Done(c.Descriptor); err != nil {
		t.Fatal(err)
	}
	if p, err := b.Place(t.Context(), c.Descriptor, w); p != nil || err != nil {
		t.Errorf("Place of a blob that is there: %v, %v", p, err)
	}
}

// A process was killed when the blob had its name, and the partial was still
// there.
func TestLeftPartialIsRemoved(t *testing.T) {
	f, w, c := New(Options{}), where(t.TempDir()), content("x")
	if _, err := f.Place(t.Context(), c.Descriptor, w); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(w.Partial); err != nil {
		t.Fatalf("Close keeps nothing: %v", err)
	}
	if err := os.WriteFile(w.File, c.Bytes, 0o666); err != nil {
		t.Fatal(err)
	}
	if p, err := f.Place(t.Context(), c.Descriptor, w); p != nil || err != nil {
		t.Fatalf("Place: %v, %v", p, err)
	}
	if _, err := os.Lstat(w.Partial); !os.IsNotExist(err) {
		t.Errorf("the partial is still there: %v", err)
	}
}

func TestDirectoryIsNoBlob(t *testing.T) {
	w := where(t.TempDir())
	if err := os.Mkdir(w.File, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Options{}).Place(t.Context(), content("x").Descriptor, w); err == nil {
		t.Error("a directory is replaced")
	}
	if _, err := os.Lstat(w.Partial); !os.IsNotExist(err) {
		t.Errorf("a partial was begun: %v", err)
	}
}
