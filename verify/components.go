package verify

import (
	"strings"

	"github.com/davit-cli/davit/image"
)

// walkComponents reads the root documents of components.
func (c *checker) walkComponents() {
	c.manifestOnly = true
	for _, f := range c.tree.files {
		if strings.HasPrefix(f.name, layersDir) {
			c.manifestOnly = false
		}
	}
	images := 0
	for _, name := range []string{rootIndex, rootManifest} {
		data, f, found := c.top(name, image.MaxManifestSize)
		if !found {
			continue
		}
		images++
		if data == nil {
			continue
		}
		d := image.Descriptor{Digest: f.facts.digest, Size: f.size}
		// A root has no digest in its name: it is known by the one that it has.
		c.tree.blobs[d.Digest] = f
		r := root{node: c.visit(d, name, 0)}
		c.roots = append(c.roots, r)
		c.report.Images = append(c.report.Images, r.told(""))
	}
	if _, _, found := c.top(rootUnknown, image.MaxManifestSize); found && images == 0 {
		c.note("%s is a document that davit does not read: nothing says what else belongs to it", rootUnknown)
		return
	}
	if images == 2 {
		c.note("there are two images: that of %s and that of %s", rootIndex, rootManifest)
	}
	if c.manifestOnly && c.lacksLayers {
		c.note("there are no layers: it was pulled with the manifests alone")
	}
}
