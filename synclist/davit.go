package synclist

import (
	"strconv"

	"go.yaml.in/yaml/v4"

	"github.com/davit-cli/davit/image"
)

// The fields of davit's own schema (docs/sync.md).
var (
	davitFields = []string{"to", "platforms", "referrers", "images"}
	imageFields = []string{"image", "tags", "semver", "newest", "exclude", "platforms", "referrers", "to"}
)

// parseDavit reads davit's own schema.
func parseDavit(f *file, top []field, list *List) error {
	var defaults Entry
	var images *field
	for _, v := range top {
		var err error
		switch v.key {
		case "to":
			list.To, err = f.target(v, ParseTarget)
		case "platforms":
			defaults.Platforms, err = f.platforms(v)
		case "referrers":
			defaults.Referrers, err = f.truth(v)
		case "images":
			images = &v
		default:
			if !isExtension(v.key) {
				err = f.unknown(v, davitFields)
			}
		}
		if err != nil {
			return err
		}
	}
	if images == nil {
		return f.errorf(0, "it lists no images: images: is missing")
	}
	if n, err := f.resolve(images.value); err == nil && n.Kind == yaml.MappingNode {
		return f.errorf(images.line, "images: want a list, not a mapping: begin each image with - ")
	}
	items, err := f.items(*images)
	if err != nil {
		return err
	}
	for _, item := range items {
		entry, err := f.image(item, defaults)
		if err != nil {
			return err
		}
		list.Entries = append(list.Entries, entry)
	}
	return nil
}

// image reads one of images: a name, or a mapping.
func (f *file) image(item *yaml.Node, defaults Entry) (Entry, error) {
	e := defaults
	e.Line = item.Line
	n, err := f.resolve(item)
	if err != nil {
		return Entry{}, err
	}
	if n.Kind != yaml.MappingNode {
		if err := f.source(field{path: "images", value: item}, &e); err != nil {
			return Entry{}, err
		}
		e.tagLatest()
		return e, nil
	}
	fields, err := f.fields(item, "images")
	if err != nil {
		return Entry{}, err
	}
	c := choice{}
	to := field{}
	for _, v := range fields {
		switch v.key {
		case "image":
			err = f.source(v, &e)
		case "tags":
			err = f.tags(v, &c)
		case "semver":
			err = f.semver(v, &c)
		case "newest":
			c.given = true
			c.selection.newest, err = f.count(v)
		case "exclude":
			err = f.exclude(v, &c)
		case "platforms":
			e.Platforms, err = f.platforms(v)
		case "referrers":
			e.Referrers, err = f.truth(v)
		case "to":
			to = v
			e.To, err = f.target(v, parseOwnTarget)
		default:
			if !isExtension(v.key) {
				err = f.unknown(v, imageFields)
			}
		}
		if err != nil {
			return Entry{}, err
		}
	}
	return f.chosen(e, c, to)
}

// chosen joins what one image's fields say.
func (f *file) chosen(e Entry, c choice, to field) (Entry, error) {
	e.Tags = c.done()
	several := !e.Tags.None()
	switch {
	case e.Source.Registry == "":
		return Entry{}, f.errorf(e.Line, "images: image is missing")
	case c.empty:
		return Entry{}, f.errorf(e.Line, "images: tags is an empty list: leave it out, or write \"*\" for all tags")
	case several && e.Source.TagOrDigest() != "":
		return Entry{}, f.errorf(e.Line, "images: %s is one image, and so its tags cannot be chosen: leave out %s, or tags, semver, newest and exclude",
			e.Source, quote(e.Source.TagOrDigest()))
	case several && e.To.Repository.Tag != "":
		return Entry{}, f.errorf(to.line, "images.to: a tag is only for one image: write %s", e.To.Repository.Name())
	}
	if !several {
		e.tagLatest()
	}
	return e, nil
}

// tagLatest makes the tag plain that a name without one has.
func (e *Entry) tagLatest() {
	if e.Source.TagOrDigest() == "" {
		e.Source.Tag = "latest"
	}
}

// choice gathers what chooses tags.
type choice struct {
	selection Selection
	rule      rule
	given     bool // something but names chooses
	empty     bool // tags is there, and has none
}

// done is the selection: names, and the tags that pass everything else.
func (c choice) done() Selection {
	s := c.selection
	if len(c.rule.globs) > 0 || c.given && (len(c.rule.ranges) > 0 || s.newest > 0 || len(s.names) == 0) {
		c.rule.own = true
		c.rule.releases = len(c.rule.globs) == 0 && len(c.rule.ranges) == 0 && s.newest > 0
		s.rules = []rule{c.rule}
	}
	return s
}

func (f *file) tags(v field, c *choice) error {
	nodes, err := f.items(v)
	if err != nil {
		return err
	}
	c.empty = len(nodes) == 0
	for _, n := range nodes {
		text, err := f.text(n, v.path)
		if err != nil {
			return err
		}
		if isGlob(text) {
			err, c.rule.globs = parseGlob(text), append(c.rule.globs, text)
		} else {
			err, c.selection.names = checkName(text), append(c.selection.names, text)
		}
		if err != nil {
			return f.wrap(n, v.path, err)
		}
	}
	return f.checkPatterns(v, len(c.rule.globs))
}

func (f *file) semver(v field, c *choice) error {
	text, err := f.text(v.value, v.path)
	if err != nil {
		return err
	}
	r, err := parseRange(text, true)
	if err != nil {
		return f.wrap(v.value, v.path, err)
	}
	c.given, c.rule.ranges = true, []versions{r}
	return nil
}

func (f *file) exclude(v field, c *choice) error {
	nodes, err := f.items(v)
	if err != nil {
		return err
	}
	c.given = len(nodes) > 0 || c.given
	for _, n := range nodes {
		text, err := f.text(n, v.path)
		if err != nil {
			return err
		}
		if err := parseGlob(text); err != nil {
			return f.wrap(n, v.path, err)
		}
		c.selection.exclude = append(c.selection.exclude, text)
	}
	return f.checkPatterns(v, len(nodes))
}

// maxPatterns is how many patterns there may be in one place: each is tried on
// each tag.
const maxPatterns = 1000

func (f *file) checkPatterns(v field, n int) error {
	if n > maxPatterns {
		return f.errorf(v.line, "%s: there are %d patterns: davit takes up to %d", v.path, n, maxPatterns)
	}
	return nil
}

// count is a number from 1 on.
func (f *file) count(v field) (int, error) {
	text, err := f.text(v.value, v.path)
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, f.errorf(v.value.Line, "%s: want a number from 1 on, not %s", v.path, quote(text))
	}
	return n, nil
}

// source reads the image that an entry is about.
func (f *file) source(v field, e *Entry) error {
	text, err := f.text(v.value, v.path)
	if err != nil {
		return err
	}
	if e.Source, err = parseSource(text); err != nil {
		return f.wrap(v.value, v.path, err)
	}
	return nil
}

// target reads a destination.
func (f *file) target(v field, parse func(string) (Target, error)) (Target, error) {
	text, err := f.text(v.value, v.path)
	if err != nil {
		return Target{}, err
	}
	t, err := parse(text)
	if err != nil {
		return Target{}, f.wrap(v.value, v.path, err)
	}
	return t, nil
}

// platforms reads a list of platforms; none for all of them.
func (f *file) platforms(v field) ([]string, error) {
	texts, err := f.texts(v)
	if err != nil {
		return nil, err
	}
	want, err := image.ParsePlatforms(texts...)
	if err != nil {
		return nil, f.wrap(v.value, v.path, err)
	}
	if want.All {
		return nil, nil
	}
	return texts, nil
}
