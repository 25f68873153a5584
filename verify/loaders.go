package verify

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/compress"
	"github.com/davit-cli/davit/internal/oneline"
)

// The loaders.
const (
	docker     = "docker" // its classic store
	containerd = "containerd"
	podman     = "podman"
)

// Reasons of several loaders.
const (
	whyBroken = "the archive is cut off or broken"
	whyOther  = "it is no archive of images"
	whyOwn    = "the format is davit's own"
	whySHA512 = "it takes sha256 digests only"
	whyNoName = "no image has a name, and ctr images import takes none without"
)

// whyNot is why no loader takes what is broken.
func (t *tree) whyNot() string {
	if t.other {
		return whyOther
	}
	return whyBroken
}

// judgeLoaders says which loaders would take it. That one refuses what is in
// its format is a problem, unless another problem told of it.
func (c *checker) judgeLoaders() {
	verdicts := map[*node]string{}
	c.report.Loaders = []Loader{c.docker(), c.containerd(verdicts), c.podman(verdicts)}
	for i, l := range c.report.Loaders {
		c.report.Loaders[i].Why = oneline.Clean(l.Why, 400)
	}
	if c.report.Format != Archive || len(c.problems) > 0 || len(c.foreign) > 0 || len(c.needs) > 0 || !c.holdsImage() {
		return
	}
	var whys []string
	for _, l := range c.report.Loaders {
		if l.Takes {
			return
		}
		whys = append(whys, l.Name+": "+l.Why)
	}
	c.problem(Load, filepath.Base(c.report.Path), "", "no loader takes the archive: %s", strings.Join(whys, "; "))
}

// holdsImage says whether there is a container image.
func (c *checker) holdsImage() bool {
	for _, n := range c.nodes {
		if n.image {
			return true
		}
	}
	return len(c.loads) > 0
}

// docker judges docker load into the classic store, which reads manifest.json.
func (c *checker) docker() Loader {
	no := func(why string) Loader { return Loader{Name: docker, Why: why} }
	switch {
	case c.report.Format == Components:
		return no(whyOwn)
	case c.report.Format == OCI:
		return no("docker load reads tars, not directories")
	case c.tree.broken:
		return no(c.tree.whyNot())
	case !c.hasList:
		return no("there is no manifest.json, which is all that it reads")
	case len(c.loads) == 0:
		return no("manifest.json names no image")
	}
	refused := c.refusedTags(docker, false)
	if why := c.listFault(); why != "" {
		return no(why)
	}
	if refused != "" {
		return no(refused)
	}
	var needs []string
	if c.tree.kind == compress.Zstd {
		needs = append(needs, "archives")
	}
	if c.hasZstd() {
		needs = append(needs, "layers")
	}
	if len(needs) > 0 {
		return Loader{Name: docker, Takes: true, Why: strings.Join(needs, " and ") + " in zstd need Docker 23 or newer"}
	}
	return Loader{Name: docker, Takes: true}
}

// hasZstd says whether an image of manifest.json has a layer in zstd.
func (c *checker) hasZstd() bool {
	for _, l := range c.loads {
		for _, f := range l.layers {
			if f.facts != nil && f.facts.kind == compress.Zstd {
				return true
			}
		}
	}
	return false
}

// refusedTags notes the names in manifest.json that a loader refuses, and
// returns why it refuses the first. Podman refuses those with a digest too.
func (c *checker) refusedTags(loader string, digests bool) string {
	first := ""
	for _, l := range c.loads {
		for _, tag := range l.tags {
			why := checkTag(tag, digests)
			if why == "" {
				continue
			}
			why = fmt.Sprintf("it refuses the name %q in manifest.json: %s", oneline.Clean(tag, 200), why)
			if loader != "" {
				c.problem(Load, listName, tag, "%s load: %s", loader, why)
			}
			if first == "" {
				first = why
			}
		}
	}
	return first
}

// checkTag says why a name in RepoTags is refused; it is empty where it is not.
func checkTag(tag string, digests bool) string {
	named, err := reference.ParseNormalizedNamed(tag)
	if err != nil {
		return err.Error()
	}
	if _, ok := named.(reference.Tagged); !ok {
		return "it has no tag"
	}
	if _, ok := named.(reference.Digested); ok && digests {
		return "it has a digest"
	}
	return ""
}

// listFault is the first reason why an image of manifest.json is not whole.
func (c *checker) listFault() string {
	for _, l := range c.loads {
		if l.lacks != "" {
			return l.lacks
		}
		for _, f := range append([]*file{l.config}, l.layers...) {
			if f.bad {
				return f.subject() + " is not what it should be"
			}
		}
	}
	return ""
}

// indexFault is the first reason why an image of index.json is not whole.
func (c *checker) indexFault(verdicts map[*node]string) string {
	for _, r := range c.roots {
		if why := r.fault(verdicts); why != "" {
			return why
		}
	}
	return ""
}

// fault is the first reason why the node is not whole, with all below it.
func (n *node) fault(verdicts map[*node]string) string {
	if why, ok := verdicts[n]; ok {
		return why
	}
	verdicts[n] = "" // no node is below itself
	why := n.lacks
	for _, f := range append([]*file{n.file, n.config}, n.layers...) {
		if why == "" && f != nil && f.bad {
			why = f.subject() + " is not what it should be"
		}
	}
	for _, child := range n.children {
		if why == "" {
			why = child.fault(verdicts)
		}
	}
	verdicts[n] = why
	return why
}

