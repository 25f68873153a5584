package cli

import (
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/spf13/cobra"
)

// listFlags choose from what registries list: tags, repositories.
type listFlags struct {
	limit int
	match string
	given func(flag string) bool
}

func (f *listFlags) add(cmd *cobra.Command, what, more string) {
	flags := cmd.Flags()
	flags.IntVar(&f.limit, "limit", 0, "`N` "+what+" at most, the first"+more)
	flags.StringVar(&f.match, "match", "", "only what matches `GLOB`, such as '1.*' (* stands for no /)")
	f.given = flags.Changed
}

func (f *listFlags) validate() error {
	if f.given("limit") && f.limit < 1 {
		return usagef("--limit %d: want 1 or more", f.limit)
	}
	if f.given("match") && f.match == "" {
		return usagef("--match is empty")
	}
	if _, err := path.Match(f.match, ""); err != nil {
		return usagef("--match %q: it is no pattern: want * and ? for what may be anything, and [a-z] for one of several", f.match)
	}
	return nil
}

// errEnough ends a list of which no more is wanted.
var errEnough = errors.New("enough")

// pages gives fn what matches of each page. With first it gives no more than
// --limit, and then returns errEnough.
func (f *listFlags) pages(first bool, fn func(page []string) error) func(page []string) error {
	left := f.limit
	return func(page []string) error {
		var chosen []string
		for _, name := range page {
			if ok, _ := path.Match(f.match, name); ok || f.match == "" {
				chosen = append(chosen, name)
			}
		}
		if !first || f.limit == 0 {
			return fn(chosen)
		}
		chosen = chosen[:min(left, len(chosen))]
		left -= len(chosen)
		if err := fn(chosen); err != nil || left > 0 {
			return err
		}
		return errEnough
	}
}

// last are the last ones, as many as --limit allows.
func (f *listFlags) last(all []string) []string {
	if f.limit > 0 && len(all) > f.limit {
		return all[len(all)-f.limit:]
	}
	return all
}

// printPage prints names, one a line, at once.
func printPage(w io.Writer, names []string, asJSON bool, object func(name string) any) error {
	var b strings.Builder
	for _, name := range names {
		var err error
		if asJSON {
			err = printJSON(&b, object(name))
		} else {
			err = printLine(&b, "%s", line(name))
		}
		if err != nil {
			return err
		}
	}
	if _, err := io.WriteString(toReader{w}, b.String()); err != nil {
		return fmt.Errorf("print the result: %w", err)
	}
	return nil
}
