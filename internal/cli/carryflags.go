package cli

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/davit-cli/davit"
	"github.com/davit-cli/davit/credential"
	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/ref"
)

// carryFlags are the flags of the commands that carry images from one place to
// another: copy, push and sync. A command reads its items, then opens, and ends
// with explain where there is an error.
type carryFlags struct {
	platforms []string
	noForeign bool
	bases     []string
	referrers bool
	src, dest credentialFlags
	reach     hostFlags
	transfer  transferFlags
	display   displayFlags

	items    []davit.CopyItem
	sources  []davit.Location    // of the items
	targets  []davit.Destination // likewise
	aliases  []alias             // that were among their names
	fetching atomic.Bool         // blobs, once there are some to be moved
}

// add adds the flags of a command with two sides.
func (f *carryFlags) add(cmd *cobra.Command) {
	f.addContent(cmd)
	flags := cmd.Flags()
	f.src.side, f.dest.side = "src-", "dest-"
	f.src.add(flags)
	f.dest.add(flags)
	for _, side := range []string{f.src.side, f.dest.side} {
		of := map[string]string{"src-": "copied from", "dest-": "copied to"}[side]
		flags.Lookup(side + "username").Usage = "`USER` for the registry that is " + of + "; asks for the password unless it is on stdin"
		flags.Lookup(side + "password-stdin").Usage = "read that user's password from stdin"
		flags.Lookup(side + "token-stdin").Usage = "read a token for that registry from stdin"
		flags.Lookup(side + "authfile").Usage = "`FILE` with credentials for that side as podman login stores them"
	}
	f.reach.add(flags)
	f.transfer.add(flags)
	f.display.add(cmd)
}

// addDestination adds the flags of a command that copies from the disk only.
func (f *carryFlags) addDestination(cmd *cobra.Command) {
	f.addContent(cmd)
	f.src.given = func(string) bool { return false }
	f.dest.add(cmd.Flags())
	f.reach.addWithoutMirrors(cmd.Flags())
	f.transfer.add(cmd.Flags())
	f.display.add(cmd)
}

// addBases adds the flag for what deltas leave out.
func (f *carryFlags) addBases(flags *pflag.FlagSet) {
	flags.StringArrayVar(&f.bases, "base", nil, "`FILE` that has what a delta of davit pull --since leaves out; repeatable")
}

// addContent adds the flags that tell what is carried.
func (f *carryFlags) addContent(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.SortFlags = false
	addPlatforms(cmd, &f.platforms)
	flags.Lookup("platform").Usage = "`OS/ARCH` such as linux/arm64; several with commas (default: all)"
	flags.BoolVar(&f.noForeign, "no-foreign", false, "leave out layers that the registry need not hold (foreign: with URLs)")
	flags.BoolVar(&f.referrers, "referrers", false, "take along what refers to the image: signatures, SBOMs, attestations")
}

// carryFooter is lookFooter for commands with two sides.
var carryFooter = strings.ReplaceAll(lookFooter, "1. -u with --password-stdin or a prompt, or --token-stdin",
	"1. of each side --src-username or --dest-username, with the password on stdin or at\n     a prompt, or a token on stdin")

// item reads one image and where it goes.
func (f *carryFlags) item(source, destination string) error {
	config, err := f.reach.files()
	if err != nil {
		return err
	}
	at, err := davit.ParseLocation(source)
	if err != nil {
		return usageError{err}
	}
	to, err := davit.ParseDestination(destination)
	if err != nil {
		return usageError{err}
	}
	for _, name := range []struct {
		written *string
		r       *ref.Reference
	}{{&source, &at.Reference}, {&destination, &to.Reference}} {
		if name.r.Repository == "" {
			continue
		}
		r, meant, err := parseName(config, strings.TrimPrefix(strings.TrimSpace(*name.written), "docker://"))
		if err != nil {
			return err
		}
		if meant != nil {
			f.aliases = append(f.aliases, *meant)
			*name.r, *name.written = r, "docker://"+r.String()
		}
	}
	f.items = append(f.items, davit.CopyItem{Source: source, Destination: destination})
	f.sources, f.targets = append(f.sources, at), append(f.targets, to)
	return nil
}

