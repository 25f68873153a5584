// Package ui shows people and programs what davit is doing: bars on a
// terminal, plain lines elsewhere, JSON for programs.
package ui

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/davit-cli/davit/image"
)

// Mode is a way to show progress.
type Mode int

// The modes.
const (
	// Auto is Bars where Options.Out is a terminal that can move its cursor,
	// and Plain elsewhere.
	Auto Mode = iota
	// Bars draws a bar for each blob at work and a line for all of them.
	Bars
	// Plain prints whole lines only, with neither carriage returns nor escapes.
	Plain
	// JSON prints one object a line; json.go lists their fields.
	JSON
	// Quiet prints warnings only.
	Quiet
)

var modeNames = []string{"auto", "bars", "plain", "json", "quiet"}

// String returns the mode's name, as Set takes it.
func (m Mode) String() string {
	if m < 0 || int(m) >= len(modeNames) {
		return fmt.Sprintf("Mode(%d)", int(m))
	}
	return modeNames[m]
}

// Set makes m the mode of that name; with String and Type it makes *Mode a
// flag's value.
func (m *Mode) Set(name string) error {
	for i, n := range modeNames {
		if n == name {
			*m = Mode(i)
			return nil
		}
	}
	return fmt.Errorf("%q is none of %s", name, strings.Join(modeNames, ", "))
}

// Type names the kind of value in a flag's help.
func (*Mode) Type() string { return "mode" }

// Options tell New what to show, and where. The zero value works.
type Options struct {
	Mode Mode
	// Verbose shows steps, retries and verified blobs too.
	Verbose bool
	// Out receives everything. Nil: os.Stderr.
	Out io.Writer
	// TerminalSize tells how large the terminal behind Out is, and false if
	// there is none. It is asked before each frame. Nil: the system is asked.
	TerminalSize func() (width, height int, ok bool)
	// Interval is the time between two plain progress lines. Zero: 3 s.
	Interval time.Duration
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
}

// A retry that waits this long is told without Verbose too.
const longWait = 5 * time.Second

// Display shows events. Its methods may be called from many goroutines.
type Display struct {
	opts Options
	mode Mode // never Auto

	// writing is held while Out is written to and is taken before mu, so that
	// a terminal that takes nothing more never holds up Event.
	writing sync.Mutex
	screen  *screen // bars only

	mu       sync.Mutex
	closed   bool
	lines    []byte // whole lines that wait to be written
	progress progress
	stages   stages
	lastLine time.Time // when the last plain progress line was due
	lastDone int64     // what was done at the last progress line
	hushed   time.Time // until then further long waits are not told

	wake chan struct{}
	stop chan struct{}
	over sync.WaitGroup
}

// New returns a Display that shows events until it is closed.
func New(opts Options) *Display {
	d := newDisplay(opts)
	d.over.Go(d.run)
	return d
}

// newDisplay returns a Display that writes only when told to (by tick and flush).
func newDisplay(opts Options) *Display {
	if opts.Out == nil {
		opts.Out = os.Stderr
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.TerminalSize == nil {
		opts.TerminalSize = terminalSize(opts.Out)
	}
	opts.Interval = cmp.Or(opts.Interval, 3*time.Second)
	d := &Display{opts: opts, mode: opts.Mode, wake: make(chan struct{}, 1), stop: make(chan struct{})}
	if d.mode == Auto {
		d.mode = Plain
		if _, _, ok := opts.TerminalSize(); ok && os.Getenv("TERM") != "dumb" {
			d.mode = Bars
		}
	}
	if d.mode == Bars {
		d.screen = newScreen(opts.Out, opts.TerminalSize)
	}
	return d
}

// run paints until Close.
func (d *Display) run() {
	period := map[Mode]time.Duration{Bars: 125 * time.Millisecond, JSON: 300 * time.Millisecond}[d.mode]
	ticker := time.NewTicker(cmp.Or(period, min(d.opts.Interval, 250*time.Millisecond)))
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			d.tick()
		case <-d.wake:
			d.flush()
		case <-d.stop:
			return
		}
	}
}

// Event takes note of e; it is an image.EventFunc. It does not wait for
// anything to be written, except after Close: then notes, warnings and steps
// are printed plainly, at once, and all else is dropped.
func (d *Display) Event(e image.Event) {
	d.mu.Lock()
	if d.closed && e.Kind != image.EventNote && e.Kind != image.EventWarning && e.Kind != image.EventStep {
		d.mu.Unlock()
		return
	}
	before := len(d.lines)
	d.take(e)
	urgent, closed := len(d.lines) > before, d.closed
	d.mu.Unlock()

	switch {
	case closed:
		d.flush()
	case urgent:
		select {
		case d.wake <- struct{}{}:
		default:
		}
	}
}

