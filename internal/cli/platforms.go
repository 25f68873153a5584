package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/davit-cli/davit"
	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/ui"
)

const platformsLong = `Print the platforms that an image is there for, one a line, in its order. PLATFORM
is ready to be pasted after --platform. SIZE is what a pull would fetch: config and
layers, compressed as they are; for it the manifest of each platform is fetched,
which Docker Hub counts as pulls. Attestations are left out.

A - stands where there is nothing to tell; for SIZE, where the manifest cannot be
had: an image on disk may have but one of its platforms.`

const platformsExample = `  davit platforms alpine
  davit platforms mcr.microsoft.com/windows/servercore:ltsc2022
  davit platforms ./layout
  davit platforms alpine --json | jq -r 'select(.architecture == "arm64").digest'`

func newPlatforms(s streams) *cobra.Command {
	var o lookFlags
	cmd := &cobra.Command{
		Use:               "platforms IMAGE",
		Short:             "List the platforms of an image",
		Long:              platformsLong,
		Example:           platformsExample,
		Annotations:       map[string]string{"footer": lookFooter},
		ValidArgsFunction: completeImages(&o.registry, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.parse(cmd, args, 1); err != nil {
				return err
			}
			return runPlatforms(cmd.Context(), s, &o)
		},
	}
	cmd.Flags().SortFlags = false
	o.add(cmd)
	return cmd
}

func runPlatforms(ctx context.Context, s streams, o *lookFlags) error {
	opts, shown, err := o.open(ctx, s)
	if err != nil {
		return err
	}
	defer shown.Close()
	platforms, err := davit.ListPlatforms(ctx, o.targets[0].name, opts)
	if err != nil {
		return o.explain(ctx, err)
	}
	shown.Close()
	if err := printPlatforms(s.out, platforms, o.display.json); err != nil {
		return err
	}
	t := o.targets[0]
	switch err := missing(platforms, t.onDisk()); {
	case err == nil:
		return nil
	case t.onDisk():
		return o.explain(ctx, err)
	default:
		return explain(ctx, err, circumstances{registry: t.at.Reference.Registry, fetching: true})
	}
}

// missing is why manifests could not be had. On disk not all need be there.
func missing(platforms []davit.PlatformResult, onDisk bool) error {
	var errs []error
	for _, p := range platforms {
		if p.Err != nil && !(onDisk && errors.Is(p.Err, image.ErrNotFound)) {
			errs = append(errs, p.Err)
		}
	}
	switch len(errs) {
	case 0:
		return nil
	case 1:
		return errs[0]
	}
	return fmt.Errorf("%d of %d manifests could not be had; the first: %w", len(errs), len(platforms), errs[0])
}

func printPlatforms(w io.Writer, platforms []davit.PlatformResult, asJSON bool) error {
	if asJSON {
		for _, p := range platforms {
			if err := printJSON(w, p); err != nil {
				return err
			}
		}
		return nil
	}
	table := tabwriter.NewWriter(toReader{w}, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "PLATFORM\tOS\tARCH\tVARIANT\tOS.VERSION\tDIGEST\tSIZE")
	for _, p := range platforms {
		size := ""
		if p.Size > 0 {
			size = ui.Size(p.Size)
		}
		row := []string{image.QuotePlatform(p.Platform), p.OS, p.Architecture, p.Variant, p.OSVersion, p.Digest.String(), size}
		for i := range row {
			row[i] = cell(row[i])
		}
		_, _ = fmt.Fprintln(table, strings.Join(row, "\t"))
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("print the result: %w", err)
	}
	return nil
}

// cell is a word of a table; what a stranger wrote may be long.
func cell(s string) string {
	s = strings.Join(strings.Fields(line(s)), "_")
	switch runes := []rune(s); {
	case s == "":
		return "-"
	case len(runes) > maxCell:
		return string(runes[:maxCell]) + "…"
	}
	return s
}

const maxCell = 160
