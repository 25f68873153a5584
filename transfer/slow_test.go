package transfer

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/davit-cli/davit/image"
)

func TestUnequalMirrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		blobs := [][]byte{randomBlob(1, 80*megabyte), randomBlob(2, 20*megabyte)}
		fast, slow := newMirror("fast.test", blobs...), newMirror("slow.test", blobs...)
		fast.rate, slow.rate = 16*megabyte, 4*megabyte
		items, places := through(t, blobs, newMirror("origin.test"), fast, slow)
		begun := time.Now()
		fetchThrough(t, items, places, blobs, Options{})
		if took := time.Since(begun); took > 6500*time.Millisecond {
			t.Errorf("it took %s for what takes 5s at best", took)
		}
	})
}

func TestMirrorHangs(t *testing.T) {
	for name, with := range map[string]bool{"with another": true, "alone": false} {
		onTestClock(t, name, func(t *testing.T) {
			blobs := [][]byte{randomBlob(1, 60*megabyte), randomBlob(2, 5*megabyte), randomBlob(3, 1000)}
			origin, bad, good := newMirror("origin.test", blobs...), newMirror("bad.test", blobs...).hangs(), newMirror("good.test", blobs...)
			origin.rate, good.rate = 4*megabyte, 4*megabyte
			mirrors := []*mirror{bad, good}
			if !with {
				mirrors = mirrors[:1]
			}
			items, places := through(t, blobs, origin, mirrors...)
			begun := time.Now()
			fetchThrough(t, items, places, blobs, Options{}, "not asked any more: it is slow")
			if took := time.Since(begun); took > 22*time.Second {
				t.Errorf("it took %s for what takes 17s without the mirror", took)
			}
			if with && origin.calls > 0 {
				t.Errorf("the origin was asked %d times", origin.calls)
			}
		})
	}
}

func TestMirrorTrickles(t *testing.T) {
	for name, with := range map[string]bool{"with another": true, "alone": false} {
		for _, size := range []int{5 * megabyte, 100 * megabyte} {
			onTestClock(t, fmt.Sprintf("%s, %d bytes", name, size), func(t *testing.T) {
				blobs := [][]byte{randomBlob(1, size), randomBlob(2, 100_000)}
				origin, bad, good := newMirror("origin.test", blobs...), newMirror("bad.test", blobs...), newMirror("good.test", blobs...)
				origin.rate, good.rate, bad.rate = 4*megabyte, 4*megabyte, 10_000
				mirrors := []*mirror{bad, good}
				if !with {
					mirrors = mirrors[:1]
				}
				items, places := through(t, blobs, origin, mirrors...)
				begun := time.Now()
				o := fetchThroughAny(t, items, places, blobs, Options{})
				at := time.Duration(sizes(blobs)/4/megabyte) * time.Second
				if took := time.Since(begun); took > at+12*time.Second {
					t.Errorf("it took %s for what takes %s without the mirror", took, at)
				} else {
					t.Logf("it took %s for what takes %s without the mirror", took, at)
				}
				if with && origin.calls > 0 {
					t.Errorf("the origin was asked %d times", origin.calls)
				}
				if size > 50*megabyte {
					o.checkWarnings(t, "bad.test")
				}
			})
		}
	}
}

func TestMirrorAnswersLate(t *testing.T) {
	for _, wait := range []time.Duration{2 * time.Second, 5 * time.Second, 20 * time.Second} {
		for _, n := range []int{1, 2} {
			onTestClock(t, fmt.Sprintf("%d mirrors, %s", n, wait), func(t *testing.T) {
				blobs := [][]byte{randomBlob(1, 40*megabyte)}
				late := func(ctx context.Context, _ image.Descriptor, _, _ int64) error {
					if !sleep(ctx, wait) {
						return ctx.Err()
					}
					return nil
				}
				a, b := newMirror("a.test", blobs...), newMirror("b.test", blobs...)
				a.open, b.open = late, late
				items, places := through(t, blobs, newMirror("origin.test").down(), []*mirror{a, b}[:n]...)
				begun := time.Now()
				fetchThrough(t, items, places, blobs, Options{})
				if took := time.Since(begun); took > 6*wait+20*time.Second {
					t.Errorf("it took %s", took)
				} else {
					t.Logf("it took %s", took)
				}
			})
		}
	}
}

// tiresAfter makes a mirror that never answers, until its requests time out.
func (m *mirror) tiresAfter(wait time.Duration) *mirror {
	m.open = func(ctx context.Context, _ image.Descriptor, _, _ int64) error {
		if !sleep(ctx, wait) {
			return ctx.Err()
		}
		return fmt.Errorf("%s did not answer", m.host)
	}
	return m
}

// Of several that nobody knows yet, who does not answer holds nobody up; and
// where none does, that comes to an end.
func TestNobodyAnswers(t *testing.T) {
	blobs := [][]byte{randomBlob(1, 100_000)}
	for _, wait := range []time.Duration{15 * time.Second, 30 * time.Second, 60 * time.Second} {
		onTestClock(t, fmt.Sprintf("but one, %s", wait), func(t *testing.T) {
			hung, good := newMirror("hung.test").tiresAfter(wait), newMirror("good.test", blobs...)
			items, places := through(t, blobs, newMirror("origin.test").down(), hung, good)
			begun := time.Now()
			fetchThrough(t, items, places, blobs, Options{})
			if took := time.Since(begun); took > 2*patience {
				t.Errorf("it took %s", took)
			}
		})
		for name, origin := range map[string]*mirror{
			"origin down": newMirror("origin.test").down(),
			"origin too":  newMirror("origin.test").tiresAfter(wait),
		} {
			onTestClock(t, fmt.Sprintf("%s, %s", name, wait), func(t *testing.T) {
				items, _ := through(t, blobs, origin, newMirror("a.test").tiresAfter(wait), newMirror("b.test").tiresAfter(wait))
				took, err := timed(t, items, Options{})
				if err == nil || errors.Is(err, context.DeadlineExceeded) || took > 30*wait {
					t.Errorf("Fetch: %v after %s", err, took)
				}
			})
		}
	}
}
