package rootfs

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/davit-cli/davit/internal/compress"
)

var errWhiteout = errors.New("it has a whiteout")

// Verbatim says whether the image's file system as a .tar.gz may be the bytes
// of its one layer as served: there is one, its tar is compressed with gzip,
// and no entry of it is a whiteout, which would appear as a file. It reads the
// layer to its end, or to a whiteout, so that a broken one, or one of another
// DiffID, is an error: one that wraps image.ErrVerification, as of Merge. Of
// opts the limits and the events count: the stage of the reading.
func Verbatim(ctx context.Context, layers []Layer, opts Options) (bool, error) {
	if len(layers) != 1 {
		return false, nil
	}
	if wait := layers[0].Wait; wait != nil {
		if err := wait(ctx); err != nil {
			return false, fmt.Errorf("layer 1 (%s): wait for the blob: %w", layers[0].Descriptor.Digest, err)
		}
	}
	var head [6]byte
	n, err := layers[0].Blob.ReadAt(head[:min(int64(len(head)), layers[0].Descriptor.Size)], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return false, fmt.Errorf("layer 1 (%s): read the blob: %w", layers[0].Descriptor.Digest, err)
	}
	if kind, err := compress.Detect(head[:n]); err != nil || kind != compress.Gzip {
		return false, nil //nolint:nilerr // of another compression, whichever
	}
	m, err := newMerger(layers, opts)
	if err != nil {
		return false, err
	}
	d, err := newDecoder(m, 0, nil)
	if err != nil {
		return false, err
	}
	d.names = true
	m.begin("check layer")
	err = d.run(ctx)
	m.stage.End(err)
	if errors.Is(err, errWhiteout) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	return true, nil
}
