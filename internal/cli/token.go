package cli

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/davit-cli/davit/ref"
	"github.com/davit-cli/davit/registry"
)

const tokenLong = `Print a bearer token with which curl may read a repository, as its registry's
token server gives it. It is a secret for as long as it lives, a few minutes
mostly.`

const tokenExample = `  TOKEN=$(davit token ghcr.io/org/app)
  curl -H "Authorization: Bearer $TOKEN" https://ghcr.io/v2/org/app/tags/list
  davit token alpine --json | jq -r .expires`

type tokenOptions struct {
	registry registryFlags
	display  displayFlags
	at       ref.Reference
	alias    *alias // that it was
}

func newToken(s streams) *cobra.Command {
	var o tokenOptions
	cmd := &cobra.Command{
		Use:               "token IMAGE",
		Short:             "Print a bearer token for a repository",
		Long:              tokenLong,
		Example:           tokenExample,
		Annotations:       map[string]string{"footer": exitCodesHelp + "\n\n" + credentialsHelp},
		ValidArgsFunction: completeNames(&o.registry, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.validate(args); err != nil {
				return err
			}
			return o.run(cmd.Context(), s)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	o.registry.login.add(flags)
	o.registry.reach.addWithoutMirrors(flags)
	o.display.addMessages(cmd)
	return cmd
}

func (o *tokenOptions) validate(args []string) error {
	var err error
	if o.at, o.alias, err = parseOne("token", args, &o.registry); err != nil {
		return err
	}
	if err := o.display.validate(); err != nil {
		return err
	}
	return o.registry.validate([]ref.Reference{o.at})
}

func (o *tokenOptions) run(ctx context.Context, s streams) error {
	opts, err := o.registry.options(ctx, s, []ref.Reference{o.at})
	if err != nil {
		return err
	}
	shown := o.display.open(s.err)
	defer shown.Close()
	opts.Events, opts.Trace = shown.events, shown.trace
	if o.alias != nil {
		shown.note("%s", o.alias)
	}
	o.registry.reach.tellUnread(shown.step)
	session := registry.NewSession(opts)
	defer func() { _ = session.Close() }()
	token, err := fetchToken(ctx, session, o.at)
	switch {
	case errors.Is(err, registry.ErrNoChallenge):
		return failure{err: err, hint: "leave the Authorization header out"}
	case errors.Is(err, registry.ErrBasic):
		return failure{err: err, hint: "give curl the user and the password: curl -u USER"}
	case err != nil:
		return explain(ctx, err, circumstances{registry: o.at.Registry})
	}
	if o.display.json {
		return printJSON(s.out, tokenResult{token.Value, token.Expires, token.Realm, token.Service, token.Scope})
	}
	return printLine(s.out, "%s", token.Value)
}

func fetchToken(ctx context.Context, session *registry.Session, at ref.Reference) (registry.Token, error) {
	route, err := session.Route(at)
	if err != nil {
		return registry.Token{}, err
	}
	repository, err := session.OpenEndpoint(route.Origin)
	if err != nil {
		return registry.Token{}, err
	}
	return repository.Token(ctx)
}

// tokenResult is what --json prints.
type tokenResult struct {
	Token   string    `json:"token"`
	Expires time.Time `json:"expires,omitzero"`
	Realm   string    `json:"realm,omitempty"`
	Service string    `json:"service,omitempty"`
	Scope   string    `json:"scope,omitempty"`
}
