package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/davit-cli/davit"
	"github.com/davit-cli/davit/internal/atomicfile"
)

const manifestLong = `Print the manifest that an image's name stands for, or the index, exactly as its
registry serves it: not a byte more, so that its digest is the image's. With -p it is
the manifest of that platform.

Only on a terminal it is changed: characters that would not be shown are left out,
and the last line is ended. What is neither a manifest nor an index of OCI or of
Docker's schema 2 is printed with a warning.`

const manifestExample = `  davit manifest alpine
  davit manifest alpine -p linux/arm64 --pretty
  davit manifest alpine -o manifest.json
  davit manifest ./alpine_latest.tar | sha256sum
  davit manifest alpine --json | jq -r '.manifest.manifests[].digest'`

const configLong = `Print the config of an image, exactly as its registry serves it: not a byte more,
so that its digest is the image ID of docker images. Of an index it is the config
for this machine's platform, or for that of -p.

Only on a terminal it is changed: characters that would not be shown are left out,
and the last line is ended.`

const configExample = `  davit config alpine --pretty
  davit config alpine -p linux/arm64 | jq .config.Env
  davit config alpine -o config.json
  davit config ./alpine_latest.tar
  davit config alpine --json | jq -r .config.architecture`

type documentOptions struct {
	lookFlags
	output string
	pretty bool

	kind    string // manifest or config
	without string // what is taken without -p
	get     func(ctx context.Context, name string, opts davit.LookOptions) (davit.Document, error)
}

func newManifest(s streams) *cobra.Command {
	cmd := newDocument(s, documentOptions{kind: "manifest", without: "none, for what the name stands for", get: davit.Manifest})
	cmd.Short, cmd.Long, cmd.Example = "Print the manifest or index of an image", manifestLong, manifestExample
	return cmd
}

func newConfig(s streams) *cobra.Command {
	cmd := newDocument(s, documentOptions{kind: "config", without: "this machine's", get: davit.Config})
	cmd.Short, cmd.Long, cmd.Example = "Print the config of an image", configLong, configExample
	return cmd
}

func newDocument(s streams, o documentOptions) *cobra.Command {
	cmd := &cobra.Command{
		Use:               o.kind + " IMAGE",
		Annotations:       map[string]string{"footer": lookFooter},
		ValidArgsFunction: completeImages(&o.registry, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.validate(cmd, args); err != nil {
				return err
			}
			return o.run(cmd.Context(), s)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	o.addPlatform(cmd, o.without)
	flags.BoolVar(&o.pretty, "pretty", false, "indented, a field a line")
	flags.StringVarP(&o.output, "output", "o", "", "`FILE` to write, with the exact bytes")
	o.add(cmd)
	return cmd
}

func (o *documentOptions) validate(cmd *cobra.Command, args []string) error {
	if err := validateOutput(o.output, o.given("output"), false); err != nil {
		return err
	}
	switch {
	case o.output == stream:
		o.output = ""
	case o.pretty && o.output != "":
		return usagef("--pretty is for reading: -o writes the exact bytes")
	}
	if o.pretty && o.display.json {
		return usagef("--pretty and --json contradict each other")
	}
	return o.parse(cmd, args, 1)
}

func (o *documentOptions) run(ctx context.Context, s streams) error {
	opts, shown, err := o.open(ctx, s)
	if err != nil {
		return err
	}
	defer shown.Close()
	d, err := o.get(ctx, o.targets[0].name, opts)
	if err != nil {
		return o.explain(ctx, err)
	}
	shown.Close()
	if o.output != "" {
		err := atomicfile.WriteOutput(o.output, func(w io.Writer) error {
			_, err := w.Write(d.Bytes)
			return err
		})
		if err != nil {
			return explain(ctx, err, circumstances{})
		}
	}
	switch {
	case o.display.json:
		return o.printJSON(s.out, d)
	case o.output != "":
		return printFile(s.out, o.output, d.Digest.String())
	case o.pretty:
		return printDocument(s.out, indented(d.Bytes))
	}
	return printDocument(s.out, d.Bytes)
}

// printFile prints what was written: the path, a tab, and what it is.
func printFile(w io.Writer, path, what string) error {
	if _, err := fmt.Fprintf(toReader{w}, "%s\t%s\n", path, what); err != nil {
		return fmt.Errorf("print the result: %w", err)
	}
	return nil
}

// indented is a JSON document as people read it, its fields in their order;
// what is no JSON stays as it is.
func indented(document []byte) []byte {
	var b bytes.Buffer
	if err := json.Indent(&b, bytes.TrimSpace(document), "", "  "); err != nil {
		return document
	}
	b.WriteByte('\n')
	return b.Bytes()
}

// printDocument prints the bytes as they are, but to a terminal what it can show.
func printDocument(w io.Writer, document []byte) error {
	if isTerminal(w) {
		document = []byte(strings.TrimSuffix(clean(string(document)), "\n") + "\n")
	}
	if _, err := (toReader{w}).Write(document); err != nil {
		return fmt.Errorf("print the result: %w", err)
	}
	return nil
}

// documentResult is what --json prints.
type documentResult struct {
	Reference string `json:"reference"`
	Digest    string `json:"digest"`
	MediaType string `json:"media_type"`
	Size      int64  `json:"size"`
	// Path is the file that was written.
	Path string `json:"path,omitempty"`
	// Manifest or Config is the document as served, in one line; a text where
	// it is no JSON.
	Manifest any `json:"manifest,omitempty"`
	Config   any `json:"config,omitempty"`
}

func (o *documentOptions) printJSON(w io.Writer, d davit.Document) error {
	result := documentResult{
		Reference: d.Reference, Digest: d.Digest.String(), MediaType: d.MediaType, Size: d.Size, Path: o.output,
	}
	var document any = json.RawMessage(d.Bytes)
	if !json.Valid(d.Bytes) {
		document = string(d.Bytes)
	}
	if o.kind == "manifest" {
		result.Manifest = document
	} else {
		result.Config = document
	}
	return printJSON(w, result)
}
