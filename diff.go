package davit

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
)

// DiffOptions tell Diff what to compare. The zero value works.
type DiffOptions struct {
	LookOptions
	// NoFiles compares no files, so that no layer is read.
	NoFiles bool
}

// Difference is what is different in image B from image A. Its JSON is the
// command line's --json.
type Difference struct {
	A DiffSide `json:"a"`
	B DiffSide `json:"b"`
	// Same says that both are the same manifest, byte for byte.
	Same bool `json:"same"`
	// Shared are the layers that both have, OnlyA and OnlyB the others, in
	// their images' order, each once.
	Shared []DiffLayer `json:"shared"`
	OnlyA  []DiffLayer `json:"only_a"`
	OnlyB  []DiffLayer `json:"only_b"`
	// Fetch is the bytes to fetch of B's config and layers where A's are there.
	Fetch int64 `json:"fetch"`
	// Config are changes of what a container runs.
	Config []ConfigChange `json:"config"`
	// Files is nil where files were not compared.
	Files []FileChange `json:"files,omitzero"`
}

// DiffSide is one of the images.
type DiffSide struct {
	Name     string        `json:"name,omitempty"`
	Manifest digest.Digest `json:"manifest,omitempty"`
	Platform string        `json:"platform,omitempty"`
	Size     int64         `json:"size"`
}

// DiffLayer is a layer of one of the images, or of both.
type DiffLayer struct {
	Digest digest.Digest `json:"digest"`
	Size   int64         `json:"size"`
}

// ConfigChange is a part of the config that is different; what is not there is
// empty.
type ConfigChange struct {
	// Field is what: entrypoint, "env PATH", "label NAME", "port 80/tcp",
	// directory, healthcheck, … An empty variable or label is "". Of a port or a
	// volume, which has no value, it is "yes" where it is there.
	Field string `json:"field"`
	A     string `json:"a,omitempty"`
	B     string `json:"b,omitempty"`
}

// Diff compares two images, in registries or on disk. Only where their layers
// are different it reads layers, each once, to compare files; of layers with a
// table of contents only that, unless opts.NoTOC says otherwise.
//
// Errors are those of ListFiles.
func Diff(ctx context.Context, a, b string, opts DiffOptions) (Difference, error) {
	opts.LookOptions = opts.withDefaults()
	opts.sources = newSources(opts.Registry, opts.Events)
	defer opts.sources.close()
	left, err := openLook(ctx, a, opts.LookOptions)
	if err != nil {
		return Difference{}, err
	}
	defer left.close()
	right, err := openLook(ctx, b, opts.LookOptions)
	if err != nil {
		return Difference{}, err
	}
	defer right.close()
	return diff(ctx, left, right, opts.NoFiles)
}

// diff compares what two looks find.
func diff(ctx context.Context, a, b *look, noFiles bool) (Difference, error) {
	left, err := a.side(ctx)
	if err != nil {
		return Difference{}, err
	}
	right, err := b.side(ctx)
	if err != nil {
		return Difference{}, err
	}
	d := Difference{A: left.about(), B: right.about(), Same: left.manifest().Digest == right.manifest().Digest}
	d.Shared, d.OnlyA, d.OnlyB = diffLayers(left.manifest(), right.manifest())
	d.Fetch = toFetch(left.manifest(), right.manifest())
	d.Config = diffConfigs(left.manifest(), right.manifest())
	if noFiles {
		return d, nil
	}
	d.Files, err = diffFiles(ctx, left, right)
	return d, err
}

// side is one of the images to compare.
type side struct {
	*look
	image image.Image
}

func (l *look) side(ctx context.Context) (*side, error) {
	img, err := l.resolve(ctx)
	if err != nil {
		return nil, err
	}
	return &side{l, img}, nil
}

func (s *side) manifest() image.Manifest { return s.image.Manifests[0] }

func (s *side) about() DiffSide {
	m := s.manifest()
	about := DiffSide{Name: s.name(s.image), Platform: platformOf(m), Manifest: m.Digest, Size: servedSize(m.Config.Descriptor, m.Layers)}
	if s.stored.Made {
		about.Manifest = ""
	}
	return about
}

// diffLayers parts the layers of two manifests.
func diffLayers(a, b image.Manifest) (shared, onlyA, onlyB []DiffLayer) {
	shared, onlyA, onlyB = []DiffLayer{}, []DiffLayer{}, []DiffLayer{}
	has := func(m image.Manifest, d digest.Digest) bool {
		return slices.ContainsFunc(m.Layers, func(l image.Descriptor) bool { return l.Digest == d })
	}
	for _, l := range distinctLayers(a) {
		if has(b, l.Digest) {
			shared = append(shared, l)
		} else {
			onlyA = append(onlyA, l)
		}
	}
	for _, l := range distinctLayers(b) {
		if !has(a, l.Digest) {
			onlyB = append(onlyB, l)
		}
	}
	return shared, onlyA, onlyB
}

