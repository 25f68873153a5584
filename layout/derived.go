package layout

import (
	"fmt"
	"os"

	"github.com/davit-cli/davit/image"
)

// PartialDir is where, below the layout's directory, a caller may keep a
// partial of its own while it derives blobs of others.
const PartialDir = partialName

// Adopt makes a file a blob of the layout, and the file is gone. Its bytes are
// verified and on the disk, and it stands on the layout's file system.
func (w *Writer) Adopt(blob image.Descriptor, path string) error {
	if err := image.CheckDigest(blob.Digest); err != nil {
		return err
	}
	where, err := w.where(blob.Digest)
	if err != nil {
		return err
	}
	if err := os.Rename(path, where.File); err != nil {
		return fmt.Errorf("keep blob %s: %w", blob.Digest, err)
	}
	w.files.Settle(blob.Digest)
	return nil
}

// Derive has other images written in place of those of Create, which they are
// derived from. What is there of those stays there.
func (w *Writer) Derive(images []image.Image) error {
	w.images = images
	return w.note()
}
