package synclist

import (
	"errors"
	"strings"

	"github.com/davit-cli/davit/ref"
)

// skopeoFields are those of a registry in skopeo's schema (skopeo-sync(1), "YAML
// file content").
var skopeoFields = []string{"images", "images-by-tag-regex", "images-by-semver", "credentials", "tls-verify", "cert-dir"}

// parseSkopeo reads skopeo's schema: a mapping of registries.
func parseSkopeo(f *file, top []field, list *List) error {
	for _, registry := range top {
		if isExtension(registry.key) && !strings.ContainsAny(registry.key, ".:") {
			continue // a place for anchors, and no host
		}
		fields, err := f.fields(registry.value, registry.path)
		if err != nil {
			return err
		}
		for _, v := range fields {
			switch v.key {
			case "images":
				err = f.skopeoImages(registry, v, list, f.skopeoNames)
			case "images-by-tag-regex":
				err = f.skopeoImages(registry, v, list, f.skopeoRegexp)
			case "images-by-semver":
				err = f.skopeoImages(registry, v, list, f.skopeoRange)
			case "credentials":
				f.note(v.line, v.path, whyCredentials)
			case "cert-dir":
				f.note(v.line, v.path, "davit takes certificates from its options and the files of Docker and Podman")
			case "tls-verify":
				var verify bool
				if verify, err = f.truth(v); err == nil && !verify {
					f.note(v.line, v.path, "davit has options for this")
				}
			default:
				err = f.unknown(v, skopeoFields)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// skopeoImages reads a mapping of repositories, each with what chooses its tags.
func (f *file) skopeoImages(registry, v field, list *List, choose func(field) (Selection, error)) error {
	if n, err := f.resolve(v.value); err != nil || isNull(n) {
		return err
	}
	repositories, err := f.fields(v.value, v.path)
	if err != nil {
		return err
	}
	for _, repository := range repositories {
		source, err := ref.Parse(registry.key + "/" + repository.key)
		if err == nil && source.TagOrDigest() != "" {
			err = errors.New("a repository has no tag: list it below the repository")
		}
		if err != nil {
			return f.errorf(repository.line, "%s: %w", v.path, err)
		}
		tags, err := choose(repository)
		if err != nil {
			return err
		}
		list.Entries = append(list.Entries, Entry{Source: source, Tags: tags, Line: repository.line})
	}
	return nil
}

// skopeoNames is a list of tags and digests; without any, all tags.
func (f *file) skopeoNames(v field) (Selection, error) {
	nodes, err := f.items(v)
	if err != nil {
		return Selection{}, err
	}
	var names []string
	for _, n := range nodes {
		text, err := f.text(n, v.path)
		if err != nil {
			return Selection{}, err
		}
		if err := checkName(text); err != nil {
			return Selection{}, f.wrap(n, v.path, err)
		}
		names = append(names, text)
	}
	if len(names) == 0 {
		return ofRules(nil), nil
	}
	return Selection{names: names}, nil
}

// skopeoRegexp matches anywhere in a tag, as skopeo has it.
func (f *file) skopeoRegexp(v field) (Selection, error) {
	text, err := f.text(v.value, v.path)
	if err != nil {
		return Selection{}, err
	}
	e, err := parseRegexp(text)
	if err != nil {
		return Selection{}, f.wrap(v.value, v.path, err)
	}
	var r rule
	r.filter.allow = append(r.filter.allow, e)
	return ofRules([]rule{r}), nil
}

func (f *file) skopeoRange(v field) (Selection, error) {
	text, err := f.text(v.value, v.path)
	if err != nil {
		return Selection{}, err
	}
	r, err := parseRange(text, false)
	if err != nil {
		return Selection{}, f.wrap(v.value, v.path, err)
	}
	return ofRules([]rule{{ranges: []versions{r}}}), nil
}
