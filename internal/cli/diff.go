package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/davit-cli/davit"
	"github.com/davit-cli/davit/internal/ui"
)

const diffLong = `Compare two images: layers that both have and that only one has, the bytes to fetch
of B where A is there, what changed in the config, and files that were added,
changed or removed. Times of files do not count.

A and B are names in registries, or archives, image layouts or directories of
components on disk. Layers are read only where they are not the same, to compare
files: --no-files reads none. Of a layer with a table of contents (eStargz,
zstd:chunked) only that is read.

` + tocHelp

const diffExample = `  davit diff alpine:3.20 alpine:3.21
  davit diff ./app-old.tar registry.lan:5000/app:new
  davit diff app:1 app:2 --no-files --json | jq .fetch    bytes that an update costs`

type diffOptions struct {
	lookFlags
	noFiles bool
}

func newDiff(s streams) *cobra.Command {
	var o diffOptions
	cmd := &cobra.Command{
		Use:               "diff A B",
		Short:             "Compare two images",
		Long:              diffLong,
		Example:           diffExample,
		Annotations:       map[string]string{"footer": lookFooter},
		ValidArgsFunction: completeImages(&o.registry, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.parse(cmd, args, 2); err != nil {
				return err
			}
			return o.run(cmd.Context(), s)
		},
	}
	cmd.Flags().SortFlags = false
	o.addPlatform(cmd, "this machine's")
	cmd.Flags().BoolVar(&o.noFiles, "no-files", false, "compare no files, so that no layer is read")
	o.addLayers(cmd)
	return cmd
}

func (o *diffOptions) run(ctx context.Context, s streams) error {
	opts, shown, err := o.open(ctx, s)
	if err != nil {
		return err
	}
	found, err := davit.Diff(ctx, o.targets[0].name, o.targets[1].name, davit.DiffOptions{LookOptions: opts, NoFiles: o.noFiles})
	shown.Close()
	switch {
	case err != nil:
		return o.explain(ctx, err)
	case o.display.json:
		return printJSON(s.out, found)
	}
	return printDifference(s.out, found)
}

// differenceWriter prints what is different, for people: + is B's alone, - is
// A's alone, ~ is what both have otherwise.
type differenceWriter struct{ linesWriter }

func printDifference(w io.Writer, d davit.Difference) error {
	p := &differenceWriter{linesWriter{out: toReader{w}}}
	p.side("A", d.A)
	p.side("B", d.B)
	if d.Same {
		p.print("\nThe same manifest: nothing is different.\n")
		return p.result()
	}
	p.print("\nLayers      %s shared, %s only in A, %s only in B\n", layersText(d.Shared), layersText(d.OnlyA), layersText(d.OnlyB))
	p.layers("=", d.Shared)
	p.layers("-", d.OnlyA)
	p.layers("+", d.OnlyB)
	p.print("\nTo fetch    %s of B where A is there\n", ui.Size(d.Fetch))
	p.config(d.Config)
	if d.Files != nil {
		p.files(d.Files)
	}
	return p.result()
}

func (p *differenceWriter) side(name string, s davit.DiffSide) {
	p.print("%s  %s\n", name, columns(s.Name, s.Platform, ui.Size(s.Size)))
	if s.Manifest != "" {
		p.print("   %s\n", line(s.Manifest.String()))
	}
}

func layersText(layers []davit.DiffLayer) string {
	var size int64
	for _, l := range layers {
		size += l.Size
	}
	return fmt.Sprintf("%d (%s)", len(layers), ui.Size(size))
}

func (p *differenceWriter) layers(sign string, layers []davit.DiffLayer) {
	for _, l := range layers {
		p.print("  %s %8s  %s\n", sign, ui.Size(l.Size), line(l.Digest.String()))
	}
}

func (p *differenceWriter) config(changes []davit.ConfigChange) {
	if len(changes) == 0 {
		return
	}
	p.print("\nConfig\n")
	for _, c := range changes {
		switch {
		case c.A == "":
			p.print("  + %s\n", fieldText(c.Field, c.B))
		case c.B == "":
			p.print("  - %s\n", fieldText(c.Field, c.A))
		default:
			p.print("  ~ %s: %s -> %s\n", line(c.Field), line(c.A), line(c.B))
		}
	}
}

// fieldText is a part of the config with its value, where it has one.
func fieldText(field, value string) string {
	if strings.HasPrefix(field, "port ") || strings.HasPrefix(field, "volume ") {
		return line(field)
	}
	return line(field) + ": " + line(value)
}

func (p *differenceWriter) files(changes []davit.FileChange) {
	count := map[string]int{}
	for _, c := range changes {
		count[c.Change]++
	}
	p.print("\nFiles       %d added, %d changed, %d removed\n", count[davit.Added], count[davit.Changed], count[davit.Removed])
	for _, c := range changes {
		switch path := oneLine(fileName(davit.File{Path: c.Path, Type: c.Type})); c.Change {
		case davit.Added:
			p.print("  + %s%s\n", path, sizeText(c.Type, c.SizeB))
		case davit.Removed:
			p.print("  - %s%s\n", path, sizeText(c.Type, c.SizeA))
		default:
			p.print("  ~ %s  (%s)\n", path, changedText(c))
		}
	}
}

// sizeText is the size of what has content.
func sizeText(kind davit.FileType, size int64) string {
	if kind != davit.Regular {
		return ""
	}
	return "  (" + ui.Size(size) + ")"
}

// changedText tells what of a file changed, and its size where that did.
func changedText(c davit.FileChange) string {
	text := strings.Join(c.What, ", ")
	if c.SizeA != c.SizeB && slices.Contains(c.What, "content") {
		text += ": " + ui.Size(c.SizeA) + " -> " + ui.Size(c.SizeB)
	}
	return text
}
