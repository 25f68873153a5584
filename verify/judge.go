package verify

import (
	"errors"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"
)

// judge compares what was read with what it should be.
func (c *checker) judge() {
	over := false
	for _, f := range c.tree.files {
		needs := several(f.needs)
		switch {
		case f.fault != "" && (f.wanted || f.claim != ""):
			c.wrong(Unreadable, f, needs, "%s: %s", f.name, f.fault)
		case f.facts == nil:
		case f.facts.err != nil:
			c.wrong(Unreadable, f, needs, "it could not be read: %v", f.facts.err)
		case !f.claimed():
			c.wrong(Digest, f, needs, "it has another digest than its name says: %s", f.facts.digest)
		case len(f.expects) > 0 && errors.Is(f.facts.layerErr, errBudget):
			f.bad, over = true, true
		case len(f.expects) > 0:
			c.judgeLayer(f, needs)
		}
	}
	if over {
		c.problem(Layer, filepath.Base(c.report.Path), "", "the layers decode to more than %d bytes together: they were not read on", c.decoded)
	}
}

// judgeLayer compares a layer with its diffIDs. Only where they are right it is
// told that its tar is none: the writer's doing then.
func (c *checker) judgeLayer(f *file, needs string) {
	differs := false
	for _, e := range f.expects {
		got := f.facts.diffIDs[e.diffID.Algorithm()]
		if got != "" && got != e.diffID {
			differs = true
			c.wrong(DiffID, f, e.needs, "the layer's tar has the digest %s, the config says %s", got, e.diffID)
		}
	}
	if err := f.facts.layerErr; err != nil && !differs {
		c.wrong(Layer, f, needs, "the layer cannot be decoded: %s", plain(err))
	}
}

// wrong notes a problem of a file.
func (c *checker) wrong(what Kind, f *file, needs, format string, args ...any) {
	f.bad = true
	c.problem(what, f.subject(), needs, format, args...)
}

// claimed says whether the file is what its name says.
func (f *file) claimed() bool {
	switch {
	case f.claim == "", f.facts.digest == f.claim:
		return true
	case !f.loose:
		return false
	}
	// A layer of which nobody knows whether the name is its digest or its tar's.
	return f.facts.diffIDs[digest.SHA256] == f.claim || errors.Is(f.facts.layerErr, errBudget)
}

// mayBeLayer says whether a loose claim may be that of the file's tar.
func (f *file) mayBeLayer() bool { return f.loose && strings.Contains(f.name, ".tar") }
