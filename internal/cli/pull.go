package cli

import (
	"cmp"
	"context"
	"errors"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/davit-cli/davit"
	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/ref"
)

const pullLong = `Take images out of their registries and write them, as one of these formats:

  archive      one tar that docker load, podman load, ctr images import and
               skopeo accept (the default)
  oci          an OCI image layout: a directory, new or added to
  components   manifest, config and layers as plain files in a directory
  rootfs       the image's file system as one tar, for WSL or chroot
  files        the same, unpacked into a directory that is new or empty

IMAGE is a name as docker pull takes it, or a registry's URL, or an image on disk:
x.tar, ./layout, oci:DIR, docker-archive:FILE, with :NAME where there are several.
Several images go into one archive or layout, each blob once. What an interrupted
pull has fetched is used when the same command runs again. No file stands under
its name before it is whole and verified; of a layout or components, what names
the image comes last. An archive in parts (--split) is PATH.001, PATH.002 and so on, at least one,
with their checksums in PATH.sha256, which tells how to join them; davit reads
them by PATH or PATH.001.

Printed on stdout, a line for each image: the output, a tab, and the image's
name@digest; with a rootfs that is one layer's own bytes another tab and the
layer's digest. With -o - it is printed on stderr.
` + sinceHelp

const pullExample = `  davit pull alpine                                ./alpine_latest.tar, for this machine
  davit pull mysql:8 -p linux/arm64 -o mysql.tar
  davit pull alpine -o - | docker load
  davit pull a:1 b:2 c:3 -o bundle.tar             one archive, shared layers once
  davit pull --from images.txt -f oci -o layout
  davit pull app:1 -p linux/amd64,linux/arm64      the index as served, two platforms
  davit pull app:1 -f components -o parts
  davit pull alpine -f rootfs -o alpine.tar.gz     wsl --import alpine DIR alpine.tar.gz
  davit pull ./saved.tar -f rootfs -o x.tar.gz     of docker save's archive
  davit pull app:1 --layers gzip                   for Docker before 23
  davit pull app:2 --since app1.tar -o delta.tar   what is not in app1.tar
  davit pull app:1 -o app.tar --split 4G           ./app.tar.001 and so on, for FAT32
  davit pull ghcr.io/org/app@sha256:… --tag app:1
  davit pull registry.lan:5000/app -u me --password-stdin < password
  davit pull registry.gitlab.com/group/app --token-stdin < token
  davit pull alpine --mirror harbor.lan/hub`

const pullFooter = exitCodesHelp + `

` + credentialsHelp + `

` + hostsHelp + `
  TMPDIR                          where layers wait with -o -, for -f rootfs and --layers`

// stream is the output that stands for stdout.
const stream = "-"

type pullOptions struct {
	names        []string
	from         string
	platforms    []string
	output       string
	split        partSize
	format       string
	tag          string
	trimIndex    bool
	layers       string
	compress     string
	level        int
	saveConfig   string
	manifestOnly bool
	noForeign    bool
	referrers    bool
	since        []string
	keepGoing    bool
	restart      bool
	registry     registryFlags
	transfer     transferFlags
	display      displayFlags

	given      func(flag string) bool
	references []ref.Reference // names, parsed by validate
	bases      []ref.Reference // of since
	paths      []string        // likewise, of images on disk
	aliases    []alias         // that were among them
}

func newPull(s streams) *cobra.Command {
	var o pullOptions
	cmd := &cobra.Command{
		Use:               "pull IMAGE...",
		Short:             "Write images as an archive, a layout, files or a root file system",
		Long:              pullLong,
		Example:           pullExample,
		Annotations:       map[string]string{"footer": pullFooter},
		ValidArgsFunction: completeNames(&o.registry, 0),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.names = args
			if err := o.validate(cmd.Context(), s); err != nil {
				return err
			}
			return o.run(cmd.Context(), s)
		},
	}
	o.add(cmd)
	return cmd
}

