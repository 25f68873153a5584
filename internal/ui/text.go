package ui

import (
	"fmt"
	"math"
	"strings"
	"time"
	"unicode"

	"github.com/docker/go-units"
	"github.com/opencontainers/go-digest"
)

// Clean returns s fit for a terminal: without control characters (escape
// sequences lose the escape that makes them work), without characters that
// turn the direction of text, and with U+FFFD for what is not UTF-8. Newlines
// stay, a tab becomes a space.
func Clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n':
			return r
		case r == '\t':
			return ' '
		case unicode.IsControl(r), unicode.Is(unicode.Bidi_Control, r), r == '\u2028', r == '\u2029':
			return -1
		}
		return r
	}, s)
}

// Size writes a number of bytes with three digits and a decimal unit: 45.2MB.
func Size(n int64) string {
	f := float64(n)
	if n >= 1000 { // rounded first, or 999.9 would become 1e+03
		unit := math.Pow(10, math.Floor(math.Log10(f))-2)
		f = math.Round(f/unit) * unit
	}
	return units.HumanSizeWithPrecision(f, 3)
}

// Duration writes a time as people say it: 0.4s, 20s, 1m20s, 2h05m.
func Duration(d time.Duration) string {
	switch s := int64(d.Round(time.Second).Seconds()); {
	case d < 0:
		return "0s"
	case d < 9950*time.Millisecond:
		return strings.Replace(fmt.Sprintf("%.1fs", d.Seconds()), ".0s", "s", 1)
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 3600:
		return fmt.Sprintf("%dm%02ds", s/60, s%60)
	default:
		return fmt.Sprintf("%dh%02dm", s/3600, s%3600/60)
	}
}

// shortDigest returns the first twelve digits of d, in ASCII only.
func shortDigest(d digest.Digest) string {
	_, hex, found := strings.Cut(string(d), ":")
	if !found {
		hex = string(d)
	}
	hex = strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return -1
		}
		return r
	}, hex)
	return hex[:min(len(hex), 12)]
}
