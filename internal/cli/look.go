package cli

import (
	"cmp"
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/davit-cli/davit"
	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/ref"
)

// lookFlags are the flags of the commands that look at images, in registries
// or on disk. A command adds its own flags, then these with add or addMoving;
// it parses its arguments, opens, and ends with explain where there is an error.
type lookFlags struct {
	platform string
	noTOC    bool
	registry registryFlags
	transfer transferFlags
	display  displayFlags

	moves   bool // blobs, so that there are transfer's flags
	given   func(flag string) bool
	targets []target // by parse
}

// target is an image that a command was given.
type target struct {
	// name is what the library is to read: what was written, or what an alias
	// means.
	name  string
	at    davit.Location
	alias *alias // that it was
}

// onDisk says whether the image is no registry's.
func (t target) onDisk() bool { return t.at.Path != "" }

// add adds the flags for what asks for documents only.
func (f *lookFlags) add(cmd *cobra.Command) {
	f.registry.add(cmd.Flags())
	f.display.addMessages(cmd)
	f.given = cmd.Flags().Changed
}

// addMoving is add for what fetches layers or other blobs.
func (f *lookFlags) addMoving(cmd *cobra.Command) {
	f.moves = true
	f.registry.add(cmd.Flags())
	f.transfer.add(cmd.Flags())
	f.display.add(cmd)
	f.given = cmd.Flags().Changed
}

// addLayers is addMoving for what reads the files in layers.
func (f *lookFlags) addLayers(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.noTOC, "no-toc", false, "read layers whole, also those that have a table of contents")
	f.addMoving(cmd)
}

// addPlatform adds -p, and says what is taken without it.
func (f *lookFlags) addPlatform(cmd *cobra.Command, without string) {
	cmd.Flags().StringVarP(&f.platform, "platform", "p", "", "`OS/ARCH` such as linux/arm64 (default: "+without+")")
	_ = cmd.RegisterFlagCompletionFunc("platform", cobra.FixedCompletions(knownPlatforms, cobra.ShellCompDirectiveNoFileComp))
}

// parse reads the command's arguments, as many images as count, and finds what
// is wrong with the command line before any request is made.
func (f *lookFlags) parse(cmd *cobra.Command, args []string, count int) error {
	if err := f.registry.reach.misplaced(args); err != nil {
		return err
	}
	if len(args) != count {
		return usagef("%s takes %s, such as: %s", cmd.Name(), takes(cmd, count), example(cmd))
	}
	f.targets = nil
	for _, arg := range args {
		t, err := f.parseTarget(arg)
		if err != nil {
			return err
		}
		f.targets = append(f.targets, t)
	}
	return f.validate()
}

// takes is what a command's arguments are.
func takes(cmd *cobra.Command, count int) string {
	switch _, argument, _ := strings.Cut(cmd.Use, " "); {
	case count == 2:
		return "two images"
	case argument == "REPOSITORY":
		return "one repository"
	case argument == "NAME@DIGEST":
		return "one blob"
	}
	return "one image"
}

// example is the first of a command's examples, without what is said of it.
func example(cmd *cobra.Command) string {
	first, _, _ := strings.Cut(strings.TrimSpace(cmd.Example), "\n")
	first, _, _ = strings.Cut(first, "   ")
	return first
}

func (f *lookFlags) parseTarget(arg string) (target, error) {
	at, err := davit.ParseLocation(arg)
	if err != nil {
		return target{}, usageError{err}
	}
	t := target{name: arg, at: at}
	if t.onDisk() {
		return t, nil
	}
	config, err := f.registry.reach.files()
	if err != nil {
		return target{}, err
	}
	if t.at.Reference, t.alias, err = parseName(config, arg); err != nil {
		return target{}, err
	}
	if t.alias != nil {
		t.name = "docker://" + t.at.Reference.String()
	}
	return t, nil
}

func (f *lookFlags) validate() error {
	if f.given("platform") {
		platforms, err := image.ParsePlatforms(f.platform)
		switch {
		case err != nil:
			return usageError{err}
		case platforms.All:
			return usagef("--platform %s: choose one platform; davit platforms lists them", f.platform)
		}
	}
	if f.moves {
		if err := f.transfer.validate(); err != nil {
			return err
		}
	}
	if err := f.display.validate(); err != nil {
		return err
	}
	if references := f.references(); len(references) > 0 {
		return f.registry.validate(references)
	}
	return nil
}

// references are those of the targets that registries have.
func (f *lookFlags) references() []ref.Reference {
	var references []ref.Reference
	for _, t := range f.targets {
		if !t.onDisk() {
			references = append(references, t.at.Reference)
		}
	}
	return references
}

// open starts the display, which the caller closes before the result is
// printed, and returns what the library needs. It asks for a password where
// only a user was given, and looks for credentials only where there is a
// registry.
func (f *lookFlags) open(ctx context.Context, s streams) (davit.LookOptions, display, error) {
	opts := davit.LookOptions{Platform: f.platform, NoTOC: f.noTOC}
	if references := f.references(); len(references) > 0 {
		var err error
		if opts.Registry, err = f.registry.options(ctx, s, references); err != nil {
			return opts, display{}, err
		}
	}
	if f.moves {
		opts.Transfer = f.transfer.options()
		opts.Registry.Retries = f.transfer.metadataRetries()
	}
	shown := f.display.open(s.err)
	opts.Events, opts.Registry.Trace = shown.events, shown.trace
	f.registry.reach.tellUnread(shown.step)
	for _, t := range f.targets {
		switch {
		case t.alias != nil:
			shown.note("%s", t.alias)
		case t.at.Guessed:
			shown.note("%s is the image on this machine's disk; docker://%s is the registry's", t.name, strings.TrimSpace(t.name))
		}
	}
	return opts, shown, nil
}

// explain adds to err what a person can do about it.
func (f *lookFlags) explain(ctx context.Context, err error) error {
	if errors.Is(err, davit.ErrNoFileSystem) {
		return failure{err: err, hint: "davit inspect tells what is in it, and davit blob writes its layers one by one"}
	}
	references := f.references()
	c := circumstances{disk: f.disk()}
	if hosts := registries(references); len(hosts) == 1 {
		c.registry = hosts[0]
	}
	if len(references) > 0 {
		return explain(ctx, err, c)
	}
	// No registry was asked: what is wrong is a file's.
	if known := cmp.Or(hintDelta(err, c), hintStore(err, c)); known != "" && len(f.targets) == 1 && interruption(ctx, err) == nil {
		return failure{err: err, hint: known}
	}
	return err
}

// disk is the path of the first image on disk; empty where there is none.
func (f *lookFlags) disk() string {
	for _, t := range f.targets {
		if t.onDisk() {
			return t.at.Path
		}
	}
	return ""
}

// lookFooter is what these commands say below their flags.
const lookFooter = exitCodesHelp + `

` + credentialsHelp + `

` + hostsHelp
