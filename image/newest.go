package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
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
	newest := Newest{anyVersion: true}
	err := lister.Tags(ctx, func(page []string) error {
		newest.Add(page...)
		return nil
	})
	switch {
	case err != nil && errors.Is(err, ErrNotFound), err == nil && newest.count == 0:
		return "", errNoTags
	case err != nil:
		return "", fmt.Errorf("list tags: %w", err)
	}
	return newest.Tag()
}

// Newest finds the newest of tags by semantic version (semver.org). The zero
// value takes releases only: what looks like a date or a build number
// (20240131) is one where no other is there. Of tags of the same version the
// one that says it most exactly is taken, 1.2.0 before 1.2 and v1.2.0.
type Newest struct {
	// PreReleases says that pre-releases count as releases do.
	PreReleases bool

	anyVersion bool // a pre-release where there is no release
	best       candidate
	shown      []string
	count      int
}

// Add takes more tags into account. What is no tag is passed over.
func (n *Newest) Add(tags ...string) {
	for _, tag := range tags {
		if !ref.ValidTag(tag) {
			continue
		}
		if n.count++; len(n.shown) < shownTags {
			n.shown = append(n.shown, tag)
		}
		if c, ok := newCandidate(tag, n.PreReleases); ok && (c.rank > rankPreRelease || n.anyVersion) && c.newer(n.best) {
			n.best = c
		}
	}
}

// Tag is the newest tag. The error wraps ErrNotFound and lists tags where none
// is a version that counts.
func (n *Newest) Tag() (string, error) {
	what := "release"
	switch {
	case n.best.version != nil:
		return n.best.tag, nil
	case n.count == 0:
		return "", fmt.Errorf("choose tag: %w: there is no tag", ErrNotFound)
	case n.PreReleases || n.anyVersion:
		what = "version"
	}
	list := strings.Join(n.shown, ", ")
	if more := n.count - len(n.shown); more > 0 {
		list += fmt.Sprintf(" and %d more", more)
	}
	return "", fmt.Errorf("choose tag: %w: no tag is a %s; write one of: %s", ErrNotFound, what, list)
}

// SortTags orders tags by semantic version, the newest last, pre-releases
// before their release. Those that are no versions come first, by name, and
// then what looks like dates or build numbers.
func SortTags(tags []string) {
	all := make([]candidate, 0, len(tags))
	for _, tag := range tags {
		c, ok := newCandidate(tag, true)
		if !ok {
			c = candidate{tag: tag}
		}
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b candidate) int {
		switch {
		case a.version == nil && b.version == nil:
			return cmp.Compare(a.tag, b.tag)
		case a.newer(b):
			return 1
		case b.newer(a):
			return -1
		}
		return 0
	})
	for i, c := range all {
		tags[i] = c.tag
	}
}

// candidate is a tag that is a version.
type candidate struct {
	tag     string
	version *semver.Version
	rank    int
}

// The ranks of candidates: releases go before dates and build numbers, these
// before pre-releases.
const (
	rankPreRelease = iota + 1
	rankNumber
	rankRelease
)

// newCandidate ranks a tag that is a version, with alike a pre-release as if it
// were a release.
func newCandidate(tag string, alike bool) (candidate, bool) {
	version, err := semver.NewVersion(tag)
	if err != nil {
		return candidate{}, false
	}
	c := candidate{tag: tag, version: version, rank: rankRelease}
	switch {
	case version.Prerelease() != "" && !alike:
		c.rank = rankPreRelease
	case version.Major() >= 100000: // 20240131: no version to compare with 1.2.3
		c.rank = rankNumber
	}
	return c, true
}

// newer orders candidates, those without a version last; of the same version
// the one that says it most exactly wins (1.2.0 before 1.2), then v1.2.0 loses
// to 1.2.0.
func (c candidate) newer(o candidate) bool {
	if c.version == nil || o.version == nil || c.rank != o.rank {
		return c.version != nil && (o.version == nil || c.rank > o.rank)
	}
	if n := c.version.Compare(o.version); n != 0 {
		return n > 0
	}
	if n := strings.Count(c.tag, ".") - strings.Count(o.tag, "."); n != 0 {
		return n > 0
	}
	return c.tag < o.tag
}
