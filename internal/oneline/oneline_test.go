package oneline

import (
	"strings"
	"testing"
)

func TestClean(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{"plain", "plain"},
		{" two\t\r\nlines ", "two lines"},
		{"\x1b[31mred\x07\x00", "[31mred"},
		{"\u202eright\u200b to left", "right to left"},
		{"ünï", "ünï"},
		{"\xff\xfe", "\ufffd\ufffd"},
		{strings.Repeat("x", 30), strings.Repeat("x", 20) + "…"},
		{strings.Repeat("é", 21), strings.Repeat("é", 20) + "…"},
		{strings.Repeat("\x1b", 1_000_000) + "x", ""},
	} {
		if got := Clean(test.in, 20); got != test.want {
			t.Errorf("Clean(%.40q) is %q, want %q", test.in, got, test.want)
		}
	}
}
