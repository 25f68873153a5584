package cli

import (
	"errors"
	"strings"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/ui"
)

// clean makes s fit for a terminal: what a registry sends may get into it.
func clean(s string) string { return ui.Clean(s) }

// line is clean, in one line.
func line(s string) string { return strings.Join(strings.Fields(clean(s)), " ") }

// text is what an error says, in one line; only a list of platforms stands on
// lines of its own.
func text(err error) string {
	all := err.Error()
	var platforms *image.PlatformError
	if errors.As(err, &platforms) {
		list := platforms.Error()
		if before, _, ok := strings.Cut(all, list); ok {
			return strings.TrimSpace(line(before) + " " + clean(list))
		}
	}
	return line(all)
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
