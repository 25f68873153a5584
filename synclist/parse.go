package synclist

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// ErrManifest: what Parse was given is no list, but a Kubernetes manifest or a
// compose file, which References reads.
var ErrManifest = errors.New("no list of images")

// Error is what is wrong with a file. Its text is one line, and has no
// credential in it.
type Error struct {
	// Name is the file's; Line begins at 1, and is 0 where it is not known.
	Name string
	Line int
	Err  error
}

func (e *Error) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %v", e.Name, e.Err)
	}
	return fmt.Sprintf("%s:%d: %v", e.Name, e.Line, e.Err)
}

// Unwrap is the cause.
func (e *Error) Unwrap() error { return e.Err }

// Parse reads a list in whichever of the three schemas it is written. The name
// is that of the file, for errors. Each error is an *Error; it wraps ErrManifest
// where the file is one for References.
func Parse(name string, data []byte) (List, error) {
	f := &file{name: name}
	var root *yaml.Node
	err := f.documents(data, func(n *yaml.Node) error {
		switch {
		case isManifest(n):
			return f.errorf(n.Line, "%w: it is a Kubernetes manifest or a compose file", ErrManifest)
		case root != nil:
			return f.errorf(n.Line, "a second document begins here: a list is one")
		}
		root = n
		return nil
	})
	if err != nil {
		return List{}, err
	}
	if root == nil {
		return List{}, f.errorf(0, "it is empty: want a list of images")
	}
	if root.Kind != yaml.MappingNode {
		return List{}, f.errorf(root.Line, "want a mapping, such as images: with a list below it, not %s", kind(root))
	}
	top, err := f.fields(root, "")
	if err != nil {
		return List{}, err
	}
	list := List{Name: name}
	switch list.Format = format(f, top); list.Format {
	case FormatRegsync:
		err = parseRegsync(f, top, &list)
	case FormatSkopeo:
		err = parseSkopeo(f, top, &list)
	default:
		err = parseDavit(f, top, &list)
	}
	if err != nil {
		return List{}, err
	}
	if len(list.Entries) == 0 {
		return List{}, f.errorf(0, "it lists no images")
	}
	list.Ignored = f.sortedNotes()
	return list, nil
}

// format tells by its fields whose list it is; davit's where that is not plain,
// so that its errors tell what there may be.
func format(f *file, top []field) Format {
	for _, own := range []struct {
		format Format
		fields []string
	}{
		{FormatDavit, davitFields},
		{FormatRegsync, regsyncFields},
	} {
		if slices.ContainsFunc(top, func(t field) bool { return slices.Contains(own.fields, t.key) }) {
			return own.format
		}
	}
	for _, t := range top {
		value, err := f.resolve(t.value)
		if err == nil && value.Kind == yaml.MappingNode && slices.ContainsFunc(keys(value), func(key string) bool {
			return slices.Contains(skopeoFields, key)
		}) {
			return FormatSkopeo
		}
	}
	return FormatDavit
}

// isManifest says whether a document is for References.
func isManifest(root *yaml.Node) bool {
	names := keys(root)
	return slices.Contains(names, "apiVersion") && slices.Contains(names, "kind") ||
		slices.Contains(names, "services") && !slices.Contains(names, "images")
}

// keys are the names of a mapping's fields, as they are written.
func keys(n *yaml.Node) []string {
	var names []string
	if n.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(n.Content); i += 2 {
			names = append(names, n.Content[i].Value)
		}
	}
	return names
}

// isExtension says whether a field is the user's own, as regsync and compose
// have it: a place for anchors, mostly.
func isExtension(key string) bool { return strings.HasPrefix(key, "x-") }
