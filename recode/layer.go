package recode

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/compress"
)

const copyBuffer = 256 << 10

// copyOnce writes a layer as it was served, unless that was done.
func (r *recoder) copyOnce(ctx context.Context, layer image.Descriptor) error {
	if r.copied[layer.Digest] {
		return nil
	}
	r.copied[layer.Digest] = true
	if r.opts.Have != nil && r.opts.Have(layer) {
		return nil
	}
	return r.sink.Blob(func(w io.Writer) (image.Descriptor, error) {
		blob, err := r.openBlob(ctx, layer)
		if err != nil {
			return image.Descriptor{}, err
		}
		defer blob.Close()
		n, err := io.CopyBuffer(struct{ io.Writer }{w}, &source{ctx: ctx, r: blob}, make([]byte, copyBuffer))
		if err == nil && n != layer.Size {
			err = fmt.Errorf("%w: the blob has %d bytes, not %d", image.ErrVerification, n, layer.Size)
		}
		if err != nil {
			return image.Descriptor{}, fmt.Errorf("copy the blob: %w", err)
		}
		return layer, nil
	})
}

// recodeOnce re-encodes a layer, unless that was done, and compares its tar
// with the diffID. It returns what to name in the layer's place.
func (r *recoder) recodeOnce(ctx context.Context, layer image.Descriptor, diffID digest.Digest) (*image.Descriptor, error) {
	done, ok := r.recoded[layer.Digest]
	if !ok {
		r.event(image.EventStep, "re-encode layer %s as %s", layer.Digest, r.form())
		err := r.sink.Blob(func(w io.Writer) (image.Descriptor, error) {
			var err error
			if done, err = r.recode(ctx, layer, w); err != nil {
				return image.Descriptor{}, err
			}
			done.MediaType = as(layer.MediaType, r.want)
			return done.Descriptor, done.check(diffID)
		})
		if err != nil {
			return nil, err
		}
		r.recoded[layer.Digest] = done
	}
	if err := done.check(diffID); err != nil {
		return nil, err
	}
	to := done.Descriptor
	to.MediaType = as(layer.MediaType, r.want) // another manifest may call it otherwise
	return &to, nil
}

// check compares the layer's tar with a diffID.
func (r result) check(diffID digest.Digest) error {
	for _, id := range r.diffIDs {
		if id.Algorithm() == diffID.Algorithm() && id != diffID {
			return fmt.Errorf("compare with the config: %w: the layer's tar has the digest %s, not the diffID %s", image.ErrVerification, id, diffID)
		}
	}
	return nil
}

// recode decodes a layer and encodes it to w. Errors wrap
// image.ErrVerification where the layer is at fault.
func (r *recoder) recode(ctx context.Context, layer image.Descriptor, w io.Writer) (result, error) {
	blob, err := r.openBlob(ctx, layer)
	if err != nil {
		return result{}, err
	}
	defer blob.Close()
	served := &source{ctx: ctx, r: blob}
	unpacked, kind, closeIt, err := compress.NewReader(served)
	if err != nil {
		return result{}, fmt.Errorf("decode the blob: %w", err)
	}
	defer closeIt()
	if kind != compress.Plain {
		ahead := compress.NewReadahead(unpacked)
		defer ahead.Stop()
		unpacked = ahead
	}
	tar := &decoded{r: unpacked, left: &r.left, limit: r.opts.MaxBytes}
	out := &output{w: w}
	var encoder io.WriteCloser = out
	if r.want == Gzip {
		out.sum = digest.Canonical.Digester()
		if encoder, err = compress.NewGzip(out, r.opts.Level, r.opts.Jobs); err != nil {
			return result{}, err
		}
	}
	var sums []digest.Digester // of the tar
	writers := []io.Writer{encoder}
	for _, algorithm := range append([]digest.Algorithm{digest.Canonical}, r.algorithms[layer.Digest]...) {
		sum := algorithm.Digester()
		sums = append(sums, sum)
		writers = append(writers, sum.Hash())
	}
	_, err = io.CopyBuffer(io.MultiWriter(writers...), tar, make([]byte, copyBuffer))
	if closeErr := encoder.Close(); err == nil {
		err = closeErr
	}
	switch {
	case err == nil:
	case tar.err == nil:
		return result{}, fmt.Errorf("write the blob: %w", err)
	case served.err != nil: // the decoder has ended: nobody else sets it
		return result{}, fmt.Errorf("read the blob: %w", served.err)
	case errors.Is(err, image.ErrVerification):
		return result{}, fmt.Errorf("decode the blob: %w", err)
	default:
		return result{}, fmt.Errorf("decode the blob: %w: %w", image.ErrVerification, err)
	}
	var done result
	for _, sum := range sums {
		done.diffIDs = append(done.diffIDs, sum.Digest())
	}
	done.Digest, done.Size = done.diffIDs[0], out.n
	if out.sum != nil {
		done.Digest = out.sum.Digest()
	}
	return done, nil
}

// openBlob opens a blob. One that is a document too is not among the blobs
// that are fetched.
func (r *recoder) openBlob(ctx context.Context, blob image.Descriptor) (io.ReadCloser, error) {
	if b, ok := r.documents[blob.Digest]; ok {
		return io.NopCloser(bytes.NewReader(b)), nil
	}
	in, err := r.open(ctx, blob)
	if err != nil {
		return nil, fmt.Errorf("open the blob: %w", err)
	}
	return in, nil
}

// source reads a blob, and knows whether it was the reading that failed.
type source struct {
	ctx context.Context
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		s.err = err
		return 0, err
	}
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// decoded reads a layer's tar, as far as the limit allows, and knows whether it
// was the decoding that failed.
type decoded struct {
	r     io.Reader
	left  *int64
	limit int64
	err   error
}

func (d *decoded) Read(p []byte) (int, error) {
	n, err := d.r.Read(p)
	if err != nil && err != io.EOF {
		d.err = err
	}
	if *d.left -= int64(n); *d.left < 0 {
		d.err = fmt.Errorf("%w: %w: the image's layers decode to more than %d bytes", image.ErrVerification, ErrLimit, d.limit)
		return 0, d.err
	}
	return n, err
}

// output counts what is written, and hashes it where nobody else does.
type output struct {
	w   io.Writer
	n   int64
	sum digest.Digester
}

func (o *output) Write(p []byte) (int, error) {
	if o.sum != nil {
		o.sum.Hash().Write(p)
	}
	n, err := o.w.Write(p)
	o.n += int64(n)
	return n, err
}

// Close is for what is written as it is.
func (*output) Close() error { return nil }
