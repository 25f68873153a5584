package cli

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const completionLong = `Print a script that teaches a shell to complete davit's commands, flags and
images: archives and directories on disk, and behind a name and a colon the tags
that the registry lists, or the images on disk. Where it asks for a credential, the stored ones are used;
nobody is asked for a password.

For the shell that is open:

  bash         source <(davit completion bash)
  zsh          source <(davit completion zsh), after autoload -U compinit; compinit
  fish         davit completion fish | source
  powershell   davit completion powershell | Out-String | Invoke-Expression

For all that are to come, the same line in ~/.bashrc, ~/.zshrc or $PROFILE; or,
where the shell looks for such files:

  bash         davit completion bash > ~/.local/share/bash-completion/completions/davit
  zsh          davit completion zsh > "${fpath[1]}/_davit"
  fish         davit completion fish > ~/.config/fish/completions/davit.fish`

const completionExample = `  source <(davit completion bash)
  davit pull ghcr.io/org/app:<Tab>`

// shells are those that there is a script for.
var shells = []string{"bash", "zsh", "fish", "powershell"}

func newCompletion(s streams) *cobra.Command {
	return &cobra.Command{
		Use:               "completion SHELL",
		Short:             "Print a script for shell completion",
		Long:              completionLong,
		Example:           completionExample,
		Annotations:       map[string]string{"footer": exitCodesHelp},
		ValidArgsFunction: completeOne(shells),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("completion takes one shell: %s", strings.Join(shells, ", "))
			}
			return writeCompletion(s.out, cmd.Root(), args[0])
		},
	}
}

// writeCompletion prints the script for a shell.
func writeCompletion(w io.Writer, root *cobra.Command, shell string) error {
	var script bytes.Buffer
	var err error
	switch shell {
	case "bash":
		if err = root.GenBashCompletionV2(&script, true); err == nil {
			_, err = script.WriteString(bashWords)
		}
	case "zsh":
		err = root.GenZshCompletion(&script)
	case "fish":
		err = root.GenFishCompletion(&script, true)
	case "powershell":
		err = root.GenPowerShellCompletionWithDesc(&script)
	default:
		return usagef("there is no completion for %q: want %s", shell, strings.Join(shells, ", "))
	}
	if err == nil {
		_, err = script.WriteTo(toReader{w})
	}
	if err != nil {
		return fmt.Errorf("print the script: %w", err)
	}
	return nil
}

// bashWords goes before what cobra's script does where the bash-completion
// package is not there: it would call a function of that package.
const bashWords = `
# The words up to the cursor, in which : and = are no breaks, without the
# bash-completion package.
__davit_init_completion()
{
    local i word apart rest=${COMP_LINE:0:COMP_POINT}
    words=()
    for ((i = 0; i <= COMP_CWORD; i++)); do
        apart=${rest%%[![:space:]]*}
        rest=${rest#"$apart"}
        word=${COMP_WORDS[i]}
        ((i == COMP_CWORD)) && word=$rest
        rest=${rest#"$word"}
        if ((i > 0)) && [[ -z $apart && ($word == [:=]* || ${COMP_WORDS[i-1]} == *[:=]) ]]; then
            words[${#words[@]}-1]+=$word
        else
            words+=("$word")
        fi
    done
    cword=$((${#words[@]} - 1))
    cur=${words[cword]}
    prev=${words[cword > 0 ? cword - 1 : 0]}
}
`

// completeFlags has no files offered where a flag wants something else: the
// help tells what each wants.
func completeFlags(cmd *cobra.Command) {
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		switch want, _ := pflag.UnquoteUsage(f); want {
		case "FILE", "PATH", "DIR":
		default:
			// It is an error where the flag has a completion of its own, which stays.
			_ = cmd.RegisterFlagCompletionFunc(f.Name, cobra.NoFileCompletions)
		}
	})
}

// completeOne completes an argument that is one of a few words.
func completeOne(words []string) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return slices.Clone(words), cobra.ShellCompDirectiveNoFileComp
	}
}

// completeNames completes the names of images in registries: the tags behind a
// name and a colon, asked for with the command's flags. most is how many
// images the command takes, 0 for any number.
func completeNames(flags *registryFlags, most int) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if most > 0 && len(args) >= most {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return completeTags(cmd.Context(), flags, typed), cobra.ShellCompDirectiveNoFileComp
	}
}

// completeImages is completeNames for commands that take images on disk too:
// of what has no colon behind a name it completes archives and directories, and
// behind their names and a colon the images in them.
func completeImages(flags *registryFlags, most int) cobra.CompletionFunc {
	names := completeNames(flags, most)
	return func(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if most > 0 && len(args) >= most {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		paths, descend := completePaths(typed)
		switch {
		case len(paths) == 0:
			if found, stored := completeStored(cmd.Context(), typed); stored {
				return found, cobra.ShellCompDirectiveNoFileComp
			}
			return names(cmd, args, typed)
		case descend:
			return paths, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
		}
		return paths, cobra.ShellCompDirectiveNoFileComp
	}
}
