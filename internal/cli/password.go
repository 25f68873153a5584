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

// maxPassword bounds what --password-stdin reads; tokens are a few KB.
const maxPassword = 64 << 10

// readPassword reads all of r as a password, without the newline at its end.
func readPassword(ctx context.Context, r io.Reader) (string, error) {
	data, err := waitFor(ctx, func() ([]byte, error) { return io.ReadAll(io.LimitReader(r, maxPassword+1)) })
	if err != nil {
		return "", fmt.Errorf("read the password from stdin: %w", err)
	}
	password := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	switch {
	case len(data) > maxPassword:
		return "", usagef("--password-stdin: what stdin holds is longer than %d bytes", maxPassword)
	case password == "":
		return "", usagef("--password-stdin: stdin is empty")
	case strings.ContainsAny(password, "\r\n\x00"):
		return "", usagef("--password-stdin: what stdin holds is more than one line")
	}
	return password, nil
}

// askPassword asks for a password on the terminal, which does not show it.
func askPassword(ctx context.Context, s streams, prompt string) (string, error) {
	file, ok := s.in.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return "", usagef("--username needs --password-stdin where stdin is not a terminal")
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