func (o *pullOptions) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVarP(&o.format, "format", "f", string(davit.Archive), "`FORMAT` to write: archive, oci, components, rootfs, files")
	flags.StringVarP(&o.output, "output", "o", "", "`PATH` to write, - for stdout (default NAME_TAG and what the format adds)")
	flags.Var(&o.split, "split", "`SIZE` of parts to write an archive in, PATH.001 and on: 4G fits FAT32 (4GiB does not)")
	addPlatforms(cmd, &o.platforms)
	flags.BoolVar(&o.trimIndex, "trim-index", false, "drop what was not taken from the index (its digest changes)")
	flags.StringVar(&o.tag, "tag", "", "`NAME` of the image in the archive or layout, in place of the one it was pulled by")
	flags.StringVar(&o.from, "from", "", "`FILE` that lists images, one a line, - for stdin")
	flags.BoolVar(&o.keepGoing, "keep-going", false, "write what of several images can be had, and exit 1")
	flags.StringVar(&o.layers, "layers", "", "`HOW` to re-encode layers: gzip, none (the manifest's digest changes)")
	flags.StringVar(&o.compress, "compress", "", "`HOW` to compress a rootfs: none, gzip, zstd (default: as the output's name ends)")
	flags.IntVar(&o.level, "level", 0, "`N` how hard to compress, gzip 1 to 9, zstd 1 to 19 (default: the fastest)")
	flags.StringVar(&o.saveConfig, "save-config", "", "`FILE` for the image's config, beside rootfs or files")
	flags.BoolVar(&o.manifestOnly, "manifest-only", false, "of components, only manifests and configs")
	flags.BoolVar(&o.noForeign, "no-foreign", false, "leave out layers that the registry need not hold (foreign: with URLs)")
	flags.BoolVar(&o.referrers, "referrers", false, "take along what refers to the images: signatures, SBOMs, attestations")
	flags.StringArrayVar(&o.since, "since", nil, "`BASE` that the other side has: its layers are left out; repeatable")
	flags.BoolVar(&o.restart, "restart", false, "begin anew: drop what an interrupted pull has left")
	o.registry.add(flags)
	o.transfer.add(flags)
	o.display.add(cmd)
	o.given = flags.Changed
	for flag, values := range map[string][]string{
		"format":   formatNames(),
		"layers":   {"gzip", "none"},
		"compress": {"none", "gzip", "zstd"},
	} {
		_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	}
}

func formatNames() []string {
	var names []string
	for _, f := range davit.Formats() {
		names = append(names, string(f))
	}
	return names
}

func addPlatforms(cmd *cobra.Command, platforms *[]string) {
	cmd.Flags().StringSliceVarP(platforms, "platform", "p", nil, "`OS/ARCH` such as linux/arm64; several with commas, or all (default: this machine's)")
	_ = cmd.RegisterFlagCompletionFunc("platform", cobra.FixedCompletions(
		append(knownPlatforms, image.AllPlatforms), cobra.ShellCompDirectiveNoFileComp))
}

// knownPlatforms are offered to complete --platform.
var knownPlatforms = []string{
	"linux/amd64", "linux/arm64", "linux/arm/v7", "linux/386", "linux/ppc64le", "linux/riscv64", "linux/s390x", "windows/amd64",
}

// validate finds what is wrong with the command line before any request is made.
func (o *pullOptions) validate(ctx context.Context, s streams) error {
	if err := o.list(ctx, s); err != nil {
		return err
	}
	if err := o.parse(); err != nil {
		return err
	}
	if err := o.validateFlags(); err != nil {
		return err
	}
	if o.output == stream && isTerminal(s.out) {
		program := "docker load"
		if o.format == string(davit.Rootfs) {
			program = "docker import -"
		}
		return usagef("the %s is not written to a terminal: pipe it into a program, %s for one, or choose a file with -o FILE", o.format, program)
	}
	if len(o.asked()) > 0 {
		if err := o.registry.validate(o.asked()); err != nil {
			return err
		}
	}
	return cmp.Or(o.transfer.validate(), o.display.validate())
}

// parse reads the names, which may be aliases.
func (o *pullOptions) parse() error {
	config, err := o.registry.reach.files()
	if err != nil {
		return err
	}
	if err := o.registry.reach.misplaced(o.names); err != nil {
		return err
	}
	for i, name := range o.names {
		if at, err := davit.ParseLocation(name); err == nil && at.Path != "" && !at.Guessed {
			o.paths = append(o.paths, name)
			continue
		}
		r, meant, err := parseName(config, name)
		if err != nil {
			return err
		}
		if meant != nil {
			o.aliases = append(o.aliases, *meant)
			o.names[i] = r.String()
		}
		o.references = append(o.references, r)
	}
	return o.parseSince(config)
}

// asked are all images that registries are asked for.
func (o *pullOptions) asked() []ref.Reference { return slices.Concat(o.references, o.bases) }

// list adds the images of --from.
func (o *pullOptions) list(ctx context.Context, s streams) error {
	switch {
	case o.given("from") && o.from == "":
		return usagef("--from is empty")
	case o.from == stream && o.registry.login.stdin() != "":
		return usagef("--from - and %s both want stdin", o.registry.login.stdin())
	case o.from != "":
		names, err := readList(ctx, o.from, s.in)
		if err != nil {
			return err
		}
		o.names = append(o.names, names...)
	}
	if len(o.names) == 0 {
		return usagef("which image? such as: davit pull alpine")
	}
	return nil
}

// directory tells whether the format is one.
func (o *pullOptions) directory() bool {
	return slices.Contains([]string{string(davit.OCI), string(davit.Components), string(davit.Files)}, o.format)
}

