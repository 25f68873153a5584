package cli

import (
	"context"
	"fmt"
	"io"
	"net"

	"github.com/spf13/cobra"

	"github.com/davit-cli/davit"
	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/demo"
	"github.com/davit-cli/davit/internal/ui"
	"github.com/davit-cli/davit/registry"
	"github.com/davit-cli/davit/serve"
	"github.com/davit-cli/davit/transfer"
	"github.com/davit-cli/davit/verify"
)

const demoLong = `See davit work, with no network and no Docker: a registry inside davit serves a
small image for several platforms on this machine's loopback, and the same code as
davit pull's takes it out and writes an archive. Then every blob in the archive is
hashed again. The image prints a greeting where it runs.`

const demoExample = `  davit demo
  davit demo -p linux/arm64 -o /tmp/demo.tar`

// The names that the demo's archive and the image in it have.
const (
	demoOutput = "davit-demo.tar"
	demoName   = "docker.io/library/davit-demo:latest"
)

// demoRate is how many bytes a second the demo takes where somebody watches
// the bars: from loopback it would be over before they are drawn.
const demoRate = 8 << 20

type demoOptions struct {
	platform string
	output   string
	display  displayFlags
	given    func(flag string) bool
}

func newDemo(s streams) *cobra.Command {
	var o demoOptions
	cmd := &cobra.Command{
		Use:         "demo",
		Short:       "See it work, with no network",
		Long:        demoLong,
		Example:     demoExample,
		Annotations: map[string]string{"footer": exitCodesHelp},
		Args:        noArgs,

		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.validate(); err != nil {
				return err
			}
			return o.run(cmd.Context(), s)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVarP(&o.platform, "platform", "p", "", "`OS/ARCH` to take: linux/amd64, linux/arm64… (default: this machine's)")
	flags.StringVarP(&o.output, "output", "o", demoOutput, "`FILE` to write")
	o.display.add(cmd)
	o.given = flags.Changed
	return cmd
}

func (o *demoOptions) validate() error {
	if _, err := image.ParsePlatform(o.platform); o.given("platform") && err != nil {
		return usageError{err}
	}
	if o.output == stream {
		return usagef("davit demo writes a file: leave out -o -")
	}
	if err := validateOutput(o.output, true, false); err != nil {
		return err
	}
	return o.display.validate()
}

func (o *demoOptions) run(ctx context.Context, s streams) error {
	host, stop, err := serveDemo(ctx)
	if err != nil {
		return err
	}
	defer stop()
	shown := o.display.open(s.err)
	defer shown.Close()
	note := func(format string, args ...any) {
		shown.events.Send(image.Event{Kind: image.EventNote, Text: fmt.Sprintf(format, args...)})
	}

	var pace transfer.Options
	if o.display.bars(s.err) {
		pace.LimitRate = demoRate
	}
	note("a registry with a small image listens on %s, on this machine alone", host)
	if pace.LimitRate != 0 {
		note("pulling it at %s/s, so that there is something to see", ui.Size(pace.LimitRate))
	}
	var platforms []string
	if o.platform != "" {
		platforms = []string{o.platform}
	}
	result, err := davit.Pull(ctx, host+"/"+demo.Repository+":"+demo.Tag, davit.PullOptions{
		Platforms: platforms,
		Output:    o.output,
		Tag:       demoName,
		Registry:  registry.Options{PlainHTTP: true, UserAgent: userAgent(), Trace: shown.trace},
		Transfer:  pace,
		Events:    shown.events,
	})
	if err != nil {
		shown.Close()
		return explain(ctx, err, circumstances{registry: host, resumable: true})
	}
	report, err := verify.Check(ctx, result.Path, verify.Options{})
	if err != nil {
		return err
	}
	if !report.OK() {
		return fmt.Errorf("verify %s: %w: %s", result.Path, image.ErrVerification, problemText(report.Problems[0]))
	}
	note("verified: all %d blobs in %s (%s) have their digests", report.Blobs, result.Path, ui.Size(report.Bytes))
	shown.Close()
	if err := printResult(s.out, result, o.display.json); err != nil {
		return err
	}
	if !o.display.quiet {
		printDemoSteps(s.err, result.Path)
	}
	return nil
}

// serveDemo serves the demo's image on a free port of loopback until stop is called.
func serveDemo(ctx context.Context) (host string, stop func(), err error) {
	content, err := demo.Build()
	if err != nil {
		return "", nil, fmt.Errorf("build the demo image: %w", err)
	}
	handler, err := serve.New(ctx, []serve.From{{Store: content.Store(), Path: "the demo"}}, serve.Options{})
	if err != nil {
		return "", nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, fmt.Errorf("serve the demo image: %w", err)
	}
	serving, end := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		// Where it fails the pull does, which tells more; at the end it may cut.
		_ = handler.Serve(serving, listener, serve.ListenOptions{Grace: -1})
	}()
	return listener.Addr().String(), func() { end(); <-ended }, nil
}

// printDemoSteps tells what to do with the archive.
func printDemoSteps(w io.Writer, path string) {
	path = shellWord(path)
	_, _ = fmt.Fprintf(w, `
Load it, and run what is in it:
  docker load -i %[1]s && docker run --rm davit-demo
  podman load -i %[1]s && podman run --rm %[2]s
  ctr images import %[1]s && ctr run --rm %[2]s davit-demo
Take another image:
  davit pull alpine
`, path, demoName)
}
