// Package oneline makes what strangers wrote fit for a line of text.
package oneline

import (
	"strings"
	"unicode"
)

// Clean returns text without control characters (escape sequences lose the
// escape that makes them work) and without other characters that print
// nothing, white space folded into single spaces, cut to limit characters.
func Clean(text string, limit int) string {
	if len(text) > 8*limit { // some room for what is dropped
		text = text[:8*limit]
	}
	text = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r):
			return -1
		}
		return r
	}, text)
	text = strings.Join(strings.Fields(text), " ")
	if runes := []rune(text); len(runes) > limit {
		text = string(runes[:limit]) + "…"
	}
	return text
}
