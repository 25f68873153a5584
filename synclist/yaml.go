package synclist

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"

	"github.com/davit-cli/davit/internal/oneline"
)

// MaxSize is how many bytes of a file are read; longer ones are an error.
const MaxSize = 16 << 20

// What a file may have. The nodes of one document are bounded by the marks
// between them, before any of them is made; visits are those of nodes that are
// met again through aliases.
const (
	maxSize   = MaxSize
	maxMarks  = 500_000
	maxDepth  = 100
	maxVisits = 1_000_000
	maxShown  = 80 // characters of a value that are shown
)

// file is a file while it is read.
type file struct {
	name   string
	visits int
	notes  []Note
	noted  map[string]bool
}

func (f *file) errorf(line int, format string, args ...any) error {
	return &Error{Name: f.name, Line: line, Err: fmt.Errorf(format, args...)}
}

// wrap gives an error of a value its place.
func (f *file) wrap(n *yaml.Node, what string, err error) error {
	return f.errorf(n.Line, "%s: %w", what, err)
}

// note keeps what is passed over; of one field and reason only the first.
func (f *file) note(line int, field, why string) {
	if f.noted == nil {
		f.noted = map[string]bool{}
	}
	if said := field + "\n" + why; !f.noted[said] {
		f.noted[said] = true
		f.notes = append(f.notes, Note{Line: line, Field: field, Why: why})
	}
}

// sortedNotes are the notes by line.
func (f *file) sortedNotes() []Note {
	slices.SortStableFunc(f.notes, func(a, b Note) int { return cmp.Compare(a.Line, b.Line) })
	return f.notes
}

// documents gives fn the root of each document that is not empty, one after the
// other, so that only one is in memory. An error of fn ends it and is returned.
func (f *file) documents(data []byte, fn func(root *yaml.Node) error) error {
	if err := f.checkSize(data); err != nil {
		return err
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var document yaml.Node
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return f.syntax(data, err)
		}
		if len(document.Content) == 0 || isNull(document.Content[0]) {
			continue
		}
		if err := f.checkDepth(document.Content[0], 0); err != nil {
			return err
		}
		if err := fn(document.Content[0]); err != nil {
			return err
		}
	}
}

// checkSize refuses what would become too many nodes. Each node but the first
// follows a mark. The line --- ends a document wherever it stands (YAML 1.2,
// 9.1.2), so the marks of one document begin anew there.
func (f *file) checkSize(data []byte) error {
	if len(data) > maxSize {
		return f.errorf(0, "it has %d bytes: davit reads up to %d MiB", len(data), maxSize>>20)
	}
	marks, number := 0, 0
	for line := range bytes.Lines(data) {
		number++
		if rest, ok := bytes.CutPrefix(line, []byte("---")); ok && (len(rest) == 0 || bytes.IndexByte([]byte(" \t\r\n"), rest[0]) >= 0) {
			marks = 0
		}
		marks += countMarks(line)
		if marks > maxMarks {
			return f.errorf(number, "the document is too long: davit reads some %d values", maxMarks)
		}
	}
	return nil
}

// countMarks counts what may stand before a node.
func countMarks(line []byte) int {
	marks := 0
	for i, c := range line {
		switch c {
		case ',', '[', '{', ':', '?', '\n', '\r':
			marks++
		case '-': // with a blank behind it, which may be one of Unicode's
			if i+1 < len(line) && (line[i+1] == ' ' || line[i+1] == '\t' || line[i+1] >= utf8.RuneSelf) {
				marks++
			}
		}
	}
	return marks
}

