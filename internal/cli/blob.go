package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/spf13/cobra"

	"github.com/davit-cli/davit"
	"github.com/davit-cli/davit/image"
)

const blobLong = `Write one blob of a repository, a layer or a config, to stdout or into a file. It is
verified: the file stands under its name only when it is whole, and what an
interrupted run has fetched is used when the same command runs again; on stdout the
last bytes come only then.

A part, with --range, is not verified: only the whole blob has a digest.
Of a file its path and the digest are printed, of a part which bytes of that blob.`

const blobExample = `  davit blob alpine@sha256:… -o layer.tar.gz
  davit blob alpine@sha256:… | tar tz
  davit blob alpine@sha256:… --range 0-1023 | file -
  davit blob ./layout@sha256:… -o config.json
  davit blob alpine@sha256:… -o layer.tar.gz --json | jq .size`

type blobOptions struct {
	lookFlags
	output string
	part   string

	parsed *davit.ByteRange // part, by validate
}

func newBlob(s streams) *cobra.Command {
	var o blobOptions
	cmd := &cobra.Command{
		Use:               "blob NAME@DIGEST",
		Short:             "Write a blob to stdout or into a file",
		Long:              blobLong,
		Example:           blobExample,
		Annotations:       map[string]string{"footer": lookFooter},
		ValidArgsFunction: completeImages(&o.registry, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.validate(cmd, args, s); err != nil {
				return err
			}
			return o.run(cmd.Context(), s)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVarP(&o.output, "output", "o", "", "`FILE` to write (default: stdout)")
	flags.StringVar(&o.part, "range", "", "`FROM-TO`: only these bytes, the first being 0; FROM- is the rest")
	o.addMoving(cmd)
	return cmd
}

func (o *blobOptions) validate(cmd *cobra.Command, args []string, s streams) error {
	if err := o.parse(cmd, args, 1); err != nil {
		return err
	}
	if o.targets[0].at.BlobDigest() == "" {
		return usagef("%s names no blob: want NAME@DIGEST, such as: davit blob alpine@sha256:…", o.targets[0].name)
	}
	if err := validateOutput(o.output, o.given("output"), false); err != nil {
		return err
	}
	if o.output == stream {
		o.output = ""
	}
	var err error
	if o.given("range") {
		if o.parsed, err = parseRange(o.part); err != nil {
			return err
		}
	}
	switch {
	case o.output == "" && o.display.json:
		return usagef("--json tells of a file: name it with -o FILE")
	case o.output == "" && isTerminal(s.out):
		return usagef("a blob is not written to a terminal: pipe it into a program, or choose a file with -o FILE")
	}
	return nil
}

// parseRange reads FROM-TO and FROM-, as curl does.
func parseRange(s string) (*davit.ByteRange, error) {
	from, to, ok := strings.Cut(s, "-")
	r := davit.ByteRange{To: -1}
	var err error
	if ok {
		r.From, err = strconv.ParseInt(from, 10, 64)
	}
	if ok && err == nil && to != "" {
		r.To, err = strconv.ParseInt(to, 10, 64)
	}
	if !ok || err != nil || r.From < 0 || to != "" && r.To < r.From {
		return nil, usagef("--range %q: want FROM-TO, such as 0-99 for the first 100 bytes, or FROM-", s)
	}
	return &r, nil
}

func (o *blobOptions) run(ctx context.Context, s streams) error {
	look, shown, err := o.open(ctx, s)
	if err != nil {
		return err
	}
	defer shown.Close()
	var fetching atomic.Bool
	look.Events = func(e image.Event) {
		if e.Kind == image.EventPlanned {
			fetching.Store(true)
		}
		shown.events(e)
	}
	opts := davit.BlobOptions{LookOptions: look, Output: o.output, Range: o.parsed}
	if o.output == "" {
		opts.Stream = toReader{s.out}
	}
	if o.parsed != nil {
		shown.note("a part of a blob is not verified")
	}
	result, err := davit.Blob(ctx, o.targets[0].name, opts)
	shown.Close()
	switch {
	case err != nil:
		return o.explainBlob(ctx, err, fetching.Load())
	case o.output == "":
		return nil
	case o.display.json:
		return printJSON(s.out, result)
	}
	what := result.Digest.String()
	if result.Range != "" { // which has a digest of its own, that nobody tells
		what = fmt.Sprintf("bytes %s of %s", result.Range, what)
	}
	return printFile(s.out, result.Path, what)
}

func (o *blobOptions) explainBlob(ctx context.Context, err error, fetching bool) error {
	at := o.targets[0].at
	switch {
	case at.Path != "" && (o.output == "" || errors.Is(err, image.ErrVerification)):
		return o.explain(ctx, err)
	case interruption(ctx, err) == nil && errors.Is(err, image.ErrNotFound) && !fetching && at.Path == "":
		return failure{err: err, hint: fmt.Sprintf("check the digest: davit manifest %s tells those of an image's blobs; a repository has those of its own images alone", shellWord(at.Reference.Name()))}
	}
	return explain(ctx, err, circumstances{registry: at.Reference.Registry, disk: at.Path, resumable: o.output != "" && o.parsed == nil, fetching: fetching})
}
