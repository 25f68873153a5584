package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/davit-cli/davit"
	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/ui"
	"github.com/davit-cli/davit/transfer"
)

// The flags that several commands have. Each group adds itself to a command's
// flags, validates what was given, and turns it into the library's options.

// transferFlags tune the engine.
type transferFlags struct {
	jobs    int
	rate    byteRate
	retries int
	stall   time.Duration
}

const maxJobs = 64

func (f *transferFlags) add(flags *pflag.FlagSet) {
	flags.IntVarP(&f.jobs, "jobs", "j", transfer.DefaultJobs, fmt.Sprintf("`N` connections at once at most, 1 to %d", maxJobs))
	flags.Var(&f.rate, "limit-rate", "bytes a second at most, such as 500K or 5M (K is 1024)")
	flags.IntVar(&f.retries, "retries", transfer.DefaultRetries, "give up after `N` tries in a row without a new byte")
	flags.DurationVar(&f.stall, "stall", transfer.DefaultStall, "replace a connection that gives no byte for this `TIME`")
	_ = flags.MarkHidden("stall") // fits nearly everybody
}

func (f *transferFlags) validate() error {
	switch {
	case f.jobs < 1 || f.jobs > maxJobs:
		return usagef("--jobs %d: want 1 to %d", f.jobs, maxJobs)
	case f.stall <= 0:
		return usagef("--stall %v: want more than 0", f.stall)
	case f.retries < 1:
		return usagef("--retries %d: want 1 or more", f.retries)
	}
	return nil
}

func (f *transferFlags) options() transfer.Options {
	return transfer.Options{Jobs: f.jobs, LimitRate: int64(f.rate), Retries: f.retries, Stall: f.stall}
}

// metadataRetries is --retries for the requests that move no blobs: there the
// first try is none of the retries, and 0 would mean the default.
func (f *transferFlags) metadataRetries() int {
	if f.retries == 1 {
		return -1
	}
	return f.retries - 1
}

// byteRate is a flag's value: bytes a second, in curl's units.
type byteRate int64

func (r *byteRate) String() string {
	if *r == 0 {
		return ""
	}
	return units.BytesSize(float64(*r))
}

// Set implements pflag.Value.
func (r *byteRate) Set(s string) error {
	n, err := units.RAMInBytes(s)
	if err != nil || n < 0 || n > math.MaxInt64/2 {
		return fmt.Errorf("want a number of bytes a second, such as 500K or 5M")
	}
	*r = byteRate(n)
	return nil
}

// Type implements pflag.Value.
func (*byteRate) Type() string { return "RATE" }

// partSize is a flag's value: bytes of a part, in decimal units unless they are
// written as binary ones.
type partSize int64

func (p *partSize) String() string {
	if *p == 0 {
		return ""
	}
	return units.HumanSizeWithPrecision(float64(*p), 4)
}

// Set implements pflag.Value.
func (p *partSize) Set(s string) error {
	parse := units.FromHumanSize
	if strings.HasSuffix(strings.ToLower(s), "ib") {
		parse = units.RAMInBytes
	}
	n, err := parse(s)
	if err != nil || n < davit.MinSplit || n > 1<<60 {
		return fmt.Errorf("want a size of 1MB or more, such as 4G, 700M or 2GiB")
	}
	*p = partSize(n)
	return nil
}

// Type implements pflag.Value.
func (*partSize) Type() string { return "SIZE" }

// displayFlags choose what is shown and how.
type displayFlags struct {
	progress string
	quiet    bool
	verbose  bool
	debug    bool
	json     bool
}

// The values of --progress.
var progressModes = map[string]ui.Mode{
	"auto":  ui.Auto,
	"bars":  ui.Bars,
	"plain": ui.Plain,
	"json":  ui.JSON,
	"none":  ui.Plain, // without the events of progress
}