// checkDepth bounds what all others descend into. Aliases are not followed, so
// that it ends.
func (f *file) checkDepth(n *yaml.Node, depth int) error {
	if depth > maxDepth {
		return f.errorf(n.Line, "it is nested deeper than %d", maxDepth)
	}
	for _, c := range n.Content {
		if err := f.checkDepth(c, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// syntax is the parser's error without what it quotes of the file.
func (f *file) syntax(data []byte, err error) error {
	line, message := 0, "it is no YAML"
	var at *yaml.LoadError
	if errors.As(err, &at) {
		line, message = at.Mark.Line, "it is no YAML: "+oneline.Clean(at.Message, 2*maxShown)
		if strings.HasPrefix(at.Message, "unknown anchor") {
			message = "an alias (*NAME) has no anchor (&NAME) before it; text that begins with * must be quoted"
		}
	}
	if line == 0 {
		line = unreadable(data)
	}
	line = min(line, 1+bytes.Count(bytes.TrimSuffix(data, []byte("\n")), []byte("\n")))
	if bytes.Contains(data, []byte("{{")) {
		message += "; there are templates ({{ }}) in it: it must be rendered first"
	}
	return f.errorf(line, "%s", message)
}

// unreadable is the first line with what YAML has no place for; 0: none.
func unreadable(data []byte) int {
	line := 1
	for len(data) > 0 {
		r, n := utf8.DecodeRune(data)
		switch {
		case r == '\n':
			line++
		case r == utf8.RuneError && n == 1, r < ' ' && r != '\t' && r != '\r', r == 0x7f:
			return line
		}
		data = data[n:]
	}
	return 0
}

// resolve follows an alias.
func (f *file) resolve(n *yaml.Node) (*yaml.Node, error) {
	if f.visits++; f.visits > maxVisits {
		return nil, f.errorf(n.Line, "its aliases make it too long: davit reads some %d values", maxVisits)
	}
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		n = n.Alias
	}
	return n, nil
}

// field is one of a mapping.
type field struct {
	key   string
	path  string // with those of the mappings that it is in
	line  int
	value *yaml.Node
}

// fields are those of a mapping, in its order, then what it merges (<<) and does
// not have itself. The path is the mapping's, empty for the document.
func (f *file) fields(n *yaml.Node, path string) ([]field, error) {
	var all []field
	seen := map[string]bool{}
	if err := f.merge(n, path, seen, &all, 0); err != nil {
		return nil, err
	}
	return all, nil
}

func (f *file) merge(n *yaml.Node, path string, seen map[string]bool, all *[]field, depth int) error {
	line := n.Line
	n, err := f.resolve(n)
	if err != nil {
		return err
	}
	if n.Kind != yaml.MappingNode {
		return f.errorf(line, "%swant a mapping of fields, not %s", prefix(path), kind(n))
	}
	if depth > maxDepth {
		return f.errorf(line, "%sit merges itself", prefix(path))
	}
	own := map[string]int{}
	var merged []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, err := f.resolve(n.Content[i])
		if err != nil {
			return err
		}
		value := n.Content[i+1]
		if key.Kind != yaml.ScalarNode {
			return f.errorf(n.Content[i].Line, "%swant a field's name, not %s", prefix(path), kind(key))
		}
		if key.Value == "<<" && key.Style == 0 {
			merged = append(merged, value)
			continue
		}
		if first, again := own[key.Value]; again {
			return f.errorf(key.Line, "%sthe field %s is there already, in line %d", prefix(path), quote(key.Value), first)
		}
		own[key.Value] = key.Line
		if seen[key.Value] {
			continue
		}
		seen[key.Value] = true
		*all = append(*all, field{key: key.Value, path: join(path, key.Value), line: key.Line, value: value})
	}
	for _, m := range merged {
		sources := []*yaml.Node{m}
		if m.Kind == yaml.SequenceNode {
			sources = m.Content
		}
		for _, source := range sources {
			if err := f.merge(source, path, seen, all, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

// items are those of a list; a single value stands for a list of one, and null
// for an empty one.
func (f *file) items(v field) ([]*yaml.Node, error) {
	n, err := f.resolve(v.value)
	switch {
	case err != nil:
		return nil, err
	case n.Kind == yaml.SequenceNode:
		return n.Content, nil
	case isNull(n):
		return nil, nil
	case n.Kind == yaml.ScalarNode:
		return []*yaml.Node{v.value}, nil
	}
	return nil, f.errorf(v.value.Line, "%s: want a list, not %s", v.path, kind(n))
}

// text is a scalar as it is written, so that 3.20 stays 3.20.
func (f *file) text(n *yaml.Node, path string) (string, error) {
	line := n.Line
	n, err := f.resolve(n)
	switch {
	case err != nil:
		return "", err
	case n.Kind != yaml.ScalarNode || isNull(n):
		return "", f.errorf(line, "%s: want text, not %s", path, kind(n))
	}
	return strings.TrimSpace(n.Value), nil
}

// texts are the items of a list of texts.
func (f *file) texts(v field) ([]string, error) {
	nodes, err := f.items(v)
	if err != nil {
		return nil, err
	}
	var texts []string
	for _, n := range nodes {
		text, err := f.text(n, v.path)
		if err != nil {
			return nil, err
		}
		texts = append(texts, text)
	}
	return texts, nil
}

// truth is true or false.
func (f *file) truth(v field) (bool, error) {
	text, err := f.text(v.value, v.path)
	if err != nil {
		return false, err
	}
	switch strings.ToLower(text) {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, f.errorf(v.value.Line, "%s: want true or false", v.path)
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// kind names what a node is.
func kind(n *yaml.Node) string {
	switch {
	case isNull(n):
		return "nothing"
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	}
	return "a single value"
}

func prefix(path string) string {
	if path == "" {
		return ""
	}
	return path + ": "
}

func join(path, key string) string {
	if path == "" {
		return show(key)
	}
	return path + "." + show(key)
}

// quote is a value of the file, fit for an error.
func quote(s string) string { return `"` + show(s) + `"` }

// show is a short line of what the file says, without what stands before an @,
// which may be a password.
func show(s string) string {
	if i := strings.LastIndexByte(s, '@'); i > 0 {
		s = "…" + s[i:]
	}
	return oneline.Clean(s, maxShown)
}
