package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/davit-cli/davit"
	"github.com/davit-cli/davit/image"
)

const tagsLong = `Print the tags of a repository, one a line, as its registry serves them: each
page at once, in the registry's order. With --sort they are printed when all are
known, the newest last: semver orders by semantic version, pre-releases before
their release, after what is no version.

Of an archive or a layout on disk they are the tags of the images in it.`

const tagsExample = `  davit tags alpine
  davit tags alpine --match '3.*' --sort semver --limit 5     the five newest of them
  davit tags ghcr.io/org/app --latest                         the newest release alone
  davit pull ghcr.io/org/app:$(davit tags ghcr.io/org/app --latest)
  davit tags mysql --json | jq -r .tag`

type tagsOptions struct {
	lookFlags
	list   listFlags
	sort   string
	latest bool
	pre    bool
}

func newTags(s streams) *cobra.Command {
	var o tagsOptions
	cmd := &cobra.Command{
		Use:               "tags REPOSITORY",
		Short:             "List the tags of a repository",
		Long:              tagsLong,
		Example:           tagsExample,
		Annotations:       map[string]string{"footer": lookFooter},
		ValidArgsFunction: completeImages(&o.registry, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.validate(cmd, args); err != nil {
				return err
			}
			return o.run(cmd.Context(), s)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&o.sort, "sort", "", "`HOW` to sort them, the newest last: semver, name (default: as served)")
	o.list.add(cmd, "tags", "; the last N with --sort")
	flags.BoolVar(&o.latest, "latest", false, "the newest release by semantic version, and nothing else")
	flags.BoolVar(&o.pre, "pre", false, "with --latest, pre-releases count too")
	o.add(cmd)
	_ = cmd.RegisterFlagCompletionFunc("sort", cobra.FixedCompletions([]string{"semver", "name"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (o *tagsOptions) validate(cmd *cobra.Command, args []string) error {
	switch {
	case o.given("sort") && o.sort != "semver" && o.sort != "name":
		return usagef("--sort %q: want semver or name", o.sort)
	case o.latest && (o.given("sort") || o.given("limit")):
		return usagef("--latest is one tag: --sort and --limit have no use")
	case o.pre && !o.latest:
		return usagef("--pre is for --latest")
	}
	if err := o.list.validate(); err != nil {
		return err
	}
	if err := o.parse(cmd, args, 1); err != nil {
		return err
	}
	at := o.targets[0].at
	if extra := at.Reference.TagOrDigest() + at.Image; extra != "" {
		return usagef("tags lists all tags of a repository: leave out %q behind its name", extra)
	}
	return nil
}

func (o *tagsOptions) run(ctx context.Context, s streams) error {
	opts, shown, err := o.open(ctx, s)
	if err != nil {
		return err
	}
	defer shown.Close()
	collect := o.sort != "" || o.latest
	newest := image.Newest{PreReleases: o.pre}
	var all []string
	listed, matched := 0, 0
	chosen := o.list.pages(!collect, func(page []string) error {
		matched += len(page)
		switch {
		case o.latest:
			newest.Add(page...)
		case collect:
			all = append(all, page...)
		default:
			return o.print(s, page)
		}
		return nil
	})
	err = davit.Tags(ctx, o.targets[0].name, opts, func(page []string) error {
		listed += len(page)
		return chosen(page)
	})
	if err != nil && !errors.Is(err, errEnough) {
		return o.explain(ctx, err)
	}
	if o.latest {
		tag, err := newest.Tag()
		switch {
		case err != nil && matched > 0:
			return o.explainLatest(err)
		case err != nil && listed > 0:
			return fmt.Errorf("%s: choose tag: %w: no tag matches %q", o.targets[0].name, image.ErrNotFound, o.list.match)
		case err != nil:
			return fmt.Errorf("%s: %w", o.targets[0].name, err)
		}
		return o.print(s, []string{tag})
	}
	return o.print(s, o.list.last(sortTags(all, o.sort)))
}

func (o *tagsOptions) explainLatest(err error) error {
	err = fmt.Errorf("%s: %w", o.targets[0].name, err)
	if o.pre {
		return err
	}
	return failure{err: err, hint: "--pre takes pre-releases too"}
}

func sortTags(tags []string, how string) []string {
	if how == "semver" {
		image.SortTags(tags)
	} else {
		slices.Sort(tags)
	}
	return tags
}

// tagResult is what --json prints.
type tagResult struct {
	Tag string `json:"tag"`
}

// print prints a page at once.
func (o *tagsOptions) print(s streams, tags []string) error {
	return printPage(s.out, tags, o.display.json, func(tag string) any { return tagResult{tag} })
}
