package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/davit-cli/davit"
	"github.com/davit-cli/davit/image"
)

const applyLong = `Join a delta, which davit pull --since wrote, with the bases that it was made for,
and write all its images whole: the same bytes that davit pull writes without
--since. Each is an archive, an image layout or a directory of components; the
delta comes last. A base may be a delta too: then what that was joined with is
named as well.

Every blob is verified. Where one is in none of the files, nothing is written, and
it is told which base has it.`

const applyExample = `  davit pull app:may -o may.tar                       carried over in May
  davit pull app:june --since may.tar -o june.tar     in June: what is new alone
  davit apply may.tar june.tar -o whole.tar           on the other side
  davit apply may.tar june.tar -o - | docker load
  davit apply may.tar june.tar july.tar -f oci -o whole`

type applyOptions struct {
	files   []string
	output  string
	format  string
	split   partSize
	restart bool
	display displayFlags

	given func(flag string) bool
}

func newApply(s streams) *cobra.Command {
	var o applyOptions
	cmd := &cobra.Command{
		Use:         "apply BASE... DELTA",
		Short:       "Join a delta with its bases",
		Long:        applyLong,
		Example:     applyExample,
		Annotations: map[string]string{"footer": exitCodesHelp + "\n\nEnvironment:" + decompressHelp},
		RunE: func(cmd *cobra.Command, args []string) error {
			o.files = args
			if err := o.validate(cmd, s); err != nil {
				return err
			}
			return o.run(cmd.Context(), s)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVarP(&o.output, "output", "o", "", "`PATH` to write, - for stdout")
	flags.StringVarP(&o.format, "format", "f", string(davit.Archive), "`FORMAT` to write: archive, oci")
	flags.Var(&o.split, "split", "`SIZE` of parts to write an archive in, PATH.001 and on: 4G fits FAT32 (4GiB does not)")
	flags.BoolVar(&o.restart, "restart", false, "begin anew: drop what an interrupted apply has left")
	o.display.add(cmd)
	o.given = flags.Changed
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(appliedFormats, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// appliedFormats are what a delta becomes.
var appliedFormats = []string{string(davit.Archive), string(davit.OCI)}

func (o *applyOptions) validate(cmd *cobra.Command, s streams) error {
	directory := o.format == string(davit.OCI)
	switch {
	case len(o.files) < 2 || slices.Contains(o.files, ""):
		return usagef("apply takes the bases and then the delta, such as: davit apply may.tar june.tar -o whole.tar")
	case !slices.Contains(appliedFormats, o.format):
		return usagef("--format %q: want %s", o.format, strings.Join(appliedFormats, ", "))
	case !o.given("output"):
		return usagef("where to? name the output: -o FILE")
	case o.output == stream && directory:
		return usagef("format oci is a directory and cannot be streamed")
	case o.output == stream && isTerminal(s.out):
		return usagef("the archive is not written to a terminal: pipe it into a program, docker load for one, or choose a file with -o FILE")
	}
	if err := validateOutput(o.output, true, directory); err != nil {
		return err
	}
	opts := o.library()
	if o.output == stream {
		opts.Output, opts.Stream = "", io.Discard
	}
	if err := opts.Validate(1); err != nil {
		return usageError{err}
	}
	return o.display.validate()
}

// library is what the flags ask of the library, without what comes of running.
func (o *applyOptions) library() davit.PullOptions {
	return davit.PullOptions{Format: davit.Format(o.format), Output: o.output, Split: int64(o.split), Restart: o.restart}
}

func (o *applyOptions) run(ctx context.Context, s streams) error {
	apply := func(opts davit.PullOptions) ([]davit.PullResult, error) { return davit.Apply(ctx, o.files, opts) }
	return writeOutput(s, o.display.open(s.err), o.library(), o.display.json, apply, func(err error, c circumstances) error {
		c.disk = o.files[len(o.files)-1]
		return o.explain(ctx, err, c)
	})
}

func (o *applyOptions) explain(ctx context.Context, err error, c circumstances) error {
	if interruption(ctx, err) == nil && errors.Is(err, image.ErrVerification) {
		return failure{err: err, hint: "davit verify FILE tells all that is wrong with one of them"}
	}
	return explain(ctx, err, c)
}

// hintDelta is for deltas that lack something.
func hintDelta(err error, c circumstances) string {
	if missing, ok := errors.AsType[*davit.MissingError](err); ok {
		if bases := missing.Bases(); len(bases) > 0 {
			return fmt.Sprintf("name what the delta was made for before it: %s", strings.Join(bases[:min(len(bases), 3)], ", "))
		}
		return "davit verify " + shellWord(missing.Path) + " tells all that is missing there"
	}
	if _, ok := errors.AsType[*image.ExpectedError](err); ok {
		if c.carries {
			return "name the archive or layout that the delta was made for with --base FILE"
		}
		delta := "DELTA"
		if c.disk != "" {
			delta = shellWord(c.disk)
		}
		return fmt.Sprintf("join the delta with its base: davit apply BASE %s -o FILE", delta)
	}
	return ""
}
