package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/davit-cli/davit/credential"
	"github.com/davit-cli/davit/ref"
)

const logoutLong = `Remove the credential that davit login or docker login stored for a registry: from
config.json, and from the credential helper that it names.`

type logoutOptions struct {
	display displayFlags
	at      ref.Reference
}

func newLogout(s streams) *cobra.Command {
	var o logoutOptions
	cmd := &cobra.Command{
		Use:               "logout [REGISTRY]",
		Short:             "Remove the stored credential for a registry",
		Long:              logoutLong,
		Example:           "  davit logout registry.lan\n  davit logout                  Docker Hub",
		Annotations:       map[string]string{"footer": exitCodesHelp},
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if o.at, err = parseRegistry("logout", args); err != nil {
				return err
			}
			if err := o.display.validate(); err != nil {
				return err
			}
			return o.run(cmd.Context(), s)
		},
	}
	o.display.addMessages(cmd)
	return cmd
}

func (o *logoutOptions) run(ctx context.Context, s streams) error {
	store, err := credential.OpenStore("")
	if err != nil {
		return err
	}
	shown := o.display.open(s.err)
	defer shown.Close()
	from, err := store.Erase(ctx, o.at.Registry)
	if err != nil {
		return err
	}
	// What others have stored is theirs to remove.
	left, err := credential.Stored(credential.StoredOptions{})(ctx, o.at.Registry, "")
	if err == nil && !left.Anonymous() {
		shown.warn("%s still has a credential for %s: podman logout removes Podman's", left.Source, o.at.Registry)
	}
	shown.Close()
	if o.display.json {
		return printJSON(s.out, logoutResult{o.at.Registry, append([]string{}, from...)})
	}
	if len(from) == 0 {
		return printLine(s.out, "no credential was stored for %s", o.at.Registry)
	}
	for _, where := range from {
		if err := printLine(s.out, "removed the credential for %s from %s", o.at.Registry, where); err != nil {
			return err
		}
	}
	return nil
}

// logoutResult is what --json prints.
type logoutResult struct {
	Registry string   `json:"registry"`
	Removed  []string `json:"removed"` // files and helpers
}
