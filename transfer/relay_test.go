package transfer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/davit-cli/davit/image"
)

// relayAll relays items and returns what each sink read, and the order in which
// the sinks were called.
func relayAll(ctx context.Context, items []Item, opts Options, lanes int) (got [][]byte, calls []int, err error) {
	got = make([][]byte, len(items))
	var mu sync.Mutex
	_, err = Relay(ctx, items, opts, lanes, func(i int, r io.Reader) error {
		mu.Lock()
		calls = append(calls, i)
		mu.Unlock()
		b, err := io.ReadAll(r)
		got[i] = b
		return err
	})
	return got, calls, err
}

func TestRelay(t *testing.T) {
	blobs := [][]byte{randomBlob(1, 100), randomBlob(2, 40<<20), nil, randomBlob(3, 9<<20), randomBlob(4, 70<<10), randomBlob(5, held)}
	for name, fault := range map[string]func(*fakeSource){
		"healthy":        func(*fakeSource) {},
		"cut":            func(s *fakeSource) { s.cut = 300_000 },
		"ranges ignored": func(s *fakeSource) { s.noRanges = true },
		"stalls":         func(s *fakeSource) { s.stalls = 3 },
	} {
		for _, lanes := range []int{1, 3, 100} {
			t.Run(fmt.Sprintf("%s, %d lanes", name, lanes), func(t *testing.T) {
				s := newFakeSource(blobs...)
				fault(s)
				items, _ := itemsFor(t, s, blobs...)
				got, calls, err := relayAll(t.Context(), items, quick, lanes)
				if err != nil {
					t.Fatalf("Relay: %v", err)
				}
				if !slices.EqualFunc(got, blobs, bytes.Equal) {
					t.Error("what the sinks read differs")
				}
				if lanes == 1 && !slices.IsSorted(calls) {
					t.Errorf("the blobs were given out as %v", calls)
				}
			})
		}
	}
}

func TestRelayHoldsBadBlobBack(t *testing.T) {
	for _, size := range []int{1, 1000, held + 1, 3 << 20} {
		good, bad := randomBlob(1, 5000), randomBlob(2, size)
		s := newFakeSource(good, bad)
		s.corrupt = func(p []byte) []byte {
			if len(p) == size {
				p[0] ^= 1
			}
			return p
		}
		items, _ := itemsFor(t, s, good, bad)
		got, _, err := relayAll(t.Context(), items, quick, 2)
		if !errors.Is(err, image.ErrVerification) {
			t.Fatalf("size %d: %v, want a verification error", size, err)
		}
		if n := len(got[1]); n > max(size-held, 0) {
			t.Errorf("size %d: %d bytes got out before the digest was known", size, n)
		}
	}
}