// take counts e and adds the lines that it makes. d.mu is held.
func (d *Display) take(e image.Event) {
	if d.mode == Quiet {
		if e.Kind == image.EventWarning {
			d.print("warning: " + e.Text)
		}
		return
	}
	if e.Kind == image.EventDone && !d.progress.active {
		return
	}
	now := d.opts.Now()
	if e.Kind == image.EventPlanned {
		d.lastLine, d.lastDone = now, e.Have
	}
	d.progress.take(e, now)
	if e.Kind == image.EventStage {
		d.takeStage(e, now)
		return
	}
	if d.mode == JSON {
		d.takeJSON(e, now)
	} else {
		d.takeText(e, now)
	}
}

// takeStage counts where a stage of the work stands. Its end gets a line, but
// for a person only where its way had one: what is quickly done is not told.
// d.mu is held.
func (d *Display) takeStage(e image.Event, now time.Time) {
	e.Text = Clean(e.Text)
	s, over := d.stages.take(e, now)
	if over && (d.mode == JSON || d.mode == Plain && s.lines > 0) {
		d.stageLine(s, now)
	}
}

// stageLine tells where a stage stands. d.mu is held.
func (d *Display) stageLine(s *stage, now time.Time) {
	s.told, s.line = s.done, now
	s.lines++
	if d.mode == JSON {
		d.encode(jsonStage{"stage", s.text, s.done, s.total})
	} else {
		d.print(s.String())
	}
}

// takeText adds the lines that e makes for a person. d.mu is held.
func (d *Display) takeText(e image.Event, now time.Time) {
	switch e.Kind {
	case image.EventStep:
		if d.opts.Verbose {
			d.print(e.Text)
		}
	case image.EventNote:
		d.print(e.Text)
	case image.EventWarning:
		d.print("warning: " + e.Text)
	case image.EventRetry:
		if d.opts.Verbose || e.Wait >= longWait && !now.Before(d.hushed) {
			d.hushed = now.Add(e.Wait)
			d.print(retryLine(e))
		}
	case image.EventBlobVerified:
		if d.opts.Verbose {
			d.print(fmt.Sprintf("verified %s, %s", shortDigest(e.Blob.Digest), Size(e.Blob.Size)))
		}
	case image.EventDone:
		if s := d.progress.summary(now); s != "" {
			d.print(s)
		}
	}
}

// tick moves on with the clock: speeds, progress lines, the next frame.
func (d *Display) tick() {
	d.mu.Lock()
	now := d.opts.Now()
	d.progress.sample(now)
	if p := &d.progress; p.active && p.done != d.lastDone {
		switch {
		case d.mode == JSON:
			d.lastDone = p.done
			d.progressJSON(now)
		case d.mode == Plain && now.Sub(d.lastLine) >= d.opts.Interval:
			d.lastLine, d.lastDone = now, p.done
			d.print(p.line())
		}
	}
	for _, s := range d.stages {
		switch {
		case s.done == s.told:
		case d.mode == JSON, d.mode == Plain && !d.progress.active && now.Sub(s.line) >= d.opts.Interval:
			d.stageLine(s, now)
		}
	}
	d.mu.Unlock()
	d.flush()
}

// print adds text, cleaned, as whole lines. d.mu is held.
func (d *Display) print(text string) {
	d.lines = append(d.lines, strings.TrimRight(Clean(text), "\n")...)
	d.lines = append(d.lines, '\n')
}

// flush writes the lines that wait and, between open and closed, the bars.
// What cannot be written is lost: there is nowhere left to say so.
func (d *Display) flush() {
	d.writing.Lock()
	defer d.writing.Unlock()

	var width, height int
	if d.screen != nil {
		width, height = d.screen.size()
	}
	d.mu.Lock()
	lines := d.lines
	d.lines = nil
	var rows []string
	if d.screen != nil && !d.closed {
		below := d.stages.rows(width, max(height-spareRows, 1))
		rows = append(d.progress.rows(width, height-len(below)), below...)
	}
	d.mu.Unlock()

	switch {
	case d.screen != nil:
		d.screen.paint(lines, rows)
	case len(lines) > 0:
		_, _ = d.opts.Out.Write(lines)
	}
}

// Close ends the display: it writes what still waits and takes the bars away.
// A transfer that is not over is told as if it were. It may be called again.
func (d *Display) Close() {
	d.mu.Lock()
	first := !d.closed
	if first {
		if d.progress.active {
			d.take(image.Event{Kind: image.EventDone})
		}
		d.closed = true
	}
	d.mu.Unlock()
	if first {
		close(d.stop)
	}
	d.over.Wait()
	d.flush()
}
