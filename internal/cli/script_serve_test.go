package cli_test

import (
	"os"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// serving waits until davit serve, whose stdout goes to a file, has printed
// what it serves, and sets $SERVED to its host.
func serving(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: serving FILE")
	}
	path := ts.MkAbs(args[0])
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		printed, _ := os.ReadFile(path) // it may not be there yet
		if line, _, ok := strings.Cut(string(printed), "\n"); ok {
			host, _, _ := strings.Cut(strings.TrimPrefix(line, `{"name":"`), "/")
			ts.Setenv("SERVED", host)
			return
		}
	}
	ts.Fatalf("nothing is served")
}
