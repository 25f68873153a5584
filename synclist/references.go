package synclist

import (
	"errors"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/davit-cli/davit/internal/oneline"
	"github.com/davit-cli/davit/ref"
)

// References reads a list from what names images for another purpose: Kubernetes
// manifests, whatever their kind, as files or rendered by Helm; compose files;
// Helm's values. The images are in the file's order, each once, with the tag
// latest where neither tag nor digest is written.
//
// An image is the text of any field that is called image, the reference of a
// Kubernetes image volume, or a mapping with repository and tag or digest, which
// may have a registry. Variables (${NAME}) have their defaults (${NAME:-TEXT}).
// What is in strings, such as arguments and embedded files, is not looked into.
// What was not understood is in List.Ignored. An *Error is what is no YAML, or
// names no image at all.
func References(name string, data []byte) (List, error) {
	f := &file{name: name}
	s := search{file: f, seen: map[ref.Reference]bool{}}
	if err := f.documents(data, s.document); err != nil {
		return List{}, err
	}
	if len(s.found) == 0 && len(f.notes) == 0 {
		return List{}, f.errorf(0, "it names no images")
	}
	return List{Name: name, Format: FormatReferences, Entries: s.found, Ignored: f.sortedNotes()}, nil
}

// search looks for images in a file.
type search struct {
	*file
	found []Entry
	seen  map[ref.Reference]bool
}

// document looks into one; a compose file's services that are built there are
// left out.
func (s *search) document(root *yaml.Node) error {
	if root.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(root.Content); i += 2 {
			key, value := root.Content[i], root.Content[i+1]
			if key.Value == "include" && contains(root, "services") {
				s.note(key.Line, key.Value, "other files are not read: give them to the command")
			}
			if key.Value == "services" && value.Kind == yaml.MappingNode {
				s.built(value)
			}
		}
	}
	return s.look(root, "")
}

// built takes the image away from services that are built.
func (s *search) built(services *yaml.Node) {
	for i := 0; i+1 < len(services.Content); i += 2 {
		name, service := services.Content[i].Value, services.Content[i+1]
		if !contains(service, "build") {
			continue
		}
		kept := *service
		kept.Content = nil
		for j := 0; j+1 < len(service.Content); j += 2 {
			if key := service.Content[j]; key.Value == "image" {
				s.note(key.Line, join("services", join(name, "image")), "it is built from sources (build), and left out")
				continue
			}
			kept.Content = append(kept.Content, service.Content[j:j+2]...)
		}
		services.Content[i+1] = &kept
	}
}

// contains says whether a mapping has a field.
func contains(n *yaml.Node, name string) bool {
	for _, key := range keys(n) {
		if key == name {
			return true
		}
	}
	return false
}

// look descends into everything but aliases, whose anchors it meets anyway. The
// name is that of the field that n is the value of.
func (s *search) look(n *yaml.Node, name string) error {
	if n.Kind == yaml.MappingNode {
		if err := s.mapping(n, name); err != nil {
			return err
		}
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, value := n.Content[i], n.Content[i+1]
			if key.Value == "image" {
				if err := s.image(value); err != nil {
					return err
				}
			}
			if err := s.look(value, key.Value); err != nil {
				return err
			}
		}
		return nil
	}
	for _, c := range n.Content {
		if err := s.look(c, ""); err != nil {
			return err
		}
	}
	return nil
}

// image takes the value of a field image where it is text.
func (s *search) image(n *yaml.Node) error {
	value, err := s.resolve(n)
	if err != nil {
		return err
	}
	if value.Kind == yaml.ScalarNode && value.ShortTag() == "!!str" && strings.TrimSpace(value.Value) != "" {
		s.take(n.Line, value.Value)
	}
	return nil
}

// mapping takes an image that is written as a mapping.
func (s *search) mapping(n *yaml.Node, name string) error {
	isImage := name == "image"
	merged := contains(n, "<<") && (contains(n, "tag") || contains(n, "digest"))
	if !contains(n, "repository") && !merged && !(isImage && contains(n, "reference")) {
		return nil
	}
	fields, err := s.fields(n, name)
	if err != nil {
		return err
	}
	parts := map[string]string{}
	line := n.Line
	for _, v := range fields {
		value, err := s.resolve(v.value)
		if err != nil {
			return err
		}
		if value.Kind != yaml.ScalarNode || isNull(value) {
			continue
		}
		parts[v.key] = strings.TrimSpace(value.Value)
		if v.key == "repository" || v.key == "reference" {
			line = v.line
		}
	}
	repository, reference := parts["repository"], parts["reference"]
	switch {
	case isImage && repository == "" && reference != "":
		s.take(line, reference)
	case repository == "", !isImage && parts["tag"] == "" && parts["digest"] == "":
	case strings.Contains(repository, "://") && !isImage: // of charts, or git
	case parts["tag"] == "" && parts["digest"] == "":
		s.note(line, "image", show(repository)+" has neither tag nor digest: the chart's own is not known here; render it first")
	default:
		s.take(line, compose(parts))
	}
	return nil
}

// compose makes a name of its parts.
func compose(parts map[string]string) string {
	name := parts["repository"]
	if registry := strings.TrimRight(parts["registry"], "/"); registry != "" {
		name = registry + "/" + name
	}
	if parts["tag"] != "" {
		name += ":" + parts["tag"]
	}
	if parts["digest"] != "" {
		name += "@" + parts["digest"]
	}
	return name
}

// take keeps an image's name, or a note of why it is none.
func (s *search) take(line int, text string) {
	name, err := interpolate(text)
	if err == nil && strings.Contains(name, "{{") {
		err = errTemplate
	}
	var r ref.Reference
	if err == nil {
		r, err = ref.Parse(name)
	}
	if err == nil && r.Scheme != "" {
		err = errors.New("a URL is no image's name")
	}
	if err != nil {
		s.note(line, "image", oneline.Clean(err.Error(), 4*maxShown))
		return
	}
	e := Entry{Source: r, Line: line}
	e.tagLatest()
	if !s.seen[e.Source] {
		s.seen[e.Source] = true
		s.found = append(s.found, e)
	}
}
