package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/ui"
	"github.com/davit-cli/davit/verify"
)

const verifyLong = `Check an archive, an image layout or a directory of components, whoever wrote it:
every blob is hashed again, sizes and diffIDs are compared, and nothing that is
named may be missing. All that is wrong is listed. Then it is told which loaders
would take it: Docker's classic store, containerd, podman.

An archive may be a plain tar or a compressed one. An index may name platforms that
are not there, as long as one of its images is there whole. In a delta (davit pull
--since) what its bases have may be absent: it is told what it needs of which base.`

const verifyExample = `  davit verify alpine_latest.tar
  davit verify layout --json | jq -r '.problems[].text'
  docker save alpine -o alpine.tar && davit verify alpine.tar`

const decompressHelp = `
  TMPDIR                          where a compressed archive is decompressed to`

type verifyOptions struct {
	path    string
	display displayFlags
}

func newVerify(s streams) *cobra.Command {
	var o verifyOptions
	cmd := &cobra.Command{
		Use:         "verify FILE|DIR",
		Short:       "Check an image on disk, blob for blob",
		Long:        verifyLong,
		Example:     verifyExample,
		Annotations: map[string]string{"footer": exitCodesHelp + "\n\nEnvironment:" + decompressHelp},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.validate(args); err != nil {
				return err
			}
			return o.run(cmd.Context(), s)
		},
	}
	cmd.Flags().SortFlags = false
	o.display.add(cmd)
	return cmd
}

func (o *verifyOptions) validate(args []string) error {
	if len(args) != 1 || args[0] == "" {
		return usagef("verify takes one file or directory, such as: davit verify alpine_latest.tar")
	}
	o.path = args[0]
	return o.display.validate()
}

func (o *verifyOptions) run(ctx context.Context, s streams) error {
	shown := o.display.open(s.err)
	report, err := verify.Check(ctx, o.path, verify.Options{Events: shown.events})
	shown.Close()
	if err != nil {
		return err
	}
	if o.display.json {
		err = printJSON(s.out, report)
	} else {
		err = printReport(s.out, report, o.display.quiet)
	}
	if err == nil && !report.OK() {
		return fmt.Errorf("%s: %w: %s", o.path, image.ErrVerification, countOf(len(report.Problems)+report.More, "problem"))
	}
	return err
}

// reportWriter prints what was found, for people.
type reportWriter struct{ linesWriter }

// printReport prints problems alone where quiet. What is nothing of an image is
// not called one.
func printReport(w io.Writer, r verify.Report, quiet bool) error {
	p := &reportWriter{linesWriter{out: toReader{w}}}
	nothing := r.Blobs == 0 && len(r.Images) == 0
	if !quiet && !nothing {
		p.print("%s: %s, %s hashed\n", line(r.Path), formatText[r.Format], countOf(r.Blobs, "blob")+" ("+ui.Size(r.Bytes)+")")
		for _, img := range r.Images {
			p.print("  image  %s\n", imageText(img))
		}
	}
	for _, problem := range r.Problems {
		p.print("  FAULT  %s\n", problemText(problem))
	}
	if r.More > 0 {
		p.print("  FAULT  and %s more\n", countOf(r.More, "problem"))
	}
	if quiet {
		return p.result()
	}
	for _, note := range r.Notes {
		p.print("  note   %s\n", line(note))
	}
	for _, n := range r.Delta {
		p.print("  delta  needs %s: %s (%s)\n", line(n.Base), countOf(n.Blobs, "blob"), ui.Size(n.Bytes))
	}
	for _, l := range r.Loaders {
		p.print("  %-6s %s\n", map[bool]string{true: "loads", false: "not"}[l.Takes], line(strings.TrimSuffix(l.Name+": "+l.Why, ": ")))
	}
	switch {
	case r.OK() && len(r.Delta) > 0:
		p.print("  ok     nothing is wrong; davit apply makes the delta whole\n")
	case r.OK():
		p.print("  ok     nothing is wrong\n")
	}
	return p.result()
}

var formatText = map[verify.Format]string{
	verify.Archive: "an archive", verify.OCI: "an OCI image layout", verify.Components: "a directory of components",
}

func imageText(img verify.Image) string {
	return columns(img.Name, strings.Join(img.Platforms, ", "), cmp.Or(img.Digest, img.ID).String())
}

func problemText(p verify.Problem) string {
	text := p.Text
	if p.What == verify.Digest || !strings.Contains(text, p.Subject) {
		text = p.Subject + ": " + text
	}
	if p.For != "" {
		text += " (of " + p.For + ")"
	}
	return line(text)
}

func countOf(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
