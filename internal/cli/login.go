package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/davit-cli/davit/credential"
	"github.com/davit-cli/davit/ref"
	"github.com/davit-cli/davit/registry"
)

const loginLong = `Store a credential for a registry, after the registry has taken it. It is stored
as docker login does: through the credential helper that config.json names
(credHelpers, credsStore), else in config.json itself, which everybody who can
read that file can read. docker, podman, crane and skopeo use it too.

Without --password-stdin or --token-stdin davit asks for the password on the
terminal. A token of whatever kind (GitLab's, GitHub's, a deploy token with
--username) is stored in the form that the registry has taken.`

const loginExample = `  davit login registry.lan -u me
  davit login -u me                                   Docker Hub
  davit login ghcr.io -u me --password-stdin < token
  echo "$TOKEN" | davit login registry.gitlab.com --token-stdin`

const loginFooter = exitCodesHelp + `

Environment:
  DOCKER_CONFIG                    the directory of config.json (~/.docker)
  HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY
  SSL_CERT_FILE, SSL_CERT_DIR      CAs to trust, in place of the system's`

type loginOptions struct {
	login    credentialFlags
	password string // never: answered with a hint
	reach    hostFlags
	display  displayFlags
	given    func(flag string) bool

	at ref.Reference // of the registry, with some repository
}

func newLogin(s streams) *cobra.Command {
	var o loginOptions
	cmd := &cobra.Command{
		Use:               "login [REGISTRY]",
		Short:             "Store a credential for a registry",
		Long:              loginLong,
		Example:           loginExample,
		Annotations:       map[string]string{"footer": loginFooter},
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
	o.login.addGiven(flags)
	flags.StringVarP(&o.password, "password", "p", "", "")
	_ = flags.MarkHidden("password")
	o.reach.addWithoutMirrors(flags)
	o.display.addMessages(cmd)
	o.given = flags.Changed
	return cmd
}

// parseRegistry reads the one argument that names a registry, as a host or a
// URL; none is Docker Hub. It returns a reference to some repository there.
func parseRegistry(cmd string, args []string) (ref.Reference, error) {
	switch {
	case len(args) == 0:
		return ref.Parse("docker.io/library/x")
	case len(args) > 1:
		return ref.Reference{}, usagef("%s takes one registry, but %d were given", cmd, len(args))
	}
	scheme, rest, ok := strings.Cut(args[0], "://")
	if !ok {
		scheme, rest = "https", args[0]
	}
	host, _, _ := strings.Cut(rest, "/")
	r, err := ref.Parse(scheme + "://" + host + "/x")
	if err != nil {
		return ref.Reference{}, usageError{err}
	}
	if !ok {
		r.Scheme = "" // nobody has said it
	}
	return r, nil
}

func (o *loginOptions) validate(args []string) error {
	if o.given("password") {
		return usagef("--password: a password among the arguments can be read by all users of the machine: use --password-stdin")
	}
	var err error
	if o.at, err = parseRegistry("login", args); err != nil {
		return err
	}
	for _, err := range []error{
		o.login.validate([]string{o.at.Registry}), o.display.validate(), o.reach.validate([]ref.Reference{o.at}),
	} {
		if err != nil {
			return err
		}
	}
	o.reach.plainHTTP.registry = o.reach.plainHTTP.registry || o.at.Scheme == "http"
	return nil
}

func (o *loginOptions) run(ctx context.Context, s streams) error {
	store, err := credential.OpenStore("")
	if err != nil {
		return err
	}
	opts, err := o.reach.options([]ref.Reference{o.at})
	if err != nil {
		return err
	}
	if opts.Credentials, err = o.ask(ctx, s); err != nil {
		return err
	}
	shown := o.display.open(s.err)
	defer shown.Close()
	opts.Events, opts.Trace = shown.events, shown.trace
	o.reach.tellUnread(shown.step)
	session := registry.NewSession(opts)
	defer func() { _ = session.Close() }()
	checked, err := session.Check(ctx, o.at.Registry)
	switch {
	case err != nil:
		return explain(ctx, err, circumstances{registry: o.at.Registry, login: true})
	case !checked.Asked:
		return failure{
			err:  fmt.Errorf("%s wants no credential, so that there is nothing to check yours against, and none is stored", o.at.Registry),
			hint: "davit pull works there as it is",
		}
	case checked.Credential.RegistryToken != "":
		return failure{
			err:  fmt.Errorf("%s takes this token as it is, as a bearer token, which config.json has no place for", o.at.Registry),
			hint: "give it to each command: DAVIT_TOKEN, with DAVIT_REGISTRY=" + o.at.Registry + ", or --token-stdin",
		}
	}
	where, err := store.Save(ctx, o.at.Registry, checked.Credential)
	if err != nil {
		return err
	}
	if where == store.Path() {
		shown.note("%s holds the credential unencrypted; a credential helper (credsStore there) keeps it safer", where)
	}
	if found, err := everywhere()(ctx, o.at.Registry, ""); err == nil && found.Source != where {
		shown.warn("davit pull will use the credential from %s, which goes before this one", found.Source)
	}
	shown.Close()
	return o.print(s, checked.Credential.Username, where)
}

// ask gets the credential to store, from a person where the flags do not give
// it.
func (o *loginOptions) ask(ctx context.Context, s streams) (credential.Provider, error) {
	if o.login.username == "" && !o.login.tokenStdin {
		var err error
		if o.login.username, err = askLine(ctx, s, fmt.Sprintf("User for %s: ", o.at.Registry)); err != nil {
			return nil, err
		}
	}
	return o.login.fromFlags(ctx, s, []string{o.at.Registry})
}

// everywhere is where a command finds credentials that has none by flag.
func everywhere() credential.Provider {
	return credential.Chain(credential.Environment(nil), credential.GitLab(nil), credential.Stored(credential.StoredOptions{}))
}

// loginResult is what --json prints.
type loginResult struct {
	Registry string `json:"registry"`
	Username string `json:"username,omitempty"`
	// Stored is the file or the helper.
	Stored string `json:"stored"`
}

func (o *loginOptions) print(s streams, username, where string) error {
	if o.display.json {
		return printJSON(s.out, loginResult{o.at.Registry, username, where})
	}
	as := ""
	if username != "" {
		as = " as " + username
	}
	return printLine(s.out, "logged in to %s%s; stored in %s", o.at.Registry, as, where)
}
