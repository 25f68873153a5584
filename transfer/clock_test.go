package transfer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/davit-cli/davit/image"
)

// What takes long is tested on a clock of the test's own (synctest).

// hookedSource stands before a fakeSource.
type hookedSource struct {
	*fakeSource
	open func(ctx context.Context, blob image.Descriptor, off, n int64) (*image.Range, error)
}

func (s *hookedSource) OpenRange(ctx context.Context, blob image.Descriptor, off, n int64) (*image.Range, error) {
	return s.open(ctx, blob, off, n)
}

// timed fetches the items on the test's own clock, with the defaults, and
// returns how long that took.
func timed(t *testing.T, items []Item, opts Options) (time.Duration, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
	defer cancel()
	begun := time.Now()
	_, err := Fetch(ctx, items, opts)
	return time.Since(begun), err
}

// body gives its bytes as read does.
type body struct {
	io.ReadCloser
	read func(p []byte) (int, error)
}

func (b *body) Read(p []byte) (int, error) { return b.read(p) }

// Where every answer is slow in coming, connections do not cut each other
// short forever.
func TestSlowFirstBytes(t *testing.T) {
	for _, wait := range []time.Duration{800 * time.Millisecond, 2 * time.Second, 5 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			blob := randomBlob(1, 40<<20)
			s := newFakeSource(blob)
			s.delay = 2 * time.Millisecond // 8 MB/s a connection
			items, _ := itemsFor(t, s, blob)
			items[0].Source = &hookedSource{s, func(ctx context.Context, blob image.Descriptor, off, n int64) (*image.Range, error) {
				if !sleep(ctx, wait) {
					return nil, ctx.Err()
				}
				return s.OpenRange(ctx, blob, off, n)
			}}
			took, err := timed(t, items, Options{})
			if err != nil || took > 6*wait+10*time.Second {
				t.Errorf("with %s to the first byte it took %s (%v)", wait, took, err)
			}
		})
	}
}

// A blob that never comes ends the command, also while thieves are idle.
func TestDeadBlobEnds(t *testing.T) {
	for name, open := range map[string]func(ctx context.Context, r *image.Range) (*image.Range, error){
		"no byte": func(ctx context.Context, r *image.Range) (*image.Range, error) {
			r.Body = &body{r.Body, func([]byte) (int, error) { <-ctx.Done(); return 0, ctx.Err() }}
			return r, nil
		},
		"no connection": func(ctx context.Context, r *image.Range) (*image.Range, error) {
			_ = r.Body.Close()
			sleep(ctx, 10*time.Second)
			return nil, errors.New("i/o timeout")
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				healthy, dead := randomBlob(1, 20<<20), randomBlob(2, 1<<20)
				s := newFakeSource(healthy, dead)
				s.delay = 2 * time.Millisecond
				items, _ := itemsFor(t, s, healthy, dead)
				calls := 0
				items[1].Source = &hookedSource{s, func(ctx context.Context, blob image.Descriptor, off, n int64) (*image.Range, error) {
					calls++
					r, err := s.OpenRange(ctx, blob, off, n)
					if err != nil {
						return nil, err
					}
					return open(ctx, r)
				}}
				took, err := timed(t, items, Options{})
				if err == nil || took > 5*time.Minute || calls > 10 {
					t.Errorf("after %s and %d requests: %v; want it to give up", took, calls, err)
				}
			})
		})
	}
}

// However little is left: a connection that trickles is taken over.
func TestTrickleIsTakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fat, small := randomBlob(1, 40<<20), randomBlob(2, 200<<10)
		s := newFakeSource(fat, small)
		s.delay = 2 * time.Millisecond
		items, _ := itemsFor(t, s, fat, small)
		var calls atomic.Int64
		items[1].Source = &hookedSource{s, func(ctx context.Context, blob image.Descriptor, off, n int64) (*image.Range, error) {
			r, err := s.OpenRange(ctx, blob, off, n)
			if err == nil && calls.Add(1) == 1 {
				whole := r.Body
				r.Body = &body{whole, func(p []byte) (int, error) {
					if !sleep(ctx, time.Second) {
						return 0, ctx.Err()
					}
					return whole.Read(p[:1])
				}}
			}
			return r, err
		}}
		if took, err := timed(t, items, Options{}); err != nil || took > time.Minute {
			t.Errorf("it took %s (%v)", took, err)
		}
	})
}

