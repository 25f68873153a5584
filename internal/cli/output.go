package cli

import (
	"fmt"
	"io"
	"strings"
	"sync/atomic"

	"github.com/davit-cli/davit"
	"github.com/davit-cli/davit/image"
)

// writeOutput has images written, shows how that goes, and prints what was
// written. Where the output is a stream, that goes to stdout, and the results to
// stderr. What explain makes of an error, under the circumstances, is returned.
func writeOutput(s streams, shown display, opts davit.PullOptions, asJSON bool,
	write func(davit.PullOptions) ([]davit.PullResult, error), explain func(error, circumstances) error,
) error {
	var fetching atomic.Bool
	opts.Events = func(e image.Event) {
		if e.Kind == image.EventPlanned {
			fetching.Store(true)
		}
		shown.events(e)
	}
	var results io.Writer = toReader{s.out}
	if opts.Output == stream {
		opts.Output, opts.Stream = "", results
		results = s.err
	}
	written, err := write(opts)
	shown.Close()
	for _, result := range written {
		if err := printResult(results, result, asJSON); err != nil {
			return err
		}
	}
	if err == nil {
		return nil
	}
	return explain(err, circumstances{
		resumable: opts.Stream == nil,
		fetching:  fetching.Load(),
		splits:    opts.Format == davit.Archive && opts.Split == 0,
	})
}

// printResult prints one line: the path ("-" for a stream), a tab,
// reference@digest, and where the output is a layer's own bytes another tab
// and the layer's digest; or the result's JSON.
func printResult(w io.Writer, result davit.PullResult, asJSON bool) error {
	if asJSON {
		return printJSON(w, result)
	}
	path := result.Path
	if path == "" {
		path = stream
	}
	reference, _, _ := strings.Cut(result.Reference, "@")
	line := fmt.Sprintf("%s\t%s@%s", path, reference, result.Digest)
	if result.Layer != "" {
		line += "\t" + result.Layer
	}
	if _, err := fmt.Fprintln(w, line); err != nil {
		return fmt.Errorf("print the result: %w", err)
	}
	return nil
}
