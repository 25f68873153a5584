package davit

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/atomicfile"
	"github.com/davit-cli/davit/internal/partial"
	"github.com/davit-cli/davit/transfer"
)

// ByteRange is a part of a blob: the bytes with the offsets From to To.
type ByteRange struct {
	From int64
	// To is the last byte, not the first that is not meant. -1: the blob's last.
	To int64
}

func (r ByteRange) String() string { return fmt.Sprintf("%d-%d", r.From, r.To) }

// BlobOptions tell what of a blob to write, and where to.
type BlobOptions struct {
	LookOptions
	// Output is the file to write; missing parent directories are made.
	Output string
	// Stream receives the bytes in place of a file, in order.
	Stream io.Writer
	// Range is the part that is wanted. Nil: the whole blob. A part proves
	// nothing by itself: it is not verified.
	Range *ByteRange
}

// BlobResult is what was written of a blob. Its JSON is the command line's
// --json.
type BlobResult struct {
	// Digest is the blob's, also where a part of it was written.
	Digest digest.Digest `json:"digest"`
	// Path is the file that was written, empty for a stream.
	Path string `json:"path"`
	// Size is the bytes that were written.
	Size int64 `json:"size"`
	// Range is the part that was written, FROM-TO, where it is a part.
	Range string `json:"range,omitempty"`
}

// Blob writes the blob that name, which ends with its digest, stands for:
// alpine@sha256:…, or ./layout@sha256:… for one on disk. A whole blob is
// verified: the file stands under its name only then, and what an interrupted
// run has fetched is used by the next one with the same output; of a stream the
// last bytes come only then.
//
// Errors wrap image.ErrNotFound, image.ErrUnauthorized or
// image.ErrVerification where one of them is the cause.
func Blob(ctx context.Context, name string, opts BlobOptions) (BlobResult, error) {
	switch {
	case opts.Stream != nil:
		opts.Output = ""
	case opts.Output == "":
		return BlobResult{}, errors.New("write a blob: neither a file nor a stream is named")
	}
	d, l, err := openBlobs(ctx, name, opts.LookOptions)
	if err != nil {
		return BlobResult{}, err
	}
	defer l.close()
	size, err := l.source.BlobSize(ctx, d)
	if err != nil {
		return BlobResult{}, err
	}
	b := blobOutput{look: l, opts: opts, blob: image.Descriptor{MediaType: "application/octet-stream", Digest: d, Size: size}}
	result := BlobResult{Digest: d, Path: opts.Output, Size: size}
	part := opts.Range
	switch {
	case part == nil && opts.Stream != nil:
		return result, b.stream(ctx)
	case part == nil:
		return result, b.file(ctx)
	case part.From >= size:
		return BlobResult{}, fmt.Errorf("blob %s: it has %d bytes, and none from %d on", d, size, part.From)
	case part.From < 0 || part.To >= 0 && part.To < part.From:
		return BlobResult{}, fmt.Errorf("blob %s: it has %d bytes, and no range %s of them", d, size, part)
	}
	end := size
	if part.To >= 0 && part.To < size-1 {
		end = part.To + 1
	}
	result.Size, result.Range = end-part.From, ByteRange{part.From, end - 1}.String()
	return result, b.part(ctx, part.From, end)
}

// openBlobs opens where the blobs of a name are, and reads its digest.
func openBlobs(ctx context.Context, name string, opts LookOptions) (digest.Digest, *look, error) {
	if opts.Transfer.Events == nil {
		opts.Transfer.Events = opts.Events
	}
	l := &look{opts: opts.withDefaults()}
	var err error
	if l.at, err = ParseLocation(name); err != nil {
		return "", nil, err
	}
	d := l.at.BlobDigest()
	if d == "" {
		return "", nil, fmt.Errorf("%s: it is no blob's name: want NAME@DIGEST", l.at)
	}
	return d, l, l.openSource(ctx)
}

// BlobDigest is the digest that the location ends with; empty where there is
// none.
func (l Location) BlobDigest() digest.Digest {
	if l.Path == "" {
		return l.Reference.Digest
	}
	if d := digest.Digest(l.Image); image.CheckDigest(d) == nil {
		return d
	}
	return ""
}

// blobOutput is a blob on its way out.
type blobOutput struct {
	*look
	opts BlobOptions
	blob image.Descriptor
}

// stream writes the blob in order.
func (b *blobOutput) stream(ctx context.Context) error {
	_, err := transfer.Stream(ctx, []transfer.Item{b.item(b.blob)}, b.look.opts.Transfer, func(_ int, content io.Reader) error {
		_, err := io.Copy(b.opts.Stream, content)
		return err
	})
	return err
}

// file writes the blob beside its place, and gives it its name in the end.
func (b *blobOutput) file(ctx context.Context) (err error) {
	path, err := atomicfile.Target(b.opts.Output)
	if err != nil {
		return err
	}
	p, err := partial.Open(path, []partial.Slot{{Digest: b.blob.Digest, Size: b.blob.Size}}, b.blob.Size, false)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	item := b.item(b.blob)
	item.Place = p.Place(b.blob.Digest)
	if _, err := transfer.Fetch(ctx, []transfer.Item{item}, b.look.opts.Transfer); err != nil {
		return err
	}
	return p.Commit()
}

// part writes the bytes [from, end).
func (b *blobOutput) part(ctx context.Context, from, end int64) error {
	if b.opts.Stream != nil {
		return b.section(ctx, from, end, b.opts.Stream)
	}
	return atomicfile.WriteOutput(b.opts.Output, func(w io.Writer) error { return b.section(ctx, from, end, w) })
}

// section writes the bytes [from, end), by way of all that stand before them
// where the source serves no ranges.
func (b *blobOutput) section(ctx context.Context, from, end int64, w io.Writer) error {
	had := counter{w: w}
	err := transfer.Section(ctx, b.item(b.blob), from, end-from, &had, b.look.opts.Transfer)
	var none *image.NoRangeError
	if !errors.As(err, &none) {
		return err
	}
	b.look.opts.Events.Send(image.Event{Kind: image.EventNote, Text: fmt.Sprintf("%s serves no ranges: the blob is fetched from its beginning", none.Host)})
	_, err = transfer.Stream(ctx, []transfer.Item{b.item(b.blob)}, b.look.opts.Transfer, func(_ int, content io.Reader) error {
		if _, err := io.CopyN(io.Discard, content, from+had.n); err != nil {
			return err
		}
		if _, err := io.CopyN(w, content, end-from-had.n); err != nil {
			return err
		}
		return errEnough
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// counter counts what is written through it.
type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// errEnough ends a transfer of which no more is wanted.
var errEnough = errors.New("enough")
