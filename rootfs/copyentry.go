package rootfs

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
)

// CopyOptions tune CopyEntry. The zero value works.
type CopyOptions struct {
	// Digest is the content's, as Entry has it. Another one is an error that
	// wraps image.ErrVerification; what was written then is wrong. Empty: it
	// is not checked.
	Digest digest.Digest
	// Limits bound what the layer may decode to, up to the entry's end.
	Limits Limits
}

// CopyEntry reads a layer's stream again and writes the content of a regular
// file to w: of the entry with that ordinal, as Entry has it of a Listing that
// List made. It ends behind the content; of blob it may have read more, and
// reads nothing once it returns. A caller that has not verified the blob's
// bytes sets Digest, or reads blob to its end and verifies all of it.
//
// Errors are those of List. An error of w is wrapped, and not blamed on the
// content.
func CopyEntry(ctx context.Context, blob io.Reader, ordinal int, w io.Writer, opts CopyOptions) error {
	limits := opts.Limits.withDefaults()
	hashed, err := newTarHash(opts.Digest)
	if err != nil {
		return fmt.Errorf("copy entry %d of the layer: %w", ordinal, err)
	}
	in := stream{blob: blob, total: new(atomic.Int64), limit: limits.Bytes}
	at, found := 0, false
	err = in.read(ctx, func(h *tar.Header, r io.Reader, in *counter) error {
		if at++; at-1 != ordinal {
			if int64(at) > limits.Entries {
				return limits.errEntries()
			}
			return nil
		}
		found = true
		switch h.Typeflag {
		case tar.TypeReg, tar.TypeGNUSparse, tar.TypeCont:
		default:
			return fmt.Errorf("it is no regular file, but of type %q", h.Typeflag)
		}
		if isSparse(h) {
			if err := in.hold(h.Size); err != nil {
				return err
			}
		}
		if _, err := io.Copy(contentWriter{w}, struct{ io.Reader }{hashed.tee(r)}); err != nil {
			return err
		}
		return errEnough
	})
	switch {
	case err != nil:
	case !found:
		err = fmt.Errorf("%w: the layer has %d entries", image.ErrVerification, at)
	default:
		err = hashed.checkContent()
	}
	if err != nil {
		return fmt.Errorf("copy entry %d of the layer: %w", ordinal, err)
	}
	return nil
}

// contentWriter tells the trouble of a writer from that of the layer.
type contentWriter struct{ io.Writer }

func (w contentWriter) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	if err != nil {
		err = writeError{"write the content", err}
	}
	return n, err
}
