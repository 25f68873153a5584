package davit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/docker/go-units"
	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/partial"
	"github.com/davit-cli/davit/transfer"
)

// spool is where blobs wait that an output is derived from: the data of the
// output's partial, which outlives a killed process. Of a stream it is a
// directory of temporary files, which is gone in the end.
type spool struct {
	*partial.Partial
	dir      string
	temp     string
	size     int64                           // of all blobs
	verified map[digest.Digest]chan struct{} // closed when the blob is
}

// openSpool opens the spool in dir of the output at path. A stream has
// neither. The caller closes it, also after a commit.
func (p *pull) openSpool(dir, path string, blobs []image.Descriptor) (*spool, error) {
	s := &spool{dir: dir, verified: map[digest.Digest]chan struct{}{}}
	if p.opts.Stream != nil {
		var err error
		if s.temp, err = os.MkdirTemp("", "davit-"); err != nil {
			return nil, fmt.Errorf("make a spool: %w", err)
		}
		s.dir, path = filepath.Join(s.temp, "spool"), filepath.Join(s.temp, "output")
	}
	var slots []partial.Slot
	for _, blob := range blobs {
		slots = append(slots, partial.Slot{Digest: blob.Digest, Size: blob.Size, Offset: s.size})
		s.size += blob.Size
		s.verified[blob.Digest] = make(chan struct{})
	}
	var err error
	if s.Partial, err = partial.OpenParts(s.dir, path, slots, s.size, p.opts.Split, p.opts.Restart); err != nil {
		return nil, errors.Join(fmt.Errorf("write %s: %w", path, err), s.removeTemp())
	}
	if len(blobs) > 1 { // one may become the output itself
		s.Lazy()
	}
	where := s.dir
	if s.temp != "" {
		where = s.temp
	}
	p.note("%s of layers wait in %s until the output is whole", units.HumanSizeWithPrecision(float64(s.size), 3), where)
	return s, nil
}

func (s *spool) close() error { return errors.Join(s.Close(), s.removeTemp()) }

func (s *spool) removeTemp() error {
	if s.temp == "" {
		return nil
	}
	return os.RemoveAll(s.temp)
}

// fill fetches the items into the spool.
func (s *spool) fill(ctx context.Context, items []transfer.Item, opts transfer.Options) (transfer.Stats, error) {
	for i, item := range items {
		items[i].Place = s.Place(item.Blob.Digest)
		items[i].Verified = func() error {
			close(s.verified[item.Blob.Digest])
			return nil
		}
	}
	return transfer.Fetch(ctx, items, opts)
}

// wait returns once a blob is whole and verified.
func (s *spool) wait(ctx context.Context, blob image.Descriptor) error {
	select {
	case <-s.verified[blob.Digest]:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// copyStream writes what waited for a stream into it, until the context ends.
func copyStream(ctx context.Context, w io.Writer, r io.Reader) error {
	_, err := io.Copy(w, &contextReader{ctx, r})
	return err
}

// contextReader ends with its context.
type contextReader struct {
	ctx context.Context
	io.Reader
}

func (r *contextReader) Read(b []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.Reader.Read(b)
}
