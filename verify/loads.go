package verify

import (
	"errors"
	"fmt"
	"path"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/archive"
	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/oneline"
)

const listName = "manifest.json"

// loadImage is an entry of manifest.json, with what it names as far as that is
// there.
type loadImage struct {
	tags   []string
	config *file
	layers []*file
	// lacks says why not all is there; empty where it is.
	lacks string
}

// walkLoads reads manifest.json, as docker save writes it.
func (c *checker) walkLoads() {
	data, f, found := c.top(listName, image.MaxManifestSize)
	c.hasList = found
	if data == nil {
		return
	}
	entries, err := archive.ReadDockerManifest(data)
	if err != nil {
		f.bad, c.badList = true, true
		c.problem(Structure, listName, "", "%s", plain(err))
		return
	}
	for _, e := range entries {
		c.walkLoad(e)
	}
}

// walkLoad notes what an entry of manifest.json names.
func (c *checker) walkLoad(e archive.DockerImage) {
	l := loadImage{tags: e.RepoTags}
	needs := oneline.Clean(e.Config, 200)
	if len(e.RepoTags) > 0 {
		needs = oneline.Clean(e.RepoTags[0], 200)
	}
	var platform string
	var diffIDs []digest.Digest
	if l.config = c.loadFile(e.Config, "config", needs, &l); l.config != nil {
		diffIDs, platform = c.config(l.config, len(e.Layers), needs)
	}
	for i, name := range e.Layers {
		f := c.loadFile(name, "layer", needs, &l)
		if f == nil {
			continue
		}
		l.layers = append(l.layers, f)
		if i < len(diffIDs) {
			f.expect(diffIDs[i], needs)
		}
	}
	c.loads = append(c.loads, l)
	if len(c.roots) == 0 {
		img := Image{Platforms: appendNew(nil, platform)}
		if l.config != nil && l.config.facts != nil {
			img.ID = l.config.facts.digest
		}
		for _, tag := range e.RepoTags {
			img.Name = oneline.Clean(tag, 200)
			c.report.Images = append(c.report.Images, img)
		}
		if len(e.RepoTags) == 0 {
			c.report.Images = append(c.report.Images, img)
		}
	}
}

// loadFile is a file that manifest.json names. It is nil where it is not there.
func (c *checker) loadFile(name, what, needs string, l *loadImage) *file {
	f, err := c.tree.find(name)
	if err == nil {
		f.need(needs)
		return f
	}
	subject := name
	if d, ok := blobClaim(path.Clean(name)); ok {
		subject = d.String()
	}
	l.lacks = fmt.Sprintf("%s, which manifest.json names, is not there", oneline.Clean(name, 200))
	base, needed := c.needed(subject)
	switch {
	case path.Clean(name) == c.tree.cut:
		l.lacks = fmt.Sprintf("%s is cut off", oneline.Clean(name, 200))
	case needed:
		l.lacks = fmt.Sprintf("it is a delta: %s is expected in %s", subject, base)
	case c.foreign[subject]:
		l.lacks = fmt.Sprintf("the foreign layer %s is not there", subject)
	case errors.Is(err, image.ErrNotFound) && c.knownMissing[subject]:
		// Told as what a manifest names.
	case errors.Is(err, image.ErrNotFound):
		c.problem(Missing, subject, needs, "the %s %s, which manifest.json names, is not there", what, name)
	default:
		c.problem(Unreadable, subject, needs, "the %s %s, which manifest.json names: %s", what, name, plain(err))
	}
	return nil
}
