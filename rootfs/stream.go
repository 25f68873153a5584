package rootfs

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/compress"
)

// stream is a layer's tar, compressed as served.
type stream struct {
	blob   io.Reader
	diffID digest.Digest // "": it is not checked
	stage  *image.Stage  // of the blob's bytes, or nil
	total  *atomic.Int64 // of the bytes of tars, with the holes of sparse files
	limit  int64         // of total
}

// errEnough ends the reading of a stream early, and well.
var errEnough = errors.New("enough was read")

// read gives the entries in their order, and reads the stream to its end. The
// blob is not read any more once it returns. Errors name the step, and wrap
// image.ErrVerification where the content is at fault.
func (s *stream) read(ctx context.Context, entry func(h *tar.Header, r io.Reader, in *counter) error) error {
	blob := &source{ctx: ctx, r: s.blob, stage: s.stage}
	unpacked, kind, closeIt, err := compress.NewReader(blob)
	if err != nil {
		return fault(blob, "open the blob", err)
	}
	defer closeIt()
	tarred, err := newTarHash(s.diffID)
	if err != nil {
		return err
	}
	unpacked = tarred.tee(unpacked)
	if kind != compress.Plain {
		ahead := compress.NewReadahead(unpacked)
		defer ahead.Stop()
		unpacked = ahead
	}
	in := &counter{r: unpacked, total: s.total, limit: s.limit, plain: kind == compress.Plain}
	tr := tar.NewReader(in)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return fault(blob, "read the tar", err)
		}
		if err := entry(h, tr, in); errors.Is(err, errEnough) {
			return nil
		} else if err != nil {
			return fault(blob, fmt.Sprintf("entry %q", short(h.Name)), err)
		}
	}
	// What is left tells whether the stream is whole.
	if _, err := io.Copy(io.Discard, in); err != nil {
		return fault(blob, "read to the end", err)
	}
	return tarred.check()
}

// source reads a blob, and knows whether it was the blob that failed.
type source struct {
	ctx   context.Context
	r     io.Reader
	stage *image.Stage
	err   error
}

func (s *source) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		s.err = err
		return 0, err
	}
	n, err := s.r.Read(p)
	s.stage.Add(int64(n))
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// counter counts a layer's tar against the limit of all.
type counter struct {
	r     io.Reader
	n     int64
	total *atomic.Int64
	limit int64
	plain bool // the tar is not compressed
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	if c.total.Add(int64(n)) > c.limit {
		return 0, c.over()
	}
	return n, err
}

func (c *counter) over() error {
	return Limits{Bytes: c.limit}.errBytes()
}

// hold counts the size of a sparse file, whose holes become zeros.
func (c *counter) hold(size int64) error {
	if size > c.limit || c.total.Add(size) > c.limit {
		return c.over()
	}
	return nil
}

func isSparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for k := range h.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// fault names the step, and lays the fault on the content unless the blob
// could not be read, or what it comes to not be written.
func fault(blob *source, step string, err error) error {
	switch {
	case blob.err != nil:
		return fmt.Errorf("%s: %w", step, blob.err)
	case errors.As(err, new(writeError)), errors.Is(err, image.ErrVerification):
		return fmt.Errorf("%s: %w", step, err)
	case errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("%s: %w: %w", step, image.ErrVerification, err)
}

// writeError is trouble with what is written, not with the layer.
type writeError struct {
	step string
	err  error
}

func (e writeError) Error() string { return e.step + ": " + e.err.Error() }

func (e writeError) Unwrap() error { return e.err }
