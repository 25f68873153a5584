package davit

import (
	"cmp"
	"fmt"
	"os"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/split"
)

// checkOutput refuses to replace a file by an archive that is joined with it, or
// that would be all that is left of the other images in it.
func (p *pull) checkOutput(path string) error {
	if p.opts.Format != Archive || p.opts.Stream != nil {
		return nil
	}
	for _, input := range p.inputs {
		if p.replaces(path, input) {
			return fmt.Errorf("write %s: it is what the images are joined from: name another output", path)
		}
	}
	for _, a := range p.from {
		if a.Path == "" || !p.replaces(path, a.Path) {
			continue
		}
		if lost := p.lost(a.Path); lost != "" {
			return fmt.Errorf("write %s: it is where the images come from, and would lose %s: name another output", path, lost)
		}
	}
	return nil
}

// replaces says whether an archive that is written at a path, perhaps in parts,
// takes the place of an input, or of one of its parts.
func (p *pull) replaces(path, input string) bool {
	files := []string{input}
	if set, err := split.Find(input); err == nil && set != nil {
		files = set.Paths
	}
	for _, file := range files {
		if sameFile(file, path) {
			return true
		}
		if p.opts.Split == 0 {
			continue
		}
		if _, n, ok := split.Number(file); ok && sameFile(file, split.Name(path, n)) || sameFile(file, split.SumsName(path)) {
			return true
		}
	}
	return false
}

// lost is one of the images of a store that are not among those that are
// written; empty where all are.
func (p *pull) lost(path string) string {
	store := p.sources.opened(path)
	if store == nil {
		return ""
	}
	written := map[digest.Digest]bool{}
	for _, root := range p.roots {
		written[root] = true
	}
	for _, img := range image.WithoutReferrers(store.Images()) {
		if !written[img.Digest] {
			return cmp.Or(img.Name, img.RefName, img.Digest.String())
		}
	}
	return ""
}

// sameFile says whether two paths lead to the same file.
func sameFile(a, b string) bool {
	one, err := os.Stat(a)
	if err != nil {
		return false
	}
	other, err := os.Stat(b)
	return err == nil && os.SameFile(one, other)
}

// opened is the store at a path, without bases; nil where it is not open.
func (s *sources) opened(path string) image.Store {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stores[path]
}
