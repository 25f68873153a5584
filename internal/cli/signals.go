package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// Interrupted is the cause (context.Cause) of a context that a signal ended.
type Interrupted struct{ Signal os.Signal }

func (e *Interrupted) Error() string {
	switch e.Signal {
	case syscall.SIGTERM:
		return "terminated"
	case syscall.SIGHUP:
		return "hung up"
	case syscall.SIGPIPE:
		return "whoever read the output has gone"
	}
	return "interrupted"
}

// exitCode is what shells report for a process that the signal ended.
func (e *Interrupted) exitCode() int {
	if s, ok := e.Signal.(syscall.Signal); ok {
		return exitSignal + int(s)
	}
	return exitInterrupted
}

// WithSignals returns a context that the first SIGINT, SIGTERM or SIGHUP cancels,
// with an *Interrupted as its cause. The second one ends the process at once. A
// reader of stdout that goes away does not end the process, see toReader. The
// caller calls stop once it no longer wants that.
func WithSignals(parent context.Context) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(parent)
	// Room for two, so that none is lost while the first is being handled.
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) { // as nohup has it
		signal.Notify(signals, syscall.SIGHUP)
	}
	pipes := make(chan os.Signal, 1) // nobody listens: whoever writes gets EPIPE
	signal.Notify(pipes, syscall.SIGPIPE)
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
		signal.Stop(pipes)
		close(done)
		cancel(nil)
	}
}

// toReader writes to stdout. Where its reader has gone the error is an
// *Interrupted, so that what SIGPIPE would have left behind is cleaned up.
type toReader struct{ out io.Writer }

func (t toReader) Write(b []byte) (int, error) {
	n, err := t.out.Write(b)
	if errors.Is(err, syscall.EPIPE) {
		err = &Interrupted{Signal: syscall.SIGPIPE}
	}
	return n, err
}
