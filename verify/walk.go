package verify

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/oneline"
)

// node is a document of the tree, with what it names as far as that is there.
type node struct {
	image.Descriptor
	file     *file
	children []*node // of an index
	config   *file   // of a manifest
	layers   []*file
	image    bool   // a manifest of a container image
	stands   bool   // an index: a manifest below is there that is no attestation
	platform string // of an image
	// lacks says why not all is there that must be; empty where it is. It does
	// not tell of the children.
	lacks string
}

// root is what stands for an image: an entry of index.json.
type root struct {
	*node
	name      string // full
	refName   string
	referrers bool // by its tag it keeps what refers to another one
}

// walk reads the documents and notes what they name. What it finds missing are
// problems; blobs are only looked at later.
func (c *checker) walk() {
	c.nodes, c.configs = map[digest.Digest]*node{}, map[*file]config{}
	c.foreign, c.knownMissing = map[string]bool{}, map[string]bool{}
	if c.report.Format == Components {
		c.walkComponents()
		return
	}
	hasIndex := c.walkIndex()
	if c.report.Format == Archive {
		c.walkLoads()
	}
	switch {
	case hasIndex || c.hasList || c.tree.broken:
	case c.report.Format == Archive:
		c.problem(Structure, ocispec.ImageIndexFile, "", "the archive has neither an index.json nor a manifest.json: it is no archive of images")
	case len(c.tree.files) == 0:
		c.problem(Structure, filepath.Base(c.report.Path), "", "the directory has neither an index.json nor a manifest_list.json or image_manifest.json: it is neither an image layout nor one of components")
	default:
		c.problem(Missing, ocispec.ImageIndexFile, "", "the image layout has no index.json")
	}
}

// top reads a document that is found by its name. found says that it is there,
// whatever it is.
func (c *checker) top(name string, most int64) (data []byte, f *file, found bool) {
	f, err := c.tree.find(name)
	if errors.Is(err, image.ErrNotFound) {
		return nil, nil, name == c.tree.cut
	}
	if err != nil {
		c.problem(Unreadable, name, "", "%s: %v", name, err)
		return nil, nil, true
	}
	f.need("")
	f.list = c.report.Format != Components
	return c.document(f, most), f, true
}

// walkIndex reads oci-layout and index.json (OCI image-spec, image-layout.md).
// It says whether an index.json is there.
func (c *checker) walkIndex() bool {
	version, _, hasVersion := c.top(ocispec.ImageLayoutFile, 64<<10)
	c.hasLayout = hasVersion
	data, f, found := c.top(ocispec.ImageIndexFile, image.MaxManifestSize)
	if version != nil {
		var l ocispec.ImageLayout
		c.badLayout = true
		if err := json.Unmarshal(version, &l); err != nil {
			c.problem(Structure, ocispec.ImageLayoutFile, "", "it is no JSON document as it must be: %v", err)
		} else if l.Version != ocispec.ImageLayoutVersion {
			c.problem(Structure, ocispec.ImageLayoutFile, "", "the image layout is of version %q, not %s", l.Version, ocispec.ImageLayoutVersion)
		} else {
			c.badLayout = false
		}
	}
	switch {
	case found && !hasVersion && !c.tree.broken:
		c.problem(Missing, ocispec.ImageLayoutFile, "", "index.json is there, but not oci-layout, which says that it is an image layout")
	case hasVersion && !found && !c.tree.broken:
		c.problem(Missing, ocispec.ImageIndexFile, "", "oci-layout is there, but not the index.json of the image layout")
		return true
	}
	if data == nil {
		return found
	}
	index, err := image.ParseIndex(image.Content{Bytes: data})
	if err != nil {
		c.problem(Structure, ocispec.ImageIndexFile, "", "%s", plain(err))
		f.bad = true
		return true
	}
	c.readDelta(index, f)
	if len(index.Manifests) == 0 {
		c.note("index.json names no image")
	}
	for _, d := range index.Manifests {
		r := root{name: d.Annotations[image.AnnotationImageName], refName: d.Annotations[ocispec.AnnotationRefName]}
		r.referrers = image.StoredOf(d).IsReferrer()
		name := cmp.Or(r.name, r.refName)
		r.node = c.visit(d, label(name, d), 0)
		if r.node == nil {
			r.node = &node{Descriptor: d, lacks: c.missing(d, noun(d.MediaType), label(name, d))}
		}
		c.roots = append(c.roots, r)
	}
	images := slices.DeleteFunc(slices.Clone(c.roots), func(r root) bool { return r.referrers })
	if len(images) == 0 {
		images = c.roots
	}
	for _, r := range images {
		c.report.Images = append(c.report.Images, r.told(cmp.Or(r.name, r.refName)))
	}
	return true
}

