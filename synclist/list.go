// Package synclist reads lists of images that are to be copied: davit's own,
// those of regsync and skopeo-sync, and the references in Kubernetes manifests,
// compose files and Helm's values. It reads bytes, and asks neither the network
// nor the disk.
package synclist

import (
	"fmt"
	"regexp"

	"github.com/davit-cli/davit/ref"
)

// Format is whose schema a list is written in.
type Format string

// The formats that Parse tells apart, and what References gives.
const (
	FormatDavit      Format = "davit"
	FormatRegsync    Format = "regsync"
	FormatSkopeo     Format = "skopeo-sync"
	FormatReferences Format = "references"
)

// List is what a file lists.
type List struct {
	// Name is the file's, for errors.
	Name   string
	Format Format
	// To is where what has no destination of its own goes. Empty where the file
	// does not say it. The caller may set it to another one.
	To Target
	// Entries are in the file's order.
	Entries []Entry
	// Ignored are what the file says and davit does not follow, by line, each
	// field once.
	Ignored []Note
}

// Entry is an image, some images of a repository, or some repositories of a
// registry.
type Entry struct {
	// Source is the image with its tag or digest, the repository whose tags Tags
	// chooses from, or a registry: then its Repository is empty.
	Source ref.Reference
	// Tags chooses tags. The zero value: the image is the one that Source names.
	Tags Selection
	// Platforms are as image.ParsePlatforms takes them. None: all.
	Platforms []string
	// Referrers takes along what refers to the image.
	Referrers bool
	// To is this entry's own destination. Empty: List.To.
	To Target
	// Line is where the entry begins.
	Line int

	repositories filter
}

// Note is something in a file that was passed over. It never has a credential
// in it.
type Note struct {
	Line int
	// Field is the path of the field: defaults.backup.
	Field string
	// Why says what davit does instead, or what is wrong.
	Why string
}

// String is the note without the file's name.
func (n Note) String() string { return fmt.Sprintf("line %d: %s: %s", n.Line, n.Field, n.Why) }

// NeedsRepositories says whether the registry's repositories must be listed:
// Repositories then makes entries of them, which replace this one.
func (e Entry) NeedsRepositories() bool { return e.Source.Repository == "" }

// Repositories is an entry for each of the registry's repositories that the
// list wants, in their order. What is no repository's name is passed over.
func (e Entry) Repositories(repositories []string) []Entry {
	var entries []Entry
	for _, repository := range repositories {
		source, err := ref.Parse("https://" + e.Source.Registry + "/v2/" + repository)
		if err != nil || source.Repository != repository || source.TagOrDigest() != "" || !e.repositories.takes(repository) {
			continue
		}
		one := e
		one.Source.Repository = repository
		one.repositories = filter{}
		entries = append(entries, one)
	}
	return entries
}

// filter takes what one of allow matches, or everything without any, unless one
// of deny does.
type filter struct {
	allow, deny []*regexp.Regexp
}

func (f filter) takes(s string) bool {
	return (len(f.allow) == 0 || matches(f.allow, s)) && !matches(f.deny, s)
}

func matches(expressions []*regexp.Regexp, s string) bool {
	for _, e := range expressions {
		if e.MatchString(s) {
			return true
		}
	}
	return false
}
