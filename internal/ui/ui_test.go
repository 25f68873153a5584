package ui

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
)

const mb = 1_000_000

// bench is a Display with a clock that the test sets and no goroutine: it
// writes on tick and flush alone.
type bench struct {
	*Display
	out bytes.Buffer
	now time.Time
}

func newBench(opts Options) *bench {
	b := &bench{now: time.Unix(1_800_000_000, 0)}
	opts.Out = &b.out
	opts.Now = func() time.Time { return b.now }
	b.Display = newDisplay(opts)
	return b
}

// pass lets d go by and ticks.
func (b *bench) pass(d time.Duration) {
	b.now = b.now.Add(d)
	b.tick()
}

// events sends all of them.
func (b *bench) events(ee ...image.Event) {
	for _, e := range ee {
		b.Event(e)
	}
}

func descriptor(n int, size int64) image.Descriptor {
	return image.Descriptor{Digest: digest.FromString(strconv.Itoa(n)), Size: size}
}

func planned(blobs int, bytes, have int64) image.Event {
	return image.Event{Kind: image.EventPlanned, Blobs: blobs, Bytes: bytes, Have: have}
}

func started(d image.Descriptor, have int64) image.Event {
	return image.Event{Kind: image.EventBlobStarted, Blob: d, Have: have}
}

func advanced(d image.Descriptor, n int64) image.Event {
	return image.Event{Kind: image.EventBlobAdvanced, Blob: d, Bytes: n}
}

func verified(d image.Descriptor) image.Event {
	return image.Event{Kind: image.EventBlobVerified, Blob: d}
}

func text(kind image.EventKind, s string) image.Event {
	return image.Event{Kind: kind, Text: s}
}

var done = image.Event{Kind: image.EventDone}

func equal(t *testing.T, got, want string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
}

func TestPlain(t *testing.T) {
	b := newBench(Options{})
	d := descriptor(1, 440*mb)
	b.events(text(image.EventNote, "linux/amd64"), planned(1, 440*mb, 0), started(d, 0))
	b.pass(time.Second) // nothing has moved: no line
	b.events(advanced(d, 20*mb))
	b.pass(time.Second) // not yet
	b.events(advanced(d, 20*mb), text(image.EventWarning, "no name"), text(image.EventStep, "hidden"))
	b.pass(time.Second)
	b.pass(3 * time.Second) // nothing has moved
	b.events(advanced(d, 400*mb), verified(d))
	b.now = b.now.Add(16 * time.Second)
	b.events(done, done)
	b.Close()
	equal(t, b.out.String(), `linux/amd64
warning: no name
40MB of 440MB (9%), 14.9MB/s, 27s left
440MB fetched in 22s, 20MB/s
`)
}

func TestPlainResumed(t *testing.T) {
	b := newBench(Options{Verbose: true})
	whole, half := descriptor(1, 100*mb), descriptor(2, 340*mb)
	b.events(text(image.EventStep, "open"), planned(2, 440*mb, 120*mb), started(whole, 100*mb), verified(whole), started(half, 20*mb))
	for range 3 {
		b.events(advanced(half, 10*mb))
		b.pass(time.Second)
	}
	b.events(advanced(half, 290*mb), verified(half))
	b.now = b.now.Add(13 * time.Second)
	b.events(done)
	b.Close()
	equal(t, b.out.String(), fmt.Sprintf(`open
verified %s, 100MB
150MB of 440MB (34%%), 10MB/s, 29s left
verified %s, 340MB
320MB fetched in 16s, 20MB/s, 120MB were there already
`, shortDigest(whole.Digest), shortDigest(half.Digest)))
}

// What was there and turns out wrong is fetched again and no longer counts as
// having been there.
func TestPlainMovesBack(t *testing.T) {
	b := newBench(Options{Interval: time.Second})
	d := descriptor(1, 100*mb)
	b.events(planned(1, 100*mb, 60*mb), started(d, 60*mb), advanced(d, -60*mb), advanced(d, 10*mb))
	b.pass(time.Second)
	b.events(advanced(d, 90*mb), done)
	b.Close()
	equal(t, b.out.String(), `10MB of 100MB (10%), 10MB/s, 9s left
100MB fetched in 1s, 100MB/s
`)
}

