package recode

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
)

// recoder is one Images.
type recoder struct {
	want Compression
	open Open
	sink Sink
	opts Options

	documents  map[digest.Digest][]byte             // of the images as served
	algorithms map[digest.Digest][]digest.Algorithm // of a layer's diffIDs, without sha256
	copied     map[digest.Digest]bool
	recoded    map[digest.Digest]result // by the digest of the layer as served

	left int64 // bytes that the image's layers may still decode to
}

// result is a layer re-encoded.
type result struct {
	image.Descriptor                 // without a media type
	diffIDs          []digest.Digest // of each of its algorithms
}

// survey finds out what has to be known before the first layer is decoded.
func (r *recoder) survey(images []image.Image) error {
	for _, img := range images {
		for _, c := range img.Documents() {
			r.documents[c.Digest] = c.Bytes
		}
		for _, m := range img.Manifests {
			ids, err := m.DiffIDs()
			if err != nil {
				return fmt.Errorf("%s: %w", img.Name, err)
			}
			for i, id := range ids {
				of := m.Layers[i].Digest
				if id.Algorithm() != digest.Canonical && !slices.Contains(r.algorithms[of], id.Algorithm()) {
					r.algorithms[of] = append(r.algorithms[of], id.Algorithm())
				}
			}
		}
	}
	return nil
}

// image writes the blobs of an image that are not there yet, and derives the
// image that they belong to.
func (r *recoder) image(ctx context.Context, img image.Image) (image.Image, error) {
	if n := len(Plan(img, r.want)); n > 0 {
		r.event(image.EventNote, "%s: re-encoding layers as %s (%d)", img.Name, r.form(), n)
	}
	drop, gone, err := attestations(img, r.want)
	if err != nil {
		return image.Image{}, err
	}
	change := image.Change{
		Manifests: map[digest.Digest]image.Manifest{},
		Drop:      drop,
		Strip:     []string{"io.github.containers.compression.zstd"},
	}
	r.left = r.opts.MaxBytes
	for _, m := range img.Manifests {
		if gone[m.Digest] {
			continue
		}
		to, err := r.manifest(ctx, m)
		if err != nil {
			return image.Image{}, err
		}
		if to.Digest != m.Digest {
			change.Manifests[m.Digest] = to
			r.event(image.EventStep, "%s: manifest %s is now %s", img.Name, m.Digest, to.Digest)
		}
	}
	if len(change.Manifests) == 0 {
		return img, nil
	}
	derived, err := image.Derive(img, change)
	if err != nil {
		return image.Image{}, err
	}
	r.tell(img, derived, len(gone))
	return derived, nil
}

// stale are the annotations of a layer that describe its compressed form.
var stale = []string{
	"io.github.containers.zstd-chunked.*",
	"io.containers.estargz.*",
	"containerd.io/snapshot/stargz/*",
}

// manifest writes the layers of a manifest that are not there yet, and
// rewrites it where they changed.
func (r *recoder) manifest(ctx context.Context, m image.Manifest) (image.Manifest, error) {
	ids, err := m.DiffIDs()
	if err != nil {
		return image.Manifest{}, err
	}
	edits := make([]image.Edit, len(m.Layers))
	for i, layer := range m.Layers {
		if m.LeavesOut(layer.Digest) {
			continue
		}
		if !needs(m, layer, r.want) {
			err = r.copyOnce(ctx, layer)
		} else if edits[i].To, err = r.recodeOnce(ctx, layer, ids[i]); err == nil {
			edits[i].Strip = stale
		}
		if err != nil {
			return image.Manifest{}, fmt.Errorf("layer %d (%s): %w", i+1, layer.Digest, err)
		}
	}
	content, err := image.Rewrite(m.Content, edits)
	if err != nil || content.Digest == m.Digest {
		return m, err
	}
	parsed, err := image.ParseManifest(content)
	if err != nil {
		return image.Manifest{}, fmt.Errorf("rewrite manifest %s: %w", m.Digest, err)
	}
	m.Content, m.Layers = content, parsed.Layers
	return m, nil
}

// attestations finds those that attest manifests which will be rewritten: drop
// says which entries of the indexes they are, gone which of img's manifests.
func attestations(img image.Image, want Compression) (drop func(image.Descriptor) bool, gone map[digest.Digest]bool, err error) {
	rewritten, attesting := map[digest.Digest]bool{}, map[digest.Digest]bool{}
	for _, m := range img.Manifests {
		rewritten[m.Digest] = slices.ContainsFunc(m.Layers, func(layer image.Descriptor) bool { return needs(m, layer, want) })
		attesting[m.Digest] = m.Attestation
		rewritten[""] = rewritten[""] || rewritten[m.Digest] // of an attestation that does not tell
	}
	drop = func(entry image.Descriptor) bool {
		of := entry.Annotations["vnd.docker.reference.digest"]
		attests, taken := attesting[entry.Digest]
		return rewritten[digest.Digest(of)] && (attests || of != "" && !taken)
	}
	gone = map[digest.Digest]bool{}
	kept := map[digest.Digest]bool{}
	for _, c := range img.Indexes {
		index, err := image.ParseIndex(c)
		if err != nil {
			return nil, nil, fmt.Errorf("read index %s: %w", c.Digest, err)
		}
		for _, entry := range index.Manifests {
			if !drop(entry) {
				kept[entry.Digest] = true
			} else if attesting[entry.Digest] {
				gone[entry.Digest] = true
			}
		}
	}
	maps.DeleteFunc(gone, func(d digest.Digest, _ bool) bool { return kept[d] })
	return drop, gone, nil
}

// tell says which digest changed, and what is left out.
func (r *recoder) tell(img, derived image.Image, gone int) {
	what, id := "manifest", fmt.Sprintf("the image ID %s did not", img.Manifests[0].Config.Digest)
	if img.KeepIndexes {
		what = "index"
	}
	if len(img.Manifests) > 1 {
		id = "the image IDs (of the configs) did not"
	}
	r.event(image.EventNote, "%s: the %s's digest changed from %s to %s; %s", img.Name, what, img.Entry().Digest, derived.Entry().Digest, id)
	if gone > 0 {
		r.event(image.EventNote, "%s: attestations are left out (%d), as they attest the layers as served", img.Name, gone)
	}
}

// form is what layers become.
func (r *recoder) form() string {
	if r.want == None {
		return "plain tars"
	}
	return "gzip"
}

func (r *recoder) event(kind image.EventKind, format string, args ...any) {
	r.opts.Events.Send(image.Event{Kind: kind, Text: fmt.Sprintf(format, args...)})
}
