package cli_test

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// total FILE prints the sum of the numbers that a file's lines end with, behind
// a tab.
func total(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: total FILE")
	}
	var sum int64
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		line = strings.TrimSpace(line)
		n, err := strconv.ParseInt(line[strings.LastIndexByte(line, '\t')+1:], 10, 64)
		ts.Check(err)
		sum += n
	}
	_, _ = fmt.Fprintln(ts.Stdout(), sum)
}

// uploads NAME… prints how many bytes of blobs were uploaded to the registries
// together.
func uploads(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: uploads NAME…")
	}
	var sum int64
	for _, name := range args {
		r, ok := stateOf(ts).registries[name]
		if !ok {
			ts.Fatalf("no registry %q was started", name)
		}
		sum += r.Stats().Uploaded
	}
	_, _ = fmt.Fprintln(ts.Stdout(), sum)
}

// modified FILE prints when a file was written last.
func modified(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: modified FILE")
	}
	info, err := os.Stat(ts.MkAbs(args[0]))
	ts.Check(err)
	_, _ = fmt.Fprintln(ts.Stdout(), info.ModTime().UnixNano())
}

// figures FILE prints of each copied image that --json tells where it is and how
// many bytes were sent and mounted.
func figures(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: figures FILE")
	}
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		var copied struct {
			Destination   string
			Sent, Mounted int64
		}
		ts.Check(json.Unmarshal([]byte(line), &copied))
		_, _ = fmt.Fprintf(ts.Stdout(), "%s\t%d\t%d\n", copied.Destination, copied.Mounted, copied.Sent)
	}
}
