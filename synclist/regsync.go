package synclist

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/davit-cli/davit/ref"
)

// The fields of regsync's schema (regclient, docs/regsync.md). What is in a step
// may be in defaults, but for what says which images.
var (
	regsyncFields = []string{"version", "creds", "defaults", "sync"}
	stepFields    = slices.Concat([]string{"source", "target", "type", "tags", "tagSets", "repos", "platform", "platforms"}, sharedFields, slices.Sorted(maps.Keys(unfollowed)))
	defaultFields = slices.Concat(sharedFields, slices.Sorted(maps.Keys(unfollowed)), slices.Sorted(maps.Keys(general)))
	sharedFields  = []string{"referrers", "digestTags", "referrerSource", "referrerTarget"}
)

// unfollowed are regsync's fields that davit passes over, with what it does;
// general those that only defaults has.
var (
	unfollowed = map[string]string{
		"backup":          "davit keeps no backup of what is overwritten",
		"interval":        "davit runs once",
		"schedule":        "davit runs once",
		"ratelimit":       "davit waits when the registry says so",
		"referrerFilters": "davit takes all referrers",
		"referrerSlow":    "davit has its own way to find referrers",
		"fastCheck":       "davit has its own way to find what is there",
		"forceRecursive":  "davit has its own way to find what is there",
		"includeExternal": "davit has its own way with external layers",
		"mediaTypes":      "davit takes all images",
		"hooks":           "davit runs no hooks",
	}
	general = map[string]string{
		"parallel":         "davit has options for this",
		"blobLimit":        "davit has its own limits",
		"cacheCount":       "davit keeps no cache",
		"cacheTime":        "davit keeps no cache",
		"skipDockerConfig": "davit has options for this",
		"userAgent":        "davit has its own",
	}
)

const whyCredentials = "davit takes credentials and settings of registries from its options, its environment and the files of Docker and Podman"

// parseRegsync reads regsync's schema.
func parseRegsync(f *file, top []field, list *List) error {
	defaults := step{}
	var steps *field
	for _, v := range top {
		var err error
		switch v.key {
		case "version":
			err = f.regsyncVersion(v)
		case "creds":
			err = f.regsyncCreds(v)
		case "defaults":
			err = f.regsyncDefaults(v, &defaults)
		case "sync":
			steps = &v
		default:
			if !isExtension(v.key) {
				err = f.unknown(v, regsyncFields)
			}
		}
		if err != nil {
			return err
		}
	}
	if steps == nil {
		return f.errorf(0, "it lists no images: sync: is missing")
	}
	items, err := f.items(*steps)
	if err != nil {
		return err
	}
	for _, item := range items {
		e, err := f.regsyncStep(item, defaults)
		if err != nil {
			return err
		}
		list.Entries = append(list.Entries, e)
	}
	return nil
}

func (f *file) regsyncVersion(v field) error {
	text, err := f.text(v.value, v.path)
	if err == nil && text != "0" && text != "1" {
		err = f.errorf(v.value.Line, "version: davit reads regsync's version 1, not %s", quote(text))
	}
	return err
}

// regsyncCreds passes credentials over, but not what makes another registry of a
// name.
func (f *file) regsyncCreds(v field) error {
	f.note(v.line, v.path, whyCredentials)
	items, err := f.items(v)
	if err != nil {
		return err
	}
	for _, item := range items {
		fields, err := f.fields(item, v.path)
		if err != nil {
			return err
		}
		var registry, hostname string
		line := item.Line
		for _, c := range fields {
			if c.key == "pathPrefix" {
				return f.errorf(c.line, "%s: davit knows no prefix of a registry: write it into source and target", c.path)
			}
			if c.key != "registry" && c.key != "hostname" {
				continue
			}
			text, err := f.text(c.value, c.path)
			if err != nil {
				return err
			}
			if c.key == "registry" {
				registry = text
			} else {
				hostname, line = text, c.line
			}
		}
		at, _ := ref.Parse(hostname + "/davit/davit")
		if hostname != "" && hostname != registry && at.Registry != registry {
			return f.errorf(line, "%s.hostname: davit knows no other name of a registry: write the host itself into source and target", v.path)
		}
	}
	return nil
}

func (f *file) regsyncDefaults(v field, s *step) error {
	fields, err := f.fields(v.value, v.path)
	if err != nil {
		return err
	}
	for _, d := range fields {
		if why, ok := general[d.key]; ok {
			f.note(d.line, d.path, why)
			continue
		}
		if known, err := f.shared(d, s); err != nil {
			return err
		} else if !known && !isExtension(d.key) {
			return f.unknown(d, defaultFields)
		}
	}
	return nil
}

// step is one of sync while it is read.
type step struct {
	source, target, kind field
	texts                map[string]string
	referrers            map[string]bool // referrers and digestTags
	platforms            []string
	rules                []rule
	repositories         filter
}

