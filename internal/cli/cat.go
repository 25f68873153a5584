package cli

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/davit-cli/davit"
	"github.com/davit-cli/davit/internal/atomicfile"
)

const catLong = `Print one file of an image, as a container of the image would see it, without
writing the image. Links are followed inside of the image.

Layers are read from the top down, and no further than to the one that holds the
file; they wait in a temporary file meanwhile. Of a layer with a table of contents
(eStargz, zstd:chunked) only the table and the file are fetched. Nothing is printed
before it is verified.

IMAGE is a name in a registry, or an archive, an image layout or a directory of
components on disk.

` + tocHelp

const catExample = `  davit cat alpine /etc/os-release
  davit cat alpine /bin/busybox -p linux/arm64 -o busybox
  davit cat ./alpine_latest.tar /etc/passwd`

type catOptions struct {
	lookFlags
	output string
	path   string
}

func newCat(s streams) *cobra.Command {
	var o catOptions
	cmd := &cobra.Command{
		Use:               "cat IMAGE PATH",
		Short:             "Print a file of an image",
		Long:              catLong,
		Example:           catExample,
		Annotations:       map[string]string{"footer": lookFooter + tempHelp},
		ValidArgsFunction: completeImages(&o.registry, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.validate(cmd, args); err != nil {
				return err
			}
			return o.run(cmd.Context(), s)
		},
	}
	cmd.Flags().SortFlags = false
	cmd.Flags().StringVarP(&o.output, "output", "o", "", "`FILE` to write (default: stdout)")
	o.addPlatform(cmd, "this machine's")
	o.addLayers(cmd)
	return cmd
}

const tempHelp = `
  TMPDIR                          where layers wait while they are read`

func (o *catOptions) validate(cmd *cobra.Command, args []string) error {
	if len(args) != 2 {
		return usagef("cat takes an image and a path in it, such as: davit cat alpine /etc/os-release")
	}
	o.path = args[1]
	if err := o.parse(cmd, args[:1], 1); err != nil {
		return err
	}
	if o.display.json && (o.output == "" || o.output == stream) {
		return usagef("--json tells of the file that is written: it needs --output FILE")
	}
	return validateOutput(o.output, o.given("output"), false)
}

func (o *catOptions) run(ctx context.Context, s streams) error {
	opts, shown, err := o.open(ctx, s)
	if err != nil {
		return err
	}
	if o.output == "" || o.output == stream {
		_, err = davit.Cat(ctx, o.targets[0].name, o.path, forReader(s.out), opts)
		shown.Close()
		if err != nil {
			return o.explain(ctx, err)
		}
		return nil
	}
	found, err := o.save(ctx, opts)
	shown.Close()
	switch {
	case err != nil:
		return o.explain(ctx, err)
	case o.display.json:
		return printJSON(s.out, savedFile{found, o.output})
	}
	return printFile(s.out, o.output, oneLine(found.Path))
}

// savedFile is what --json prints.
type savedFile struct {
	davit.File
	Output string `json:"output"`
}

// save writes the file under its name when it is whole.
func (o *catOptions) save(ctx context.Context, opts davit.LookOptions) (davit.File, error) {
	var found davit.File
	err := atomicfile.WriteOutput(o.output, func(w io.Writer) (err error) {
		found, err = davit.Cat(ctx, o.targets[0].name, o.path, w, opts)
		return err
	})
	return found, err
}
