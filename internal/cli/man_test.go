package cli

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
)

// written are the pages of a davit, by file.
func written(t *testing.T, b build) map[string]string {
	t.Helper()
	dir := t.TempDir()
	if err := writePages(testRoot(), dir, b); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = string(data)
	}
	return files
}

// Every command that the help lists has a page, and every flag that its help
// lists is in it.
func TestPagesHaveAllCommandsAndFlags(t *testing.T) {
	files := written(t, build{Version: "v1.2.3"})
	root := testRoot()
	commands := append(pages(root), root)
	if len(files) != len(commands) || len(commands) < 5 {
		t.Errorf("%d pages for %d commands", len(files), len(commands))
	}
	for _, cmd := range commands {
		page, ok := files[pageName(cmd)+".1"]
		if !ok {
			t.Errorf("%s has no page", cmd.CommandPath())
			continue
		}
		cmd.InitDefaultHelpFlag()
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			bold := `\fB` + escape("--"+f.Name) + `\fR`
			if has := strings.Contains(page, bold); has == f.Hidden {
				t.Errorf("%s: --%s is hidden: %v, and in the page: %v", cmd.CommandPath(), f.Name, f.Hidden, has)
			}
		})
		if cmd.Short == "" {
			t.Errorf("%s has no short description", cmd.CommandPath())
		}
	}
}

// What makes a page depends on nothing but the program.
func TestPagesAreTheSameAgain(t *testing.T) {
	b := build{Version: "v1.2.3", Time: "2026-01-02T03:04:05Z"}
	first := written(t, b)
	if diff := cmp.Diff(first, written(t, b)); diff != "" {
		t.Errorf("the pages differ (-first +again):\n%s", diff)
	}
	if head := `.TH DAVIT\-PULL 1 "2026\-01\-02" "davit v1.2.3" "davit"` + "\n"; !strings.HasPrefix(first["davit-pull.1"], head) {
		t.Errorf("it begins with %q", strings.SplitN(first["davit-pull.1"], "\n", 2)[0])
	}
	root := testRoot()
	var help bytes.Buffer
	root.SetOut(&help)
	root.SetArgs([]string{"pull", "--help"})
	if err := root.Execute(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := writePages(root, dir, b); err != nil {
		t.Fatal(err)
	}
	if page, err := os.ReadFile(filepath.Join(dir, "davit-pull.1")); err != nil || string(page) != first["davit-pull.1"] {
		t.Errorf("it is another page after --help (%v)", err)
	}
}

// A page is of macros that all formatters have, and no text is taken for one.
func TestPagesAreWellFormed(t *testing.T) {
	macro := regexp.MustCompile(`^\.(TH|SH|TP|PP|RS|RE|nf|fi)( |$)`)
	for name, page := range written(t, build{Version: "devel"}) {
		open := map[string]int{}
		for i, line := range strings.Split(strings.TrimSuffix(page, "\n"), "\n") {
			where := fmt.Sprintf("%s:%d: %q", name, i+1, line)
			if strings.HasPrefix(line, ".") {
				if !macro.MatchString(line) {
					t.Errorf("%s is no macro", where)
				}
				open[strings.Fields(line)[0]]++
			}
			if line == "" || strings.HasPrefix(line, "'") || strings.TrimSpace(line) != line && open[".nf"] == open[".fi"] {
				t.Errorf("%s is no line of text", where)
			}
			for _, c := range line {
				if c > 126 || c < ' ' {
					t.Errorf("%s is not ASCII", where)
				}
			}
		}
		if open[".RS"] != open[".RE"] || open[".nf"] != open[".fi"] {
			t.Errorf("%s: %v do not match", name, open)
		}
	}
}

func TestEscape(t *testing.T) {
	for s, want := range map[string]string{
		"a-b":             `a\-b`,
		".x '\"`^~":       `\&.x \(aq\(dq\(ga\(ha\(ti`,
		`a\b`:             `a\eb`,
		"'quoted'":        `\(aqquoted\(aq`,
		"sha256:… --tag":  `sha256:\[u2026] \-\-tag`,
		"a.b, 1. of them": "a.b, 1. of them",
	} {
		if got := escape(s); got != want {
			t.Errorf("%q becomes %q, want %q", s, got, want)
		}
	}
}
