package verify

import (
	"context"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/oneline"
)

// checker is one check. Only readBlobs works on several goroutines.
type checker struct {
	ctx    context.Context // ends the walk between documents
	opts   Options
	tree   *tree
	report Report

	problems []*found
	known    map[string]*found // by what is told
	more     int
	notes    []string

	nodes   map[digest.Digest]*node
	configs map[*file]config
	roots   []root      // of index.json, or of the components
	loads   []loadImage // of manifest.json
	decoded int64       // what the layers may decode to

	hasLayout, hasList bool // there is an oci-layout, a manifest.json
	badLayout, badList bool // and it is not what it must be

	// foreign and knownMissing are digests of layers that are not there and
	// need not be, and of blobs that must.
	foreign, knownMissing map[string]bool

	// delta is what index.json says was left out, and needs the sizes of those
	// layers of it that are named, by base and digest.
	delta image.Delta
	needs map[string]map[string]int64

	manifestOnly bool // components without a file in layers
	lacksLayers  bool // and a manifest names some
}

// found is a problem with all that needs what is wrong.
type found struct {
	Problem
	needs []string
}

// problem notes what is wrong with subject. What was told already is told once,
// for all who need it.
func (c *checker) problem(what Kind, subject, needs, format string, args ...any) {
	text := oneline.Clean(fmt.Sprintf(format, args...), 400)
	key := string(what) + "\x00" + subject + "\x00" + text
	p := c.known[key]
	switch {
	case p != nil:
	case len(c.problems) >= MaxProblems:
		c.more++
		return
	default:
		if c.known == nil {
			c.known = map[string]*found{}
		}
		p = &found{Problem: Problem{What: what, Subject: oneline.Clean(subject, 200), Text: text}}
		c.known[key] = p
		c.problems = append(c.problems, p)
	}
	p.needs = appendNew(p.needs, oneline.Clean(needs, 200))
}

// appendNew appends s to a list of few, unless it is there or says nothing.
func appendNew(list []string, s string) []string {
	const most = 1000
	if s == "" || len(list) >= most || slices.Contains(list, s) {
		return list
	}
	return append(list, s)
}

// maxNotes is how many notes a Report has.
const maxNotes = 50

func (c *checker) note(format string, args ...any) {
	text := oneline.Clean(fmt.Sprintf(format, args...), 400)
	if len(c.notes) < maxNotes && !slices.Contains(c.notes, text) {
		c.notes = append(c.notes, text)
	}
}

// finish puts the report together.
func (c *checker) finish() Report {
	r := c.report
	r.Problems = []Problem{}
	for _, p := range c.problems {
		p.For = several(p.needs)
		r.Problems = append(r.Problems, p.Problem)
	}
	r.More = c.more
	r.Delta = c.allNeeds()
	r.Notes = append([]string{}, c.notes...)
	if r.Images == nil {
		r.Images = []Image{}
	}
	return r
}

// several names the first two of a list.
func several(list []string) string {
	switch len(list) {
	case 0:
		return ""
	case 1:
		return list[0]
	case 2:
		return list[0] + " and " + list[1]
	}
	return fmt.Sprintf("%s and %d more", list[0], len(list)-1)
}

// label is how an image is called in a problem.
func label(name string, d image.Descriptor) string {
	if name != "" {
		return oneline.Clean(name, 200)
	}
	return d.Digest.String()
}