func (f *displayFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.progress, "progress", "auto", "`HOW` to show progress: auto, bars, plain, json, none")
	_ = cmd.RegisterFlagCompletionFunc("progress", cobra.FixedCompletions(
		[]string{"auto", "bars", "plain", "json", "none"}, cobra.ShellCompDirectiveNoFileComp))
	f.addMessages(cmd)
}

// addMessages is add for what has no progress to show.
func (f *displayFlags) addMessages(cmd *cobra.Command) {
	if f.progress == "" {
		f.progress = "plain"
	}
	flags := cmd.Flags()
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "show warnings and errors only")
	flags.BoolVarP(&f.verbose, "verbose", "v", false, "tell each step")
	flags.BoolVar(&f.debug, "debug", false, "tell each request and answer, without secrets")
	flags.BoolVar(&f.json, "json", false, "print results as JSON, an object a line")
}

func (f *displayFlags) validate() error {
	_, known := progressModes[f.progress]
	switch {
	case !known:
		return usagef("--progress %q: want auto, bars, plain, json or none", f.progress)
	case f.quiet && f.verbose:
		return usagef("--quiet and --verbose contradict each other")
	case f.quiet && f.debug:
		return usagef("--quiet and --debug contradict each other")
	}
	return nil
}

// bars tells whether a person will see bars on w.
func (f *displayFlags) bars(w io.Writer) bool {
	return !f.quiet && (f.progress == "bars" || f.progress == "auto" && isTerminal(w))
}

// display is what shows the events of one command.
type display struct {
	*ui.Display
	events image.EventFunc
	// trace tells each request and answer; nil where nobody asked.
	trace func(line string)
}

// warn tells what a person must read.
func (d display) warn(format string, args ...any) {
	d.events.Send(image.Event{Kind: image.EventWarning, Text: fmt.Sprintf(format, args...)})
}

// step tells what only --verbose shows.
func (d display) step(format string, args ...any) {
	d.events.Send(image.Event{Kind: image.EventStep, Text: fmt.Sprintf(format, args...)})
}

// note tells what a person should read.
func (d display) note(format string, args ...any) {
	d.events.Send(image.Event{Kind: image.EventNote, Text: fmt.Sprintf(format, args...)})
}

// open starts the display; the caller closes it before the result is printed.
func (f *displayFlags) open(w io.Writer) display {
	mode := progressModes[f.progress]
	if f.quiet {
		mode = ui.Quiet
	}
	shown := ui.New(ui.Options{Mode: mode, Verbose: f.verbose || f.debug, Out: w})
	d := display{Display: shown, events: shown.Event}
	if f.progress == "none" {
		d.events = func(e image.Event) {
			switch e.Kind {
			case image.EventStep, image.EventNote, image.EventWarning, image.EventRetry:
				shown.Event(e)
			}
		}
	}
	if f.debug {
		d.trace = func(line string) { d.events.Send(image.Event{Kind: image.EventStep, Text: line}) }
	}
	return d
}

// noArgs refuses arguments.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("%s takes no argument, but %q was given", cmd.Name(), args[0])
	}
	return nil
}

// printJSON prints v in one line, fit for a terminal: what clean would take out
// is escaped.
func printJSON(w io.Writer, v any) error {
	var encoded, shown strings.Builder
	enc := json.NewEncoder(&encoded)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	for _, r := range encoded.String() {
		if c := string(r); clean(c) == c {
			shown.WriteString(c)
		} else {
			fmt.Fprintf(&shown, `\u%04x`, r) // within a string, where else would it be
		}
	}
	if err == nil {
		_, err = io.WriteString(toReader{w}, shown.String())
	}
	if err != nil {
		return fmt.Errorf("print the result: %w", err)
	}
	return nil
}

// printLine prints a line of a result, fit for a terminal.
func printLine(w io.Writer, format string, args ...any) error {
	if _, err := fmt.Fprintln(toReader{w}, oneLine(fmt.Sprintf(format, args...))); err != nil {
		return fmt.Errorf("print the result: %w", err)
	}
	return nil
}
