package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/davit-cli/davit"
	"github.com/davit-cli/davit/ref"
	"github.com/davit-cli/davit/synclist"
)

const syncLong = `Copy what a list of images names and is not there yet, into a registry, an OCI
layout or an archive. A list in YAML:

  to: registry.lan:5000/mirror      below it each repository has its own path
  platforms: [linux/amd64]          default: all
  images:
    - alpine:3.20
    - image: ghcr.io/org/app        tags of a repository:
      tags: ["v1.*", stable]        globs
      semver: ">=1.20 <2"           a range of versions
      newest: 3                     of those the newest

docs/sync.md has all of it. The files of regsync and of skopeo sync are read too,
and with --from-yaml Kubernetes manifests, compose files and Helm's output, whose
images are the list then. FILE may be - for stdin.

Images are compared by digest before anything moves: where nothing is new that
costs a HEAD for each tag on either side, and the pages of tags; with platforms or
referrers the manifests are read too. What fails does not keep the others; all
failures are told in the end. The exit code then is 1, or that of the failures where
no image at all is there.

Printed on stdout: what was copied, as copy prints it; with --dry-run what would
be: source, destination and bytes, with tabs between; with --json every image.`

const syncExample = `  davit sync images.yaml
  davit sync images.yaml --dry-run
  davit sync --from-yaml deploy.yaml --to registry.lan:5000/mirror
  helm template chart | davit sync --from-yaml - --to bundle.tar
  davit sync skopeo.yaml --to oci:layout`

type syncOptions struct {
	carryFlags
	to       string
	dryRun   bool
	fromYAML bool

	list synclist.List
}

func newSync(s streams) *cobra.Command {
	var o syncOptions
	cmd := &cobra.Command{
		Use:         "sync FILE",
		Short:       "Copy what a list of images names and is not there yet",
		Long:        syncLong,
		Example:     syncExample,
		Annotations: map[string]string{"footer": carryFooter},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("sync takes one list, such as: %s", example(cmd))
			}
			if err := o.read(cmd.Context(), s, args[0]); err != nil {
				return err
			}
			if err := o.validate(nil); err != nil {
				return err
			}
			return o.run(cmd.Context(), s)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&o.to, "to", "", "`DEST`: a registry with or without a path, oci:DIR or x.tar, in place of the list's own")
	flags.BoolVar(&o.dryRun, "dry-run", false, "tell what would be copied and how many bytes, and copy nothing")
	flags.BoolVar(&o.fromYAML, "from-yaml", false, "FILE names images for another purpose: Kubernetes, compose, Helm")
	o.add(cmd)
	flags.Lookup("platform").Usage = "`OS/ARCH` such as linux/arm64 where the list says none; several with commas (default: all)"
	return cmd
}

// read reads the list.
func (o *syncOptions) read(ctx context.Context, s streams, path string) error {
	if side := o.stdin(); path == stream && side != "" {
		return usagef("the list and %s both want stdin", side)
	}
	data, err := readListBytes(ctx, path, s.in, synclist.MaxSize)
	if err != nil {
		return fmt.Errorf("read the list: %w", err)
	}
	name := path
	if path == stream {
		name = "stdin"
	}
	parse := synclist.Parse
	if o.fromYAML {
		parse = synclist.References
	}
	if o.list, err = parse(name, data); err != nil {
		if errors.Is(err, synclist.ErrManifest) {
			return usagef("%w; --from-yaml copies the images that it names", err)
		}
		return usageError{err}
	}
	return o.targetOf()
}

// stdin is the flag that wants stdin, or empty.
func (f *carryFlags) stdin() string {
	if f.src.stdin() != "" {
		return f.src.stdin()
	}
	return f.dest.stdin()
}

// targetOf finds where the images go, and which registries the list names.
func (o *syncOptions) targetOf() error {
	if o.to != "" {
		to, err := synclist.ParseTarget(o.to)
		if err != nil {
			return usagef("--to: %w", err)
		}
		if !slices.ContainsFunc(o.list.Entries, func(e synclist.Entry) bool { return e.To.None() }) {
			return usagef("--to is for images without a destination of their own: in %s each has one", o.list.Name)
		}
		o.list.To = to
	}
	if o.list.NeedsTarget() {
		return usagef("%s does not say where the images go: give --to, such as --to registry.lan:5000/mirror", o.list.Name)
	}
	for _, e := range o.list.Entries {
		o.sources = append(o.sources, davit.Location{Reference: e.Source})
		to := e.To
		if to.None() {
			to = o.list.To
		}
		for _, r := range []ref.Reference{to.Repository, to.Prefix} {
			if r.Registry != "" {
				o.targets = append(o.targets, davit.Destination{Reference: r})
			}
		}
	}
	return nil
}

func (o *syncOptions) run(ctx context.Context, s streams) error {
	opts, shown, err := o.open(ctx, s)
	if err != nil {
		return err
	}
	opts.DryRun = o.dryRun
	for _, note := range o.list.Ignored {
		shown.note("%s: %s", o.list.Name, note)
	}
	results, err := davit.Sync(ctx, o.list, opts)
	if err == nil || len(results) > 0 {
		shown.note("%s", o.summary(results))
	}
	shown.Close()
	out := toReader{s.out}
	for _, r := range results {
		if err := o.print(out, r); err != nil {
			return err
		}
	}
	var wrong *synclist.Error
	switch {
	case errors.As(err, &wrong):
		return usageError{err}
	case err != nil:
		return o.explain(ctx, err)
	}
	return nil
}

// summary tells in one line what came out of it.
func (o *syncOptions) summary(results []davit.CopyResult) string {
	same, sent, mounted := 0, int64(0), int64(0)
	for _, r := range results {
		sent, mounted = sent+r.Sent, mounted+r.Mounted
		if unmoved(r) {
			same++
		}
	}
	did := "copied"
	if o.dryRun {
		did = "to be copied"
	}
	size := func(n int64) string { return units.HumanSizeWithPrecision(float64(n), 3) }
	return fmt.Sprintf("%d %s (%s sent, %s mounted), %d there already", len(results)-same, did, size(sent), size(mounted), same)
}

// unmoved says whether an image was there, with what refers to it.
func unmoved(r davit.CopyResult) bool { return r.Same && r.Sent+r.Mounted == 0 }

// print prints one image's line.
func (o *syncOptions) print(w io.Writer, r davit.CopyResult) error {
	switch {
	case o.display.json || !unmoved(r) && !o.dryRun:
		return printCopied(w, r, o.display.json)
	case unmoved(r):
		return nil
	}
	if _, err := fmt.Fprintf(w, "%s\t%s\t%d\n", line(r.Source), line(r.Destination), r.Sent); err != nil {
		return fmt.Errorf("print the result: %w", err)
	}
	return nil
}