func TestSummary(t *testing.T) {
	d, d2, d3 := descriptor(1, 100*mb), descriptor(2, 10*mb), descriptor(3, 3*mb)
	settled := func(kind image.EventKind, d image.Descriptor) image.Event { return image.Event{Kind: kind, Blob: d} }
	sent := settled(image.EventBlobSent, d)
	mounted, there := settled(image.EventBlobMounted, d2), settled(image.EventBlobThere, d3)
	for name, test := range map[string]struct {
		events []image.Event
		want   string
	}{
		"sent":               {[]image.Event{planned(1, 100*mb, 0), started(d, 0), advanced(d, 100*mb), verified(d), sent, done}, "100MB sent in 0s\n"},
		"sent and more":      {[]image.Event{planned(3, 113*mb, 0), there, started(d, 0), advanced(d, 100*mb), verified(d), mounted, sent, done}, "100MB sent in 0s; 10MB mounted, 3MB were there already\n"},
		"sent twice":         {[]image.Event{planned(2, 200*mb, 0), started(d, 0), advanced(d, 100*mb), verified(d), sent, started(d, 0), advanced(d, 100*mb), verified(d), sent, done}, "200MB sent in 0s\n"},
		"only mounted":       {[]image.Event{planned(1, 10*mb, 0), mounted, done}, "nothing to send, 10MB mounted\n"},
		"nothing to send":    {[]image.Event{planned(2, 13*mb, 0), mounted, there, done}, "nothing to send, 10MB mounted, 3MB were there already\n"},
		"lost on the way":    {[]image.Event{planned(1, 100*mb, 0), started(d, 0), advanced(d, 60*mb), advanced(d, -60*mb), started(d, 0), advanced(d, 100*mb), verified(d), sent, done}, "100MB sent in 0s\n"},
		"stopped copying":    {[]image.Event{planned(2, 103*mb, 0), there, started(d, 0), advanced(d, 47*mb), done}, "stopped at 50MB of 103MB (48%) after 0s; 3MB were there already\n"},
		"told after the end": {[]image.Event{planned(1, 10*mb, 0), mounted, done, there}, "nothing to send, 10MB mounted\n"},
		"all there":          {[]image.Event{planned(1, 100*mb, 100*mb), started(d, 100*mb), verified(d), done}, "nothing to fetch, 100MB were there already\n"},
		"no blobs":           {[]image.Event{planned(0, 0, 0), done}, ""},
		"not planned":        {[]image.Event{done}, ""},
		"stopped":            {[]image.Event{planned(1, 100*mb, 20*mb), started(d, 20*mb), advanced(d, 30*mb), done}, "stopped at 50MB of 100MB (50%) after 0s, 20MB were there already\n"},
		"closed":             {[]image.Event{planned(1, 100*mb, 0), started(d, 0)}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(Options{Mode: Plain})
			b.events(test.events...)
			b.Close()
			equal(t, b.out.String(), test.want)
		})
	}
}

// Retries are told with Verbose; without it only a long wait is, and once for
// all the connections that wait.
func TestRetry(t *testing.T) {
	d := descriptor(1, mb)
	short := image.Event{Kind: image.EventRetry, Blob: d, Text: "reset", Wait: time.Second}
	long := image.Event{Kind: image.EventRetry, Text: "429 Too Many\x1b[2J Requests", Wait: 30 * time.Second}
	longLine := "trying again in 30s: 429 Too Many[2J Requests\n"

	b := newBench(Options{})
	b.events(short, long, long)
	b.now = b.now.Add(30 * time.Second)
	b.events(long)
	b.Close()
	equal(t, b.out.String(), longLine+longLine)

	b = newBench(Options{Verbose: true})
	b.events(short, long, long)
	b.Close()
	equal(t, b.out.String(), "trying again in 1s, 6b86b273ff34: reset\n"+longLine+longLine)
}

