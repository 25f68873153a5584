package synclist

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// documentation is docs/sync.md.
func documentation(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../docs/sync.md")
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(text), "\r\n", "\n")
}

// The examples are what they are said to be.
func TestDocumentedExamples(t *testing.T) {
	text := documentation(t)
	var formats []string
	for _, m := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(text, -1) {
		read := Parse
		if strings.HasPrefix(m[1], "# --from-yaml") {
			read = References
		}
		list, err := read("sync.md", []byte(m[1]))
		if err != nil {
			t.Fatal(err)
		}
		formats = append(formats, string(list.Format))
		if list.Format != FormatDavit {
			continue
		}
		want := regexp.MustCompile("(?s)```text\n(.*?)\n```").FindStringSubmatch(text)
		diff(t, strings.Split(want[1], "\n"), plan(t, list, "stable", "latest", "v1.19.0", "v1.20.0", "v1.21.0", "v1.22.0", "v1.23.0-rc1", "v2.0.0"))
	}
	diff(t, []string{"davit", "regsync", "skopeo-sync", "references"}, formats)
}

// The tables have every field, and no other.
func TestDocumentedFields(t *testing.T) {
	text := documentation(t)
	for _, test := range []struct {
		title  string
		fields []string
	}{
		{"### Fields of the list", davitFields},
		{"### Fields of an image", imageFields},
		{"## skopeo-sync's lists", skopeoFields},
		{"## regsync's lists", slices.Concat(stepFields[:8], []string{"semverRange", "creds"})},
	} {
		_, section, ok := strings.Cut(text, test.title+"\n")
		if !ok {
			t.Fatalf("%s is missing", test.title)
		}
		if i := strings.Index(section, "\n#"); i > 0 {
			section = section[:i]
		}
		var cells []string
		for _, m := range regexp.MustCompile(`(?m)^\| ([^|]*) \|`).FindAllStringSubmatch(section, -1) {
			for _, f := range regexp.MustCompile("`([a-zA-Z-]+)(?:: false)?`").FindAllStringSubmatch(m[1], -1) {
				cells = append(cells, f[1])
			}
		}
		for _, f := range test.fields {
			if !slices.Contains(cells, f) {
				t.Errorf("%s: %s is missing", test.title, f)
			}
		}
		for _, f := range cells {
			known := slices.Concat(test.fields, regsyncFields, defaultFields)
			if !slices.Contains(known, f) {
				t.Errorf("%s: there is no %s", test.title, f)
			}
		}
	}
}