// slowly reads all, at so many bytes a second.
func slowly(r io.Reader, rate int) error {
	buf := make([]byte, 64<<10)
	for {
		n, err := io.ReadFull(r, buf)
		time.Sleep(time.Duration(n) * time.Second / time.Duration(rate))
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// Sinks that are slow, each by itself, are not slow one after the other.
func TestRelaySinksSideBySide(t *testing.T) {
	tiny, fat := make([][]byte, 60), make([][]byte, 4)
	for i := range tiny {
		tiny[i] = randomBlob(uint64(i), 20_000)
	}
	for i := range fat {
		fat[i] = randomBlob(uint64(i), 20<<20)
	}
	for name, test := range map[string]struct {
		blobs [][]byte
		sink  func(r io.Reader) error
		least time.Duration // that it can take
	}{
		"tiny": {tiny, func(r io.Reader) error {
			time.Sleep(50 * time.Millisecond)
			return slowly(r, 1<<30)
		}, 10 * 50 * time.Millisecond},
		"fat": {fat, func(r io.Reader) error { return slowly(r, 4<<20) }, 5 * time.Second},
	} {
		onTestClock(t, name, func(t *testing.T) {
			s := newFakeSource(test.blobs...)
			s.delay = time.Millisecond // 16 MiB/s a connection
			items, _ := itemsFor(t, s, test.blobs...)
			begun := time.Now()
			_, err := Relay(t.Context(), items, Options{}, 6, func(_ int, r io.Reader) error { return test.sink(r) })
			took := time.Since(begun)
			if err != nil || took < test.least || took > test.least*5/4 {
				t.Errorf("it took %s for what takes %s (%v)", took, test.least, err)
			}
		})
	}
}

func TestRelayLanes(t *testing.T) {
	blobs := make([][]byte, 40)
	for i := range blobs {
		blobs[i] = randomBlob(uint64(i), 100)
	}
	for _, test := range []struct{ jobs, lanes, want int }{{0, 0, 1}, {0, 6, 6}, {3, 6, 3}, {100, 100, 16}} {
		onTestClock(t, fmt.Sprintf("%d of %d jobs", test.lanes, test.jobs), func(t *testing.T) {
			items, _ := itemsFor(t, newFakeSource(blobs...), blobs...)
			var running, most atomic.Int64
			_, err := Relay(t.Context(), items, Options{Jobs: test.jobs}, test.lanes, func(_ int, r io.Reader) error {
				running.Add(1)
				defer running.Add(-1)
				time.Sleep(time.Second)
				most.Store(max(most.Load(), running.Load()))
				_, err := io.Copy(io.Discard, r)
				return err
			})
			if err != nil || most.Load() != int64(test.want) {
				t.Errorf("%d sinks ran side by side, want %d (%v)", most.Load(), test.want, err)
			}
		})
	}
}

// The blob is fetched first of which the least is ahead of its reader.
func TestRelayQueue(t *testing.T) {
	todo := func(off int64) []image.Extent { return []image.Extent{{Off: off, Len: 100}} }
	far, near, starved := &blob{todo: todo(50)}, &blob{todo: todo(1000), pos: 990}, &blob{todo: todo(70), pos: 70}
	e := &engine{relay: relay{lanes: 3, running: []*blob{far, near, starved}}}
	if got := e.queue(); !slices.Equal(got, []*blob{starved, near, far}) {
		t.Errorf("the blobs with %d, %d and %d ahead come first", got[0].lead(), got[1].lead(), got[2].lead())
	}
}

// A fat blob by itself uses as many connections as with Stream.
func TestRelayFatBlob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		blob, small := randomBlob(1, 64<<20), randomBlob(2, 1000)
		s := newFakeSource(blob, small)
		s.delay = 2 * time.Millisecond // 8 MiB/s a connection, 0.5 s in all at best
		items, _ := itemsFor(t, s, blob, small)
		begun := time.Now()
		_, _, err := relayAll(t.Context(), items, Options{}, 6)
		if took := time.Since(begun); err != nil || took > time.Second || s.maxOpen != DefaultJobs {
			t.Errorf("it took %s, over %d connections (%v)", took, s.maxOpen, err)
		}
	})
}

// The last blob has the memory of all.
func TestRelayMemoryOfTheLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		blobs := make([][]byte, 6)
		for i := range blobs {
			blobs[i] = randomBlob(uint64(i), 40<<20)
		}
		s := newFakeSource(blobs...)
		items, _ := itemsFor(t, s, blobs...)
		_, err := Relay(t.Context(), items, Options{}, 6, func(i int, r io.Reader) error {
			if i < 5 {
				time.Sleep(time.Second)
				return nil
			}
			if _, err := r.Read(nil); err != nil {
				return err
			}
			for _, want := range []int64{relayWindow / 6, relayWindow} {
				synctest.Wait()
				if served := s.sent(); served > want || served < want-minChunk {
					t.Errorf("%d bytes were fetched ahead, want %d", served, want)
				}
				time.Sleep(time.Hour) // the others end
			}
			_, err := io.Copy(io.Discard, r)
			return err
		})
		if err != nil {
			t.Errorf("Relay: %v", err)
		}
	})
}

