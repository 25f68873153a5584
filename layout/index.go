package layout

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/ref"
)

// index is an index.json (OCI image-spec, image-layout.md, "index.json file").
type index struct {
	fields      object
	annotations object
	delta       image.Delta // as an annotation tells it
	entries     []entry
}

// entry is one of its descriptors.
type entry struct {
	fields      object
	annotations object
	digest      digest.Digest
	// fullName is the value of io.containerd.image.name, whoever wrote it.
	fullName string
	refName  string
	// referrer is what an entry is called that refers to another image: the name
	// by which cosign finds it, or its digest. It is empty for others.
	referrer string
	// name is the full name of an entry that is davit's to name: its ref.name
	// is the tag, the full name, or not there. Any other was chosen by
	// somebody, and the entry stays as it is.
	name *ref.Reference
}

// maxEntries is how many descriptors an index.json may have.
const maxEntries = 1 << 16

// emptyIndex is the index.json of a new layout.
const emptyIndex = `{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageIndex + `","manifests":[]}`

func readIndex(b []byte) (*index, error) {
	fields, err := readObject(b)
	if err != nil {
		return nil, err
	}
	var version int
	var manifests []json.RawMessage
	if err := fields.read("schemaVersion", &version); err != nil {
		return nil, err
	}
	if version != 2 {
		return nil, fmt.Errorf("its schemaVersion is %d, not 2", version)
	}
	if err := fields.read("manifests", &manifests); err != nil {
		return nil, err
	}
	if len(manifests) > maxEntries {
		return nil, fmt.Errorf("it has %d manifests, more than %d", len(manifests), maxEntries)
	}
	x := &index{fields: fields}
	if err := x.readDelta(); err != nil {
		return nil, err
	}
	for i, raw := range manifests {
		e, err := readEntry(raw)
		if err != nil {
			return nil, fmt.Errorf("its manifest %d: %w", i+1, err)
		}
		x.entries = append(x.entries, e)
	}
	return x, nil
}

func readEntry(raw json.RawMessage) (entry, error) {
	fields, err := readObject(raw)
	if err != nil {
		return entry{}, err
	}
	e := entry{fields: fields}
	if err := fields.read("digest", &e.digest); err != nil {
		return entry{}, err
	}
	var annotations json.RawMessage
	if err := fields.read("annotations", &annotations); err != nil {
		return entry{}, err
	}
	if annotations == nil || string(annotations) == "null" {
		return e, nil
	}
	if e.annotations, err = readObject(annotations); err != nil {
		return entry{}, fmt.Errorf("its annotations: %w", err)
	}
	if err := e.annotations.read(image.AnnotationImageName, &e.fullName); err != nil {
		return entry{}, err
	}
	if err := e.annotations.read(ocispec.AnnotationRefName, &e.refName); err != nil {
		return entry{}, err
	}
	if err := e.refer(); err != nil {
		return entry{}, err
	}
	if n, err := ref.Parse(e.fullName); err == nil && n.String() == e.fullName && (e.refName == "" || e.refName == n.Tag || e.refName == e.fullName) {
		e.name = &n
	}
	return e, nil
}

// refer finds out whether the entry is there because it refers to an image.
func (e *entry) refer() error {
	var subject, name string
	for _, f := range []struct {
		name  string
		value any
	}{
		{image.AnnotationSubject, &subject}, {image.AnnotationReferrerName, &name},
	} {
		if err := e.annotations.read(f.name, f.value); err != nil {
			return err
		}
	}
	if subject != "" && e.fullName == "" && e.refName == "" {
		e.referrer = cmp.Or(name, e.digest.String())
	}
	return nil
}

// replacedBy says whether another entry stands for the same: by its full name, by
// what it is called as a referrer, or where it is called nothing by its digest.
func (e entry) replacedBy(by entry) bool {
	if e.fullName != by.fullName || e.referrer != by.referrer {
		return false
	}
	return by.fullName != "" || by.referrer != "" || e.refName == "" && e.digest == by.digest
}

// add puts images in, each in place of what it stands for.
func (x *index) add(images []image.Image) error {
	delta := image.DeltaOf(images...)
	for _, img := range images {
		raw, err := json.Marshal(delta.Entry(img, ""))
		if err != nil {
			return err
		}
		e, err := readEntry(raw)
		if err != nil {
			return err
		}
		x.entries = slices.DeleteFunc(x.entries, func(o entry) bool { return o.replacedBy(e) })
		x.entries = append(x.entries, e)
	}
	return nil
}

// order puts davit's entries behind the others, which keep their order, and
// sorts them by full name. What refers to images comes last.
func (x *index) order() {
	slices.SortStableFunc(x.entries, func(a, b entry) int {
		switch {
		case a.referrer != "" || b.referrer != "":
			return strings.Compare(a.referrer, b.referrer)
		case a.name == nil && b.name == nil:
			return 0
		case a.name == nil:
			return -1
		case b.name == nil:
			return 1
		}
		return strings.Compare(a.fullName, b.fullName)
	})
}

// nameAll gives davit's entries the ref.names that they have beside the
// others (image.RefNames).
func (x *index) nameAll() error {
	var names []ref.Reference
	var taken []string
	for _, e := range x.entries {
		if e.name != nil {
			names = append(names, *e.name)
		} else if e.refName != "" {
			taken = append(taken, e.refName)
		}
	}
	refNames := image.RefNames(names, taken...)
	for i := range x.entries {
		e := &x.entries[i]
		if e.name == nil {
			continue
		}
		if err := e.rename(refNames[0]); err != nil {
			return err
		}
		refNames = refNames[1:]
	}
	return nil
}

// rename changes an entry's ref.name; without one it has none.
func (e *entry) rename(refName string) error {
	if e.refName == refName {
		return nil
	}
	e.refName = refName
	e.annotations = e.annotations.without(ocispec.AnnotationRefName)
	if refName != "" {
		value, err := encodeString(refName)
		if err != nil {
			return err
		}
		e.annotations = e.annotations.with(ocispec.AnnotationRefName, value)
	}
	annotations, err := e.annotations.encode()
	if err != nil {
		return err
	}
	e.fields = e.fields.with("annotations", annotations)
	return nil
}

// encode writes the index.json.
func (x *index) encode() ([]byte, error) {
	var entries []json.RawMessage
	for _, e := range x.entries {
		raw, err := e.fields.encode()
		if err != nil {
			return nil, err
		}
		entries = append(entries, raw)
	}
	manifests, err := encodeArray(entries)
	if err != nil {
		return nil, err
	}
	return x.fields.with("manifests", manifests).encode()
}
