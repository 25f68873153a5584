package cli

import (
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/davit-cli/davit"
)

const pushLong = `Put images that are on disk into a registry: what davit pull, docker save, podman,
skopeo, crane and regctl wrote. FILE is an archive, a layout or a directory of
components, with :NAME behind it where one of several images is meant.

DST says where they go:
  (none)                 each image by its own name
  NAME[:TAG]             the one image, by this name
  HOST/ or HOST/PREFIX/  each image below it, by its own path without its registry:
                         docker.io/library/alpine:3.20 becomes
                         HOST/PREFIX/library/alpine:3.20

All platforms that are there are pushed. What a repository has is not sent again; a
blob for several is sent to one of them, and mounted into the others. Tags come
last. A push that was interrupted goes on where it was when the same command runs
again.

Layers go as they are; docker save writes them uncompressed. --layers gzip
compresses them first, into a layout in TMPDIR, so that there must be room.

Printed on stdout, a line for each image: its name@digest in the registry.`

const pushExample = `  davit push app.tar registry.lan:5000/app:1
  davit push bundle.tar                                each by its own name
  davit push bundle.tar registry.lan:5000/             … but in this registry
  davit push a.tar ./layout registry.lan:5000/mirror/
  davit push bundle.tar:app:2 registry.lan:5000/app
  davit push saved.tar registry.lan/app:1 --layers gzip
  davit push app.tar registry.lan/app -u me --password-stdin < password`

const pushFooter = lookFooter + `
  TMPDIR                          where layers wait with --layers`

type pushOptions struct {
	carryFlags
	layers    string
	keepGoing bool

	files       []string
	destination string
}

func newPush(s streams) *cobra.Command {
	var o pushOptions
	cmd := &cobra.Command{
		Use:               "push FILE... [DST]",
		Short:             "Put images that are on disk into a registry",
		Long:              pushLong,
		Example:           pushExample,
		Annotations:       map[string]string{"footer": pushFooter},
		ValidArgsFunction: o.completeCarried(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.parse(cmd, args); err != nil {
				return err
			}
			return o.run(cmd.Context(), s)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&o.layers, "layers", "", "`HOW` to re-encode layers: gzip, none (digests change)")
	flags.BoolVar(&o.keepGoing, "keep-going", false, "push what of several images can be pushed, and exit 1")
	o.addBases(flags)
	o.addDestination(cmd)
	_ = cmd.RegisterFlagCompletionFunc("layers", cobra.FixedCompletions([]string{"gzip", "none"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// parse finds the images and where they go, and what is wrong with the command
// line, before any request is made.
func (o *pushOptions) parse(cmd *cobra.Command, args []string) error {
	if err := o.split(cmd, args); err != nil {
		return err
	}
	if cmd.Flags().Changed("layers") && o.layers != string(davit.Gzip) && o.layers != string(davit.None) {
		return usagef("--layers %q: want gzip or none", o.layers)
	}
	items, err := davit.PushItems(cmd.Context(), o.files, o.destination)
	if err != nil {
		return o.explainFiles(cmd.Context(), err)
	}
	for _, i := range items {
		if err := o.item(i.Source, i.Destination); err != nil {
			return err
		}
	}
	return o.validate(args)
}

// split parts the files from the destination: the last argument, where it is
// nothing on disk.
func (o *pushOptions) split(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usagef("push takes images on disk and where they go, such as: %s", example(cmd))
	}
	o.files = args
	if last := args[len(args)-1]; len(args) > 1 && !isOnDisk(last) {
		o.files, o.destination = args[:len(args)-1], last
	}
	for _, file := range o.files {
		if !isOnDisk(file) {
			return usagef("%q is no image on disk: push takes archives, layouts and components, such as: %s", file, example(cmd))
		}
	}
	if davit.IsArchiveName(o.destination) && !strings.Contains(o.destination, "://") {
		return usagef("%q is not there; if a registry's image is meant, write %q", o.destination, "docker://"+o.destination)
	}
	if o.destination == "" || strings.HasSuffix(o.destination, "/") {
		return nil
	}
	config, err := o.reach.files()
	if err != nil {
		return err
	}
	r, meant, err := parseName(config, strings.TrimPrefix(o.destination, "docker://"))
	if meant != nil {
		o.aliases = append(o.aliases, *meant)
		o.destination = "docker://" + r.String()
	}
	return err
}

func isOnDisk(arg string) bool {
	at, err := davit.ParseLocation(arg)
	return err == nil && at.Path != ""
}

// explainFiles is explain for what is wrong with the files.
func (o *pushOptions) explainFiles(ctx context.Context, err error) error {
	if errors.Is(err, davit.ErrDestination) {
		return usageError{err}
	}
	if at, parse := davit.ParseLocation(o.files[0]); parse == nil && len(o.files) == 1 && interruption(ctx, err) == nil {
		return failure{err: err, hint: hintStore(err, circumstances{disk: at.Path})}
	}
	return err
}

func (o *pushOptions) run(ctx context.Context, s streams) error {
	opts, shown, err := o.open(ctx, s)
	if err != nil {
		return err
	}
	opts.KeepGoing, opts.Layers = o.keepGoing, davit.Compression(o.layers)
	return o.copy(ctx, s, opts, shown)
}