// told is the image as the report has it.
func (r root) told(name string) Image {
	img := Image{Name: oneline.Clean(name, 200), Digest: r.Digest}
	if r.config != nil {
		img.ID = r.config.claim
	}
	left := maxLooks
	img.Platforms = r.platforms(nil, &left)
	return img
}

// maxLooks is how many manifests of an image are looked at for platforms.
const maxLooks = 10_000

// platforms appends those of the images at and below the node.
func (n *node) platforms(list []string, left *int) []string {
	if *left--; *left < 0 {
		return list
	}
	if n.image {
		list = appendNew(list, n.platform)
	}
	for _, child := range n.children {
		list = child.platforms(list, left)
	}
	return list
}

// missing notes that a blob is not there, and says so.
func (c *checker) missing(d image.Descriptor, what, needs string) string {
	if c.tree.cut != "" && c.tree.cut == blobName(d.Digest) {
		return "it is cut off" // which was told
	}
	c.knownMissing[d.Digest.String()] = true
	c.problem(Missing, d.Digest.String(), needs, "the %s (%d bytes) is not there", what, d.Size)
	return fmt.Sprintf("%s is not there", d.Digest)
}

func blobName(d digest.Digest) string {
	return blobsDir + "/" + d.Algorithm().String() + "/" + d.Encoded()
}

// noun is what a blob of a media type is called.
func noun(mediaType string) string {
	switch {
	case image.IsIndex(mediaType):
		return "index"
	case image.IsManifest(mediaType):
		return "manifest"
	}
	return "blob"
}

// plain is an error without the words of the sentinel, which a problem's kind
// says already.
func plain(err error) string {
	return strings.ReplaceAll(err.Error(), image.ErrVerification.Error()+": ", "")
}

// maxDepth is how deep indexes may stand in each other.
const maxDepth = 16

// visit reads the index or manifest that d names, or whatever else it is, and
// all below it. It is nil where it is not there.
func (c *checker) visit(d image.Descriptor, needs string, depth int) *node {
	f := c.tree.blobs[d.Digest]
	if f == nil {
		return nil
	}
	f.need(needs)
	c.checkSize(f, d, needs)
	if n := c.nodes[d.Digest]; n != nil {
		return n
	}
	n := &node{Descriptor: d, file: f}
	c.nodes[d.Digest] = n // before its children, of which none can be itself
	if depth > maxDepth {
		n.lacks = "indexes stand in each other too deep"
		c.problem(Structure, d.Digest.String(), needs, "more than %d indexes stand in each other", maxDepth)
		return n
	}
	mediaType := d.MediaType
	if mediaType != "" && !image.IsIndex(mediaType) && !image.IsManifest(mediaType) && depth > 0 {
		return n // an index may name anything
	}
	data := c.document(f, image.MaxManifestSize)
	if data == nil {
		n.lacks = "it cannot be read"
		return n
	}
	content := image.Content{Descriptor: d, Bytes: data}
	mediaType, err := image.MediaTypeOf(content)
	switch {
	case errors.Is(err, image.ErrMediaType):
		c.note("%s is neither an image's manifest nor an index: %s", d.Digest, mediaType)
	case err != nil:
		c.structure(n, needs, err)
	case image.IsIndex(mediaType):
		c.visitIndex(n, content, needs, depth)
	default:
		c.visitManifest(n, content, needs)
	}
	n.MediaType = mediaType
	return n
}

// structure notes that a document cannot be understood.
func (c *checker) structure(n *node, needs string, err error) {
	n.lacks = plain(err)
	n.file.bad = true
	c.problem(Structure, n.Digest.String(), needs, "%s", plain(err))
}

// visitIndex reads what an index names. Manifests may be absent, of other
// platforms (OCI image-spec, image-layout.md), as long as one is there.
func (c *checker) visitIndex(n *node, content image.Content, needs string, depth int) {
	index, err := image.ParseIndex(content)
	if err != nil {
		c.structure(n, needs, err)
		return
	}
	var absent []string
	for _, d := range index.Manifests {
		of := needs
		if d.Platform != nil && !image.IsAttestation(d) {
			of = fmt.Sprintf("%s (%s)", needs, image.FormatPlatform(*d.Platform))
		}
		child := c.visit(d, of, depth+1)
		switch {
		case child != nil:
			n.children = append(n.children, child)
			n.stands = n.stands || !image.IsAttestation(d) && (!image.IsIndex(child.MediaType) || child.stands)
		case image.IsAttestation(d):
			absent = append(absent, "an attestation")
		case d.Platform != nil:
			absent = append(absent, image.FormatPlatform(*d.Platform))
		default:
			absent = append(absent, noun(d.MediaType)+" "+d.Digest.String())
		}
	}
	switch {
	case len(absent) == 0:
	case !n.stands:
		n.lacks = "none of its manifests is there"
		c.problem(Missing, n.Digest.String(), needs, "of the %d manifests that the index names none of an image is there: %s", len(index.Manifests), first(absent, 8))
	default:
		c.note("%s: of the index's %d manifests %d are not there, which is allowed: %s", needs, len(index.Manifests), len(absent), first(absent, 8))
	}
}

