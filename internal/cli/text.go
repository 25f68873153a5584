package cli

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/davit-cli/davit"
	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/ui"
	"github.com/davit-cli/davit/rootfs"
)

// clean makes s fit for a terminal: what a registry sends may get into it.
func clean(s string) string { return ui.Clean(s) }

// line is clean, in one line.
func line(s string) string { return strings.Join(strings.Fields(clean(s)), " ") }

// oneLine is clean, in one line, with spaces as they are: a file's name, which may
// have newlines, must not make lines of its own in a result.
func oneLine(s string) string { return strings.ReplaceAll(clean(s), "\n", " ") }

// columns are words side by side, without the empty ones.
func columns(words ...string) string {
	shown := words[:0:0]
	for _, word := range words {
		if word = line(word); word != "" {
			shown = append(shown, word)
		}
	}
	return strings.Join(shown, "  ")
}

// text is what an error says, in one line; only a list, of platforms, of
// conflicts or of images that failed, stands on lines of its own.
func text(err error) string {
	var (
		pulls     *davit.PullError
		copies    *davit.CopyError
		platforms *image.PlatformError
		conflict  *rootfs.ConflictError
	)
	switch {
	case errors.As(err, &pulls):
		return withFailures(pulls.Summary(), pulls.Failures)
	case errors.As(err, &copies):
		return withFailures(copies.Summary(), copies.Failures)
	case errors.As(err, &platforms):
		return withList(err.Error(), platforms.Error())
	case errors.As(err, &conflict):
		return withList(err.Error(), conflict.Error())
	}
	return line(err.Error())
}

// withFailures is a summary with a line for each image that failed, or more. What
// several failed of, the disk for one, is told once.
func withFailures(summary string, failures []davit.Failure) string {
	lines := []string{line(summary)}
	for _, f := range failures {
		failed := "  " + strings.ReplaceAll(text(f.Err), "\n", "\n  ")
		if !slices.Contains(lines[1:], failed) {
			lines = append(lines, failed)
		}
	}
	return strings.Join(lines, "\n")
}

// withList is an error's text with the lines of the list at its end.
func withList(all, list string) string {
	before, _, ok := strings.Cut(all, list)
	if !ok {
		return line(all)
	}
	return strings.TrimSpace(line(before) + " " + clean(list))
}

// linesWriter prints a result of many lines.
type linesWriter struct {
	out io.Writer
	err error // the first in printing
}

func (p *linesWriter) print(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.out, format, args...)
	}
}

// result is how the printing went.
func (p *linesWriter) result() error {
	if p.err != nil {
		return fmt.Errorf("print the result: %w", p.err)
	}
	return nil
}

// shellWord is s as a shell takes it for one word.
func shellWord(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-./:+@%,", r)
	}
	if s != "" && strings.TrimFunc(s, plain) == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// forReader is where content goes that strangers wrote: as it is, but to a
// terminal without what would control it. Tabs stay.
func forReader(out io.Writer) io.Writer {
	if isTerminal(out) {
		return &terminalWriter{out: toReader{out}}
	}
	return toReader{out}
}

// terminalWriter cleans what is written to it.
type terminalWriter struct {
	out  io.Writer
	rest []byte // of a character whose end is still to come
}

func (t *terminalWriter) Write(b []byte) (int, error) {
	text := append(t.rest, b...)
	end := len(text)
	for back := 1; back < utf8.UTFMax && back <= len(text); back++ {
		if utf8.RuneStart(text[len(text)-back]) {
			if !utf8.FullRune(text[len(text)-back:]) {
				end = len(text) - back
			}
			break
		}
	}
	t.rest = append([]byte(nil), text[end:]...)
	lines := strings.Split(string(text[:end]), "\t")
	for i, part := range lines {
		lines[i] = clean(part)
	}
	if _, err := io.WriteString(t.out, strings.Join(lines, "\t")); err != nil {
		return 0, err
	}
	return len(b), nil
}
