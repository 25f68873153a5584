package ui

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/vbauerster/cupwriter"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"
)

// spareRows of a terminal stay free: the total line, the line that counts
// what is not shown, the cursor's and one of what was printed above.
const spareRows = 4

// rows returns the lines to stand at the bottom of a terminal of that size:
// the blobs at work, then whole ones while there is room, in the order in
// which they started, and the total. None where no transfer is going on.
func (p *progress) rows(width, height int) []string {
	if !p.active {
		return nil
	}
	width-- // some terminals wrap at the last column
	shown, more := p.choose(max(height-spareRows, 0))
	rows := make([]string, 0, len(shown)+2)
	for _, b := range shown {
		state := ""
		switch {
		case b.verified:
			state = "done"
		case b.retrying:
			state = "retrying"
		case b.done >= b.Size:
			state = "verifying"
		}
		speed := ""
		if state == "" && b.moved {
			speed = Size(b.speed.perSecond()) + "/s"
		}
		rows = append(rows, row(width, shortDigest(b.Digest), b.done, b.Size, b.have, speed, state))
	}
	if more > 0 && height > spareRows {
		rows = append(rows, truncate(fmt.Sprintf("+%d more", more), width))
	}
	left := ""
	if d, ok := p.left(); ok {
		left = Duration(d) + " left"
	}
	label := fmt.Sprintf("total   %3d%%", p.percent())
	return append(rows, row(width, label, p.done, p.total, p.resumed(), Size(p.speed.perSecond())+"/s", left))
}

// choose returns at most n blobs to show, in the order in which they started,
// and how many at work are left out. Those whose bytes move come before those
// that only wait, those before verified ones, the latest of these first.
func (p *progress) choose(n int) (shown []*blob, more int) {
	var moving, waiting int
	for _, b := range p.order {
		switch {
		case b.verified:
		case b.moved:
			moving++
		default:
			waiting++
		}
	}
	more = max(moving+waiting-n, 0)
	movingLeft := min(moving, n)
	waitingLeft := min(waiting, n-movingLeft)
	skipWhole := max(p.whole-(n-movingLeft-waitingLeft), 0)
	for _, b := range p.order {
		quota := &waitingLeft
		switch {
		case b.verified && skipWhole > 0:
			skipWhole--
			continue
		case b.verified:
			shown = append(shown, b)
			continue
		case b.moved:
			quota = &movingLeft
		}
		if *quota > 0 {
			*quota--
			shown = append(shown, b)
		}
	}
	return shown, more
}

// row draws one line of at most width columns:
//
//	2408cc74d12b [+++====>--------------]  12.3MB/440MB  20.1MB/s  20s left
func row(width int, label string, done, total, have int64, speed, state string) string {
	done = min(max(done, 0), max(total, 0))
	left := fmt.Sprintf("%-12s ", label)
	right := fmt.Sprintf(" %13s  %8s  %-10s", Size(done)+"/"+Size(total), speed, state)
	var bar strings.Builder
	if n := width - len(left) - len(right); n >= 8 {
		_ = mpb.BarStyle().Build().Fill(&bar, decor.Statistics{
			AvailableWidth: n, Total: total, Current: done,
			Refill: min(max(have, 0), done), Completed: done >= total,
		})
	}
	return truncate(strings.TrimRight(left+bar.String()+right, " "), width)
}

// truncate cuts s, which is ASCII, to width columns.
func truncate(s string, width int) string {
	return s[:min(len(s), max(width, 0))]
}

// screen writes lines to a terminal and keeps rows standing below them. At
// any moment the cursor stands below the rows, so that a killed davit leaves
// the terminal as it should be.
type screen struct {
	out      io.Writer
	w        *cupwriter.Writer
	terminal func() (width, height int, ok bool)
	last     []string
}

func newScreen(out io.Writer, terminal func() (int, int, bool)) *screen {
	return &screen{out: out, w: cupwriter.New(out, true), terminal: terminal}
}

// size returns the terminal's size, or a common one where there is none.
func (s *screen) size() (width, height int) {
	width, height, ok := s.terminal()
	if !ok || width <= 0 || height <= 0 {
		return 80, 24
	}
	return width, height
}

// paint writes lines in place of the rows of last time, and below them rows.
func (s *screen) paint(lines []byte, rows []string) {
	frame := strings.Join(rows, "\n")
	if len(lines) == 0 && frame == strings.Join(s.last, "\n") {
		return
	}
	if len(s.last) > 0 {
		_, _ = io.WriteString(s.out, "\r") // a terminal may have shown a ^C
	}
	s.last = rows
	_, _ = s.w.Write(lines)
	if len(rows) > 0 {
		_, _ = io.WriteString(s.w, frame+"\n")
	}
	_ = s.w.Flush(len(rows))
}

// terminalSize returns a function that asks the system for the size of the
// terminal behind out.
func terminalSize(out io.Writer) func() (width, height int, ok bool) {
	f, isFile := out.(*os.File)
	return func() (int, int, bool) {
		if !isFile || !term.IsTerminal(int(f.Fd())) {
			return 0, 0, false
		}
		width, height, err := term.GetSize(int(f.Fd()))
		if err != nil {
			return 0, 0, true
		}
		return width, height, true
	}
}
