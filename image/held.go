package image

import (
	"context"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Held is the image with all of it that a store holds: the manifest, or of an
// index those manifests and nested indexes that are there, at least one, in the
// order in which they were written where the store tells it
// (AnnotationDocuments). Layers are not looked for. The platform of a manifest
// that is named by itself is the one that the store tells. Errors are Resolve's.
func (f *Finder) Held(ctx context.Context) (Image, error) {
	return search(ctx, f, Platforms{All: true}, (*resolver).held)
}

func (v *resolver) held(ctx context.Context) (Image, error) {
	root, err := v.fetchRoot(ctx)
	if err != nil {
		return Image{}, err
	}
	h := &holding{resolver: v, told: map[digest.Digest]choice{}}
	switch {
	case !IsIndex(root.MediaType):
		c := choice{Descriptor: root.Descriptor, content: root}
		if v.root != nil && hasPlatform(*v.root) {
			c.told = v.root.Platform
		}
		h.chosen = []choice{c}
	case v.root != nil && v.root.Annotations[AnnotationDocuments] != "":
		err = h.listed(ctx, root, v.root.Annotations[AnnotationDocuments])
	default:
		v.want.Present = true
		if h.chosen, err = v.choose(ctx, root); err == nil {
			h.chosen, err = v.present(ctx, h.chosen)
		}
	}
	if err == nil && len(h.chosen) == 0 {
		err = fmt.Errorf("annotation %s: %w: it lists no manifest", AnnotationDocuments, ErrVerification)
	}
	if err != nil {
		return Image{}, err
	}
	img := Image{Reference: v.ref, Label: v.name(), Name: v.ref, Source: v.src, Indexes: v.opened, KeepIndexes: len(v.opened) > 0}
	if v.ref.Tag != "" {
		img.Name = v.ref.WithDigest("")
	}
	if img.Manifests, err = v.load(ctx, h.chosen); err != nil {
		return Image{}, err
	}
	if v.root == nil || v.root.Annotations[AnnotationDocuments] == "" {
		putDefaultFirst(img.Manifests)
	}
	return img, checkSizes(img)
}

// holding is a search for what of an image is there.
type holding struct {
	*resolver
	told   map[digest.Digest]choice // what the opened indexes name
	chosen []choice
}

// listed takes the documents that are listed, each named by an index before it.
func (h *holding) listed(ctx context.Context, root Content, list string) error {
	if err := h.openIndex(root, 1); err != nil {
		return err
	}
	documents := strings.Fields(list)
	if len(documents) > MaxDescriptors {
		return fmt.Errorf("annotation %s: %w: it lists more than %d documents", AnnotationDocuments, ErrVerification, MaxDescriptors)
	}
	taken := map[digest.Digest]bool{root.Digest: true}
	for _, s := range documents {
		d := digest.Digest(s)
		c, named := h.told[d]
		if !named || taken[d] {
			return fmt.Errorf("annotation %s: %w: no index before it names %s, or it is listed twice", AnnotationDocuments, ErrVerification, clean(s))
		}
		taken[d] = true
		var err error
		if c.content, err = h.fetch(ctx, c.Descriptor); err != nil {
			return err
		}
		if !IsIndex(c.content.MediaType) {
			h.chosen = append(h.chosen, c)
		} else if err := h.openIndex(c.content, 1+len(h.opened)); err != nil {
			return err
		}
	}
	return nil
}

// openIndex notes what an index names.
func (h *holding) openIndex(c Content, depth int) error {
	depth = min(depth, maxIndexDepth) // each is listed once, so that there is an end
	manifests, err := h.open(c, depth)
	if err != nil {
		return err
	}
	for _, d := range manifests {
		if _, met := h.told[d.Digest]; !met {
			h.told[d.Digest] = choiceOf(d)
		}
	}
	return nil
}

func choiceOf(d Descriptor) choice {
	c := choice{Descriptor: d}
	if hasPlatform(d) && !isAttestation(d) {
		c.told = d.Platform
	}
	return c
}
