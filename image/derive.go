package image

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Edit says what becomes of a descriptor that stands in a document. The zero
// value leaves it as it is.
type Edit struct {
	// Drop takes the descriptor out of its list.
	Drop bool
	// To, if set, is what is named instead: its media type, digest and size
	// are written. Embedded data and URLs of the old content are dropped.
	To *Descriptor
	// Strip are the annotations that are dropped where To is set: the name of
	// one, or the beginning of names where it ends with "*".
	Strip []string
}

// Rewrite edits the descriptors of a manifest's layers or an index's
// manifests; edits has one for each. All other fields, unknown ones too, stay
// as they are, and so does the order of the list. The document is written
// compactly and its fields sorted, and has its new sha256 digest. Where nothing
// changes, c itself is returned.
func Rewrite(c Content, edits []Edit) (Content, error) {
	if !slices.ContainsFunc(edits, func(e Edit) bool { return e.Drop || e.To != nil }) {
		return c, nil
	}
	b, err := rewrite(c, edits)
	if err != nil {
		return Content{}, fmt.Errorf("rewrite %s: %w", c.Digest, err)
	}
	d := Descriptor{MediaType: c.MediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
	return Content{d, b}, nil
}

func rewrite(c Content, edits []Edit) ([]byte, error) {
	fields, err := readFields(c.Bytes)
	if err != nil {
		return nil, err
	}
	list := "layers"
	if IsIndex(c.MediaType) {
		list = "manifests"
	}
	var all, kept []json.RawMessage
	if err := unmarshal(fields[list], &all); err != nil {
		return nil, err
	}
	if len(all) != len(edits) {
		return nil, fmt.Errorf("%d edits for %d %s", len(edits), len(all), list)
	}
	for i, e := range edits {
		raw := all[i]
		if e.Drop {
			continue
		}
		if e.To != nil {
			if raw, err = e.apply(raw); err != nil {
				return nil, err
			}
		}
		kept = append(kept, raw)
	}
	if fields[list], err = encode(kept); err != nil {
		return nil, err
	}
	return encode(fields)
}

// apply is a descriptor that names something else.
func (e Edit) apply(raw json.RawMessage) (json.RawMessage, error) {
	var fields, annotations map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		return nil, err
	}
	if err := unmarshal(fields["annotations"], &annotations); err != nil {
		return nil, err
	}
	// Go's decoder reads names in any case: none may be left that says otherwise.
	maps.DeleteFunc(fields, func(name string, _ json.RawMessage) bool {
		return slices.ContainsFunc([]string{"mediaType", "digest", "size", "data", "urls", "annotations"}, func(known string) bool {
			return strings.EqualFold(name, known)
		})
	})
	for name, value := range map[string]any{"mediaType": e.To.MediaType, "digest": e.To.Digest, "size": e.To.Size} {
		var err error
		if fields[name], err = encode(value); err != nil {
			return nil, err
		}
	}
	maps.DeleteFunc(annotations, func(name string, _ json.RawMessage) bool { return e.strips(name) })
	if len(annotations) > 0 {
		var err error
		if fields["annotations"], err = encode(annotations); err != nil {
			return nil, err
		}
	}
	return encode(fields)
}

func (e Edit) strips(annotation string) bool {
	return slices.ContainsFunc(e.Strip, func(s string) bool {
		if start, ok := strings.CutSuffix(s, "*"); ok {
			return strings.HasPrefix(annotation, start)
		}
		return annotation == s
	})
}

