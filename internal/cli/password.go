package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// maxSecret bounds what is read from stdin; tokens are a few KB.
const maxSecret = 64 << 10

// readSecret reads all of r as a password or token, without the newline at its
// end. flag is what asked for it.
func readSecret(ctx context.Context, r io.Reader, flag string) (string, error) {
	data, err := waitFor(ctx, func() ([]byte, error) { return io.ReadAll(io.LimitReader(r, maxSecret+1)) })
	if err != nil {
		return "", fmt.Errorf("%s: read stdin: %w", flag, err)
	}
	secret := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	switch {
	case len(data) > maxSecret:
		return "", usagef("%s: what stdin holds is longer than %d bytes", flag, maxSecret)
	case secret == "":
		return "", usagef("%s: stdin is empty", flag)
	case strings.ContainsAny(secret, "\r\n\x00"):
		return "", usagef("%s: what stdin holds is more than one line", flag)
	}
	return secret, nil
}

// askLine asks for a line on the terminal.
func askLine(ctx context.Context, s streams, prompt string) (string, error) {
	file, ok := s.in.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return "", usagef("stdin is not a terminal, so there is nobody to ask: give --username with --password-stdin")
	}
	_, _ = fmt.Fprint(s.err, clean(prompt))
	text, err := waitFor(ctx, func() ([]byte, error) { return readLine(file) })
	switch answer := strings.TrimSpace(string(text)); {
	case err != nil && !errors.Is(err, io.EOF):
		return "", fmt.Errorf("ask on the terminal: %w", err)
	case answer == "":
		return "", usagef("no user was given")
	default:
		return answer, nil
	}
}

// readLine reads up to the end of the line and no byte more: what follows is
// for whoever reads next.
func readLine(r io.Reader) ([]byte, error) {
	var text []byte
	for b := make([]byte, 1); len(text) < 1024; {
		if _, err := io.ReadFull(r, b); err != nil {
			return text, err
		}
		if b[0] == '\n' {
			break
		}
		text = append(text, b[0])
	}
	return text, nil
}

// askPassword asks for a password on the terminal, which does not show it. side is
// what stands before the names of the flags that ask for it.
func askPassword(ctx context.Context, s streams, side, prompt string) (string, error) {
	file, ok := s.in.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return "", usagef("--%susername needs --%spassword-stdin where stdin is not a terminal", side, side)
	}
	fd := int(file.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return "", fmt.Errorf("ask for the password: %w", err)
	}
	_, _ = fmt.Fprint(s.err, clean(prompt))
	password, err := waitFor(ctx, func() ([]byte, error) { return term.ReadPassword(fd) })
	_, _ = fmt.Fprintln(s.err)
	if err != nil {
		_ = term.Restore(fd, before) // an interrupted ReadPassword leaves the echo off
	}
	switch {
	case errors.Is(err, io.EOF) || err == nil && len(password) == 0:
		return "", usagef("no password was given")
	case err != nil:
		return "", fmt.Errorf("ask for the password: %w", err)
	}
	return string(password), nil
}

// waitFor returns what read returns, or ctx's error where that comes first:
// then read goes on in the background and nobody hears of it.
func waitFor(ctx context.Context, read func() ([]byte, error)) ([]byte, error) {
	type answer struct {
		data []byte
		err  error
	}
	answers := make(chan answer, 1)
	go func() {
		data, err := read()
		answers <- answer{data, err}
	}()
	select {
	case a := <-answers:
		return a.data, a.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// isTerminal tells whether w is a terminal.
func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}
