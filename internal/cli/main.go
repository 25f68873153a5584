// Package cli is davit's command line: it reads the arguments, calls the
// library, prints results and errors, and chooses the exit code.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// streams are what a command reads from and writes to: results go to out,
// everything else to err.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// Main runs davit with args (without the program's name) and returns the exit
// code. Cancelling ctx ends what is under way; where WithSignals cancelled it,
// the exit code tells by which signal.
func Main(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRoot(streams{in: stdin, out: stdout, err: stderr})
	root.SetArgs(args)
	help := &helpWriter{out: toReader{stdout}}
	root.SetOut(help)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil && help.err != nil {
		cmd, err = root, fmt.Errorf("print the help: %w", help.err)
	}
	if err == nil {
		return exitDone
	}
	return report(ctx, stderr, cmd, err)
}

// helpWriter prints what the parser of the command line prints by itself, help
// and the like, and keeps the first error, which the parser drops.
type helpWriter struct {
	out io.Writer
	err error
}

func (w *helpWriter) Write(b []byte) (int, error) {
	if w.err == nil {
		_, w.err = w.out.Write(b)
	}
	return len(b), nil
}

const rootLong = `davit takes container images out of registries without Docker and writes
them as archives that docker load, podman load, ctr images import and skopeo
accept, as OCI layouts, as plain files, or as root file systems; it copies them
between registries, and carries them over an air gap and back into one.`

const rootExample = `  davit demo                              see it work, with no network
  davit pull alpine                       ./alpine_latest.tar
  davit pull alpine -o - | docker load
  davit copy alpine registry.lan:5000/alpine
  davit push alpine_latest.tar registry.lan:5000/`

func newRoot(s streams) *cobra.Command {
	root := &cobra.Command{
		Use:           "davit",
		Short:         "Take container images out of registries without Docker",
		Long:          rootLong,
		Example:       rootExample,
		Version:       currentBuild().line(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,

		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return unknownCommand(cmd, args[0])
		},
	}
	root.SetIn(s.in)
	root.SetOut(s.out)
	root.SetErr(s.err)
	root.SetVersionTemplate("davit {{.Version}}\n")
	root.SetUsageTemplate(root.UsageTemplate() + footerTemplate)
	root.SetFlagErrorFunc(flagError)
	root.SetHelpCommand(newHelp())
	root.AddCommand(
		newPull(s), newApply(s), newCopy(s), newPush(s), newSync(s),
		newTags(s), newCatalog(s), newPlatforms(s), newManifest(s), newConfig(s), newDigest(s), newBlob(s),
		newInspect(s), newFiles(s), newCat(s), newDiff(s), newVerify(s), newServe(s),
		newLogin(s), newLogout(s), newToken(s), newDoctor(s),
		newDemo(s), newCompletion(s), newMan(), newVersion(s),
	)
	for _, cmd := range root.Commands() {
		completeFlags(cmd)
	}
	return root
}

// footerTemplate prints what a command has to say below its flags.
const footerTemplate = `{{with index .Annotations "footer"}}
{{.}}
{{end}}`

// flagError is a usage error without the words of the parser in it.
func flagError(cmd *cobra.Command, err error) error {
	var invalid *pflag.InvalidValueError
	if errors.As(err, &invalid) {
		why := invalid.Unwrap()
		switch invalid.GetFlag().Value.Type() {
		case "int":
			why = errors.New("want a number")
		case "duration":
			why = errors.New("want a time such as 30s")
		case "bool":
			why = errors.New("want true or false, or no value at all")
		case "HOST": // whose password may stand before it
			return usagef("--%s: %w", invalid.GetFlag().Name, why)
		}
		return usagef("--%s %q: %w", invalid.GetFlag().Name, invalid.GetValue(), why)
	}
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) {
		name := unknown.GetSpecifiedName()
		if cmd.Flags().Lookup("src-"+name) != nil {
			return usagef("unknown flag --%s: there are two sides, --src-%s and --dest-%s", name, name, name)
		}
		if ours := flagsOfOthers[name]; ours != "" {
			return usagef("unknown flag --%s: %s", name, ours)
		}
	}
	return usageError{err}
}

// flagsOfOthers are flags of docker, podman, skopeo, crane and ctr that people
// know by heart, and what does the same here.
var flagsOfOthers = map[string]string{
	"all-platforms": "-p all takes all platforms",
	"arch":          "-p OS/ARCH chooses a platform",
	"os":            "-p OS/ARCH chooses a platform",
	"cert-dir":      "--ca-cert, --cert and --key name the files; certs.d is read by itself",
	"creds":         "a password among the arguments can be read by all users of the machine: use -u USER with --password-stdin",
	"password":      "a password among the arguments can be read by all users of the machine: use -u USER with --password-stdin",
	"http-proxy":    "--proxy URL names a proxy",
	"tls-verify":    "--insecure accepts any certificate, --plain-http speaks HTTP",
	"skip-verify":   "--insecure accepts any certificate, --plain-http speaks HTTP",

	// Of copies.
	"all":             "all platforms are taken; -p narrows",
	"multi-arch":      "all platforms are taken; -p narrows",
	"src-creds":       "a password among the arguments can be read by all users of the machine: use --src-username with --src-password-stdin",
	"dest-creds":      "a password among the arguments can be read by all users of the machine: use --dest-username with --dest-password-stdin",
	"src-tls-verify":  "--insecure=HOST accepts any certificate, --plain-http=HOST speaks HTTP",
	"dest-tls-verify": "--insecure=HOST accepts any certificate, --plain-http=HOST speaks HTTP",
}

func unknownCommand(root *cobra.Command, name string) error {
	near := root.SuggestionsFor(name)
	if len(near) > 0 {
		return usagef("unknown command %q; did you mean %s?", name, near[0])
	}
	for _, c := range root.Commands() {
		if sortedLetters(c.Name()) == sortedLetters(name) { // sycn
			return usagef("unknown command %q; did you mean %s?", name, c.Name())
		}
	}
	return usagef("unknown command %q; to pull an image of that name: davit pull %s", name, name)
}

func sortedLetters(name string) string {
	letters := []byte(name)
	slices.Sort(letters)
	return string(letters)
}

func newHelp() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Explain a command",
		ValidArgsFunction: func(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
			var names []string
			for _, c := range pages(cmd.Root()) {
				names = append(names, c.Name())
			}
			return completeOne(names)(cmd, args, typed)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return usagef("no help for %q: there is no such command", args[len(args)-1])
			}
			about.InitDefaultHelpFlag()
			return about.Help()
		},
	}
}
