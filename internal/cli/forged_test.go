package cli

import (
	"bytes"
	"strings"
	"testing"

	"github.com/davit-cli/davit"
)

// A file's name may have newlines, which must not look like further files.
func TestNamesMakeNoLines(t *testing.T) {
	const forged = "/etc/x  y\n/etc/shadow\n  - /etc/passwd\x1b[31m"
	const want = "/etc/x  y /etc/shadow   - /etc/passwd[31m"
	f := davit.File{Path: forged, Type: davit.Symlink, Target: "to\nhere"}
	var b bytes.Buffer
	for _, o := range []filesOptions{{}, {long: true}} {
		if err := o.print(&b, f); err != nil {
			t.Fatal(err)
		}
	}
	d := davit.Difference{Files: []davit.FileChange{
		{Path: forged, Change: davit.Added}, {Path: forged, Change: davit.Removed}, {Path: forged, Change: davit.Changed, What: []string{"mode"}},
	}}
	if err := printDifference(&b, d); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(b.String(), want); n != 5 {
		t.Errorf("%d lines have the name as it is to be, not 5:\n%s", n, b.String())
	}
	for l := range strings.Lines(b.String()) {
		if strings.HasPrefix(l, "/etc/shadow") || strings.HasPrefix(l, "  - /etc/passwd") || strings.HasPrefix(l, "here") {
			t.Errorf("a line is forged: %q", l)
		}
	}
}
