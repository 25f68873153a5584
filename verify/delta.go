package verify

import (
	"fmt"
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/image"
)

// Need is what a delta needs of one of its bases.
type Need struct {
	// Base is what the delta calls it.
	Base string `json:"base"`
	// Blobs is how many layers are expected there, Bytes their sizes as the
	// delta's manifests tell them.
	Blobs int   `json:"blobs"`
	Bytes int64 `json:"bytes"`
}

// readDelta reads which blobs index.json says are left out.
func (c *checker) readDelta(index ocispec.Index, f *file) {
	delta, err := image.ParseDelta(index.Annotations)
	if err != nil {
		f.bad = true
		c.problem(Structure, ocispec.ImageIndexFile, "", "%s", plain(err))
		return
	}
	c.delta = delta
}

// need notes a layer that is expected in a base, and says so.
func (c *checker) need(layer image.Descriptor, base string) string {
	if c.needs == nil {
		c.needs = map[string]map[string]int64{}
	}
	if c.needs[base] == nil {
		c.needs[base] = map[string]int64{}
	}
	c.needs[base][layer.Digest.String()] = layer.Size
	return fmt.Sprintf("it is a delta: %s is expected in %s", layer.Digest, base)
}

// needed says in which base a blob is expected that a manifest names.
func (c *checker) needed(subject string) (base string, ok bool) {
	base, ok = c.delta.Expected(digest.Digest(subject))
	if ok {
		_, ok = c.needs[base][subject]
	}
	return base, ok
}

// allNeeds are what the bases must have, sorted by their names.
func (c *checker) allNeeds() []Need {
	var all []Need
	for _, base := range slices.Sorted(maps.Keys(c.needs)) {
		n := Need{Base: base, Blobs: len(c.needs[base])}
		for _, size := range c.needs[base] {
			n.Bytes += size
		}
		all = append(all, n)
	}
	return all
}
