package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/davit-cli/davit"
)

const copyLong = `Copy an image from one place to another: between registries without a file in
between, or from and to the disk. All platforms are taken, so that the digest
stays; -p narrows.

SRC and DST are names as docker takes them, or on the disk:
  x.tar, ./x.tar                 an archive, of whichever tool
  docker-archive:FILE[:NAME]     the same, as skopeo's users write it
  oci-archive:FILE[:NAME]
  oci:DIR[:TAG], ./DIR           an OCI image layout
  components:DIR                 manifest, config and layers as plain files
  docker://NAME                  a registry's, whatever is on the disk

What the destination has is not sent again; within one registry blobs are mounted,
neither fetched nor sent. The tag comes last. A copy that was interrupted goes on
where it was when the same command runs again.

Printed on stdout: where the image is now, as name@digest; on the disk the path,
a tab, and what was copied.`

const copyExample = `  davit copy alpine:3.20 registry.lan:5000/alpine:3.20
  davit copy alpine registry.lan:5000/mirror/alpine     the same tag there
  davit copy app.tar registry.lan:5000/app:1
  davit copy oci:layout:1.0 docker-archive:app.tar:app:1.0
  davit copy ghcr.io/org/app:1 oci:layout -p linux/amd64,linux/arm64
  davit copy a.lan/app:1 b.lan/app:1 --dest-username me --dest-password-stdin < password`

type copyOptions struct {
	carryFlags
}

func newCopy(s streams) *cobra.Command {
	var o copyOptions
	cmd := &cobra.Command{
		Use:               "copy SRC DST",
		Aliases:           []string{"cp"},
		Short:             "Copy an image between registries, or from and to the disk",
		Long:              copyLong,
		Example:           copyExample,
		Annotations:       map[string]string{"footer": carryFooter},
		ValidArgsFunction: o.completeCarried(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usagef("copy takes two places, such as: %s", example(cmd))
			}
			if err := o.item(args[0], args[1]); err != nil {
				return err
			}
			if err := o.validate(args); err != nil {
				return err
			}
			return o.run(cmd.Context(), s)
		},
	}
	cmd.Flags().SortFlags = false
	o.addBases(cmd.Flags())
	o.add(cmd)
	return cmd
}

func (o *copyOptions) run(ctx context.Context, s streams) error {
	opts, shown, err := o.open(ctx, s)
	if err != nil {
		return err
	}
	return o.copy(ctx, s, opts, shown)
}

// copy copies the items, and prints what was copied.
func (f *carryFlags) copy(ctx context.Context, s streams, opts davit.CopyOptions, shown display) error {
	results, err := davit.CopyAll(ctx, f.items, opts)
	for _, r := range results {
		if r.Referrers > 0 {
			shown.note("%s: referrers: %d", r.Destination, r.Referrers)
		}
	}
	shown.Close()
	for _, r := range results {
		if err := printCopied(toReader{s.out}, r, f.display.json); err != nil {
			return err
		}
	}
	if err != nil {
		return f.explain(ctx, err)
	}
	return nil
}

// printCopied prints one line: where the image is, and its digest; or the
// result's JSON.
func printCopied(w io.Writer, r davit.CopyResult, asJSON bool) error {
	if asJSON {
		return printJSON(w, r)
	}
	name, _, _ := strings.Cut(r.Destination, "@")
	if r.Path != "" {
		name = r.Path + "\t" + r.Source
	}
	if _, err := fmt.Fprintf(w, "%s@%s\n", name, r.Digest); err != nil {
		return fmt.Errorf("print the result: %w", err)
	}
	return nil
}