func TestQuiet(t *testing.T) {
	b := newBench(Options{Mode: Quiet, Verbose: true})
	d := descriptor(1, mb)
	b.events(text(image.EventNote, "note"), text(image.EventStep, "step"), text(image.EventWarning, "careful"),
		planned(1, mb, 0), started(d, 0), advanced(d, mb), verified(d))
	b.pass(time.Minute)
	b.events(done)
	b.Close()
	equal(t, b.out.String(), "warning: careful\n")
}

func TestJSON(t *testing.T) {
	b := newBench(Options{Mode: JSON})
	d := descriptor(1, 100*mb)
	b.events(text(image.EventNote, "a <b>\x1b\nc"), text(image.EventStep, "hidden"), text(image.EventWarning, "w"),
		planned(1, 100*mb, 20*mb), started(d, 20*mb))
	for range 4 { // many advances make one line a tick
		for range 100 {
			b.events(advanced(d, mb/10))
		}
		b.pass(500 * time.Millisecond)
		b.pass(0)
	}
	b.events(image.Event{Kind: image.EventRetry, Blob: d, Text: "reset", Wait: 1500 * time.Millisecond})
	b.events(advanced(d, 40*mb), verified(d), done)
	b.Close()
	equal(t, b.out.String(), strings.ReplaceAll(`{"event":"note","text":"a <b>\nc"}
{"event":"warning","text":"w"}
{"event":"planned","blobs":1,"total":100000000,"resumed":20000000}
{"event":"started","blob":"BLOB","total":100000000,"resumed":20000000}
{"event":"progress","bytes":30000000,"total":100000000,"fetched":10000000,"resumed":20000000,"seconds":0.5,"speed":20000000,"left":4}
{"event":"progress","bytes":40000000,"total":100000000,"fetched":20000000,"resumed":20000000,"seconds":1,"speed":20000000,"left":3}
{"event":"progress","bytes":50000000,"total":100000000,"fetched":30000000,"resumed":20000000,"seconds":1.5,"speed":20000000,"left":3}
{"event":"progress","bytes":60000000,"total":100000000,"fetched":40000000,"resumed":20000000,"seconds":2,"speed":20000000,"left":2}
{"event":"retry","blob":"BLOB","text":"reset","wait":1.5}
{"event":"verified","blob":"BLOB","bytes":100000000}
{"event":"done","bytes":100000000,"total":100000000,"fetched":80000000,"resumed":20000000,"seconds":2,"speed":40000000}
`, "BLOB", d.Digest.String()))
	for line := range strings.Lines(b.out.String()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("not JSON: %s", line)
		}
	}
}

// terminal understands what the bars send: text, newlines, and "n lines up,
// erase from there". It fails the test on all else, and where the rows that
// are drawn over would not fit.
type terminal struct {
	t             *testing.T
	width, height int
	lines         []string // the last is the cursor's
	home          bool     // the cursor is in the first column
}

var up = regexp.MustCompile(`^\x1b\[(\d+)A\x1b\[J`)

func (m *terminal) Write(p []byte) (int, error) {
	if len(m.lines) == 0 {
		m.lines = []string{""}
	}
	for s := string(p); s != ""; {
		last := len(m.lines) - 1
		if e := up.FindStringSubmatch(s); e != nil {
			n, _ := strconv.Atoi(e[1])
			if n > last || n >= m.height || m.lines[last] != "" && !m.home {
				m.t.Fatalf("%d lines up from line %d, column %d", n, last, len(m.lines[last]))
			}
			m.lines = append(m.lines[:last-n], "")
			m.home = false
			s = s[len(e[0]):]
			continue
		}
		switch c := s[0]; {
		case c == '\r':
			m.home = true
		case m.home && m.lines[last] != "":
			m.t.Fatalf("%q is written over %q", s, m.lines[last])
		case c == '\n':
			m.lines = append(m.lines, "")
		case c < ' ' || c > '~':
			m.t.Fatalf("byte %q goes to the terminal", c)
		default:
			m.lines[last] += s[:1]
			if len(m.lines[last]) >= m.width {
				m.t.Fatalf("line reaches the last column: %q", m.lines[last])
			}
		}
		s = s[1:]
	}
	return len(p), nil
}

