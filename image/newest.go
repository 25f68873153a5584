package image

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/Masterminds/semver/v3"

	"github.com/davit-cli/davit/ref"
)

// TagLister is a Source that can list its tags.
type TagLister interface {
	// Tags calls fn with one page of tags after the other, in the source's
	// order, until it has no more or fn returns an error, which Tags returns.
	Tags(ctx context.Context, fn func(page []string) error) error
}

// shownTags is how many tags an error lists.
const shownTags = 20

// errNoTags: a repository without tags, or none at all.
var errNoTags = errors.New("no tags")

// newestTag is the newest of the tags that are semantic versions; a pre-release
// only where there is no release. Error: errNoTags where the source has none,
// one that wraps ErrNotFound and lists tags where none is a version.
func newestTag(ctx context.Context, lister TagLister) (string, error) {
	var best candidate
	var shown []string
	count := 0
	err := lister.Tags(ctx, func(page []string) error {
		for _, tag := range page {
			if !ref.ValidTag(tag) {
				continue
			}
			if count++; len(shown) < shownTags {
				shown = append(shown, tag)
			}
			if c, ok := newCandidate(tag); ok && c.newer(best) {
				best = c
			}
		}
		return nil
	})
	switch {
	case err != nil && errors.Is(err, ErrNotFound), err == nil && count == 0:
		return "", errNoTags
	case err != nil:
		return "", fmt.Errorf("list tags: %w", err)
	case best.version != nil:
		return best.tag, nil
	}
	list := strings.Join(shown, ", ")
	if more := count - len(shown); more > 0 {
		list += fmt.Sprintf(" and %d more", more)
	}
	return "", fmt.Errorf("choose tag: %w: no tag is a version; write one of: %s", ErrNotFound, list)
}

// candidate is a tag that is a version.
type candidate struct {
	tag     string
	version *semver.Version
	rank    int // releases before dates and build numbers before pre-releases
}

func newCandidate(tag string) (candidate, bool) {
	version, err := semver.NewVersion(tag)
	if err != nil {
		return candidate{}, false
	}
	c := candidate{tag: tag, version: version, rank: 3}
	switch {
	case version.Prerelease() != "":
		c.rank = 1
	case version.Major() >= 100000: // 20240131: no version to compare with 1.2.3
		c.rank = 2
	}
	return c, true
}

// newer orders candidates; of the same version the one that says it most
// exactly wins (1.2.0 before 1.2), then v1.2.0 loses to 1.2.0.
func (c candidate) newer(o candidate) bool {
	if o.version == nil || c.rank != o.rank {
		return o.version == nil || c.rank > o.rank
	}
	if n := c.version.Compare(o.version); n != 0 {
		return n > 0
	}
	if n := strings.Count(c.tag, ".") - strings.Count(o.tag, "."); n != 0 {
		return n > 0
	}
	return c.tag < o.tag
}
