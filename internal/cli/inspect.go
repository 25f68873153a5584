package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/davit-cli/davit"
)

const inspectLong = `Tell what there is to know of an image without fetching its layers: name, digest,
media type, platforms, size, what a container of it runs, its layers with what
made each, and what refers to it (signatures, SBOMs, attestations).

IMAGE is a name in a registry, or an archive, an image layout or a directory of
components on disk. The same image is described in the same words wherever it is.
Sizes are those of the layers as served; the uncompressed size is told where the
manifest tells it.`

const inspectExample = `  davit inspect alpine
  davit inspect mysql:8 -p linux/arm64
  davit inspect ./alpine_latest.tar
  davit inspect layout:3.20                 one of several images in a layout
  davit inspect alpine --json | jq -r .digest`

type inspectOptions struct {
	lookFlags
	noReferrers bool
}

func newInspect(s streams) *cobra.Command {
	var o inspectOptions
	cmd := &cobra.Command{
		Use:               "inspect IMAGE",
		Short:             "Tell what there is to know of an image",
		Long:              inspectLong,
		Example:           inspectExample,
		Annotations:       map[string]string{"footer": lookFooter},
		ValidArgsFunction: completeImages(&o.registry, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.parse(cmd, args, 1); err != nil {
				return err
			}
			return o.run(cmd.Context(), s)
		},
	}
	cmd.Flags().SortFlags = false
	o.addPlatform(cmd, "this machine's")
	cmd.Flags().BoolVar(&o.noReferrers, "no-referrers", false, "do not ask what refers to the image")
	o.add(cmd)
	return cmd
}

func (o *inspectOptions) run(ctx context.Context, s streams) error {
	opts, shown, err := o.open(ctx, s)
	if err != nil {
		return err
	}
	found, err := davit.Inspect(ctx, o.targets[0].name, davit.InspectOptions{LookOptions: opts, NoReferrers: o.noReferrers})
	shown.Close()
	switch {
	case err != nil:
		return o.explain(ctx, err)
	case o.display.json:
		return printJSON(s.out, found)
	}
	return printInspection(s.out, found)
}
