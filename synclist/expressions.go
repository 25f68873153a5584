package synclist

import (
	"fmt"
	"regexp"
	"slices"
)

// tagSets reads regsync's sets of tags: what one of them takes is taken.
func (f *file) tagSets(v field, s *step) error {
	nodes, err := f.items(v)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		set, _, err := f.allowDeny(field{path: v.path, line: n.Line, value: n}, true)
		if err != nil {
			return err
		}
		s.rules = append(s.rules, set)
	}
	return f.checkPatterns(v, len(nodes))
}

// allowDeny reads a set of expressions; some says whether there is any.
func (f *file) allowDeny(v field, tags bool) (r rule, some bool, err error) {
	if n, err := f.resolve(v.value); err != nil || isNull(n) {
		return rule{}, false, err
	}
	fields, err := f.fields(v.value, v.path)
	if err != nil {
		return rule{}, false, err
	}
	known := []string{"allow", "deny"}
	if tags {
		known = append(known, "semverRange")
	}
	for _, d := range fields {
		if isExtension(d.key) {
			continue
		}
		if !slices.Contains(known, d.key) {
			return rule{}, false, f.unknown(d, known)
		}
		nodes, err := f.items(d)
		if err == nil {
			err = f.checkPatterns(d, len(nodes))
		}
		if err != nil {
			return rule{}, false, err
		}
		for _, n := range nodes {
			text, err := f.text(n, d.path)
			if err != nil {
				return rule{}, false, err
			}
			if err := r.add(d.key, text); err != nil {
				return rule{}, false, f.wrap(n, d.path, err)
			}
			some = true
		}
	}
	return r, some, nil
}

// add takes one more expression or range. Expressions are bound as regsync binds
// them, without a group: a|b begins with a, or ends with b.
func (r *rule) add(key, text string) error {
	if key == "semverRange" {
		v, err := parseRange(text, false)
		r.ranges = append(r.ranges, v)
		return err
	}
	e, err := parseRegexp("^" + text + "$")
	if err != nil {
		return err
	}
	if key == "allow" {
		r.filter.allow = append(r.filter.allow, e)
	} else {
		r.filter.deny = append(r.filter.deny, e)
	}
	return nil
}

// maxRegexp is the longest regular expression, in bytes.
const maxRegexp = 1000

func parseRegexp(s string) (*regexp.Regexp, error) {
	if len(s) > maxRegexp {
		return nil, fmt.Errorf("the regular expression has %d characters: davit takes up to %d", len(s), maxRegexp)
	}
	e, err := regexp.Compile(s)
	if err != nil {
		return nil, fmt.Errorf("%s is no regular expression of Go", quote(s))
	}
	return e, nil
}

// ofRules is a selection of the tags that one of the rules takes; all tags
// without any.
func ofRules(rules []rule) Selection {
	if len(rules) == 0 {
		rules = []rule{{}}
	}
	return Selection{rules: rules}
}