func (m *terminal) String() string { return strings.Join(m.lines, "\n") }

func newTerminal(t *testing.T, width, height int) (*bench, *terminal) {
	t.Setenv("TERM", "xterm")
	m := &terminal{t: t, width: width, height: height}
	b := &bench{now: time.Unix(1_800_000_000, 0)}
	b.Display = newDisplay(Options{
		Out: m, Now: func() time.Time { return b.now },
		TerminalSize: func() (int, int, bool) { return m.width, m.height, true },
	})
	if b.mode != Bars {
		t.Fatalf("mode %v on a terminal", b.mode)
	}
	return b, m
}

func TestBars(t *testing.T) {
	b, m := newTerminal(t, 77, 24)
	fresh, half, waits := descriptor(1, 40*mb), descriptor(2, 100*mb), descriptor(3, 260*mb)
	b.events(text(image.EventNote, "linux/amd64"), planned(3, 400*mb, 50*mb), started(fresh, 0), started(half, 50*mb), started(waits, 0))
	b.pass(time.Second)
	b.events(advanced(fresh, 10*mb), advanced(half, 10*mb))
	b.pass(time.Second)
	equal(t, m.String(), `linux/amd64
6b86b273ff34 [=====>-------------------]     10MB/40MB  5.62MB/s
d4735e3a265e [+++++++++++++=>----------]    60MB/100MB  5.62MB/s
4e07408562be [-------------------------]      0B/260MB
total    17% [+++>---------------------]    70MB/400MB  11.2MB/s  30s left
`)

	// What the terminal itself shows, the echo of Ctrl-C, is drawn over.
	if _, err := m.Write([]byte("^C")); err != nil {
		t.Fatal(err)
	}

	// A warning comes above, a verified blob stays while there is room, one
	// that failed says so, and what was wrong moves the bar back.
	b.events(text(image.EventWarning, "\x1b[31mred"), text(image.EventStep, "hidden"), advanced(fresh, 30*mb), verified(fresh),
		advanced(half, -60*mb), image.Event{Kind: image.EventRetry, Blob: half, Text: "reset", Wait: time.Second}, advanced(waits, 260*mb))
	b.pass(time.Second)
	equal(t, m.String(), `linux/amd64
warning: [31mred
6b86b273ff34 [=========================]     40MB/40MB            done
d4735e3a265e [-------------------------]      0B/100MB            retrying
4e07408562be [=========================]   260MB/260MB            verifying
total    75% [==================>------]   300MB/400MB   128MB/s  1s left
`)

	b.events(advanced(half, 100*mb), verified(half), verified(waits))
	b.now = b.now.Add(7 * time.Second)
	b.events(done)
	b.flush()
	b.events(text(image.EventNote, "a\nb\n"))
	b.Close()
	b.Close()
	b.events(advanced(half, 5), text(image.EventWarning, "late"), planned(1, 1, 0))
	equal(t, m.String(), `linux/amd64
warning: [31mred
410MB fetched in 10s, 41MB/s
a
b
warning: late
`)
}

