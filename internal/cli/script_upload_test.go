package cli_test

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/davit-cli/davit/internal/registrytest"
)

// uploadFaults takes the words that say how a registry takes pushes out of
// rest; nil where it is only read.
func uploadFaults(ts *testscript.TestScript, rest map[string]string) *registrytest.Uploads {
	if _, ok := take(rest, "writable"); !ok {
		return nil
	}
	u := new(registrytest.Uploads)
	if v, ok := take(rest, "location"); ok {
		form, known := map[string]registrytest.UploadLocation{
			"absolute": registrytest.UploadAbsolute, "relative": registrytest.UploadRelative,
			"bare": registrytest.UploadBare, "elsewhere": registrytest.UploadElsewhere}[v]
		if !known {
			ts.Fatalf("location=%s: want absolute, relative, bare or elsewhere", v)
		}
		u.Location = form
	}
	for word, limit := range map[string]*int64{
		"max-body": &u.MaxBody, "max-piece": &u.MaxPatch, "min-piece": &u.MinChunk, "revoke": &u.Revoke,
	} {
		if v, ok := take(rest, word); ok {
			*limit = size(ts, v)
		}
	}
	for word, fault := range map[string]*bool{
		"no-mount": &u.NoMount, "no-subject": &u.NoSubject, "no-pieces": &u.NoPatch, "no-status": &u.NoStatus,
		"forgets": &u.Forgets, "stale-range": &u.StaleRange,
	} {
		_, *fault = take(rest, word)
	}
	if v, ok := take(rest, "upload-cut"); ok {
		after, times := sizeTimes(ts, v)
		u.Cut = &registrytest.UploadCut{After: after, Times: times}
	}
	if v, ok := take(rest, "lose"); ok {
		u.Lose = &registrytest.UploadLoss{Times: int(size(ts, v))}
	}
	if v, ok := take(rest, "told"); ok {
		u.Told = digest.Digest(v)
	}
	return u
}

// uploaded prints the bytes of blobs that were uploaded, and fails where they
// are more than may be.
func uploaded(ts *testscript.TestScript, s *state, r *testRegistry, args []string) {
	got := r.Stats().Uploaded
	_, _ = fmt.Fprintln(ts.Stdout(), got)
	atMost(ts, s, got, "uploaded", args)
}

// atMost fails where got are more bytes than args say: none, or max PERCENT
// IMAGE [plus BYTES].
func atMost(ts *testscript.TestScript, s *state, got int64, what string, args []string) {
	switch {
	case len(args) == 0:
	case len(args) == 1 && args[0] == "none":
		if got != 0 {
			ts.Fatalf("%d bytes of blobs were %s, want none", got, what)
		}
	case len(args) == 3 && args[0] == "max", len(args) == 5 && args[0] == "max" && args[3] == "plus":
		percent, err := strconv.ParseInt(strings.TrimSuffix(args[1], "%"), 10, 64)
		ts.Check(err)
		whole, ok := s.images[args[2]]
		if !ok {
			ts.Fatalf("no image %q was pushed", args[2])
		}
		most := whole * percent / 100
		if len(args) == 5 {
			most += size(ts, args[4])
		}
		if got > most {
			ts.Fatalf("%d bytes of blobs were %s, want at most %d: %s", got, what, most, strings.Join(args[1:], " "))
		}
	default:
		ts.Fatalf(registryUsage)
	}
}