// shared reads what may be in defaults and in a step.
func (f *file) shared(v field, s *step) (known bool, err error) {
	if why, ok := unfollowed[v.key]; ok {
		f.note(v.line, v.path, why)
		return true, nil
	}
	switch v.key {
	case "referrers", "digestTags":
		yes, err := f.truth(v)
		referrers := map[string]bool{v.key: yes}
		for key, value := range s.referrers { // defaults are shared
			if key != v.key {
				referrers[key] = value
			}
		}
		s.referrers = referrers
		return true, err
	case "referrerSource", "referrerTarget":
		return true, f.errorf(v.line, "%s: davit takes referrers from where the image is to where it goes", v.path)
	}
	return false, nil
}

func (f *file) regsyncStep(item *yaml.Node, s step) (Entry, error) {
	fields, err := f.fields(item, "sync")
	if err != nil {
		return Entry{}, err
	}
	s.texts = map[string]string{}
	for _, v := range fields {
		var set rule
		switch v.key {
		case "source", "target", "type":
			s.texts[v.key], err = f.plain(v)
			switch v.key {
			case "source":
				s.source = v
			case "target":
				s.target = v
			default:
				s.kind = v
			}
		case "tags":
			var some bool
			if set, some, err = f.allowDeny(v, true); some {
				s.rules = append(s.rules, set)
			}
		case "tagSets":
			err = f.tagSets(v, &s)
		case "repos":
			set, _, err = f.allowDeny(v, false)
			s.repositories = set.filter
		case "platform", "platforms":
			var platforms []string
			platforms, err = f.platforms(v)
			s.platforms = append(s.platforms, platforms...)
		default:
			var known bool
			if known, err = f.shared(v, &s); err == nil && !known && !isExtension(v.key) {
				err = f.unknown(v, stepFields)
			}
		}
		if err != nil {
			return Entry{}, err
		}
	}
	for _, name := range []string{"source", "target", "type"} {
		if s.texts[name] == "" {
			return Entry{}, f.errorf(item.Line, "sync: %s is missing", name)
		}
	}
	e := Entry{Line: item.Line, Platforms: s.platforms, Referrers: s.referrers["referrers"] || s.referrers["digestTags"]}
	if err := f.regsyncEntry(s, &e); err != nil {
		return Entry{}, err
	}
	return e, nil
}

// plain is a text without templates.
func (f *file) plain(v field) (string, error) {
	text, err := f.text(v.value, v.path)
	if err == nil && strings.Contains(text, "{{") {
		err = f.wrap(v.value, v.path, errTemplate)
	}
	return text, err
}

// regsyncEntry reads source and target by the type of the step.
func (f *file) regsyncEntry(s step, e *Entry) error {
	source, target := s.texts["source"], s.texts["target"]
	fail := func(v field, err error) error { return f.wrap(v.value, v.path, err) }
	var err error
	if dir, ok := strings.CutPrefix(target, "ocidir://"); ok {
		if e.To, err = layoutTarget(dir, s.texts["type"]); err != nil {
			return fail(s.target, err)
		}
	}
	switch kind := s.texts["type"]; kind {
	case "registry":
		if e.Source, err = parseRegistry(source); err != nil {
			return fail(s.source, err)
		}
		if e.To.None() {
			e.To, err = ParseTarget(target)
		}
		e.repositories, e.Tags = s.repositories, ofRules(s.rules)
	case "repository", "image":
		if e.Source, err = parseSource(source); err != nil {
			return fail(s.source, err)
		}
		if e.To.None() {
			e.To.Repository, err = ref.Parse(target)
		}
		if err == nil && e.To.Repository.Digest != "" {
			err = errors.New("a digest cannot be chosen")
		}
		if kind == "repository" {
			e.Tags = ofRules(s.rules)
			if e.Source.TagOrDigest() != "" {
				return fail(s.source, fmt.Errorf("a repository has no tag: write %s", e.Source.Name()))
			}
			if err == nil && e.To.Repository.Tag != "" {
				err = fmt.Errorf("a repository has no tag: write %s", e.To.Repository.Name())
			}
		} else {
			e.tagLatest()
			if e.To.Path == "" && e.To.Repository.Tag == "" {
				e.To.Repository.Tag = "latest" // not the source's
			}
			if len(s.rules) > 0 {
				f.note(e.Line, "sync.tags", "the type of the step is image")
			}
		}
	default:
		return fail(s.kind, fmt.Errorf("want registry, repository or image, not %s", quote(kind)))
	}
	if err != nil {
		return fail(s.target, err)
	}
	return nil
}

// layoutTarget is a layout, where images keep their sources' names.
func layoutTarget(dir, kind string) (Target, error) {
	if kind == "registry" {
		return Target{}, errors.New("davit makes no layout of each repository: list them as steps")
	}
	if base := dir[strings.LastIndexByte(dir, '/')+1:]; strings.ContainsAny(base, ":@") {
		return Target{}, errors.New("in a layout an image keeps its source's name: leave out the tag")
	}
	return Target{Path: "oci:" + dir}, nil
}

// parseRegistry reads the name of a registry.
func parseRegistry(s string) (ref.Reference, error) {
	t, err := ParseTarget(s)
	if err != nil {
		return ref.Reference{}, err
	}
	if t.Path != "" || t.Prefix.Repository != "" {
		return ref.Reference{}, fmt.Errorf("%w: %s is no registry: write a host such as registry.lan:5000", ref.ErrInvalid, quote(s))
	}
	return t.Prefix, nil
}
