package compress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/tempfile"
)

// UnpackOptions of Unpack. The zero value works.
type UnpackOptions struct {
	// Dir is where the temporary file stands, "" for the system's directory.
	Dir string
	// Limit is how many bytes an archive may decompress to. 0: 1 TiB.
	Limit int64
	// Events receives a stage, "decompress the archive". May be nil.
	Events image.EventFunc
}

// Unpack decompresses an archive of packedSize bytes into a temporary file, and
// returns that with its size. The caller closes it. Where the archive cannot be
// decompressed to its end, or is more than the limit, the error wraps
// image.ErrVerification, and the file has what could be. Any other error, of
// the files or ctx's cause, comes without a file.
func Unpack(ctx context.Context, archive io.ReaderAt, packedSize int64, opts UnpackOptions) (_ *tempfile.File, size int64, err error) {
	if opts.Limit == 0 {
		opts.Limit = 1 << 40
	}
	out, err := tempfile.New(opts.Dir)
	if err != nil {
		return nil, 0, err
	}
	stage := image.NewStage(opts.Events, "decompress the archive", packedSize)
	defer func() { stage.End(err) }()
	size, err = unpack(out, &packed{ctx, io.NewSectionReader(archive, 0, packedSize), stage}, opts.Limit)
	var ofFile *fs.PathError
	switch {
	case err == nil:
		return out, size, nil
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case !errors.As(err, &ofFile):
		return out, size, fmt.Errorf("%w: after %d bytes: %w", image.ErrVerification, size, err)
	}
	return nil, 0, errors.Join(err, out.Close())
}

func unpack(w io.Writer, in io.Reader, limit int64) (int64, error) {
	r, _, done, err := NewReader(in)
	defer done()
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(w, io.LimitReader(r, limit+1))
	if err == nil && n > limit {
		err = fmt.Errorf("it decompresses to more than %d bytes", limit)
	}
	return n, err
}

// packed is an archive that is read until ctx ends.
type packed struct {
	ctx   context.Context
	r     io.Reader
	stage *image.Stage
}

func (p *packed) Read(b []byte) (int, error) {
	if p.ctx.Err() != nil {
		return 0, context.Cause(p.ctx)
	}
	n, err := p.r.Read(b)
	p.stage.Add(int64(n))
	return n, err
}
