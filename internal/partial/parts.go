package partial

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/split"
)

// derivedPartsName is a directory, in place of derived, for an output in parts.
const derivedPartsName = "derived-parts"

// CommitParts is Commit for data in parts: each gets its final name, and their
// checksums are written beside them, as split.Commit does it. It ends when ctx
// does, as long as no part has its name. A process that is killed meanwhile has
// committed all or nothing, for the next run.
func (p *Partial) CommitParts(ctx context.Context, size int64, events image.EventFunc) error {
	if err := p.data.Close(); err != nil {
		return fmt.Errorf("close %s: %w", p.path(partsName), err)
	}
	return p.commitParts(ctx, partsName, size, events)
}

// DerivedParts is Derived for an output in parts, which are written at will. The
// caller closes it, and ends with CommitDerivedParts or Close.
func (p *Partial) DerivedParts() (*split.Row, error) {
	if err := os.Mkdir(p.path(derivedPartsName), 0o700); err != nil {
		return nil, err
	}
	path := func(n int) string { return filepath.Join(p.path(derivedPartsName), split.PartName(n)) }
	return split.NewRow(-1, p.part, path, func(n int) (*os.File, error) {
		if n > split.MaxParts {
			return nil, fmt.Errorf("it becomes more than %d parts of %s: choose larger ones", split.MaxParts, humanSize(p.part))
		}
		return openFile(path(n), os.O_RDWR|os.O_CREATE)
	}), nil
}

// CommitDerivedParts is CommitDerived for an output in parts, of size bytes.
func (p *Partial) CommitDerivedParts(ctx context.Context, size int64, events image.EventFunc) error {
	return p.commitParts(ctx, derivedPartsName, size, events)
}

// commitParts commits the parts in one of the partial's directories, and removes
// the partial.
func (p *Partial) commitParts(ctx context.Context, name string, size int64, events image.EventFunc) error {
	if err := split.Commit(ctx, p.path(name), p.output, size, p.part, events); err != nil {
		return fmt.Errorf("replace %s: %w", p.output, err)
	}
	return p.Discard()
}

// undo takes back a commit of parts during which a run was killed.
func (p *Partial) undo() error {
	var errs []error
	for _, name := range []string{partsName, derivedPartsName} {
		errs = append(errs, split.Undo(p.path(name), p.output))
	}
	return errors.Join(errs...)
}
