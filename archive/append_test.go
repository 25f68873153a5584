package archive

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
)

func create(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "a.tar"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func appendBlob(t *testing.T, a *Append, d image.Descriptor, s string) {
	t.Helper()
	err := a.Blob(func(w io.Writer) (image.Descriptor, error) {
		for piece := range slices.Chunk([]byte(s), 300) {
			if _, err := w.Write(piece); err != nil {
				return image.Descriptor{}, err
			}
		}
		return d, nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestAppendEqualsLayout(t *testing.T) {
	img, blobs := testImage(t, "alpine:3.20")
	other, _ := testImage(t, "alpine:3.21")
	long := strings.Repeat("z", 3<<20+5)
	sum := digest.SHA512.FromString(long)
	blobs[sum] = long
	other.Manifests[0].Layers = append(other.Manifests[0].Layers, layer(sum, int64(len(long))))
	l, err := NewLayout(img, other)
	if err != nil {
		t.Fatal(err)
	}
	names, want := readTar(t, bytes.NewReader(build(t, l, blobs)))

	f := create(t)
	a := NewAppend(f)
	blob := func(d image.Descriptor) { appendBlob(t, a, d, blobs[d.Digest]) }
	broken := errors.New("broken")
	for _, d := range slices.Backward(l.Blobs()) {
		err := a.Blob(func(w io.Writer) (image.Descriptor, error) {
			_, err := io.WriteString(w, strings.Repeat("junk", 1000))
			return image.Descriptor{}, errors.Join(err, broken)
		})
		if !errors.Is(err, broken) {
			t.Fatal(err)
		}
		blob(d)
	}
	for _, d := range l.Blobs() { // the last of them is larger than the documents
		blob(d)
	}
	if err := a.Finish(img, other); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(got)) != l.Size() {
		t.Errorf("it has %d bytes, want %d", len(got), l.Size())
	}
	gotNames, files := readTar(t, bytes.NewReader(got))
	if diff := cmp.Diff(want, files); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	if wantNames := slices.Concat([]string{names[7], names[6], names[5]}, names[3:5], names[:3]); !slices.Equal(gotNames, wantNames) {
		t.Errorf("the order is %v, want %v", gotNames, wantNames)
	}
}

func TestAppendRefuses(t *testing.T) {
	img, blobs := testImage(t, "alpine:3.20")
	d := img.Blobs()[0]
	a := NewAppend(create(t))
	err := a.Blob(func(w io.Writer) (image.Descriptor, error) {
		_, err := io.WriteString(w, "too short")
		return d, err
	})
	if err == nil {
		t.Error("a blob of another size is taken")
	}
	appendBlob(t, a, d, blobs[d.Digest])
	if err := a.Finish(img); err == nil || !strings.Contains(err.Error(), img.Blobs()[1].Digest.String()) {
		t.Errorf("an archive without a blob: %v", err)
	}
}

// sparse is a file that keeps no piece of zeros.
type sparse struct {
	pieces map[int64][]byte
	size   int64
}

var zeroPiece = make([]byte, 16<<20)

func (s *sparse) WriteAt(b []byte, off int64) (int, error) {
	if len(b) != len(zeroPiece) {
		s.pieces[off] = bytes.Clone(b)
	}
	return len(b), nil
}

func (s *sparse) ReadAt(b []byte, off int64) (int, error) {
	clear(b)
	for _, at := range slices.Sorted(maps.Keys(s.pieces)) {
		piece := s.pieces[at]
		if from, to := max(off, at), min(off+int64(len(b)), at+int64(len(piece))); from < to {
			copy(b[from-off:], piece[from-at:to-at])
		}
	}
	return len(b), nil
}

func (s *sparse) Truncate(n int64) error { s.size = n; return nil }

// A size that octal digits do not hold stands in the one block.
func TestAppendLargeBlob(t *testing.T) {
	img, _ := testImage(t, "big:1")
	const size = 9 << 30
	d := layer(digest.FromString("huge"), size)
	img.Manifests[0].Layers = []image.Descriptor{d}
	f := &sparse{pieces: map[int64][]byte{}}
	a := NewAppend(f)
	err := a.Blob(func(w io.Writer) (image.Descriptor, error) {
		for range size / len(zeroPiece) {
			if _, err := w.Write(zeroPiece); err != nil {
				return image.Descriptor{}, err
			}
		}
		return d, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Finish(img); err != nil {
		t.Fatal(err)
	}
	tr := tar.NewReader(io.NewSectionReader(f, 0, f.size))
	h, err := tr.Next()
	if err != nil || h.Name != blobName(d.Digest) || h.Size != size {
		t.Fatalf("the first entry is %+v, %v", h, err)
	}
	if h, err = tr.Next(); err != nil || h.Name != blobName(img.Manifests[0].Digest) {
		t.Errorf("the second entry is %+v, %v", h, err)
	}
	if n := len(f.pieces[0]); n != blockSize {
		t.Errorf("the header has %d bytes", n)
	}
}
