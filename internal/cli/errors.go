package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/davit-cli/davit"
	"github.com/davit-cli/davit/image"
)

// Exit codes are a promise to scripts.
const (
	exitDone         = 0
	exitFailed       = 1
	exitUsage        = 2
	exitNotFound     = 3
	exitUnauthorized = 4
	exitVerification = 5
	exitInterrupted  = 130
	exitSignal       = 128 // and the signal's number: 130, 141, 143
)

const exitCodesHelp = `Exit codes:
  0 done   1 failed   2 wrong usage   3 not found (image, tag, platform)
  4 not authorized   5 content failed verification   129, 130, 143 interrupted
  141 whoever read the output has gone`

// usageError is a command line that cannot be run.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }

func (e usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

// failure is an error with what a person can do about it.
type failure struct {
	err  error
	hint string
}

func (e failure) Error() string { return e.err.Error() }

func (e failure) Unwrap() error { return e.err }

// report tells err in one line, with a hint where there is one, and returns
// the exit code. Of a reader that has gone only the exit code tells, but where
// work is given up for it.
func report(ctx context.Context, w io.Writer, cmd *cobra.Command, err error) int {
	code := exitCode(ctx, err)
	var f failure
	errors.As(err, &f)
	if progress := cmd.Flags().Lookup("progress"); progress != nil && progress.Value.String() == "json" {
		_ = printJSON(w, errorEvent{Event: "error", Text: message(ctx, err), Hint: line(f.hint), Code: code})
		return code
	}
	if by := interruption(ctx, err); by != nil && by.Signal == syscall.SIGPIPE && !works[cmd.Name()] {
		return code
	}
	_, _ = fmt.Fprintf(w, "davit: %s\n", message(ctx, err))
	if code == exitUsage {
		if cmd.Name() == "help" {
			cmd = cmd.Root()
		}
		_, _ = fmt.Fprintf(w, "see %s --help\n", cmd.CommandPath())
		return code
	}
	if f.hint != "" {
		_, _ = fmt.Fprintf(w, "hint: %s\n", line(f.hint))
	}
	return code
}

// works are the commands that do more than look.
var works = map[string]bool{
	"pull": true, "apply": true, "copy": true, "push": true, "sync": true, "blob": true, "doctor": true, "demo": true,
}

// errorEvent is the last line of --progress=json where a command fails.
type errorEvent struct {
	Event string `json:"event"` // error
	Text  string `json:"text"`
	Hint  string `json:"hint,omitempty"`
	Code  int    `json:"code"` // the exit code
}

// message is what err says to a person: that a signal ended the command says
// more than how the step that was under way died of it.
func message(ctx context.Context, err error) string {
	if by := interruption(ctx, err); by != nil {
		return by.Error()
	}
	return text(err)
}

// interruption is the signal that ended the command, or nil.
func interruption(ctx context.Context, err error) *Interrupted {
	var by *Interrupted
	if errors.As(err, &by) || errors.As(context.Cause(ctx), &by) {
		return by
	}
	if ctx.Err() != nil {
		return &Interrupted{}
	}
	return nil
}

func exitCode(ctx context.Context, err error) int {
	if by := interruption(ctx, err); by != nil {
		return by.exitCode()
	}
	var (
		usage  usageError
		some   *davit.PullError
		copies *davit.CopyError
	)
	switch {
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &some) && some.Written > 0, errors.As(err, &copies) && copies.KeepGoing && copies.Copied > 0:
		return exitFailed
	case errors.Is(err, image.ErrVerification):
		return exitVerification
	case errors.Is(err, image.ErrUnauthorized):
		return exitUnauthorized
	case errors.Is(err, image.ErrNotFound):
		return exitNotFound
	default:
		return exitFailed
	}
}
