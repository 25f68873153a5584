package transfer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/davit-cli/davit/image"
)

// streamThrough streams items and returns what the reader got.
func streamThrough(t *testing.T, items []Item, opts Options) ([][]byte, *outcome) {
	t.Helper()
	o := &outcome{}
	opts.Events = o.event
	var got [][]byte
	ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
	defer cancel()
	_, o.err = Stream(ctx, items, opts, func(_ int, r io.Reader) error {
		b, err := io.ReadAll(r)
		got = append(got, b)
		return err
	})
	return got, o
}

func TestStreamThroughMirrors(t *testing.T) {
	blobs := [][]byte{randomBlob(1, 100), randomBlob(2, 40*megabyte), nil, randomBlob(3, 9*megabyte), randomBlob(4, 70<<10), randomBlob(5, 12*megabyte)}
	right := func(t *testing.T, got [][]byte, o *outcome, from int, warned ...string) {
		t.Helper()
		if o.err != nil {
			t.Fatalf("Stream: %v", o.err)
		}
		for i := range got {
			if !bytes.Equal(got[i], blobs[from+i]) {
				t.Errorf("blob %d differs", from+i)
			}
		}
		o.checkWarnings(t, warned...)
	}
	onTestClock(t, "two", func(t *testing.T) {
		origin, a, b := newMirror("origin.test"), newMirror("a.test", blobs...), newMirror("b.test", blobs...)
		a.rate, b.rate = 5*megabyte, 5*megabyte
		items, _ := through(t, blobs, origin, a, b)
		begun := time.Now()
		got, o := streamThrough(t, items, Options{})
		right(t, got, o, 0)
		if took := time.Since(begun); took > 7500*time.Millisecond || origin.calls > 0 {
			t.Errorf("it took %s for what takes 6.1s, and %d requests to the origin", took, origin.calls)
		}
	})
	onTestClock(t, "down, hanging, without ranges", func(t *testing.T) {
		a, b, c, d := newMirror("a.test").down(), newMirror("b.test", blobs...).hangs(), newMirror("c.test", blobs...), newMirror("d.test", blobs...)
		c.noRanges = true
		d.rate = megabyte
		items, _ := through(t, blobs, newMirror("origin.test").down(), a, b, c, d)
		got, o := streamThrough(t, items, Options{Jobs: 4})
		right(t, got, o, 0, "refused by a.test", "it is slow")
	})
	// Of a blob that nobody has read yet the wrong bytes are fetched again.
	onTestClock(t, "a liar, small blobs", func(t *testing.T) {
		liar, honest := newMirror("liar.test", blobs...).lies(), newMirror("honest.test", blobs...)
		items, _ := through(t, blobs[2:], newMirror("origin.test").down(), liar, honest)
		got, o := streamThrough(t, items, Options{})
		right(t, got, o, 2, "liar.test")
	})
	// What was read cannot be taken back, but is never completed.
	onTestClock(t, "a liar, large blob", func(t *testing.T) {
		liar, honest := newMirror("liar.test", blobs[1]).lies(), newMirror("honest.test", blobs[1])
		items, _ := through(t, blobs[1:2], newMirror("origin.test").down(), liar, honest)
		got, o := streamThrough(t, items, Options{})
		if !errors.Is(o.err, image.ErrVerification) || !strings.Contains(o.err.Error(), "liar.test") {
			t.Errorf("Stream: %v, want a verification error that names the liar", o.err)
		}
		if len(got) != 1 || len(got[0]) > len(blobs[1])-held {
			t.Errorf("%d bytes got out", len(got[0]))
		}
	})
}

// All connections wait for the reader, who waits for a blob before theirs that
// has to be fetched again.
func TestStreamMendsBehindItsReader(t *testing.T) {
	for _, jobs := range []int{1, 2, 3} {
		onTestClock(t, fmt.Sprintf("%d jobs", jobs), func(t *testing.T) {
			blobs := [][]byte{randomBlob(1, 3*megabyte), randomBlob(2, 3*megabyte), randomBlob(3, 40*megabyte), randomBlob(4, 40*megabyte)}
			liar, honest := newMirror("liar.test", blobs[1]).lies(), newMirror("honest.test", blobs...)
			for _, m := range []*mirror{liar, honest} {
				m.noRanges, m.rate = true, 0
			}
			items, _ := through(t, blobs, newMirror("origin.test").down(), liar, honest)
			got, o := streamThrough(t, items, Options{Jobs: jobs})
			if o.err != nil || !slices.EqualFunc(got, blobs, bytes.Equal) {
				t.Errorf("%d blobs came, of %d: %v", len(got), len(blobs), o.err)
			}
			if jobs == 1 { // else it may not have been asked
				o.checkWarnings(t, "liar.test")
			}
		})
	}
}

// A reader that pauses makes no mirror slow.
func TestStreamReaderPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		blobs := [][]byte{randomBlob(1, 4*megabyte), randomBlob(2, 4*megabyte), randomBlob(3, 90*megabyte), randomBlob(4, 90*megabyte)}
		a, b := newMirror("a.test", blobs...), newMirror("b.test", blobs...)
		a.noRanges, b.noRanges = true, true
		items, _ := through(t, blobs, newMirror("origin.test").down(), a, b)
		o := &outcome{}
		_, err := Stream(t.Context(), items, Options{Events: o.event}, func(_ int, r io.Reader) error {
			for {
				n, err := io.CopyN(io.Discard, r, 20*megabyte)
				time.Sleep(5 * time.Minute)
				if n < 20*megabyte {
					return nil //nolint:nilerr // the blob's end; an error of the transfer is Stream's
				}
				if err != nil {
					return err
				}
			}
		})
		if err != nil {
			t.Errorf("Stream: %v", err)
		}
		for _, e := range append(o.of(image.EventWarning), o.of(image.EventStep)...) {
			if strings.Contains(e.Text, "slow") {
				t.Error(e.Text)
			}
		}
	})
}