// A registry that allows two connections and answers 503 beyond them gets no
// more than a few in vain, and the command goes on as long as bytes arrive.
func TestFewConnectionsAllowed(t *testing.T) {
	for _, after := range []time.Duration{0, 5 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			var blobs [][]byte
			for i := range 10 {
				blobs = append(blobs, randomBlob(uint64(i), 12<<20))
			}
			s := newFakeSource(blobs...)
			s.delay = 20 * time.Millisecond // 0.8 MB/s a connection, 75 s in all at best
			limited := &hookedSource{s, func(ctx context.Context, blob image.Descriptor, off, n int64) (*image.Range, error) {
				s.mu.Lock()
				busy := s.open >= 2
				s.mu.Unlock()
				if busy {
					return nil, &image.RetryError{Busy: true, After: after, Err: errors.New("503")}
				}
				return s.OpenRange(ctx, blob, off, n)
			}}
			items, _ := itemsFor(t, s, blobs...)
			for i := range items {
				items[i].Source = limited
			}
			if took, err := timed(t, items, Options{}); err != nil || took > 10*time.Minute {
				t.Errorf("with Retry-After %s it took %s (%v)", after, took, err)
			}
		})
	}
}

// Slow answers do not keep the connections from growing.
func TestConnectionsGrowWithLatency(t *testing.T) {
	for _, latency := range []time.Duration{50 * time.Millisecond, 600 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			var blobs [][]byte
			for i := range 60 {
				blobs = append(blobs, randomBlob(uint64(i), 1000))
			}
			s := newFakeSource(blobs...)
			items, _ := itemsFor(t, s, blobs...)
			var open, most atomic.Int64
			for i := range items {
				items[i].Source = &hookedSource{s, func(ctx context.Context, blob image.Descriptor, off, n int64) (*image.Range, error) {
					if now := open.Add(1); now > most.Load() {
						most.Store(now)
					}
					defer open.Add(-1)
					sleep(ctx, latency)
					return s.OpenRange(ctx, blob, off, n)
				}}
			}
			if took, err := timed(t, items, Options{}); err != nil || most.Load() != DefaultJobs || took > 6*latency {
				t.Errorf("with %s latency it took %s over %d connections (%v)", latency, took, most.Load(), err)
			}
		})
	}
}

// A receiver of events that hangs for a while (a terminal after Ctrl-S) costs
// that while, and no more.
func TestSlowEventReceiver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		blob := randomBlob(1, 30<<20)
		s := newFakeSource(blob)
		s.delay = time.Millisecond
		items, places := itemsFor(t, s, blob)
		_, err := timed(t, items, Options{Events: func(e image.Event) {
			if e.Kind == image.EventBlobStarted {
				time.Sleep(4 * time.Second)
			}
		}})
		if err != nil || !bytes.Equal(places[0].data, blob) {
			t.Errorf("Fetch: %v", err)
		}
	})
}

// Without ranges, with one connection left, and with a window that is full
// behind a blob that has to be tried again, the stream still goes on.
func TestStreamWithOneConnectionLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		blobs := [][]byte{randomBlob(1, 6<<20), randomBlob(2, 30<<20), randomBlob(3, 30<<20)}
		s := newFakeSource(blobs...)
		s.noRanges = true
		s.delay = time.Millisecond
		var calls atomic.Int64
		moody := &hookedSource{s, func(ctx context.Context, blob image.Descriptor, off, n int64) (*image.Range, error) {
			switch calls.Add(1) {
			case 2:
				return nil, errors.New("connection reset")
			case 3:
				return nil, &image.RetryError{Busy: true, Err: errors.New("429")}
			}
			sleep(ctx, 10*time.Millisecond)
			return s.OpenRange(ctx, blob, off, n)
		}}
		items, _ := itemsFor(t, s, blobs...)
		for i := range items {
			items[i].Source = moody
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		var sunk int64
		_, err := Stream(ctx, items, Options{Jobs: 2}, func(_ int, r io.Reader) error {
			n, err := io.Copy(io.Discard, r)
			sunk += n
			return err
		})
		if err != nil || sunk != sizes(blobs) {
			t.Errorf("after %d bytes: %v", sunk, err)
		}
	})
}

// A sink that is stuck in a write does not hold up an interrupted command.
func TestStreamLeavesStuckSink(t *testing.T) {
	blob := randomBlob(1, 3<<20)
	items, _ := itemsFor(t, newFakeSource(blob), blob)
	ctx, cancel := context.WithCancel(t.Context())
	release := make(chan struct{})
	defer close(release)
	_, err := Stream(ctx, items, quick, func(int, io.Reader) error {
		cancel()
		<-release
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Stream: %v, want canceled", err)
	}
}
