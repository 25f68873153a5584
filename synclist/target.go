package synclist

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/davit-cli/davit/ref"
)

// Target is where images go: a registry, with or without a path, that takes each
// repository below it; one repository; or a file or directory. The zero value is
// none.
type Target struct {
	// Path is an archive or a layout, as it is written: oci:DIR, ./x.tar.
	Path string
	// Repository is where all images go, or empty. It may have a tag, for one
	// image.
	Repository ref.Reference
	// Prefix is what stands before the repositories: its Repository is a path, or
	// empty.
	Prefix ref.Reference
}

// None says whether it is the zero value.
func (t Target) None() bool { return t == Target{} }

// String is the target as ParseTarget reads it; of one repository, its name.
func (t Target) String() string {
	switch {
	case t.Path != "":
		return t.Path
	case t.Repository.Registry != "":
		return t.Repository.String()
	}
	return strings.TrimSuffix(t.Prefix.Name(), "/")
}

// ParseTarget reads the destination of a whole list: a registry with or without
// a path, below which each repository gets its own path; or an archive or layout
// on disk. Errors wrap ref.ErrInvalid.
//
//	registry.lan:5000, registry.lan/mirror/, http://registry.lan/mirror
//	oci:DIR, oci-archive:FILE, docker-archive:FILE, x.tar, ./dir/
func ParseTarget(s string) (Target, error) {
	if t, err := parsePath(s); err != nil || !t.None() {
		return t, err
	}
	const below = "/davit/davit" // what makes a name of a prefix
	name := strings.TrimRight(strings.TrimPrefix(s, "docker://"), "/")
	r, err := ref.Parse(name + below)
	first, _, _ := strings.Cut(name, "/")
	switch {
	case err != nil && !strings.Contains(name, "@"):
		return Target{}, fmt.Errorf("%w: %s is no registry with or without a path, and no file", ref.ErrInvalid, quote(s))
	case err != nil:
		return Target{}, err // it repeats no password
	case r.Scheme == "" && !strings.ContainsAny(first, ".:") && !strings.EqualFold(first, "localhost"):
		return Target{}, fmt.Errorf("%w: %s names no registry: write %s, or ./%s if a directory is meant",
			ref.ErrInvalid, quote(s), "docker.io/"+name, name)
	}
	r.Repository = strings.TrimPrefix(strings.TrimSuffix("/"+r.Repository, below), "/")
	return Target{Prefix: r}, nil
}

// parseOwnTarget reads the destination of one entry: as ParseTarget does where
// it ends with a slash, else one repository, or a path.
func parseOwnTarget(s string) (Target, error) {
	if strings.HasSuffix(s, "/") {
		return ParseTarget(s)
	}
	if t, err := parsePath(s); err != nil || !t.None() {
		return t, err
	}
	r, err := ref.Parse(s)
	if err == nil && r.Digest != "" {
		err = fmt.Errorf("%w: a digest cannot be chosen: write %s", ref.ErrInvalid, r.WithDigest(""))
	}
	return Target{Repository: r}, err
}

// transports are skopeo's names for what is on disk, as davit has them; unread
// are the others.
var (
	transports = []string{"oci:", "oci-archive:", "docker-archive:"}
	unread     = []string{"containers-storage:", "dir:", "docker-daemon:", "ostree:", "sif:", "tarball:"}
)

// parsePath reads what is on disk; the zero Target where a registry is meant.
func parsePath(s string) (Target, error) {
	if s == "" {
		return Target{}, fmt.Errorf("%w: it is empty: want a registry such as registry.lan:5000/mirror, or a file", ref.ErrInvalid)
	}
	if hasTransport(s, unread) {
		return Target{}, fmt.Errorf("%w: davit writes %s and paths, not %s", ref.ErrInvalid, strings.Join(transports, ", "), quote(s))
	}
	if isPath(s) {
		return Target{Path: s}, nil
	}
	return Target{}, nil
}

// isPath says whether s is written as a path, or called like an archive.
func isPath(s string) bool {
	if strings.Contains(s, "://") {
		return false
	}
	lower := strings.ToLower(s)
	return hasTransport(s, transports) || s == "." || s == ".." || filepath.IsAbs(s) ||
		slices.ContainsFunc([]string{"/", "./", "../", `.\`, `..\`}, func(begin string) bool { return strings.HasPrefix(s, begin) }) ||
		slices.ContainsFunc([]string{".tar", ".tar.gz", ".tgz", ".tar.zst"}, func(end string) bool { return strings.HasSuffix(lower, end) })
}

// hasTransport says whether s begins with one of the names, and is not a
// registry of that name with a port.
func hasTransport(s string, names []string) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		rest, ok := strings.CutPrefix(s, name)
		port, _, slash := strings.Cut(rest, "/")
		return ok && rest != "" && !(slash && port != "" && strings.Trim(port, "0123456789") == "")
	})
}

// parseSource reads the name of an image in a registry.
func parseSource(s string) (ref.Reference, error) {
	if isPath(s) || hasTransport(s, unread) || strings.HasPrefix(s, "ocidir://") {
		return ref.Reference{}, errors.New("it is on disk: images come from registries")
	}
	if strings.Contains(s, "{{") {
		return ref.Reference{}, errTemplate
	}
	return ref.Parse(s)
}

var errTemplate = errors.New("davit fills in no templates ({{ }}): write it out")
