package davit

import (
	"context"
	"fmt"
	"os"

	"github.com/davit-cli/davit/archive"
	"github.com/davit-cli/davit/internal/split"
)

// MinSplit is the least that PullOptions.Split may be, in bytes.
const MinSplit = 1_000_000

// checkSplit refuses parts of what has none.
func (o PullOptions) checkSplit() error {
	switch {
	case o.Split == 0:
		return nil
	case o.Stream != nil:
		return fmt.Errorf("a stream is not split: name a file")
	case o.Format != Archive:
		return fmt.Errorf("format %s is not split: only an archive is", o.Format)
	case o.Split < MinSplit:
		return fmt.Errorf("parts of %d bytes are too small: want 1MB at least", o.Split)
	case o.Output == "":
		return nil
	}
	return split.CheckName(o.Output)
}

// appendFile is what re-encoded layers are appended to: one file, or its parts.
type appendFile interface {
	archive.AppendFile
	Close() error
}

// createDerived begins the archive that is derived of the spool.
func (p *pull) createDerived(s *spool) (appendFile, error) {
	if p.opts.Split > 0 {
		return s.DerivedParts()
	}
	return os.OpenFile(s.Derived(), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
}

// commitDerived gives the archive its name, or its parts theirs.
func (p *pull) commitDerived(ctx context.Context, s *spool, w *written) error {
	if p.opts.Split == 0 {
		return s.CommitDerived()
	}
	w.parts = split.Names(w.path, w.size, p.opts.Split)
	return s.CommitDerivedParts(ctx, w.size, p.opts.Events)
}
