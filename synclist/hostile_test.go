package synclist

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// bomb is a list whose aliases make it 4^levels times as long.
func bomb(levels int) string {
	var b strings.Builder
	b.WriteString("x-0: &a0 {a: 1}\n")
	for i := range levels {
		fmt.Fprintf(&b, "x-%d: &a%d {<<: [*a%d, *a%d, *a%d, *a%d]}\n", i+1, i+1, i, i, i, i)
	}
	fmt.Fprintf(&b, "images:\n- {<<: *a%d, image: alpine}\n", levels)
	return b.String()
}

func TestHostile(t *testing.T) {
	for _, test := range []struct{ name, in, want string }{
		{"bomb", bomb(30), "list.yaml:1: its aliases make it too long"},
		{"loop", "images:\n- &a {<<: *a, image: alpine}\n", "list.yaml:2: images: it merges itself"},
		{"loops", "images:\n- &a {<<: [*a, *a], image: alpine}\n", "list.yaml:2: "},
		{"deep", "images: " + strings.Repeat("[", 200) + strings.Repeat("]", 200), "list.yaml:1: it is nested deeper than 100"},
		{"very deep", "images: " + strings.Repeat("[", 1_000_000), "list.yaml:1: "},
		{"deep blocks", strings.Repeat("- ", 100_000), "list.yaml:1: "},
		{"big", "images: [alpine] #" + strings.Repeat("x", 17<<20), "list.yaml: it has 17825810 bytes: davit reads up to 16 MiB"},
		{"long", "images: [" + strings.Repeat("a,", 600_000) + "]", "list.yaml:1: the document is too long"},
		{"long blocks", "images:\n" + strings.Repeat("-\n", 600_000), "list.yaml:500000: the document is too long"},
		{"long lines of Unicode", "images:\n" + strings.Repeat("-\u2028", 600_000), "list.yaml:2: the document is too long"},
		{"a text that begins like a document", strings.Repeat("[\n---a,"+strings.Repeat("b,", 1000), 600), "the document is too long"},
		{"patterns", "images:\n- image: a\n  exclude: [" + strings.Repeat("'*',", 1001) + "]", "list.yaml:3: images.exclude: there are 1001 patterns: davit takes up to 1000"},
		{"long key", "images: [a]\n" + strings.Repeat("k", 1000) + ": 1\n", "list.yaml:2: there is no field \"" + strings.Repeat("k", 80) + "…\""},
		{"escapes", "images: [\"a\\e[31mb\\nc\"]\n", "list.yaml:1: images: invalid reference"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := Parse("list.yaml", []byte(test.in))
			checkError(t, test.in, err, test.want)
			if err != nil && len(err.Error()) > 1000 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
			if _, err := References("list.yaml", []byte(test.in)); err != nil {
				checkError(t, test.in, err, "list.yaml:")
			}
		})
	}
}

// What is as long as it may be is read, and each document is bounded by itself.
func TestLongestDocument(t *testing.T) {
	in := bytes.Repeat([]byte("---\n["+strings.Repeat("a,", maxMarks*3/5)+"]\n"), 2)
	_, err := References("list.yaml", in)
	checkError(t, "long", err, "list.yaml: it names no images")
}

// A list as long as anyone's.
func TestLongList(t *testing.T) {
	var b strings.Builder
	b.WriteString("to: r.lan\nimages:\n")
	for i := range 20_000 {
		fmt.Fprintf(&b, "  - ghcr.io/org/app-%d:v1.%d\n", i, i)
	}
	list := parse(t, b.String())
	if got := plan(t, list); len(got) != 20_000 {
		t.Errorf("%d images", len(got))
	}
}