// However many blobs are at work, and however small the terminal becomes, the
// bars leave room.
func TestBarsManyBlobs(t *testing.T) {
	b, m := newTerminal(t, 80, 24)
	b.events(planned(60, 60*mb, 0))
	var blobs []image.Descriptor
	for i := range 60 {
		blobs = append(blobs, descriptor(i, mb))
		b.events(started(blobs[i], 0))
	}
	b.pass(time.Second)
	if got := len(m.lines) - 1; got != 22 || !strings.Contains(m.String(), "+40 more\n") {
		t.Errorf("%d rows of 24:\n%s", got, m)
	}

	// What moves comes before what waits.
	b.events(advanced(blobs[59], 1000))
	b.pass(time.Second)
	if !strings.Contains(m.String(), shortDigest(blobs[59].Digest)) {
		t.Errorf("the only blob that moves is not shown:\n%s", m)
	}
	for i, d := range blobs {
		b.events(advanced(d, mb-b.progress.byDigest[d.Digest].done), verified(d))
		if i == 30 {
			m.height, m.width = 8, 30
		}
		rows := b.progress.rows(m.width, m.height)
		if len(rows) > m.height-2 {
			t.Fatalf("%d rows of %d", len(rows), m.height)
		}
		for _, r := range rows {
			if len(r) >= m.width {
				t.Fatalf("%q is wider than %d", r, m.width)
			}
		}
	}
	m.height, m.width = 24, 80
	b.events(done)
	b.Close()
	equal(t, m.String(), "60MB fetched in 2s, 30MB/s\n")

	for size := range 12 {
		p := progress{}
		p.take(planned(2, mb, 0), b.now)
		p.take(started(blobs[0], 0), b.now)
		p.take(started(blobs[1], 0), b.now)
		if rows := p.rows(size, size); len(rows) > max(size-2, 1) {
			t.Errorf("%d rows of %d", len(rows), size)
		}
	}
}

// A blob that is given up is no longer shown as one at work, also when a last
// piece of it still arrives; its bytes stay in the total.
func TestBarsGivenUp(t *testing.T) {
	b, m := newTerminal(t, 77, 24)
	good, bad := descriptor(1, 40*mb), descriptor(2, 60*mb)
	givenUp := image.Event{Kind: image.EventBlobGivenUp, Blob: bad}
	b.events(planned(2, 100*mb, 0), started(good, 0), started(bad, 0), advanced(bad, 10*mb), givenUp, givenUp, advanced(bad, mb))
	b.pass(time.Second)
	if strings.Contains(m.String(), shortDigest(bad.Digest)) || !strings.Contains(m.String(), shortDigest(good.Digest)) {
		t.Errorf("want the one blob that is at work:\n%s", m)
	}
	b.events(advanced(good, 40*mb), verified(good), done)
	b.Close()
	equal(t, m.String(), "stopped at 51MB of 100MB (51%) after 1s, 51MB/s\n")
}

// A frame that says nothing new is not written.
func TestBarsIdle(t *testing.T) {
	b, _ := newTerminal(t, 80, 24)
	var out bytes.Buffer
	b.screen = newScreen(&out, b.opts.TerminalSize)
	b.events(planned(1, mb, 0))
	b.pass(time.Second)
	n := out.Len()
	b.pass(time.Second)
	if n == 0 || out.Len() != n {
		t.Errorf("%d bytes, then %d", n, out.Len())
	}
}

// Only the last verified blobs are kept, and of those counted each once.
func TestProgressForgets(t *testing.T) {
	var p progress
	p.take(planned(10_000, 10_000, 0), time.Time{})
	for i := range 10_000 {
		d := descriptor(i, 1)
		p.take(advanced(d, 1), time.Time{})
		p.take(verified(d), time.Time{})
		p.take(verified(d), time.Time{})
	}
	if len(p.order) != keepWhole || p.whole != keepWhole || p.done != 10_000 {
		t.Errorf("%d kept, %d counted, %d bytes", len(p.order), p.whole, p.done)
	}
}

func TestAuto(t *testing.T) {
	yes := func() (int, int, bool) { return 0, 0, true }
	for _, test := range []struct {
		term string
		size func() (int, int, bool)
		want Mode
	}{{"xterm", yes, Bars}, {"", yes, Bars}, {"dumb", yes, Plain}, {"xterm", nil, Plain}} {
		t.Setenv("TERM", test.term)
		d := newDisplay(Options{Out: &bytes.Buffer{}, TerminalSize: test.size})
		if d.mode != test.want {
			t.Errorf("TERM=%s: %v, want %v", test.term, d.mode, test.want)
		}
		if d.mode == Bars { // a terminal that does not know its size
			if w, h := d.screen.size(); w != 80 || h != 24 {
				t.Errorf("%d x %d", w, h)
			}
		}
	}
}

