package verify

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/split"
)

// openParts finds the files of a tar in parts, whose checksums are compared where
// there are any. The caller closes the tree.
func (c *checker) openParts(ctx context.Context, set *split.Set) (*tree, error) {
	c.report.Format = Archive
	if err := c.checkParts(ctx, set); err != nil {
		return nil, err
	}
	c.note("loaders take the parts joined: %s", split.JoinCommand(set.Path))
	f, err := set.Open()
	if err != nil {
		return nil, err
	}
	t, err := c.readArchive(ctx, set.Path, f, set.Size)
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return t, nil
}

// checkParts compares the parts with their checksums.
func (c *checker) checkParts(ctx context.Context, set *split.Set) error {
	told := filepath.Base(split.SumsName(set.Path))
	if set.Sums == nil {
		c.note("there is no %s with checksums of the %d parts", told, len(set.Paths))
		return nil
	}
	wrong, err := set.Verify(ctx, c.opts.Jobs, c.opts.Events)
	if err != nil {
		return err
	}
	for _, part := range wrong {
		c.problem(Digest, part, "", "the part has another sha256 than %s says: copy it once more", told)
	}
	if len(wrong) == 0 {
		c.note("the %d parts are what %s says", len(set.Paths), told)
	}
	return nil
}

// brokenParts notes why the parts are no whole.
func (c *checker) brokenParts(err *split.Error) *tree {
	c.report.Format = Archive
	what := Size
	if errors.Is(err, image.ErrNotFound) {
		what = Missing
	}
	c.problem(what, err.Part, "", "%s", plain(err))
	return &tree{broken: true, find: findNone, close: func() {}}
}
