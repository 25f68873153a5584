package serve

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/ref"
)

// entry is an image of a store, on the way to its repositories.
type entry struct {
	root *document
	at   int // the store that names it
	path string
	// full is its name where it has one. Else the repository is that of its
	// store.
	full       ref.Reference
	repository string
	tag        string
	subject    digest.Digest // of a referrer without a name
}

// isFull says whether it has a name with a registry.
func (e *entry) isFull() bool { return e.full.Repository != "" }

// naming gives every image its repositories.
type naming struct {
	h *Handler
	c *collector

	nameless  []*entry
	referrers map[digest.Digest][]*entry     // without a name, by subject
	short     map[string][]*entry            // by short repository and tag
	listed    map[*entry]string              // the repository that Images tells
	parts     map[int]map[digest.Digest]bool // of the images of a store
}

func (n *naming) all() error {
	n.referrers, n.short, n.listed = map[digest.Digest][]*entry{}, map[string][]*entry{}, map[*entry]string{}
	n.parts = map[int]map[digest.Digest]bool{}
	var entries []*entry
	for i := range n.c.from {
		found, err := n.entries(i)
		if err != nil {
			return err
		}
		entries = append(entries, found...)
	}
	for _, step := range []func([]*entry) error{n.placeLong, n.placeShort, n.placeNameless, n.placeReferrers} {
		if err := step(entries); err != nil {
			return err
		}
	}
	n.list(entries)
	return nil
}

// entries are the images of one store.
func (n *naming) entries(at int) ([]*entry, error) {
	from := n.c.from[at]
	var repository, tag string
	if from.Name != "" {
		var err error
		if repository, tag, err = SplitName(from.Name); err != nil {
			return nil, err
		}
	}
	var all []*entry
	given := map[digest.Digest]bool{} // that have the tag of From.Name
	for _, s := range from.Store.Images() {
		root, err := n.c.document(s.Digest, at)
		if err != nil {
			return nil, fmt.Errorf("serve %s: %w", from.Path, err)
		}
		e := &entry{root: root, at: at, path: from.Path}
		e.named(s)
		switch {
		case e.subject != "":
		case tag != "":
			if given[s.Digest] {
				continue
			}
			given[s.Digest] = true
			e.full, e.repository, e.tag = ref.Reference{}, repository, tag
		case repository != "":
			e.full, e.repository = ref.Reference{}, repository
		}
		all = append(all, e)
	}
	if len(given) > 1 {
		return nil, fmt.Errorf("serve %s: %w %q: it holds %d images: leave out the tag", from.Path, ErrName, from.Name, len(given))
	}
	return all, nil
}

// named finds out what an image is called by its store.
func (e *entry) named(s image.Stored) {
	if r, err := ref.Parse(s.Name); err == nil && s.Name != "" {
		e.full, e.tag = r, r.Tag
		return
	}
	switch subject := subjectOfTag(s.RefName); {
	case subject != "":
		e.subject, e.tag = subject, s.RefName
	case s.RefName == "":
		e.subject = e.root.subject
	case ref.ValidTag(s.RefName):
		e.tag = s.RefName
	default:
		if r, err := ref.ParseName(s.RefName); err == nil {
			e.full, e.tag = r, r.Tag
		}
	}
}

// repository is the one of that name in the API, which is made where there is
// none.
func (n *naming) repository(name string) *repository {
	r := n.h.repositories[name]
	if r == nil {
		r = newRepository(name)
		n.h.repositories[name] = r
	}
	return r
}

// placeLong puts images into the repositories that only they can have: those of
// their full names, and those that the caller has given.
func (n *naming) placeLong(entries []*entry) error {
	for _, e := range entries {
		switch {
		case e.isFull():
			if err := n.placeFull(e); err != nil {
				return err
			}
		case e.repository != "":
			if e.tag == "" && n.isOnly(e, entries) {
				e.tag = "latest"
			}
			if err := n.place(n.repository(e.repository), e); err != nil {
				return err
			}
			n.listed[e] = e.repository
		case e.subject != "":
			n.referrers[e.subject] = append(n.referrers[e.subject], e)
		default:
			n.nameless = append(n.nameless, e)
		}
	}
	return nil
}

func (n *naming) placeFull(e *entry) error {
	name := e.full.Name()
	r := n.h.byName[name]
	if r == nil {
		r = newRepository(name)
		if long := longName(e.full); long != "" {
			r = n.repository(long)
		}
		n.h.byName[name] = r
	}
	key := e.full.Repository + ":" + e.tag
	n.short[key] = append(n.short[key], e)
	return n.place(r, e)
}

// place puts an image with all that it leads to into a repository, under its
// tag where it has one.
func (n *naming) place(r *repository, e *entry) error {
	if known, met := r.tags[e.tag]; met && known.digest != e.root.Digest {
		return &CollisionError{Name: r.name + ":" + e.tag, Paths: [2]string{known.path, e.path}, Digests: [2]digest.Digest{known.digest, e.root.Digest}}
	}
	if e.tag != "" {
		r.tags[e.tag] = tagged{e.root.Digest, e.path}
	}
	got, err := n.c.reach(r, e.root, e.at)
	if err != nil {
		return fmt.Errorf("serve %s: %w", e.path, err)
	}
	n.tellMissing(e, got.missing)
	return nil
}

// tellMissing warns of blobs that cannot be served.
func (n *naming) tellMissing(e *entry, missing []digest.Digest) {
	slices.Sort(missing)
	if missing = slices.Compact(missing); len(missing) == 0 {
		return
	}
	text := fmt.Sprintf("%s lacks %d of the blobs of its images, such as %s: who asks for them is told so", e.path, len(missing), missing[0])
	n.c.events.Send(image.Event{Kind: image.EventWarning, Text: text})
}

