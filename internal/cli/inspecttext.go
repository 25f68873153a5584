package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/davit-cli/davit"
	"github.com/davit-cli/davit/internal/ui"
)

// inspectionWriter prints what is known of an image, for people. An image looks
// the same wherever it is read.
type inspectionWriter struct{ linesWriter }

func printInspection(w io.Writer, x davit.Inspection) error {
	p := &inspectionWriter{linesWriter{out: toReader{w}}}
	p.field("Name", x.Name)
	p.field("Digest", x.Digest.String())
	p.field("Media type", x.MediaType)
	p.list("Platforms", x.Platforms)
	p.field("Platform", x.Platform)
	if x.Manifest != x.Digest {
		p.field("Manifest", x.Manifest.String())
	}
	p.field("Image ID", x.ImageID.String())
	p.field("Artifact", x.ArtifactType)
	if x.Created != nil && !x.Created.IsZero() { // as reproducible builds have it
		p.field("Created", x.Created.UTC().Format(time.RFC3339))
	}
	p.field("Author", x.Author)
	p.field("Size", inspectedSize(x))
	if x.Base != nil {
		p.field("Base image", strings.TrimSuffix(x.Base.Name+"@"+x.Base.Digest, "@"))
	}
	if c := x.Config; c != nil {
		p.command("Entrypoint", c.Entrypoint)
		p.command("Command", c.Command)
		p.field("Directory", c.WorkingDir)
		p.field("User", c.User)
		p.list("Ports", c.Ports)
		p.list("Volumes", c.Volumes)
		p.field("Stop signal", c.StopSignal)
		p.lines("Env", c.Env)
		p.lines("Labels", pairs(c.Labels))
	}
	p.lines("Annotations", pairs(x.Annotations))
	p.layers(x)
	p.referrers(x.Referrers)
	return p.result()
}

// fieldWidth is that of the names on the left.
const fieldWidth = 13

// field prints a line, unless the value is empty.
func (p *inspectionWriter) field(name, value string) {
	if value != "" {
		p.print("%-*s%s\n", fieldWidth, name, line(value))
	}
}

// list prints values on one line.
func (p *inspectionWriter) list(name string, values []string) {
	p.field(name, strings.Join(values, ", "))
}

// lines prints a value a line.
func (p *inspectionWriter) lines(name string, values []string) {
	for _, value := range values {
		p.print("%-*s%s\n", fieldWidth, name, line(value))
		name = ""
	}
}

// command prints arguments as a Dockerfile has them.
func (p *inspectionWriter) command(name string, args []string) {
	if len(args) == 0 {
		return
	}
	var encoded strings.Builder
	enc := json.NewEncoder(&encoded)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(args); err == nil {
		p.field(name, encoded.String())
	}
}

// layers prints each layer with the line that made it; what made no layer has
// no number.
func (p *inspectionWriter) layers(x davit.Inspection) {
	if len(x.Layers) == 0 && len(x.History) == 0 {
		return
	}
	p.print("\nLayers\n")
	told := map[int]bool{}
	for _, h := range x.History {
		if told[h.Layer] = true; h.Layer == 0 {
			p.print("    -           %s\n", madeBy(h))
			continue
		}
		p.layer(h.Layer, x.Layers[h.Layer-1], madeBy(h))
	}
	for i, layer := range x.Layers {
		if !told[i+1] {
			p.layer(i+1, layer, line(layer.MediaType))
		}
	}
}

func (p *inspectionWriter) layer(number int, layer davit.InspectedLayer, made string) {
	p.print("%5d %8s  %s\n                %s\n", number, ui.Size(layer.Size), made, layer.Digest)
}

// madeWidth is how much of a line of history is shown.
const madeWidth = 100

// madeBy is a line of history without what every builder writes.
func madeBy(h davit.HistoryLine) string {
	s := line(h.CreatedBy)
	for _, begin := range []string{"/bin/sh -c #(nop)", "/bin/sh -c"} {
		if rest, ok := strings.CutPrefix(s, begin); ok {
			s = strings.TrimSpace(rest)
			break
		}
	}
	s = strings.TrimSuffix(s, " # buildkit")
	if s == "" {
		s = line(h.Comment)
	}
	if s == "" {
		return "(not told)"
	}
	if runes := []rune(s); len(runes) > madeWidth {
		s = string(runes[:madeWidth-1]) + "…"
	}
	return s
}

func (p *inspectionWriter) referrers(all []davit.Referrer) {
	if len(all) == 0 {
		return
	}
	p.print("\nReferrers\n")
	for _, r := range all {
		p.print("  %s\n              %s\n", strings.TrimSpace(fmt.Sprintf("%-11s %s", line(r.Kind), line(strings.Join(r.Types, ", ")))), line(r.Digest.String()))
	}
}

func inspectedSize(x davit.Inspection) string {
	switch {
	case x.ArtifactType != "":
		return ui.Size(x.Size)
	case plainLayers(x.Layers):
		return ui.Size(x.Size) + " uncompressed"
	case x.Unpacked > 0:
		return ui.Size(x.Size) + " compressed, " + ui.Size(x.Unpacked) + " uncompressed"
	}
	return ui.Size(x.Size) + " compressed"
}

// plainLayers says whether all layers are tars as they are.
func plainLayers(layers []davit.InspectedLayer) bool {
	return len(layers) > 0 && !slices.ContainsFunc(layers, func(l davit.InspectedLayer) bool { return l.Unpacked != l.Size })
}

// pairs are a map's entries as KEY=VALUE, sorted.
func pairs(m map[string]string) []string {
	var all []string
	for _, key := range slices.Sorted(maps.Keys(m)) {
		all = append(all, key+"="+m[key])
	}
	return all
}