func TestModeSet(t *testing.T) {
	for want := Auto; want <= Quiet; want++ {
		var m Mode
		if err := m.Set(want.String()); err != nil || m != want {
			t.Errorf("%v: %v, %v", want, m, err)
		}
	}
	m := JSON
	if err := m.Set("loud"); err == nil || m != JSON {
		t.Errorf("loud: %v, %v", m, err)
	}
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"plain\nlines\n":            "plain\nlines\n",
		"a\tb":                      "a b",
		"\x1b[2J\x1b]0;title\x07x":  "[2J]0;titlex",
		"over\rwrite\b\x00\x7f":     "overwrite",
		"c1 \u009b31m":              "c1 31m",
		"raw c1 \x9b31m":            "raw c1 \ufffd31m",
		"rtl \u202e \u2066x\u2069":  "rtl  x",
		"sep\u2028x":                "sepx",
		"grüße, 日本語, \U0001f6a2":    "grüße, 日本語, \U0001f6a2",
		"--platform linux/arm64/v8": "--platform linux/arm64/v8",
	} {
		if got := Clean(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestSizeAndDuration(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0B", 7: "7B", 999: "999B", 1000: "1kB", 999_499: "999kB", 999_500: "1MB", 999_999_999: "1GB",
		45_230_000: "45.2MB", 440_000_000: "440MB", 1_234_000_000: "1.23GB", 1<<63 - 1: "9.22EB",
	} {
		if got := Size(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{
		0: "0s", -time.Second: "0s", 420 * time.Millisecond: "0.4s", 9949 * time.Millisecond: "9.9s", 9950 * time.Millisecond: "10s",
		59600 * time.Millisecond: "1m00s", 80 * time.Second: "1m20s", 7500 * time.Second: "2h05m",
	} {
		if got := Duration(d); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}

func TestShortDigest(t *testing.T) {
	for in, want := range map[digest.Digest]string{
		"sha256:0123456789abcdef": "0123456789ab", "odd": "odd", "x:\x1b[1mé": "[1m", "": "",
	} {
		if got := shortDigest(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// blocked takes nothing until it is opened.
type blocked struct {
	entered chan struct{}
	open    chan struct{}
	once    sync.Once
	bytes.Buffer
}

func (w *blocked) Write(p []byte) (int, error) {
	w.once.Do(func() { close(w.entered) })
	<-w.open
	return w.Buffer.Write(p)
}

// Many goroutines send while the painter runs and even while Out takes
// nothing; Close writes all that was sent.
func TestConcurrent(t *testing.T) {
	for _, mode := range []Mode{Bars, Plain, JSON} {
		t.Run(mode.String(), func(t *testing.T) {
			out := &blocked{entered: make(chan struct{}), open: make(chan struct{})}
			d := New(Options{Mode: mode, Out: out, Interval: time.Millisecond})
			d.Event(text(image.EventNote, "first"))
			<-out.entered // the painter is stuck from here on
			d.Event(planned(8, 8000, 0))
			var senders sync.WaitGroup
			for i := range 8 {
				senders.Go(func() {
					b := descriptor(i, 1000)
					d.Event(started(b, 0))
					for range 1000 {
						d.Event(advanced(b, 1))
					}
					d.Event(verified(b))
					d.Event(text(image.EventNote, fmt.Sprintf("note %d", i)))
				})
			}
			senders.Wait()
			d.Event(done)
			close(out.open)
			var closers sync.WaitGroup
			for range 2 {
				closers.Go(d.Close)
			}
			closers.Wait()
			d.Event(text(image.EventNote, "last"))

			got := out.String()
			for i := range 8 {
				if strings.Count(got, fmt.Sprintf("note %d", i)) != 1 {
					t.Errorf("note %d is not there once", i)
				}
			}
			summary := "8kB fetched"
			if mode == JSON {
				summary = `"event":"done","bytes":8000`
			}
			if !strings.Contains(got, "first") || !strings.Contains(got, summary) || !strings.Contains(got, "last") {
				t.Errorf("got %s", got)
			}
			if mode != Bars && strings.ContainsAny(got, "\x1b\r") {
				t.Errorf("escapes in %q", got)
			}
		})
	}
}