// encode writes JSON compactly, fields sorted, and leaves raw strings as they
// were written.
func encode(v any) (json.RawMessage, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// Change says how an image is derived from another one.
type Change struct {
	// Manifests are those that stand in the place of others, by the digest of
	// the one that is replaced.
	Manifests map[digest.Digest]Manifest
	// Drop, if set, says which entries of indexes are taken out. It is not
	// asked about entries that lead to indexes of the image.
	Drop func(entry Descriptor) bool
	// Strip are the annotations that entries lose which name something new,
	// as in Edit.
	Strip []string
}

// Derive returns an image made of img: its indexes name the new manifests,
// from the innermost outwards, and those that name nothing any more are gone,
// as are manifests of which every entry was dropped. Where its Name is by the
// digest of the root, it is by that of the new root. Documents in which nothing
// changes stay byte for byte. It is an error where nothing is left.
func Derive(img Image, change Change) (Image, error) {
	v := &deriver{
		change: change, indexes: map[digest.Digest]Content{}, done: map[digest.Digest]*Content{},
		kept: map[digest.Digest]bool{}, dropped: map[digest.Digest]bool{},
	}
	for _, c := range img.Indexes {
		v.indexes[c.Digest] = c
	}
	out := img
	out.Indexes, out.Manifests = nil, nil
	met := map[digest.Digest]bool{}
	for _, c := range img.Indexes {
		c, err := v.index(c)
		if err != nil {
			return Image{}, err
		}
		if c != nil && !met[c.Digest] {
			met[c.Digest] = true
			out.Indexes = append(out.Indexes, *c)
		}
	}
	for _, m := range img.Manifests {
		if v.dropped[m.Digest] && !v.kept[m.Digest] {
			continue
		}
		if to, ok := change.Manifests[m.Digest]; ok {
			m = to
		}
		if !met[m.Digest] {
			met[m.Digest] = true
			out.Manifests = append(out.Manifests, m)
		}
	}
	if len(out.Manifests) == 0 || len(img.Indexes) > 0 && v.done[img.Root().Digest] == nil {
		return Image{}, fmt.Errorf("derive from %s: nothing is left of it", img.Root().Digest)
	}
	if img.Name.Digest == img.Root().Digest {
		out.Name = out.Name.WithDigest(out.Root().Digest)
	}
	return out, nil
}

// deriver is one Derive.
type deriver struct {
	change        Change
	indexes       map[digest.Digest]Content  // of the image, by digest
	done          map[digest.Digest]*Content // what became of them, nil where nothing is left
	kept, dropped map[digest.Digest]bool     // manifests of which an entry was
}

// index rewrites an index after those that it names; it is nil where nothing
// is left of it.
func (v *deriver) index(c Content) (*Content, error) {
	if out, ok := v.done[c.Digest]; ok {
		return out, nil
	}
	index, err := ParseIndex(c)
	if err != nil {
		return nil, fmt.Errorf("read index %s: %w", c.Digest, err)
	}
	edits := make([]Edit, len(index.Manifests))
	left := 0
	for i, entry := range index.Manifests {
		if edits[i], err = v.entry(entry); err != nil {
			return nil, err
		}
		if !edits[i].Drop {
			left++
		}
	}
	if left == 0 {
		v.done[c.Digest] = nil
		return nil, nil
	}
	out, err := Rewrite(c, edits)
	if err != nil {
		return nil, err
	}
	v.done[c.Digest] = &out
	return &out, nil
}

func (v *deriver) entry(entry Descriptor) (Edit, error) {
	if inner, ok := v.indexes[entry.Digest]; ok {
		to, err := v.index(inner)
		if err != nil || to == nil {
			return Edit{Drop: true}, err
		}
		return v.edit(entry, to.Descriptor), nil
	}
	if v.change.Drop != nil && v.change.Drop(entry) {
		v.dropped[entry.Digest] = true
		return Edit{Drop: true}, nil
	}
	v.kept[entry.Digest] = true
	if to, ok := v.change.Manifests[entry.Digest]; ok {
		return v.edit(entry, to.Descriptor), nil
	}
	return Edit{}, nil
}

// edit has an entry name something else, unless it names that already.
func (v *deriver) edit(entry, to Descriptor) Edit {
	if entry.Digest == to.Digest {
		return Edit{}
	}
	return Edit{To: &to, Strip: v.change.Strip}
}
