package cli

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// Interrupted is the cause (context.Cause) of a context that a signal ended.
type Interrupted struct{ Signal os.Signal }

func (e *Interrupted) Error() string {
	if e.Signal == syscall.SIGTERM {
		return "terminated"
	}
	return "interrupted"
}

// exitCode is what shells report for a process that the signal ended.
func (e *Interrupted) exitCode() int {
	if e.Signal == syscall.SIGTERM {
		return exitTerminated
	}
	return exitInterrupted
}

// WithSignals returns a context that the first SIGINT or SIGTERM cancels, with
// an *Interrupted as its cause. The second one ends the process at once. The
// caller calls stop once it no longer wants that.
func WithSignals(parent context.Context) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(parent)
	// Room for two, so that none is lost while the first is being handled.
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		select {
		case s := <-signals:
			cancel(&Interrupted{Signal: s})
		case <-done:
			return
		}
		select {
		case s := <-signals:
			os.Exit((&Interrupted{Signal: s}).exitCode()) //nolint:forbidigo // the second signal waits for nobody
		case <-done:
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(done)
		cancel(nil)
	}
}
