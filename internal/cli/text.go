package cli

import (
	"errors"
	"strings"

	"github.com/davit-cli/davit"
	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/ui"
	"github.com/davit-cli/davit/rootfs"
)

// clean makes s fit for a terminal: what a registry sends may get into it.
func clean(s string) string { return ui.Clean(s) }

// line is clean, in one line.
func line(s string) string { return strings.Join(strings.Fields(clean(s)), " ") }

// text is what an error says, in one line; only a list, of platforms, of
// conflicts or of images that failed, stands on lines of its own.
func text(err error) string {
	var (
		some      *davit.PullError
		platforms *image.PlatformError
		conflict  *rootfs.ConflictError
	)
	switch {
	case errors.As(err, &some):
		lines := []string{line(some.Summary())}
		for _, f := range some.Failures {
			lines = append(lines, "  "+strings.ReplaceAll(text(f.Err), "\n", "\n  "))
		}
		return strings.Join(lines, "\n")
	case errors.As(err, &platforms):
		return withList(err.Error(), platforms.Error())
	case errors.As(err, &conflict):
		return withList(err.Error(), conflict.Error())
	}
	return line(err.Error())
}

// withList is an error's text with the lines of the list at its end.
func withList(all, list string) string {
	before, _, ok := strings.Cut(all, list)
	if !ok {
		return line(all)
	}
	return strings.TrimSpace(line(before) + " " + clean(list))
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
