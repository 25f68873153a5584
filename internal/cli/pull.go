package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"

	"github.com/spf13/cobra"

	"github.com/davit-cli/davit"
	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/ref"
)

const pullLong = `Take an image out of its registry and write it as one archive, which docker load,
podman load, ctr images import and skopeo accept.

IMAGE is a name as docker pull takes it, or a registry's URL. What an interrupted
pull has fetched is used when the same command runs again. Nothing stands under
the archive's name before it is whole and verified.

Printed on stdout: the archive, a tab, and the image's name@digest.`

const pullExample = `  davit pull alpine                                ./alpine_latest.tar, for this machine
  davit pull mysql:8 -p linux/arm64 -o mysql.tar
  davit pull alpine -o - | docker load
  davit pull ghcr.io/org/app@sha256:… --tag app:1
  davit pull registry.lan:5000/app -u me --password-stdin < token`

const pullFooter = exitCodesHelp + `

Environment:
  DAVIT_USERNAME, DAVIT_PASSWORD   credential, for the registry DAVIT_REGISTRY
                                   alone where that is set
  DOCKER_CONFIG                    where docker login stores credentials (~/.docker)
  HTTPS_PROXY, HTTP_PROXY, NO_PROXY
  SSL_CERT_FILE, SSL_CERT_DIR      CAs to trust, in place of the system's`

// archiveFormat is the one format there is.
const archiveFormat = "archive"

// stream is the output that stands for stdout.
const stream = "-"

type pullOptions struct {
	name     string
	platform string
	output   string
	format   string
	tag      string
	restart  bool
	registry registryFlags
	transfer transferFlags
	display  displayFlags

	given     func(flag string) bool
	reference ref.Reference // name, parsed by validate
}

func newPull(s streams) *cobra.Command {
	var o pullOptions
	cmd := &cobra.Command{
		Use:         "pull IMAGE",
		Short:       "Write an image as an archive that every loader accepts",
		Long:        pullLong,
		Example:     pullExample,
		Annotations: map[string]string{"footer": pullFooter},
		Args: func(_ *cobra.Command, args []string) error {
			switch len(args) {
			case 0:
				return usagef("which image? such as: davit pull alpine")
			case 1:
				return nil
			default:
				return usagef("one image at a time, but %d were given: %s", len(args), strings.Join(args, " "))
			}
		},
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.name = args[0]
			if err := o.validate(s); err != nil {
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
	addPlatform(cmd, &o.platform)
	flags.StringVarP(&o.output, "output", "o", "", "`FILE` to write, - for stdout (default NAME_TAG.tar in the current directory)")
	flags.StringVar(&o.tag, "tag", "", "`NAME` of the image in the archive, in place of the one it was pulled by")
	flags.StringVarP(&o.format, "format", "f", archiveFormat, "`FORMAT` to write; the one there is: archive")
	flags.BoolVar(&o.restart, "restart", false, "begin anew: drop what an interrupted pull has left")
	o.registry.add(flags)
	o.transfer.add(flags)
	o.display.add(cmd)
	o.given = flags.Changed
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{archiveFormat}, cobra.ShellCompDirectiveNoFileComp))
}

func addPlatform(cmd *cobra.Command, platform *string) {
	cmd.Flags().StringVarP(platform, "platform", "p", "", "`OS/ARCH[/VARIANT]` to take, such as linux/arm64 (default: this machine's)")
	_ = cmd.RegisterFlagCompletionFunc("platform", cobra.FixedCompletions(
		[]string{"linux/amd64", "linux/arm64", "linux/arm/v7", "linux/386", "linux/ppc64le", "linux/riscv64", "linux/s390x", "windows/amd64"},
		cobra.ShellCompDirectiveNoFileComp))
}

// validate finds what is wrong with the command line before any request is made.
func (o *pullOptions) validate(s streams) error {
	var err error
	if o.reference, err = ref.Parse(o.name); err != nil {
		return usageError{err}
	}
	if err := validatePlatform(o.platform, o.given("platform")); err != nil {
		return err
	}
	if o.format != archiveFormat {
		return usagef("--format %q: the format there is: %s", o.format, archiveFormat)
	}
	if o.given("tag") {
		if _, err := ref.ParseName(o.tag); err != nil {
			return usagef("--tag: %w", err)
		}
	}
	if err := validateOutput(o.output, o.given("output")); err != nil {
		return err
	}
	if o.output == stream && isTerminal(s.out) {
		return usagef("an archive is not written to a terminal: add | docker load, or choose a file with -o FILE")
	}
	for _, err := range []error{o.registry.validate(o.reference), o.transfer.validate(), o.display.validate()} {
		if err != nil {
			return err
		}
	}
	return nil
}

// validateOutput refuses what cannot be a file's name.
func validateOutput(path string, given bool) error {
	switch {
	case !given || path == stream:
		return nil
	case path == "":
		return usagef("--output is empty")
	case strings.HasSuffix(path, "/") || strings.HasSuffix(path, string(os.PathSeparator)):
		return usagef("--output %s is a directory: name a file in it", path)
	}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return usagef("--output %s is a directory: name a file in it", path)
	}
	return nil
}

func (o *pullOptions) run(ctx context.Context, s streams) error {
	registryOptions, err := o.registry.options(ctx, s, o.reference)
	if err != nil {
		return err
	}
	registryOptions.Retries = o.transfer.metadataRetries()
	shown := o.display.open(s.err)
	registryOptions.Trace = shown.trace
	opts := davit.PullOptions{
		Platform: o.platform,
		Output:   o.output,
		Tag:      o.tag,
		Restart:  o.restart,
		Registry: registryOptions,
		Transfer: o.transfer.options(),
		Events:   shown.events,
	}
	var fetching atomic.Bool
	opts.Events = func(e image.Event) {
		if e.Kind == image.EventPlanned {
			fetching.Store(true)
		}
		shown.events(e)
	}
	results := s.out
	if o.output == stream {
		opts.Output, opts.Stream = "", s.out
		results = s.err
	}
	result, err := davit.Pull(ctx, o.name, opts)
	shown.Close()
	if err != nil {
		return explain(ctx, err, circumstances{
			registry:  o.reference.Registry,
			resumable: opts.Stream == nil,
			fetching:  fetching.Load(),
		})
	}
	return printResult(results, result, o.display.json)
}

// printResult prints one line: the path ("-" for a stream), a tab,
// reference@digest; or the result's JSON.
func printResult(w io.Writer, result davit.PullResult, asJSON bool) error {
	if asJSON {
		return printJSON(w, result)
	}
	path := result.Path
	if path == "" {
		path = stream
	}
	reference, _, _ := strings.Cut(result.Reference, "@")
	if _, err := fmt.Fprintf(w, "%s\t%s@%s\n", path, reference, result.Digest); err != nil {
		return fmt.Errorf("print the result: %w", err)
	}
	return nil
}
