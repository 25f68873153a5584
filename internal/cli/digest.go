package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/davit-cli/davit"
)

const digestLong = `Print the digest that an image's name stands for now: of its index, where it has
one, else of its manifest. The registry is asked for it alone, with a HEAD that Docker
Hub does not count as a pull. With -p it is the digest of that platform's manifest,
for which the index is fetched, but not that manifest.`

const digestExample = `  davit digest alpine:3.20
  davit digest alpine:3.20 -p linux/arm64
  davit pull alpine@$(davit digest alpine:3.20)
  davit digest ./alpine_latest.tar
  davit digest alpine --json | jq -r .media_type`

func newDigest(s streams) *cobra.Command {
	var o lookFlags
	cmd := &cobra.Command{
		Use:               "digest IMAGE",
		Short:             "Print the digest of an image",
		Long:              digestLong,
		Example:           digestExample,
		Annotations:       map[string]string{"footer": lookFooter},
		ValidArgsFunction: completeImages(&o.registry, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.parse(cmd, args, 1); err != nil {
				return err
			}
			return runDigest(cmd.Context(), s, &o)
		},
	}
	cmd.Flags().SortFlags = false
	o.addPlatform(cmd, "none, for what the name stands for")
	o.add(cmd)
	return cmd
}

func runDigest(ctx context.Context, s streams, o *lookFlags) error {
	opts, shown, err := o.open(ctx, s)
	if err != nil {
		return err
	}
	defer shown.Close()
	d, err := davit.Digest(ctx, o.targets[0].name, opts)
	if err != nil {
		return o.explain(ctx, err)
	}
	shown.Close()
	if o.display.json {
		return printJSON(s.out, digestResult{d.Reference, d.Digest.String(), d.MediaType, d.Size})
	}
	return printLine(s.out, "%s", d.Digest)
}

// digestResult is what --json prints.
type digestResult struct {
	Reference string `json:"reference"`
	Digest    string `json:"digest"`
	MediaType string `json:"media_type"`
	Size      int64  `json:"size"`
}