// hasSHA512 says whether a blob that is named has another digest than sha256.
func (c *checker) hasSHA512() bool {
	for _, f := range c.tree.files {
		if f.wanted && f.claim != "" && f.claim.Algorithm() != digest.SHA256 {
			return true
		}
	}
	return false
}

// containerd judges ctr images import, and all that is built on it. It reads
// index.json where there is an oci-layout, else manifest.json.
func (c *checker) containerd(verdicts map[*node]string) Loader {
	no := func(why string) Loader { return Loader{Name: containerd, Why: why} }
	switch {
	case c.report.Format == Components:
		return no(whyOwn)
	case c.report.Format == OCI:
		return no("ctr images import reads tars, not directories")
	case c.tree.broken:
		return no(c.tree.whyNot())
	case c.tree.kind != compress.Plain:
		return no("ctr images import takes no compressed archive: decompress it first")
	case !c.hasLayout && c.hasList:
		return c.containerdList()
	case !c.hasLayout:
		return no("there is no oci-layout, and no manifest.json either")
	case c.badLayout:
		return no("oci-layout is not what it must be")
	case c.badList:
		return no("manifest.json is not what it must be, and it reads that too")
	case len(c.roots) == 0:
		return no("index.json names no image")
	case c.hasSHA512():
		return no(whySHA512)
	}
	if why := c.indexFault(verdicts); why != "" {
		return no(why)
	}
	without, full, images := 0, 0, 0
	for _, r := range c.roots {
		if r.referrers && r.name == "" && r.refName == "" {
			continue
		}
		images++
		switch {
		case r.name != "":
			full++
		case r.refName == "":
			without++
		}
	}
	switch {
	case without == images && images > 0:
		c.note("%s", whyNoName)
		return no(whyNoName)
	case without > 0:
		return Loader{Name: containerd, Takes: true, Why: "it imports only the images that have a name"}
	case full < images:
		return Loader{Name: containerd, Takes: true, Why: fmt.Sprintf("without the annotation %s it makes a name up from the tag", image.AnnotationImageName)}
	}
	return Loader{Name: containerd, Takes: true}
}

// containerdList judges it where it reads manifest.json.
func (c *checker) containerdList() Loader {
	no := func(why string) Loader { return Loader{Name: containerd, Why: why} }
	if len(c.loads) == 0 {
		return no("manifest.json names no image")
	}
	if why := c.listFault(); why != "" {
		return no(why)
	}
	without := 0
	for _, l := range c.loads {
		if len(l.tags) == 0 {
			without++
		}
		for _, tag := range l.tags {
			if _, err := reference.ParseNormalizedNamed(tag); err != nil {
				return no(fmt.Sprintf("it refuses the name %q in manifest.json: %v", oneline.Clean(tag, 200), err))
			}
		}
	}
	switch {
	case without == len(c.loads):
		c.note("%s", whyNoName)
		return no(whyNoName)
	case without > 0:
		return Loader{Name: containerd, Takes: true, Why: "it imports only the images that have a name"}
	}
	return Loader{Name: containerd, Takes: true}
}

// podman judges podman load, which reads manifest.json first, then an image
// layout.
func (c *checker) podman(verdicts map[*node]string) Loader {
	no := func(why string) Loader { return Loader{Name: podman, Why: why} }
	switch {
	case c.report.Format == Components:
		return no(whyOwn)
	case c.tree.broken:
		return no(c.tree.whyNot())
	}
	whyList := ""
	if len(c.loads) > 0 {
		if whyList = c.listFault(); whyList == "" {
			whyList = c.refusedTags("", true)
		}
		if whyList == "" {
			return Loader{Name: podman, Takes: true}
		}
	}
	why := c.indexFault(verdicts)
	switch {
	case len(c.roots) == 0 && whyList != "":
		if c.refusedTags("", false) == "" { // else docker load refuses them too
			c.refusedTags(podman, true)
		}
		return no(whyList)
	case len(c.roots) == 0:
		return no("there is no index that names an image")
	case why != "":
		return no(why)
	case c.hasSHA512():
		return no(whySHA512)
	case len(c.roots) > 1:
		return no(c.whySeveral())
	case c.report.Format == OCI:
		return Loader{Name: podman, Takes: true, Why: "as a directory: podman load -i DIR, skopeo copy oci:DIR"}
	}
	return Loader{Name: podman, Takes: true}
}

// whySeveral is why podman takes no layout with several entries. It counts those
// of referrers too: one image with its signature is too much for it.
func (c *checker) whySeveral() string {
	what, from := "OCI archive", "oci-archive:FILE:NAME"
	if c.report.Format == OCI {
		what, from = "image layout", "oci:DIR:NAME"
	}
	of := "of several images"
	if len(c.report.Images) == 1 {
		of = "with referrers beside its image"
	}
	return fmt.Sprintf("podman load takes no %s %s: podman pull %s takes one", what, of, from)
}