// placeShort puts images into the repositories of their names without registry.
// Where two differ by their registry alone, neither has the tag there.
func (n *naming) placeShort([]*entry) error {
	for _, key := range slices.Sorted(maps.Keys(n.short)) {
		same := n.short[key]
		first := same[0]
		r := n.repository(first.full.Repository)
		ambiguous := n.rival(r, same)
		for _, e := range same {
			// What is missing was told for the long name.
			if _, err := n.c.reach(r, e.root, e.at); err != nil {
				return fmt.Errorf("serve %s: %w", e.path, err)
			}
			switch long := longName(e.full); {
			case ambiguous == nil && e.tag != "":
				r.tags[e.tag] = tagged{e.root.Digest, e.path}
				n.listed[e] = r.name
			case ambiguous == nil || e.tag == "":
				n.listed[e] = r.name
			case long == "":
				return ambiguous
			default:
				n.listed[e] = long
			}
		}
		if ambiguous != nil {
			n.c.events.Send(image.Event{Kind: image.EventWarning, Text: fmt.Sprintf("%s: served by their full names only", ambiguous)})
		}
	}
	return nil
}

// rival is why images of one short name cannot have their tag in a repository.
func (n *naming) rival(r *repository, same []*entry) *CollisionError {
	tag := same[0].tag
	if tag == "" {
		return nil
	}
	known, met := r.tags[tag]
	if !met {
		known = tagged{same[0].root.Digest, same[0].path}
	}
	for _, e := range same {
		if e.root.Digest != known.digest {
			return &CollisionError{Name: r.name + ":" + tag, Paths: [2]string{known.path, e.path}, Digests: [2]digest.Digest{known.digest, e.root.Digest}}
		}
	}
	return nil
}

// placeNameless puts images without a name into their stores' repositories,
// but those that are parts of other images of the store.
func (n *naming) placeNameless(entries []*entry) error {
	for _, e := range n.nameless {
		if e.tag == "" && n.isPart(e, entries) {
			continue
		}
		e.repository = nameOfPath(e.path)
		if e.tag == "" && n.isOnly(e, entries) {
			e.tag = "latest"
		}
		if err := n.place(n.repository(e.repository), e); err != nil {
			return err
		}
		n.listed[e] = e.repository
	}
	return nil
}

// isPart says whether another image of the store names it in its index.
func (n *naming) isPart(e *entry, entries []*entry) bool {
	parts := n.parts[e.at]
	if parts == nil {
		parts = map[digest.Digest]bool{}
		for _, other := range entries {
			if other.at == e.at {
				n.c.within(other.root, parts)
			}
		}
		n.parts[e.at] = parts
	}
	return parts[e.root.Digest]
}

// isOnly says whether a store has no other image, but for what refers to it.
func (n *naming) isOnly(e *entry, entries []*entry) bool {
	return !slices.ContainsFunc(entries, func(other *entry) bool {
		return other.at == e.at && other.subject == "" && other.root.Digest != e.root.Digest
	})
}

// repositories are all of them, each once, in the order of their names.
func (n *naming) repositories() []*repository {
	all := slices.Collect(maps.Values(n.h.repositories))
	for _, r := range n.h.byName {
		if n.h.repositories[r.name] != r {
			all = append(all, r)
		}
	}
	slices.SortFunc(all, func(a, b *repository) int { return strings.Compare(a.name, b.name) })
	return all
}

// placeReferrers puts what refers to images, and has no name of its own, to
// them; what refers to none of the images, into its store's repository.
func (n *naming) placeReferrers(entries []*entry) error {
	placed := map[*entry]bool{}
	for _, r := range n.repositories() {
		if err := n.referTo(r, slices.Sorted(maps.Keys(r.manifests)), placed); err != nil {
			return err
		}
	}
	for _, e := range entries {
		if e.subject == "" || placed[e] {
			continue
		}
		e.repository = nameOfPath(e.path)
		if err := n.place(n.repository(e.repository), e); err != nil {
			return err
		}
		n.listed[e] = e.repository
	}
	return nil
}

// referTo puts into a repository what refers to those of its manifests, and
// what refers to that.
func (n *naming) referTo(r *repository, subjects []digest.Digest, placed map[*entry]bool) error {
	for len(subjects) > 0 {
		subject := subjects[0]
		subjects = subjects[1:]
		for _, e := range n.referrers[subject] {
			got, err := n.c.reach(r, e.root, e.at)
			if err != nil {
				return fmt.Errorf("serve %s: %w", e.path, err)
			}
			if !placed[e] {
				n.tellMissing(e, got.missing)
			}
			placed[e] = true
			subjects = append(subjects, got.added...)
			if _, taken := r.tags[e.tag]; e.tag != "" && !taken {
				r.tags[e.tag] = tagged{e.root.Digest, e.path}
			}
		}
	}
	return nil
}

// list makes what Images and the catalog tell.
func (n *naming) list(entries []*entry) {
	names := map[string]bool{}
	seen := map[Image]bool{}
	for _, e := range entries {
		repository, ok := n.listed[e]
		if !ok {
			continue
		}
		names[repository] = true
		img := Image{Repository: repository, Tag: e.tag, Digest: e.root.Digest, Path: e.path}
		if same := (Image{Repository: repository, Tag: e.tag, Digest: e.root.Digest}); !seen[same] {
			seen[same] = true
			n.h.images = append(n.h.images, img)
		}
	}
	n.h.catalog = slices.Sorted(maps.Keys(names))
}
