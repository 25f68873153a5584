package synclist

import (
	"errors"
	"strings"
	"testing"
	"unicode"
)

// FuzzParse: no input makes it panic, its errors are one line, and what it reads
// can be planned, or says why not.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"to: r.lan\nimages: [alpine, {image: a, tags: ['v*', b], semver: '>1', newest: 2, exclude: [c]}]\n",
		"sync:\n- {source: a, target: r.lan/a, type: repository, tags: {allow: [x], deny: [y]}}\n",
		"sync:\n- {source: a.b, target: r.lan, type: registry, repos: {allow: [x]}}\n",
		"r.lan:\n  images: {a: [], b: ['1']}\n  images-by-semver: {c: '>1'}\n  images-by-tag-regex: {d: x}\n",
		"x-a: &a {tags: [b]}\nimages:\n- <<: [*a, *a]\n  image: c\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := Parse("f", data)
		checkFuzzed(t, err)
		if err != nil {
			return
		}
		list.To, _ = ParseTarget("r.lan/m")
		var entries []Entry
		for _, e := range list.Entries {
			if e.NeedsRepositories() {
				entries = append(entries, e.Repositories([]string{"a/b", "c"})...)
				continue
			}
			entries = append(entries, e)
		}
		list.Entries = entries
		lines, err := tryPlan(list, "1.0", "2.0-rc1", "v3", "latest")
		checkFuzzed(t, err)
		again, _ := tryPlan(list, "latest", "v3", "2.0-rc1", "1.0")
		if err == nil && strings.Join(lines, "\n") != strings.Join(again, "\n") {
			t.Errorf("%q, and then %q", lines, again)
		}
	})
}

// FuzzReferences likewise.
func FuzzReferences(f *testing.F) {
	for _, seed := range []string{
		"kind: Pod\nspec: {containers: [{image: alpine}]}\n---\nimage: {repository: a, tag: b, registry: c}\n",
		"services: {a: {image: '${A:-${B:-c}}$$'}, b: {build: ., image: x}}\n",
		"image: &a {reference: b}\nc: *a\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := References("f", data)
		checkFuzzed(t, err)
		for _, n := range list.Ignored {
			if strings.ContainsFunc(n.String(), unicode.IsControl) {
				t.Errorf("a note is not a line: %q", n)
			}
		}
		for _, e := range list.Entries {
			if e.Source.TagOrDigest() == "" || e.Source.Repository == "" {
				t.Errorf("%+v", e)
			}
		}
	})
}

func checkFuzzed(t *testing.T, err error) {
	var at *Error
	if err != nil && (!errors.As(err, &at) || strings.ContainsFunc(err.Error(), unicode.IsControl) || len(err.Error()) > 2000) {
		t.Errorf("%q", err)
	}
}
