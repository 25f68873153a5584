package cli

import (
	"archive/tar"
	"context"
	_ "crypto/sha256" // go-digest takes the hashes that are linked in
	_ "crypto/sha512"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
)

// verifyArchive reads an archive as a loader would and hashes every blob in it
// against its name. It returns how many blobs there are, and their bytes. A
// blob that is not what its name says is an image.ErrVerification.
func verifyArchive(ctx context.Context, path string) (blobs int, size int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, 0, fmt.Errorf("verify the archive: %w", err)
	}
	defer func() { _ = f.Close() }()
	entries := tar.NewReader(f)
	for ctx.Err() == nil {
		header, err := entries.Next()
		if errors.Is(err, io.EOF) {
			if blobs == 0 {
				return 0, 0, fmt.Errorf("verify %s: it holds no blobs: %w", path, image.ErrVerification)
			}
			return blobs, size, nil
		}
		if err != nil {
			return 0, 0, fmt.Errorf("verify %s: %w", path, err)
		}
		name, ok := strings.CutPrefix(header.Name, "blobs/")
		if !ok || header.Typeflag != tar.TypeReg {
			continue
		}
		if err := verifyBlob(name, entries); err != nil {
			return 0, 0, fmt.Errorf("verify %s: %w", path, err)
		}
		blobs++
		size += header.Size
	}
	return 0, 0, context.Cause(ctx)
}

// verifyBlob hashes r against name, which is algorithm/hex.
func verifyBlob(name string, r io.Reader) error {
	d := digest.Digest(strings.Replace(name, "/", ":", 1))
	if err := d.Validate(); err != nil {
		return fmt.Errorf("blob %q: %w: %w", name, err, image.ErrVerification)
	}
	verifier := d.Verifier()
	if _, err := io.Copy(verifier, r); err != nil {
		return fmt.Errorf("read blob %s: %w", d, err)
	}
	if !verifier.Verified() {
		return fmt.Errorf("blob %s has another digest: %w", d, image.ErrVerification)
	}
	return nil
}
