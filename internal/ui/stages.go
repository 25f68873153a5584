package ui

import (
	"fmt"
	"slices"
	"time"

	"github.com/davit-cli/davit/image"
)

// stages are the stages of work that are under way, in the order in which
// they began.
type stages []*stage

type stage struct {
	text  string
	done  int64
	total int64     // 0 where nobody knows
	told  int64     // what was done when a line told of it last
	line  time.Time // when the last line was due
	lines int       // how many were
}

// take counts e, and returns its stage; over says that it has ended.
func (ss *stages) take(e image.Event, now time.Time) (s *stage, over bool) {
	i := slices.IndexFunc(*ss, func(s *stage) bool { return s.text == e.Text })
	if i < 0 {
		s = &stage{text: e.Text, line: now}
		*ss = append(*ss, s)
		i = len(*ss) - 1
	}
	s = (*ss)[i]
	s.done, s.total = e.Have, e.Bytes
	if over = e.Have == e.Bytes; over {
		*ss = slices.Delete(*ss, i, i+1)
	}
	return s, over
}

// String tells in one line where the stage stands.
func (s *stage) String() string {
	if s.total == 0 {
		return fmt.Sprintf("%s: %s", s.text, Size(s.done))
	}
	return fmt.Sprintf("%s: %s of %s (%d%%)", s.text, Size(s.done), Size(s.total), percent(s.done, s.total))
}

// rows draws the stages, the last ones where there is no room for all.
func (ss stages) rows(width, most int) []string {
	width-- // some terminals wrap at the last column
	var rows []string
	for _, s := range ss[max(len(ss)-most, 0):] {
		if s.total == 0 {
			rows = append(rows, truncate(s.String(), width))
			continue
		}
		rows = append(rows, row(width, s.text, s.done, s.total, 0, "", fmt.Sprintf("%d%%", percent(s.done, s.total))))
	}
	return rows
}
