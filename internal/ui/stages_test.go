package ui

import (
	"testing"
	"time"

	"github.com/davit-cli/davit/image"
)

func staged(text string, have, bytes int64) image.Event {
	return image.Event{Kind: image.EventStage, Text: text, Have: have, Bytes: bytes}
}

// A stage gets a line each interval while it moves; one that is quickly done
// gets none.
func TestPlainStage(t *testing.T) {
	b := newBench(Options{})
	b.events(staged("merge layers", 0, 1200*mb))
	b.pass(3 * time.Second) // nothing has moved
	for have := range int64(5) {
		b.events(staged("merge layers", have*100*mb, 1200*mb))
		b.pass(time.Second)
	}
	b.pass(10 * time.Second) // nothing has moved
	b.events(staged("merge layers", 1200*mb, 1200*mb))
	b.events(staged("quick", 0, mb), staged("quick", mb/2, mb))
	b.pass(time.Second)
	b.events(staged("quick", mb, mb), staged("nothing", 0, 0), staged("of unknown size", 7*mb, 0))
	b.pass(3 * time.Second)
	b.events(staged("of unknown size", 8*mb, 0))
	b.pass(3 * time.Second)
	b.events(staged("of unknown size", 9*mb, 9*mb))
	b.pass(3 * time.Second)
	b.events(staged("fails", 0, 100*mb), staged("fails", 40*mb, 100*mb))
	b.Close()
	b.events(staged("fails", 50*mb, 100*mb), staged("fails", 100*mb, 100*mb))
	equal(t, b.out.String(), `merge layers: 100MB of 1.2GB (8%)
merge layers: 400MB of 1.2GB (33%)
merge layers: 1.2GB of 1.2GB (100%)
of unknown size: 7MB
of unknown size: 8MB
of unknown size: 9MB of 9MB (100%)
`)
}

// While blobs are fetched, their progress is the one that counts.
func TestPlainStageBesideTransfer(t *testing.T) {
	b := newBench(Options{})
	d := descriptor(1, 100*mb)
	b.events(staged("merge layers", 0, 100*mb), planned(1, 100*mb, 0), started(d, 0))
	b.events(advanced(d, 50*mb), staged("merge layers", 10*mb, 100*mb))
	b.pass(5 * time.Second)
	b.events(advanced(d, 50*mb), staged("merge layers", 20*mb, 100*mb), verified(d), done)
	b.pass(time.Second)
	b.events(staged("merge layers", 100*mb, 100*mb))
	b.Close()
	equal(t, b.out.String(), `50MB of 100MB (50%), 10MB/s, 5s left
100MB fetched in 5s, 20MB/s
merge layers: 20MB of 100MB (20%)
merge layers: 100MB of 100MB (100%)
`)
}

// Stages stand below the bars, or alone.
func TestBarsStage(t *testing.T) {
	b, m := newTerminal(t, 77, 24)
	d := descriptor(1, 40*mb)
	b.events(planned(1, 40*mb, 0), started(d, 0), staged("merge layers", 0, 40*mb))
	b.pass(time.Second)
	b.events(advanced(d, 10*mb), staged("merge layers", 4*mb, 40*mb))
	b.pass(time.Second)
	equal(t, m.String(), `6b86b273ff34 [=====>-------------------]     10MB/40MB  5.62MB/s
total    25% [=====>-------------------]     10MB/40MB  5.62MB/s  6s left
merge layers [==>----------------------]      4MB/40MB            10%
`)
	b.events(advanced(d, 30*mb), verified(d), done, staged("merge layers", 20*mb, 40*mb), staged("write tar", 7*mb, 0))
	b.pass(time.Second)
	equal(t, m.String(), `40MB fetched in 2s, 20MB/s
merge layers [============>------------]     20MB/40MB            50%
write tar: 7MB
`)
	b.events(staged("merge layers", 40*mb, 40*mb))
	b.pass(time.Second)
	m.width, m.height = 10, 2
	b.pass(time.Second)
	for _, r := range b.stages.rows(m.width, 1) {
		if len(r) >= m.width {
			t.Errorf("%q is wider than %d", r, m.width)
		}
	}
	b.Close()
	equal(t, m.String(), "40MB fetched in 2s, 20MB/s\n")
}

func TestJSONStage(t *testing.T) {
	b := newBench(Options{Mode: JSON})
	b.events(staged("merge layers", 0, 40*mb))
	for have := range int64(20) {
		b.events(staged("merge layers", have*mb, 40*mb))
		if have%10 == 9 {
			b.pass(300 * time.Millisecond)
			b.pass(300 * time.Millisecond)
		}
	}
	b.events(staged("merge layers", 40*mb, 40*mb), staged("write tar", 0, 0))
	b.Close()
	equal(t, b.out.String(), `{"event":"stage","text":"merge layers","bytes":9000000,"total":40000000}
{"event":"stage","text":"merge layers","bytes":19000000,"total":40000000}
{"event":"stage","text":"merge layers","bytes":40000000,"total":40000000}
{"event":"stage","text":"write tar","bytes":0,"total":0}
`)
}

func TestQuietStage(t *testing.T) {
	b := newBench(Options{Mode: Quiet})
	b.events(staged("merge layers", 0, mb), staged("merge layers", 1, mb))
	b.pass(time.Minute)
	b.events(staged("merge layers", mb, mb))
	b.Close()
	equal(t, b.out.String(), "")
}