// Sinks that are stuck hold up nobody else, however few connections there are,
// and whether or not they wait in the middle of a body.
func TestRelayStuckSinks(t *testing.T) {
	for _, noRanges := range []bool{false, true} {
		for _, jobs := range []int{2, 3, 16} {
			onTestClock(t, fmt.Sprintf("%d jobs, no ranges %v", jobs, noRanges), func(t *testing.T) {
				blobs := make([][]byte, 12)
				for i := range blobs {
					blobs[i] = randomBlob(uint64(i), 12<<20+i)
				}
				s := newFakeSource(blobs...)
				s.noRanges, s.delay = noRanges, time.Millisecond
				items, _ := itemsFor(t, s, blobs...)
				stuck := min(jobs, 6) - 1 // all lanes but one
				var rest sync.WaitGroup
				rest.Add(len(blobs) - stuck)
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				_, err := Relay(ctx, items, Options{Jobs: jobs}, 6, func(i int, r io.Reader) error {
					if i < stuck {
						if _, err := io.CopyN(io.Discard, r, 1); err != nil {
							return err
						}
						rest.Wait()
					}
					_, err := io.Copy(io.Discard, r)
					if i >= stuck {
						rest.Done()
					}
					return err
				})
				if err != nil {
					t.Errorf("Relay: %v", err)
				}
			})
		}
	}
}

// Whatever the sinks do, the memory stays within its bounds, and all of it is
// given back.
func TestRelayMemory(t *testing.T) {
	for _, lanes := range []int{1, 6, 16} {
		onTestClock(t, fmt.Sprintf("%d lanes", lanes), func(t *testing.T) {
			blobs := [][]byte{randomBlob(0, 1000), randomBlob(100, 60<<20)}
			for i := range 16 {
				blobs = append(blobs, randomBlob(uint64(i), 6<<20+i))
			}
			s := newFakeSource(blobs...)
			s.delay = time.Millisecond
			items, _ := itemsFor(t, s, blobs...)
			e := newRelay(t.Context(), items, Options{}, lanes)
			_, err := e.runInto(t.Context(), func() error {
				return e.relayInto(t.Context(), func(i int, r io.Reader) error {
					if _, err := r.Read(nil); err != nil {
						return err
					}
					time.Sleep(time.Duration(i) * time.Second) // all that fits is fetched meanwhile
					_, err := io.Copy(io.Discard, r)
					return err
				})
			})
			if err != nil {
				t.Fatalf("Relay: %v", err)
			}
			pool := &e.relay.pool
			if most := relayWindow/pageSize + lanes; pool.made > most {
				t.Errorf("it took %d pages, want %d at most", pool.made, most)
			}
			if len(pool.free) != pool.made {
				t.Errorf("%d pages of %d were given back", len(pool.free), pool.made)
			}
		})
	}
}

func TestRelayShare(t *testing.T) {
	const mib = 1 << 20
	for _, test := range []struct {
		lanes int
		sizes []int64
		want  int64
	}{
		{6, nil, 32 * mib},
		{6, []int64{100, 200 * mib}, 32*mib - 100},
		{6, []int64{1 * mib, 2 * mib, 3 * mib}, 32 * mib},
		{4, []int64{50 * mib, 50 * mib, 50 * mib, 50 * mib, 50 * mib}, 8 * mib},
		{3, []int64{1, 2, 4 * mib, 50 * mib, 50 * mib}, 14 * mib},
		{16, slices.Repeat([]int64{50 * mib}, 20), minAhead},
	} {
		e := &engine{window: relayWindow, relay: relay{lanes: test.lanes, sizes: test.sizes}}
		if e.share(); e.ahead != test.want {
			t.Errorf("%d lanes, %d blobs: %d ahead, want %d", test.lanes, len(test.sizes), e.ahead, test.want)
		}
	}
}
