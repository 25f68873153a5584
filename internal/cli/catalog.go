package cli

import (
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/davit-cli/davit"
	"github.com/davit-cli/davit/ref"
	"github.com/davit-cli/davit/registry"
)

const catalogLong = `Print the repositories of a registry, one a line, where it tells them: each page
at once, in the registry's order. Many registries tell none, or only those that
the credential may read.`

const catalogExample = `  davit catalog registry.lan:5000
  davit catalog registry.lan:5000 --match 'team/*'
  davit catalog http://localhost:5000 --json | jq -r .name`

type catalogOptions struct {
	list     listFlags
	registry registryFlags
	display  displayFlags

	at   ref.Reference // of the registry, with some repository
	host string        // as it was given
}

func newCatalog(s streams) *cobra.Command {
	var o catalogOptions
	cmd := &cobra.Command{
		Use:               "catalog REGISTRY",
		Short:             "List the repositories of a registry",
		Long:              catalogLong,
		Example:           catalogExample,
		Annotations:       map[string]string{"footer": lookFooter},
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.validate(args); err != nil {
				return err
			}
			return o.run(cmd.Context(), s)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	o.list.add(cmd, "repositories", "")
	o.registry.login.add(flags)
	o.registry.reach.addWithoutMirrors(flags)
	o.display.addMessages(cmd)
	return cmd
}

func (o *catalogOptions) validate(args []string) error {
	if len(args) == 0 {
		return usagef("catalog takes one registry, such as: davit catalog registry.lan:5000")
	}
	var err error
	if o.at, err = parseRegistry("catalog", args); err != nil {
		return err
	}
	host, path, _ := strings.Cut(args[0], "/")
	if path = strings.Trim(path, "/"); path != "" && !strings.HasSuffix(host, ":") { // of a URL it may be /v2/
		return usagef("catalog lists all of a registry: leave out %q, and choose with --match '%s/*'", "/"+path, path)
	}
	o.host = args[0]
	for _, err := range []error{o.list.validate(), o.registry.validate([]ref.Reference{o.at}), o.display.validate()} {
		if err != nil {
			return err
		}
	}
	o.registry.reach.plainHTTP.registry = o.registry.reach.plainHTTP.registry || o.at.Scheme == "http"
	return nil
}

func (o *catalogOptions) run(ctx context.Context, s streams) error {
	var opts davit.LookOptions
	var err error
	if opts.Registry, err = o.registry.options(ctx, s, []ref.Reference{o.at}); err != nil {
		return err
	}
	shown := o.display.open(s.err)
	defer shown.Close()
	opts.Events, opts.Registry.Trace = shown.events, shown.trace
	o.registry.reach.tellUnread(shown.step)
	err = davit.Catalog(ctx, o.host, opts, o.list.pages(true, func(page []string) error {
		return printPage(s.out, page, o.display.json, func(name string) any {
			return repositoryResult{name, o.at.Registry + "/" + name}
		})
	}))
	switch {
	case errors.Is(err, registry.ErrNoCatalog):
		return failure{err: err, hint: noCatalogHint(o.at.Registry)}
	case err != nil && !errors.Is(err, errEnough):
		return explain(ctx, err, circumstances{registry: o.at.Registry})
	}
	return nil
}

// noCatalogHint is where else a registry's repositories are listed.
func noCatalogHint(host string) string {
	switch host {
	case "docker.io":
		return "Docker Hub lists them at hub.docker.com, and as JSON at https://hub.docker.com/v2/namespaces/NAMESPACE/repositories"
	case "ghcr.io":
		return "GitHub lists them as packages, of an organization at https://github.com/orgs/ORGANIZATION/packages"
	case "quay.io":
		return "quay.io lists them at quay.io/organization/NAMESPACE, and as JSON at https://quay.io/api/v1/repository?public=true&namespace=NAMESPACE"
	}
	return "ask who runs the registry; its web site may list them"
}

// repositoryResult is what --json prints.
type repositoryResult struct {
	Repository string `json:"repository"`
	// Name is what the other commands take.
	Name string `json:"name"`
}
