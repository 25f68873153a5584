package blobfile

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
)

// tree is a directory of these files, opened.
func tree(t *testing.T, files map[string]string) *Tree {
	t.Helper()
	dir := t.TempDir()
	for name, b := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(b), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	opened, err := OpenTree(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = opened.Close() })
	return opened
}

func TestRead(t *testing.T) {
	files := tree(t, map[string]string{"a/b": "bytes", "empty": ""})
	known := content("bytes").Descriptor
	for name, c := range map[string]struct {
		name string
		d    image.Descriptor
		most int64
		want error
	}{
		"right":        {"a/b", known, 5, nil},
		"unknown size": {"a/b", image.Descriptor{Digest: known.Digest, Size: -1}, 5, nil},
		"empty":        {"empty", content("").Descriptor, 0, nil},
		"too large":    {"a/b", image.Descriptor{Digest: known.Digest, Size: -1}, 4, image.ErrVerification},
		"wrong size":   {"a/b", image.Descriptor{Digest: known.Digest, Size: 6}, 6, image.ErrVerification},
		"wrong digest": {"a/b", image.Descriptor{Digest: digest.FromString("x"), Size: 5}, 5, image.ErrVerification},
		"not there":    {"a/x", known, 5, image.ErrNotFound},
		"no directory": {"x/b", known, 5, image.ErrNotFound},
		"a directory":  {"a", known, 5, image.ErrVerification},
		"below a file": {"a/b/c", known, 5, image.ErrVerification},
	} {
		b, err := files.Read(t.Context(), c.name, c.d, c.most)
		if !errors.Is(err, c.want) || err == nil && digest.FromBytes(b) != c.d.Digest {
			t.Errorf("%s: %q, %v, want %v", name, b, err, c.want)
		}
		if err != nil && !strings.Contains(err.Error(), files.dir) {
			t.Errorf("%s: %v does not name the file", name, err)
		}
	}
}

func TestRanges(t *testing.T) {
	files := tree(t, map[string]string{"a": "0123456789"})
	blob := content("0123456789").Descriptor
	for _, c := range []struct {
		off, n int64
		want   string
	}{{0, 10, "0123456789"}, {3, 4, "3456"}, {8, 100, "89"}, {10, 1, ""}, {4, 0, ""}, {1, 1<<63 - 1, "123456789"}} {
		rng, err := files.OpenRange(t.Context(), "a", blob, c.off, c.n)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(rng.Body)
		if err := errors.Join(err, rng.Body.Close()); err != nil {
			t.Fatal(err)
		}
		if string(b) != c.want || rng.Start != c.off || rng.Len != int64(len(c.want)) || rng.Total != 10 {
			t.Errorf("%d bytes at %d: %q of %+v, want %q", c.n, c.off, b, rng, c.want)
		}
	}
	for _, c := range [][2]int64{{-1, 2}, {0, -1}, {11, 1}} {
		if _, err := files.OpenRange(t.Context(), "a", blob, c[0], c[1]); err == nil {
			t.Errorf("%d bytes at %d are given", c[1], c[0])
		}
	}
	blob.Size = 11
	if _, err := files.OpenRange(t.Context(), "a", blob, 0, 1); !errors.Is(err, image.ErrVerification) {
		t.Errorf("another size: %v", err)
	}
}

func TestRangeEndsWithItsContext(t *testing.T) {
	files := tree(t, map[string]string{"a": "0123456789"})
	ctx, cancel := context.WithCancel(t.Context())
	rng, err := files.OpenRange(ctx, "a", content("0123456789").Descriptor, 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rng.Body.Close() }()
	cancel()
	if _, err := io.ReadAll(rng.Body); !errors.Is(err, context.Canceled) {
		t.Errorf("it is read: %v", err)
	}
}

// A link is not followed, wherever it leads, and wherever on the way it stands.
func TestLinksAreRefused(t *testing.T) {
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "b"), []byte("bytes"), 0o666); err != nil {
		t.Fatal(err)
	}
	files := tree(t, map[string]string{"real/b": "bytes"})
	for name, target := range map[string]string{
		"file":      filepath.Join(outside, "b"),
		"in":        filepath.Join("real", "b"),
		"dir":       outside,
		"inner":     "real",
		"real/link": "b",
		"dangling":  "nowhere",
	} {
		if err := os.Symlink(target, filepath.Join(files.dir, filepath.FromSlash(name))); err != nil {
			t.Skipf("no symbolic links here: %v", err)
		}
	}
	for _, name := range []string{"file", "in", "dir/b", "inner/b", "real/link", "dangling"} {
		if b, err := files.Read(t.Context(), name, content("bytes").Descriptor, 5); !errors.Is(err, image.ErrVerification) {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
	for _, dir := range []string{"dir", "inner"} {
		if names, err := files.Names(dir); !errors.Is(err, image.ErrVerification) {
			t.Errorf("%s is listed: %v, %v", dir, names, err)
		}
	}
	// The tree itself may be named by one.
	link := filepath.Join(outside, "link")
	if err := os.Symlink(files.dir, link); err != nil {
		t.Fatal(err)
	}
	linked, err := OpenTree(link)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = linked.Close() }()
	if names, err := linked.Names("real"); err != nil || !cmp.Equal(names, []string{"b", "link"}) {
		t.Errorf("real has %v, %v", names, err)
	}
}

func TestOpenTree(t *testing.T) {
	dir := t.TempDir()
	if _, err := OpenTree(filepath.Join(dir, "x")); !errors.Is(err, image.ErrNotFound) {
		t.Errorf("nothing is there: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "x"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenTree(filepath.Join(dir, "x")); !errors.Is(err, ErrNoDirectory) {
		t.Errorf("a file: %v", err)
	}
}