// validate finds what is wrong with the command line before any request is made.
func (f *carryFlags) validate(names []string) error {
	if err := f.reach.misplaced(names); err != nil {
		return err
	}
	for _, flag := range []struct {
		side       *credentialFlags
		references []ref.Reference
		what       string
	}{{&f.src, f.from(), "copied from"}, {&f.dest, f.to(), "copied to"}} {
		if err := flag.side.validate(registries(flag.references)); err != nil {
			return err
		}
		if len(flag.references) == 0 && (flag.side.username != "" || flag.side.stdin() != "") {
			return usagef("%s is for a registry, but none is %s", flag.side.flag("username"), flag.what)
		}
	}
	if f.src.stdin() != "" && f.dest.stdin() != "" {
		return usagef("%s and %s both want stdin", f.src.stdin(), f.dest.stdin())
	}
	if f.referrers && slices.ContainsFunc(f.targets, func(to davit.Destination) bool { return to.Format == davit.Components }) {
		return usagef("--referrers: components have no place for them: archives and layouts have")
	}
	if slices.Contains(f.bases, "") {
		return usagef("--base is empty")
	}
	if len(f.platforms) > 0 {
		if _, err := image.ParsePlatforms(f.platforms...); err != nil {
			return usageError{err}
		}
	}
	for _, err := range []error{f.reach.validate(append(f.from(), f.to()...)), f.transfer.validate(), f.display.validate()} {
		if err != nil {
			return err
		}
	}
	return nil
}

// from are the names in registries that are copied from.
func (f *carryFlags) from() []ref.Reference {
	var references []ref.Reference
	for _, at := range f.sources {
		if at.Path == "" {
			references = append(references, at.Reference)
		}
	}
	return references
}

// to are the names in registries that are copied to.
func (f *carryFlags) to() []ref.Reference {
	var references []ref.Reference
	for _, to := range f.targets {
		if to.Path == "" {
			references = append(references, to.Reference)
		}
	}
	return references
}

// open starts the display, which the caller closes before the result is
// printed, and returns what the library needs.
func (f *carryFlags) open(ctx context.Context, s streams) (davit.CopyOptions, display, error) {
	opts := davit.CopyOptions{Platforms: f.platforms, Bases: f.bases, NoForeign: f.noForeign, Referrers: f.referrers, Transfer: f.transfer.options()}
	src, dest, err := f.credentials(ctx, s)
	if err != nil {
		return opts, display{}, err
	}
	reached, err := f.reach.options(append(f.from(), f.to()...))
	if err != nil {
		return opts, display{}, err
	}
	reached.Retries = f.transfer.metadataRetries()
	shown := f.display.open(s.err)
	reached.Trace = shown.trace
	opts.Source, opts.Destination = reached, reached
	opts.Source.Credentials, opts.Destination.Credentials = src, dest
	opts.Events = func(e image.Event) {
		if e.Kind == image.EventPlanned {
			f.fetching.Store(true)
		}
		shown.events(e)
	}
	f.reach.tellUnread(shown.step)
	for _, a := range f.aliases {
		shown.note("%s", a)
	}
	for i, at := range f.sources {
		if at.Guessed {
			shown.note("%s is the image on this machine's disk; docker://%s is the registry's", f.items[i].Source, f.items[i].Source)
		}
	}
	return opts, shown, nil
}

// credentials are those of either side. What the environment gives is for both
// sides' registries together, so that it does not go to two of them.
func (f *carryFlags) credentials(ctx context.Context, s streams) (src, dest credential.Provider, err error) {
	from, to := registries(f.from()), registries(f.to())
	givenSrc, err := f.src.fromFlags(ctx, s, from)
	if err != nil {
		return nil, nil, err
	}
	givenDest, err := f.dest.fromFlags(ctx, s, to)
	if err != nil {
		return nil, nil, err
	}
	var others []string
	if givenSrc == nil {
		others = append(others, from...)
	}
	if givenDest == nil {
		others = append(others, to...)
	}
	slices.Sort(others)
	others = slices.Compact(others)
	environment := credential.Environment(nil, others...)
	if err := checkEnvironment(ctx, environment, others); err != nil {
		return nil, nil, err
	}
	return f.src.chain(givenSrc, environment), f.dest.chain(givenDest, environment), nil
}

// explain adds to err what a person can do about it.
func (f *carryFlags) explain(ctx context.Context, err error) error {
	c := circumstances{resumable: true, fetching: f.fetching.Load(), carries: true, side: f.dest.side}
	if hosts := registries(f.to()); len(hosts) == 1 {
		c.target = hosts[0]
	}
	if hosts := registries(append(f.from(), f.to()...)); len(hosts) == 1 {
		c.registry = hosts[0]
	}
	if hosts := registries(f.from()); len(hosts) == 1 {
		c.source = hosts[0]
	}
	for _, at := range f.sources {
		if at.Path != "" && c.disk == "" {
			c.disk = at.Path
		}
	}
	return explain(ctx, err, c)
}

// completeCarried completes images on disk and in registries, at most so many; of
// two the second with the destination's credential.
func (f *carryFlags) completeCarried(most int) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		side := f.dest
		if most > 0 && len(args) == 0 {
			side = f.src
		}
		return completeImages(&registryFlags{login: side, reach: f.reach}, most)(cmd, args, typed)
	}
}
