package archive

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/split"
)

// cutUp writes bytes as the parts of a file, and returns that file's path.
func cutUp(t *testing.T, b []byte, part int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.tar")
	n := 0
	for piece := range slices.Chunk(b, part) {
		n++
		if err := os.WriteFile(split.Name(path, n), piece, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// An archive that is created in parts is, joined, the same as one file, whatever
// order its blobs come in, and wherever a part ends.
func TestCreateInParts(t *testing.T) {
	img, blobs := testImage(t, "alpine:3.20")
	l, err := NewLayout(img)
	if err != nil {
		t.Fatal(err)
	}
	want := build(t, l, blobs)
	for _, part := range []int64{11, 512, 1000, l.Size() - 1, l.Size(), l.Size() + 1} {
		if split.Count(l.Size(), part) > split.MaxParts {
			continue
		}
		t.Run(fmt.Sprint(part), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "a.tar")
			stages := 0
			f, err := Create(path, l, CreateOptions{Split: part, Events: func(image.Event) { stages++ }})
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			for _, d := range slices.Backward(l.Blobs()) {
				if _, err := place(t, f, d).WriteAt([]byte(blobs[d.Digest]), 0); err != nil {
					t.Fatal(err)
				}
			}
			if split.Stands(path) {
				t.Error("a part stands there before all are whole")
			}
			if err := f.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
			var got []byte
			names := split.Names(path, l.Size(), part)
			for _, name := range names {
				b, err := os.ReadFile(name)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, b...)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("joined, %d parts differ from one file", len(names))
			}
			if stages == 0 {
				t.Error("nobody is told that they are hashed")
			}
		})
	}
}

func TestCreateInPartsRefuses(t *testing.T) {
	img, _ := testImage(t, "alpine:3.20")
	l, err := NewLayout(img)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	there := filepath.Join(dir, "there.tar")
	if err := os.WriteFile(there, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	for name, try := range map[string]struct {
		path string
		part int64
		want string
	}{
		"a file of the name": {there, 1000, "is there already, as one file"},
		"many parts":         {filepath.Join(dir, "a.tar"), 1, "parts of 1MB are large enough"},
		"a part's name":      {filepath.Join(dir, "a.tar.001"), 1000, "is the name of a part"},
	} {
		if f, err := Create(try.path, l, CreateOptions{Split: try.part}); err == nil || !strings.Contains(err.Error(), try.want) {
			t.Errorf("%s: %v, %v", name, f, err)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("it leaves %v (%v)", entries, err)
	}
}

// Archives of davit and of docker save are read in parts, also compressed ones,
// by the first part's name and by the whole's.
func TestOpenParts(t *testing.T) {
	b := ours(t)
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{
		"small parts": cutUp(t, b, 100), "one part": cutUp(t, b, len(b)), "gzip": cutUp(t, packed.Bytes(), 1000),
	} {
		for _, path := range []string{path, split.Name(path, 1)} {
			r, err := Open(t.Context(), path, OpenOptions{})
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			p := built("one")
			for i, d := range p.Layers {
				got, err := readBlob(r, d)
				if err != nil || !bytes.Equal(got, p.LayerBytes(i)) {
					t.Errorf("%s: layer %d: %v", name, i, err)
				}
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestOpenPartsRefuses(t *testing.T) {
	b := ours(t)
	path := cutUp(t, b, 1000)
	_, err := Open(t.Context(), split.Name(path, 2), OpenOptions{})
	if !errors.Is(err, image.ErrVerification) || !strings.Contains(err.Error(), "x.tar.001") {
		t.Errorf("the second part: %v", err)
	}
	if err := os.Remove(split.Name(path, 2)); err != nil {
		t.Fatal(err)
	}
	_, err = Open(t.Context(), path, OpenOptions{})
	if !errors.Is(err, image.ErrNotFound) || !strings.Contains(err.Error(), "x.tar.002") {
		t.Errorf("without the second part: %v", err)
	}
	_, err = Open(t.Context(), filepath.Join(t.TempDir(), "x.tar"), OpenOptions{})
	if !errors.Is(err, image.ErrNotFound) {
		t.Errorf("nothing: %v", err)
	}
}
