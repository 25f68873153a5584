package archive

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/davit-cli/davit/image"
)

// readAll reads all that a store holds.
func readAll(s image.Store) error {
	ctx := context.Background()
	for _, stored := range s.Images() {
		c, err := s.Manifest(ctx, stored.Digest.String())
		if err != nil {
			return err
		}
		m, err := image.ParseManifest(c)
		if err != nil {
			return err
		}
		if _, err := s.Blob(ctx, m.Config); err != nil {
			return err
		}
		for _, d := range m.Layers {
			if _, err := s.Blob(ctx, d); err != nil {
				return err
			}
		}
	}
	return nil
}

// An archive that is cut off anywhere is either told so, or has all its content
// and lacks the end alone.
func TestCutOffAnywhere(t *testing.T) {
	for kind, b := range map[string][]byte{"layout": ours(t), "docker": dockerSave(t), "crane": cranePull(t, built("one"))} {
		path := saved(t, b)
		entries := opened(t, b).tar.Entries
		last := entries[len(entries)-1]
		for size := len(b) - 1; size > 0; size-- {
			if size%61 != 0 && size%blockSize != 0 {
				continue
			}
			if err := os.Truncate(path, int64(size)); err != nil {
				t.Fatal(err)
			}
			r, err := Open(t.Context(), path, OpenOptions{})
			if err == nil {
				err = readAll(r)
				r.Close()
			}
			told := "cut off"
			if size < blockSize {
				told = "it is no tar: it ends at byte"
			}
			switch {
			case err == nil && int64(size) < last.Offset+last.Size:
				t.Errorf("%s cut off at %d of %d bytes: no error", kind, size, len(b))
			case err != nil && (size == len(b)-blockSize || size == len(b)-endSize):
				t.Errorf("%s without its last %d bytes: %v", kind, len(b)-size, err)
			case err != nil && (!errors.Is(err, image.ErrVerification) && !errors.Is(err, image.ErrNotFound) || !strings.Contains(err.Error(), told)):
				t.Errorf("%s cut off at %d of %d bytes: %v", kind, size, len(b), err)
			}
		}
	}
}

// Where it is cut off between two files, what is missing tells why.
func TestCutOffBetweenFiles(t *testing.T) {
	b := ours(t)
	whole := opened(t, b)
	for _, e := range whole.tar.Entries {
		path := saved(t, b[:e.Offset-blockSize])
		r, err := Open(t.Context(), path, OpenOptions{})
		if err == nil {
			err = readAll(r)
			r.Close()
		}
		if e.Offset == blockSize {
			continue // it is empty then
		}
		if err == nil || !strings.Contains(err.Error(), "cut off") {
			t.Errorf("cut off before %s: %v", e.Name, err)
		}
	}
}

func FuzzOpen(f *testing.F) {
	f.Add(ours(f))
	f.Add(dockerSave(f))
	f.Add(cranePull(f, built("one")))
	f.Add(zipped(f, ours(f))["gzip"])
	f.Add(layoutOf(f, indexOf(), file{name: "manifest.json", content: `[{"Config":"c","RepoTags":["a"],"Layers":[]}]`}, file{name: "c", content: "{}"}))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Open(t.Context(), saved(t, b), OpenOptions{})
		if err != nil {
			if !errors.Is(err, image.ErrVerification) && !errors.Is(err, image.ErrNotFound) && !errors.Is(err, ErrNoArchive) {
				t.Errorf("Open: %v", err)
			}
			return
		}
		defer r.Close()
		if len(r.Images()) == 0 {
			t.Error("there is no image and no error")
		}
		for _, s := range r.Images() {
			if err := image.CheckDigest(s.Digest); err != nil {
				t.Error(err)
			}
			c, err := r.Manifest(context.Background(), s.Digest.String())
			if err != nil {
				if s.Made {
					t.Errorf("a manifest that was made: %v", err)
				}
				continue
			}
			m, err := image.ParseManifest(c)
			if err != nil {
				continue
			}
			for _, d := range m.Layers {
				part, err := r.OpenRange(context.Background(), d, 0, d.Size)
				if err != nil {
					continue
				}
				if n, err := io.Copy(io.Discard, part.Body); err != nil || n != d.Size {
					t.Errorf("%s: read %d of %d bytes: %v", d.Digest, n, d.Size, err)
				}
			}
		}
	})
}