// first is the beginning of a list.
func first(list []string, most int) string {
	if len(list) > most {
		return strings.Join(list[:most], ", ") + ", …"
	}
	return strings.Join(list, ", ")
}

// visitManifest notes what a manifest names, which must all be there but for
// foreign layers and those that a delta's bases have.
func (c *checker) visitManifest(n *node, content image.Content, needs string) {
	manifest, err := image.ParseManifest(content)
	if err != nil {
		c.structure(n, needs, err)
		return
	}
	m := image.Manifest{Config: image.Content{Descriptor: manifest.Config}, Attestation: image.IsAttestation(content.Descriptor)}
	n.image = m.IsImage()
	var diffIDs []digest.Digest
	if n.config = c.tree.blobs[manifest.Config.Digest]; n.config == nil {
		n.lacks = c.missing(manifest.Config, "config", needs)
	} else {
		n.config.need(needs)
		c.checkSize(n.config, manifest.Config, needs)
		if n.image {
			diffIDs, n.platform = c.config(n.config, len(manifest.Layers), needs)
		}
	}
	for i, d := range manifest.Layers {
		f := c.tree.layers[d.Digest]
		base, expected := c.delta.Expected(d.Digest)
		switch {
		case f != nil:
			f.need(needs)
			c.checkSize(f, d, needs)
			n.layers = append(n.layers, f)
			if i < len(diffIDs) {
				f.expect(diffIDs[i], needs)
			}
		case expected && c.tree.cut != blobName(d.Digest):
			n.lacks = c.need(d, base)
		case image.IsForeign(d):
			c.note("%s: the foreign layer %s is not there: it is fetched from elsewhere", needs, d.Digest)
			c.foreign[d.Digest.String()] = true
			n.lacks = "a foreign layer is not there"
		case c.manifestOnly:
			c.lacksLayers = true
		default:
			n.lacks = c.missing(d, "layer", needs)
		}
	}
}

// config is what is kept of an image's config.
type config struct {
	diffIDs  []digest.Digest
	platform string
	known    bool // it could be read
}

// config reads an image's config, and returns the diffIDs where there are as
// many as layers, and the platform.
func (c *checker) config(f *file, layers int, needs string) ([]digest.Digest, string) {
	known, ok := c.configs[f]
	if !ok {
		known = c.readConfig(f, needs)
		c.configs[f] = known
	}
	if !known.known {
		return nil, ""
	}
	if n := len(known.diffIDs); n != layers {
		f.bad = true
		c.problem(DiffID, f.subject(), needs, "the config has %d diff_ids, and there are %d layers", n, layers)
		return nil, known.platform
	}
	return known.diffIDs, known.platform
}

func (c *checker) readConfig(f *file, needs string) config {
	data := c.document(f, image.MaxConfigSize)
	if data == nil {
		return config{}
	}
	parsed, err := image.ParseConfig(image.Content{Bytes: data})
	ids := parsed.RootFS.DiffIDs
	if err == nil && len(ids) > image.MaxDescriptors {
		err = fmt.Errorf("the config has %d diff_ids, more than %d", len(ids), image.MaxDescriptors)
	}
	for i := 0; err == nil && i < len(ids); i++ {
		if err = image.CheckDigest(ids[i]); err != nil {
			err = fmt.Errorf("diff_id %d of the config: %w", i+1, err)
		}
	}
	if err != nil {
		f.bad = true
		c.problem(Structure, f.subject(), needs, "%s", plain(err))
		return config{}
	}
	return config{diffIDs: ids, platform: image.FormatPlatform(image.PlatformOf(parsed)), known: true}
}

// checkSize compares a file's size with a descriptor's.
func (c *checker) checkSize(f *file, d image.Descriptor, needs string) {
	if f.fault == "" && f.size != d.Size {
		f.bad = true
		c.problem(Size, f.subject(), needs, "it has %d bytes, its descriptor says %d", f.size, d.Size)
	}
}