func (o *pullOptions) validateFlags() error {
	if !slices.Contains(formatNames(), o.format) {
		return usagef("--format %q: want %s", o.format, strings.Join(formatNames(), ", "))
	}
	for _, flag := range []string{"platform", "tag", "layers", "compress", "save-config"} {
		if o.given(flag) && o.value(flag) == "" {
			return usagef("--%s is empty", flag)
		}
	}
	if o.given("level") && o.level < 1 {
		return usagef("--level %d: want 1 or more", o.level)
	}
	if o.given("tag") {
		if _, err := ref.ParseName(o.tag); err != nil {
			return usagef("--tag: %w", err)
		}
	}
	if err := validateOutput(o.output, o.given("output"), o.directory()); err != nil {
		return err
	}
	if o.saveConfig == stream {
		return usagef("--save-config writes a file, not to stdout")
	}
	if o.given("save-config") {
		if err := validateFile("save-config", o.saveConfig); err != nil {
			return err
		}
	}
	distinct := map[string]bool{}
	for _, r := range o.references {
		distinct[r.Scheme+"//"+r.String()] = true
	}
	for _, path := range o.paths {
		distinct[path] = true
	}
	opts := o.library()
	if o.output == stream {
		opts.Output, opts.Stream = "", io.Discard
	}
	if len(distinct) > 1 && o.output == "" && (opts.Format == davit.Archive || opts.Format == davit.OCI) {
		return usagef("several images need an output with a name: -o NAME")
	}
	if err := opts.Validate(len(distinct)); err != nil {
		return usageError{err}
	}
	return nil
}

// value is a flag's value as text.
func (o *pullOptions) value(flag string) string {
	return map[string]string{
		"platform": strings.Join(o.platforms, ","), "tag": o.tag, "layers": o.layers,
		"compress": o.compress, "save-config": o.saveConfig,
	}[flag]
}

// library is what the flags ask of the library, without what comes of running.
func (o *pullOptions) library() davit.PullOptions {
	return davit.PullOptions{
		Platforms:    o.platforms,
		TrimIndex:    o.trimIndex,
		Format:       davit.Format(o.format),
		Output:       o.output,
		Split:        int64(o.split),
		Tag:          o.tag,
		Layers:       davit.Compression(o.layers),
		ManifestOnly: o.manifestOnly,
		Compress:     davit.Compression(o.compress),
		Level:        o.level,
		SaveConfig:   o.saveConfig,
		NoForeign:    o.noForeign,
		Referrers:    o.referrers,
		Since:        o.since,
		KeepGoing:    o.keepGoing,
		Restart:      o.restart,
		Transfer:     o.transfer.options(),
	}
}

// validateOutput refuses what cannot be the output's name.
func validateOutput(path string, given, directory bool) error {
	switch {
	case !given || path == stream:
		return nil
	case path == "":
		return usagef("--output is empty")
	case directory:
		if info, err := os.Stat(path); err == nil && !info.IsDir() {
			return usagef("--output %s is no directory", path)
		}
		return nil
	}
	return validateFile("output", path)
}

// validateFile refuses a path that names a directory.
func validateFile(flag, path string) error {
	info, err := os.Stat(path)
	if err == nil && info.IsDir() || strings.HasSuffix(path, "/") || strings.HasSuffix(path, string(os.PathSeparator)) {
		return usagef("--%s %s is a directory: name a file in it", flag, path)
	}
	return nil
}

func (o *pullOptions) run(ctx context.Context, s streams) error {
	opts := o.library()
	var err error
	if len(o.asked()) > 0 {
		if opts.Registry, err = o.registry.options(ctx, s, o.asked()); err != nil {
			return err
		}
	}
	opts.Registry.Retries = o.transfer.metadataRetries()
	if opts.Format == davit.Rootfs || opts.Format == davit.Files {
		defer saveMemory()()
	}
	shown := o.display.open(s.err)
	opts.Registry.Trace = shown.trace
	o.registry.reach.tellUnread(shown.step)
	for _, a := range o.aliases {
		shown.events.Send(image.Event{Kind: image.EventNote, Text: a.String()})
	}
	pull := func(opts davit.PullOptions) ([]davit.PullResult, error) { return davit.PullAll(ctx, o.names, opts) }
	return writeOutput(s, shown, opts, o.display.json, pull, func(err error, c circumstances) error {
		c.registry, c.config = o.oneRegistry(), o.saveConfig != ""
		c.disk = o.damaged(err)
		return explain(ctx, err, c)
	})
}

// treeGC is how much garbage the tree of a file system lives with, in percent
// of itself: it is large, and lives until the end.
const treeGC = 25

// saveMemory trades some time for memory, unless the user has set GOGC, until
// the function that it returns is called.
func saveMemory() (restore func()) {
	if os.Getenv("GOGC") != "" {
		return func() {}
	}
	before := debug.SetGCPercent(treeGC)
	return func() { debug.SetGCPercent(before) }
}

// oneRegistry is the images' registry, where it is one.
func (o *pullOptions) oneRegistry() string {
	if hosts := registries(o.asked()); len(hosts) == 1 {
		return hosts[0]
	}
	return ""
}

// damaged is the path of the images on disk, where that is one and its content is
// wrong.
func (o *pullOptions) damaged(err error) string {
	if len(o.paths) != 1 || !errors.Is(err, image.ErrVerification) {
		return ""
	}
	at, _ := davit.ParseLocation(o.paths[0]) // parse has read it
	return at.Path
}
