package synclist

import (
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/ref"
)

// Image is one image that is to be copied.
type Image struct {
	Source ref.Reference
	// Destination is its name in a registry; its tag is empty where the source
	// has only a digest. Empty where Path is there.
	Destination ref.Reference
	// Path is an archive or layout, as it is written, in which the image keeps
	// its source's name.
	Path string
	// Platforms, Referrers and Line are the entry's.
	Platforms []string
	Referrers bool
	Line      int

	below bool // of a prefix
}

// NeedsTarget says whether something in the list has no destination, so that
// List.To must be set.
func (l List) NeedsTarget() bool {
	return l.To.None() && slices.ContainsFunc(l.Entries, func(e Entry) bool { return e.To.None() })
}

// Images are those of an entry, and of the tags of its repository, which may be
// nil where Entry.Tags.NeedsTags is false. Below a prefix an image gets the path
// that its repository has in its own registry: docker.io/library/alpine is
// PREFIX/library/alpine. No image is no error. The error is an *Error.
func (l List) Images(e Entry, tags []string) ([]Image, error) {
	sources := []ref.Reference{e.Source}
	if !e.Tags.None() {
		sources = nil
		for _, name := range e.Tags.Select(tags) {
			source := e.Source
			source.Tag, source.Digest = name, ""
			if isDigest(name) {
				source.Tag, source.Digest = "", digest.Digest(name)
			}
			sources = append(sources, source)
		}
	}
	to := e.To
	if to.None() {
		to = l.To
	}
	var images []Image
	for _, source := range sources {
		img := Image{Source: source, Path: to.Path, Platforms: e.Platforms, Referrers: e.Referrers, Line: e.Line}
		var err error
		switch {
		case to.None():
			err = fmt.Errorf("%s has no destination: write it as to, or give one to the command", source)
		case to.Repository.Registry != "":
			img.Destination = to.Repository
		case to.Prefix.Registry != "":
			img.below = true
			img.Destination, err = to.below(source)
		}
		if err != nil {
			return nil, &Error{Name: l.Name, Line: e.Line, Err: err}
		}
		if to.Path == "" && img.Destination.Tag == "" {
			img.Destination.Tag = source.Tag
		}
		images = append(images, img)
	}
	return images, nil
}

// below is a repository's name below the prefix.
func (t Target) below(source ref.Reference) (ref.Reference, error) {
	r := t.Prefix
	r.Repository = strings.TrimPrefix(r.Repository+"/"+source.Repository, "/")
	if _, err := ref.Parse("https://" + r.Name()); err != nil {
		return ref.Reference{}, err
	}
	return r, nil
}

// Plan is what is to be copied of the images of all entries: in their order,
// each once. It is an *Error if two of them would get the same name, if two
// repositories would become one below a prefix, or if the same image is wanted
// in two ways. It names both.
func (l List) Plan(images []Image) ([]Image, error) {
	names, repositories := map[string]Image{}, map[string]Image{}
	var plan []Image
	for _, img := range images {
		at := img.place()
		if first, ok := names[at]; ok {
			if err := first.conflict(img, at); err != nil {
				return nil, &Error{Name: l.Name, Line: img.Line, Err: err}
			}
			continue
		}
		if img.below {
			first, ok := repositories[img.Destination.Name()]
			if ok && first.Source.Name() != img.Source.Name() {
				return nil, &Error{Name: l.Name, Line: img.Line, Err: fmt.Errorf(
					"%s and %s (line %d) would both be %s: give one of them another destination",
					img.Source.Name(), first.Source.Name(), first.Line, img.Destination.Name())}
			}
			repositories[img.Destination.Name()] = img
		}
		names[at] = img
		plan = append(plan, img)
	}
	return plan, nil
}

// place is what only one image can be.
func (i Image) place() string {
	switch {
	case i.Path != "":
		return i.Path + "\n" + i.Source.String()
	case i.Destination.Tag != "":
		return i.Destination.String()
	}
	return i.Destination.Name() + "@" + i.Source.Digest.String()
}

// conflict is what is wrong with two images that have the same place; nil where
// they are the same.
func (i Image) conflict(o Image, at string) error {
	switch {
	case i.Source != o.Source:
		return fmt.Errorf("%s and %s (line %d) would both be %s: give one of them another destination", o.Source, i.Source, i.Line, at)
	case !slices.Equal(i.Platforms, o.Platforms):
		return fmt.Errorf("%s is there twice with different platforms (line %d): list it once", o.Source, i.Line)
	case i.Referrers != o.Referrers:
		return fmt.Errorf("%s is there twice, with and without referrers (line %d): list it once", o.Source, i.Line)
	}
	return nil
}
