package serve

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/ref"
)

// ErrName is wrapped where From.Name cannot be what images are called.
var ErrName = errors.New("invalid name")

// CollisionError is that two different images have the same name.
type CollisionError struct {
	Name    string // with the tag
	Paths   [2]string
	Digests [2]digest.Digest
}

func (e *CollisionError) Error() string {
	who := e.Paths[0] + " and " + e.Paths[1] + " both have"
	if e.Paths[0] == e.Paths[1] {
		who = e.Paths[0] + " has twice"
	}
	return fmt.Sprintf("%s an image %s, but not the same one: %s and %s", who, e.Name, e.Digests[0], e.Digests[1])
}

// maxName bounds a repository's name, as other registries do.
const maxName = 255

// repositoryName is a repository's name (OCI distribution-spec, "Pulling manifests").
var repositoryName = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)

// ValidRepository says whether a repository's name is well formed.
func ValidRepository(name string) bool {
	return len(name) <= maxName && repositoryName.MatchString(name)
}

// SplitName parts a name that is given to images, From.Name, into repository
// and tag, of which the latter may be empty. Errors wrap ErrName.
func SplitName(name string) (repository, tag string, err error) {
	repository, tag, tagged := strings.Cut(name, ":")
	switch {
	case !ValidRepository(repository):
		return "", "", fmt.Errorf("%w %q: want a repository such as team/app, in lower case, or one with a tag: team/app:1.0", ErrName, name)
	case tagged && !ref.ValidTag(tag):
		return "", "", fmt.Errorf("%w %q: %q is no tag", ErrName, name, tag)
	}
	return repository, tag, nil
}

// longName is the repository of an image by its full name, or empty where that
// cannot be one: a registry's port stands behind a colon.
func longName(full ref.Reference) string {
	if name := full.Name(); ValidRepository(name) {
		return name
	}
	return ""
}

// archiveEnds are what the names of archives end with.
var archiveEnds = []string{".tar", ".tar.gz", ".tgz", ".tar.zst"}

var notInName = regexp.MustCompile(`[^a-z0-9]*[^a-z0-9._-][^a-z0-9]*`)

// nameOfPath is the repository of the images without a name that stand at a
// path: the last of its names, with a dash for what no repository may have.
func nameOfPath(path string) string {
	base := strings.ToLower(filepath.Base(absolute(path)))
	base = strings.TrimSuffix(base, ".001") // the first part of an archive
	for _, end := range archiveEnds {
		if rest, ok := strings.CutSuffix(base, end); ok {
			base = rest
			break
		}
	}
	base = strings.Trim(notInName.ReplaceAllString(base, "-"), "._-")
	base = strings.TrimRight(base[:min(len(base), maxName/2)], "._-")
	if !ValidRepository(base) {
		base = strings.Trim(regexp.MustCompile(`[^a-z0-9]+`).ReplaceAllString(base, "-"), "-")
	}
	return cmp.Or(base, "image")
}

// absolute gives "." and ".." a name, where that can be told.
func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

// referrersTag are tags of what refers to an image whose digest they are: OCI's
// referrers tag, and cosign's.
var referrersTag = regexp.MustCompile(`^(sha256|sha512)-([0-9a-f]+)(\.[a-z0-9]+)?$`)

// subjectOfTag is the digest that such a tag tells, or empty.
func subjectOfTag(tag string) digest.Digest {
	m := referrersTag.FindStringSubmatch(tag)
	if m == nil {
		return ""
	}
	d := digest.Digest(m[1] + ":" + m[2])
	if ref.CheckDigest(d) != nil {
		return ""
	}
	return d
}
