package cli

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/davit-cli/davit/internal/atomicfile"
)

const manLong = `Write the manual pages of davit and of each of its commands into a directory,
which is made where it is missing: davit.1, davit-pull.1 and so on. They say what
--help says. The same davit writes the same bytes.`

const manExample = `  davit man ~/.local/share/man/man1
  man davit-pull`

func newMan() *cobra.Command {
	return &cobra.Command{
		Use:         "man DIR",
		Short:       "Write the manual pages",
		Long:        manLong,
		Example:     manExample,
		Annotations: map[string]string{"footer": exitCodesHelp},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 || args[0] == "" {
				return usagef("man takes one directory, such as: davit man ~/.local/share/man/man1")
			}
			return writePages(cmd.Root(), args[0], currentBuild())
		},
	}
}

// writePages writes a page for each command. What else is in the directory
// stays.
func writePages(root *cobra.Command, dir string, b build) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return fmt.Errorf("make %s: %w", dir, err)
	}
	for _, cmd := range append([]*cobra.Command{root}, pages(root)...) {
		if err := atomicfile.Write(filepath.Join(dir, pageName(cmd)+".1"), page(cmd, b)); err != nil {
			return err
		}
	}
	return nil
}

// pages are the commands that the help lists, by name.
func pages(root *cobra.Command) []*cobra.Command {
	var all []*cobra.Command
	for _, cmd := range root.Commands() {
		if cmd.IsAvailableCommand() || cmd.Name() == "help" {
			all = append(all, cmd)
		}
	}
	slices.SortFunc(all, func(a, b *cobra.Command) int { return strings.Compare(a.Name(), b.Name()) })
	return all
}

// pageName is a command's page: davit-pull.
func pageName(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// page is a command's manual page, in the macros of man(7). Its date is the
// build's commit's, or none.
func page(cmd *cobra.Command, b build) []byte {
	cmd.InitDefaultHelpFlag() // or the page would depend on what was asked before
	cmd.InitDefaultVersionFlag()
	var p roff
	date, _, _ := strings.Cut(b.Time, "T")
	p.linef(`.TH %s 1 "%s" "davit %s" "davit"`, escape(strings.ToUpper(pageName(cmd))), escape(date), escape(b.Version))
	p.section("NAME")
	p.linef(`%s \- %s`, escape(pageName(cmd)), escape(lowerFirst(cmd.Short)))
	p.section("SYNOPSIS")
	p.synopsis(cmd)
	p.section("DESCRIPTION")
	p.text(cmd.Long)
	if cmd.Long == "" {
		p.text(cmd.Short + ".")
	}
	p.commands(cmd)
	p.section("OPTIONS")
	p.options(cmd)
	sections := footerSections(cmd.Annotations["footer"])
	for _, s := range sections {
		if s.title != exitTitle {
			p.section(s.title)
			p.text(s.text)
		}
	}
	p.section(exitTitle)
	p.text(exitText(sections))
	if cmd.Example != "" {
		p.section("EXAMPLES")
		p.text(cmd.Example)
	}
	p.seeAlso(cmd)
	return p.Bytes()
}

// lowerFirst begins a sentence as names' pages do, within a line.
func lowerFirst(s string) string { return strings.ToLower(s[:1]) + s[1:] }

// synopsis is the line of usage, the command bold.
func (p *roff) synopsis(cmd *cobra.Command) {
	usage := "COMMAND [flags]"
	if cmd.HasParent() {
		usage = strings.TrimSpace(strings.TrimPrefix(cmd.UseLine(), cmd.CommandPath()))
	}
	p.linef(`\fB%s\fR %s`, escape(cmd.CommandPath()), escape(usage))
}

// commands list what a command has below it.
func (p *roff) commands(cmd *cobra.Command) {
	if !cmd.HasAvailableSubCommands() {
		return
	}
	p.section("COMMANDS")
	for _, c := range pages(cmd) {
		p.item(fmt.Sprintf(`\fB%s\fR(1)`, escape(pageName(c))), c.Short)
	}
}

// options are the flags that the help lists, as it tells them.
func (p *roff) options(cmd *cobra.Command) {
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		alone := pflag.NewFlagSet("", pflag.ContinueOnError)
		alone.AddFlag(f)
		spec, usage, _ := strings.Cut(strings.TrimSpace(alone.FlagUsages()), "  ")
		p.item(flagSpec(spec), strings.TrimSpace(usage))
	})
}

