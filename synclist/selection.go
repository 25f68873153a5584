package synclist

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/ref"
)

// Selection chooses tags and digests of a repository. The zero value chooses
// none.
type Selection struct {
	names   []string // tags and digests, whatever the repository lists
	rules   []rule   // a tag of the repository is taken where one of them takes it
	exclude []string // globs
	newest  int      // of what the rules take; 0: all
}

// rule takes the tags that pass all that it has.
type rule struct {
	globs  []string // one of them
	filter filter
	ranges []versions // one of them
	// own: no referrers tags; and versions, where only newest chooses.
	own, releases bool
}

// NeedsTags says whether the repository's tags must be listed for Select.
func (s Selection) NeedsTags() bool { return len(s.rules) > 0 }

// None says whether it is the zero value.
func (s Selection) None() bool { return len(s.names) == 0 && len(s.rules) == 0 }

// Select chooses of the tags of a repository, whatever their order, in the order
// of image.SortTags, then digests; each once. Tags and digests that the list
// names are there even if they are not among the tags, which need not be listed
// then. What is no tag is passed over.
func (s Selection) Select(tags []string) []string {
	var taken []string
	for _, tag := range tags {
		if ref.ValidTag(tag) && slices.ContainsFunc(s.rules, func(r rule) bool { return r.takes(tag) }) && !matchesGlob(s.exclude, tag) {
			taken = append(taken, tag)
		}
	}
	taken = sorted(taken)
	if s.newest > 0 && len(taken) > s.newest {
		taken = taken[len(taken)-s.newest:]
	}
	var digests []string
	for _, name := range s.names {
		switch {
		case matchesGlob(s.exclude, name):
		case isDigest(name):
			digests = append(digests, name)
		default:
			taken = append(taken, name)
		}
	}
	slices.Sort(digests)
	return append(sorted(taken), slices.Compact(digests)...)
}

// sorted are the tags in order, each once.
func sorted(tags []string) []string {
	slices.Sort(tags)
	tags = slices.Compact(tags)
	image.SortTags(tags)
	return tags
}

func (r rule) takes(tag string) bool {
	if r.own && image.IsReferrersTag(tag) || len(r.globs) > 0 && !matchesGlob(r.globs, tag) || !r.filter.takes(tag) {
		return false
	}
	if len(r.ranges) == 0 && !r.releases {
		return true
	}
	version, err := semver.NewVersion(tag)
	if err != nil {
		return false
	}
	if r.releases && version.Prerelease() != "" {
		return false
	}
	return len(r.ranges) == 0 || slices.ContainsFunc(r.ranges, func(v versions) bool { return v.has(version) })
}

func matchesGlob(globs []string, tag string) bool {
	return slices.ContainsFunc(globs, func(glob string) bool {
		ok, _ := path.Match(glob, tag)
		return ok
	})
}

// versions is a range of them.
type versions struct {
	constraint *semver.Constraints
	// own: dates and build numbers (20240131) are versions only where the range
	// has one.
	own, numbers bool
}

// firstNumber is from where on a major version is rather a date or a number.
const firstNumber = 100_000

var bigNumber = regexp.MustCompile(`[0-9]{6}`)

// maxRange is the longest range, in bytes.
const maxRange = 256

// parseRange reads a range of versions.
func parseRange(s string, own bool) (versions, error) {
	if s == "" {
		return versions{}, errors.New("it is empty: want a range of versions such as >=1.20 <2")
	}
	if len(s) > maxRange {
		return versions{}, fmt.Errorf("it has %d characters: want a range of versions such as >=1.20 <2", len(s))
	}
	constraint, err := semver.NewConstraint(s)
	if err != nil {
		return versions{}, fmt.Errorf("%s is no range of versions: want one such as >=1.20 <2, or ~1.4", quote(s))
	}
	return versions{constraint: constraint, own: own, numbers: bigNumber.MatchString(s)}, nil
}

func (v versions) has(version *semver.Version) bool {
	if v.own && !v.numbers && version.Major() >= firstNumber {
		return false
	}
	return v.constraint.Check(version)
}

// parseGlob checks a glob.
func parseGlob(s string) error {
	if s == "" {
		return errors.New("it is empty: want a tag or a pattern of tags")
	}
	if _, err := path.Match(s, ""); err != nil {
		return fmt.Errorf("%s is no pattern: want * and ? for what may be anything, and [a-z] for one of several", quote(s))
	}
	return nil
}

// isGlob says whether s is more than a name.
func isGlob(s string) bool { return strings.ContainsAny(s, `*?[\`) }

// checkName says whether s is a tag or a digest.
func checkName(s string) error {
	if isDigest(s) && !strings.Contains(s, "@") {
		return ref.CheckDigest(digest.Digest(s))
	}
	if !ref.ValidTag(s) {
		return fmt.Errorf("%s is no tag: want up to 128 letters, digits, _, . and -, not starting with . or -", quote(s))
	}
	return nil
}

// isDigest says whether s is meant as a digest: no tag has a colon.
func isDigest(s string) bool { return strings.Contains(s, ":") }