func distinctLayers(m image.Manifest) []DiffLayer {
	var layers []DiffLayer
	for _, l := range m.Layers {
		layer := DiffLayer{l.Digest, l.Size}
		if !slices.Contains(layers, layer) {
			layers = append(layers, layer)
		}
	}
	return layers
}

// toFetch is the bytes of b's blobs that a has not got.
func toFetch(a, b image.Manifest) int64 {
	have := map[digest.Digest]bool{a.Config.Digest: true}
	for _, l := range a.Layers {
		have[l.Digest] = true
	}
	var bytes int64
	for _, blob := range append([]image.Descriptor{b.Config.Descriptor}, b.Layers...) {
		if !have[blob.Digest] {
			bytes += blob.Size
		}
		have[blob.Digest] = true
	}
	return bytes
}

// diffConfigs compares what the configs say of running.
func diffConfigs(a, b image.Manifest) []ConfigChange {
	left, right := configFields(a), configFields(b)
	all := maps.Clone(left)
	maps.Copy(all, right)
	changes := []ConfigChange{}
	for _, field := range slices.Sorted(maps.Keys(all)) {
		if left[field] != right[field] {
			changes = append(changes, ConfigChange{field, left[field], right[field]})
		}
	}
	return changes
}

// configFields are the config's parts by name.
func configFields(m image.Manifest) map[string]string {
	x := newInspection(image.Image{Manifests: []image.Manifest{m}}, false)
	fields := map[string]string{"platform": x.Platform}
	if x.Config == nil {
		return fields
	}
	c := x.Config
	for field, value := range map[string]string{
		"author": x.Author, "entrypoint": quoteAll(c.Entrypoint), "command": quoteAll(c.Command),
		"directory": c.WorkingDir, "user": c.User, "stop signal": c.StopSignal,
	} {
		fields[field] = value
	}
	values := map[string][]string{}
	for _, env := range c.Env {
		name, value, _ := strings.Cut(env, "=")
		values[name] = append(values[name], value)
	}
	for name, all := range values {
		fields["env "+name] = thereOf(all...)
	}
	for name, value := range c.Labels {
		fields["label "+name] = thereOf(value)
	}
	for _, port := range c.Ports {
		fields["port "+port] = "yes"
	}
	for _, volume := range c.Volumes {
		fields["volume "+volume] = "yes"
	}
	others := otherFields(m)
	for _, name := range slices.Sorted(maps.Keys(others)) {
		field := strings.ToLower(name)
		if _, taken := fields[field]; taken || strings.Contains(name, " ") {
			field = "config " + name // which is none of the above
		}
		fields[field] = others[name]
	}
	return fields
}

// thereOf is the value of what is there, which an empty text would not tell; or
// all values of what is there more than once.
func thereOf(values ...string) string {
	if len(values) == 1 && values[0] != "" && values[0] != `""` {
		return values[0]
	}
	var quoted []string
	for _, value := range values {
		quoted = append(quoted, strconv.Quote(value))
	}
	return strings.Join(quoted, " ")
}

// toldFields are those of the config's object config that are compared one by
// one, or that a build left of its own container, which no other one has.
var toldFields = []string{
	"User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels", "StopSignal", "Image", "Hostname",
}

// otherFields are what else the config tells of running, as JSON: Docker's own,
// such as Healthcheck, OnBuild and Shell, and whatever a builder writes.
func otherFields(m image.Manifest) map[string]string {
	var config struct {
		Config map[string]any `json:"config"`
	}
	in := json.NewDecoder(bytes.NewReader(m.Config.Bytes))
	in.UseNumber()
	if in.Decode(&config) != nil {
		return nil // it was read before: it cannot be
	}
	fields := map[string]string{}
	for name, told := range config.Config {
		if slices.ContainsFunc(toldFields, func(known string) bool { return strings.EqualFold(known, name) }) {
			continue
		}
		value, err := json.Marshal(told)
		if err != nil || slices.Contains([]string{"null", "false", "0", `""`, "[]", "{}"}, string(value)) {
			continue // as if it were not there
		}
		fields[name] = string(value)
	}
	return fields
}

func quoteAll(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return fmt.Sprintf("%q", args)
}