// flagSpec is how a flag is given, its names bold and its value in italics.
func flagSpec(spec string) string {
	var words []string
	for word := range strings.FieldsSeq(spec) {
		name, value, optional := strings.Cut(word, "[=")
		switch {
		case optional:
			word = fmt.Sprintf(`\fB%s\fR[=\fI%s\fR]`, escape(name), escape(strings.TrimSuffix(value, "]")))
		case strings.HasPrefix(word, "-"):
			name, comma := strings.CutSuffix(word, ",")
			word = fmt.Sprintf(`\fB%s\fR`, escape(name))
			if comma {
				word += ","
			}
		default:
			word = fmt.Sprintf(`\fI%s\fR`, escape(word))
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

// seeAlso leads from davit's page to the others, and back.
func (p *roff) seeAlso(cmd *cobra.Command) {
	others := []*cobra.Command{cmd.Root()}
	if !cmd.HasParent() {
		others = pages(cmd)
	}
	p.section("SEE ALSO")
	for i, c := range others {
		end := ","
		if i == len(others)-1 {
			end = ""
		}
		p.linef(`\fB%s\fR(1)%s`, escape(pageName(c)), end)
	}
}

// footerSection is a part of what stands below a command's flags.
type footerSection struct{ title, text string }

const exitTitle = "EXIT STATUS"

// footerTitles are the sections of a manual page for what the footers' headings
// begin with.
var footerTitles = []struct{ heading, title string }{
	{"Exit codes", exitTitle},
	{"Credentials", "CREDENTIALS"},
	{"Environment", "ENVIRONMENT"},
	{"Also read", "FILES"},
}

// footerSections are the footer's paragraphs by their headings. A heading that
// says more than the title stays.
func footerSections(footer string) []footerSection {
	var sections []footerSection
	for paragraph := range strings.SplitSeq(footer, "\n\n") {
		if strings.TrimSpace(paragraph) == "" {
			continue
		}
		s := footerSection{"NOTES", paragraph}
		for _, known := range footerTitles {
			if strings.HasPrefix(paragraph, known.heading) {
				s.title = known.title
				s.text = strings.TrimPrefix(paragraph, known.heading+":\n")
			}
		}
		sections = append(sections, s)
	}
	return sections
}

// exitText is what the footer says of exit codes, or what all commands have.
func exitText(sections []footerSection) string {
	for _, s := range append(sections, footerSections(exitCodesHelp)...) {
		if s.title == exitTitle {
			return s.text
		}
	}
	return ""
}

// roff is a page that is being written.
type roff struct{ bytes.Buffer }

func (p *roff) linef(format string, args ...any) { _, _ = fmt.Fprintf(p, format+"\n", args...) }

func (p *roff) section(title string) { p.linef(".SH %s", title) }

// item is a paragraph with a tag, which is escaped already.
func (p *roff) item(tag, text string) {
	p.linef(".TP")
	p.linef("%s", tag)
	p.fill(text)
}

// pageWidth is how long the lines of a page's source are, before escapes.
const pageWidth = 64

// fill writes words, some a line.
func (p *roff) fill(text string) {
	var line string
	for word := range strings.FieldsSeq(text) {
		switch {
		case line == "":
			line = word
		case len(line)+len(word) < pageWidth:
			line += " " + word
		default:
			p.linef("%s", escape(line))
			line = word
		}
	}
	if line != "" {
		p.linef("%s", escape(line))
	}
}

// text writes paragraphs; lines that are indented stay as they are.
func (p *roff) text(s string) {
	var words, kept []string // of the block that is being read
	first := true
	flush := func() {
		if len(words)+len(kept) == 0 {
			return
		}
		if !first {
			p.linef(".PP")
		}
		first = false
		if words != nil {
			p.fill(strings.Join(words, " "))
		} else {
			p.linef(".RS 2\n.nf\n%s\n.fi\n.RE", strings.Join(kept, "\n"))
		}
		words, kept = nil, nil
	}
	for line := range strings.SplitSeq(s, "\n") {
		text, indented := strings.CutPrefix(line, "  ")
		if line == "" || indented && words != nil || !indented && kept != nil {
			flush()
		}
		switch {
		case line == "":
		case indented:
			kept = append(kept, escape(text))
		default:
			words = append(words, line)
		}
	}
	flush()
}

// escape makes text of roff that shows s as it is: what shells take stays what
// they take, and no line is a macro.
func escape(s string) string {
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == '\\':
			b.WriteString(`\e`)
		case r == '-':
			b.WriteString(`\-`)
		case r == '\'':
			b.WriteString(`\(aq`)
		case r == '`':
			b.WriteString(`\(ga`)
		case r == '^':
			b.WriteString(`\(ha`)
		case r == '~':
			b.WriteString(`\(ti`)
		case r == '"':
			b.WriteString(`\(dq`)
		case r == '.' && i == 0:
			b.WriteString(`\&.`)
		case r > 126:
			fmt.Fprintf(&b, `\[u%04X]`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
