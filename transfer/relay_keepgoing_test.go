package transfer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
)

// relayed is what became of a relay that keeps going.
type relayed struct {
	*outcome
	stats  Stats
	called []bool   // whose sinks were
	ends   []error  // what they returned
	got    [][]byte // what was read of the blobs whose sinks returned nil
}

// relayOn relays items with KeepGoing and checks that the error lists just the
// lost ones, in order, and that these and the dropped are said to be given up,
// but for those that were verified before. A sink that returns nil has to return
// all of the blob, or nothing of it.
func relayOn(t *testing.T, items []Item, opts Options, lanes int, lost, dropped []int, sink func(i int, r io.Reader) ([]byte, error)) *relayed {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
	defer cancel()
	n := len(items)
	got := &relayed{&outcome{}, Stats{}, make([]bool, n), make([]error, n), make([][]byte, n)}
	opts.KeepGoing, opts.Events = true, got.event
	e := newRelay(ctx, items, opts, lanes)
	got.stats, got.err = e.runInto(ctx, func() error {
		return e.relayInto(ctx, func(i int, r io.Reader) error {
			got.called[i] = true
			got.got[i], got.ends[i] = sink(i, r)
			return got.ends[i]
		})
	})
	got.checkLost(t, items, lost)
	done := map[digest.Digest]bool{}
	for _, ev := range got.of(image.EventBlobVerified) {
		done[ev.Blob.Digest] = true
	}
	var over, want []int
	for i, item := range items {
		if slices.ContainsFunc(got.of(image.EventBlobGivenUp), func(ev image.Event) bool { return ev.Blob.Digest == item.Blob.Digest }) {
			over = append(over, i)
		}
		if (slices.Contains(lost, i) || slices.Contains(dropped, i)) && !done[item.Blob.Digest] {
			want = append(want, i)
		}
		if got.ends[i] == nil && got.got[i] != nil && digest.FromBytes(got.got[i]) != item.Blob.Digest {
			t.Errorf("blob %d differs", i)
		}
	}
	if n := len(got.of(image.EventBlobGivenUp)); !slices.Equal(over, want) || n != len(want) {
		t.Errorf("the blobs %v were said to be given up, in %d events, want %v", over, n, want)
	}
	if got.events[len(got.events)-1].Kind != image.EventDone {
		t.Error("the last event is not that of the end")
	}
	if pool := &e.relay.pool; len(pool.free) != pool.made {
		t.Errorf("%d pages of %d were given back", len(pool.free), pool.made)
	}
	return got
}

func (r *relayed) checkLost(t *testing.T, items []Item, lost []int) {
	t.Helper()
	var list *BlobsError
	if !errors.As(r.err, &list) && (r.err != nil || len(lost) > 0) {
		t.Fatalf("Relay: %v, want a BlobsError of %v", r.err, lost)
	}
	var got, want []digest.Digest
	if list != nil {
		for _, b := range list.Blobs {
			got = append(got, b.Digest)
		}
	}
	for _, i := range lost {
		want = append(want, items[i].Blob.Digest)
	}
	if !slices.Equal(got, want) {
		t.Errorf("the error lists %v, want %v:\n%v", got, want, r.err)
	}
}

// readAll is a sink that reads all.
func readAll(_ int, r io.Reader) ([]byte, error) { return io.ReadAll(r) }

// bigAndSmall are n blobs, each third of which takes many requests.
func bigAndSmall(n int) [][]byte {
	var blobs [][]byte
	for i := range n {
		size := 1000 + i
		if i%3 == 1 {
			size += 12 << 20
		}
		blobs = append(blobs, randomBlob(uint64(i), size))
	}
	return blobs
}

// spoil makes the source of some items answer as open does.
func spoil(s *fakeSource, items []Item, of []int, open func(ctx context.Context, blob image.Descriptor, off, n int64) (*image.Range, error)) {
	bad := &hookedSource{s, func(ctx context.Context, blob image.Descriptor, off, n int64) (*image.Range, error) {
		if slices.ContainsFunc(of, func(i int) bool { return items[i].Blob.Digest == blob.Digest }) {
			return open(ctx, blob, off, n)
		}
		return s.OpenRange(ctx, blob, off, n)
	}}
	for i := range items {
		items[i].Source = bad
	}
}

// What a source cannot give, the first blob and the last among it, takes nothing
// away from the others.
func TestRelayKeepsGoing(t *testing.T) {
	boom := errors.New("boom")
	answers := func(err error) func(*image.Range) error { return func(*image.Range) error { return err } }
	for name, c := range map[string]struct {
		fault func(r *image.Range) error
		want  error
	}{
		"not there":   {answers(image.ErrNotFound), image.ErrNotFound},
		"refused":     {answers(image.ErrUnauthorized), image.ErrUnauthorized},
		"never comes": {answers(boom), boom},
		"other size":  {func(r *image.Range) error { r.Total++; return nil }, image.ErrVerification},
		"other bytes": {func(r *image.Range) error {
			whole := r.Body
			r.Body = &body{whole, func(p []byte) (int, error) {
				n, err := whole.Read(p)
				clear(p[:n])
				return n, err
			}}
			return nil
		}, image.ErrVerification},
	} {
		for _, lanes := range []int{1, 3} {
			onTestClock(t, fmt.Sprintf("%s, %d lanes", name, lanes), func(t *testing.T) {
				blobs := bigAndSmall(14)
				s := newFakeSource(blobs...)
				s.delay = time.Millisecond
				items, _ := itemsFor(t, s, blobs...)
				lost := []int{0, 4, 6, 13}
				spoil(s, items, lost, func(ctx context.Context, blob image.Descriptor, off, n int64) (*image.Range, error) {
					r, err := s.OpenRange(ctx, blob, off, n)
					if err := errors.Join(err, c.fault(r)); err != nil {
						return nil, errors.Join(err, r.Body.Close())
					}
					return r, nil
				})
				o := relayOn(t, items, Options{}, lanes, lost, nil, readAll)
				for i, err := range o.ends {
					if bad := slices.Contains(lost, i); bad != errors.Is(err, c.want) || !bad && err != nil {
						t.Errorf("the sink of blob %d read %v", i, err)
					}
				}
				if n := len(o.of(image.EventWarning)); n != len(lost) || s.open != 0 {
					t.Errorf("%d warnings, want %d; %d bodies were not closed", n, len(lost), s.open)
				}
			})
		}
	}
}

// What a sink returns ends its blob alone, wherever it is in it, and what is left
// is not fetched. There are more of them than lanes.
func TestRelaySinksFail(t *testing.T) {
	refused, busy := errors.New("the destination refuses it"), errors.New("the registry has lost it")
	for _, noRanges := range []bool{false, true} {
		for _, lanes := range []int{1, 3} {
			onTestClock(t, fmt.Sprintf("%d lanes, no ranges %v", lanes, noRanges), func(t *testing.T) {
				blobs := bigAndSmall(17)
				s := newFakeSource(blobs...)
				s.delay, s.noRanges = time.Millisecond, noRanges
				items, _ := itemsFor(t, s, blobs...)
				reads := map[int]int64{0: 0, 1: 1, 4: 5 << 20, 7: int64(len(blobs[7])), 8: 1, 10: 0, 13: 1, 16: 3 << 20}
				lost := []int{0, 1, 4, 7, 8, 10, 13, 16}
				o := relayOn(t, items, Options{}, lanes, lost, nil, func(i int, r io.Reader) ([]byte, error) {
					n, fails := reads[i]
					if !fails {
						return io.ReadAll(r)
					}
					_, _ = io.CopyN(io.Discard, r, n) // small ones come to their end
					if i == 7 {
						_, _ = r.Read(make([]byte, 1)) // which is verified by now
						return nil, &image.RetryError{Err: busy}
					}
					return nil, refused
				})
				most := relayWindow * int64(len(lost)) / 4 // much less than all
				for i, b := range blobs {
					if !slices.Contains(lost, i) {
						most += int64(len(b))
					}
				}
				if o.stats.Fetched > most {
					t.Errorf("%d bytes were fetched, want %d at most", o.stats.Fetched, most)
				}
				var list *BlobsError
				var again *image.RetryError
				if !errors.As(o.err, &list) || !errors.As(list.Blobs[3].Err, &again) || errors.As(list.Blobs[2].Err, &again) {
					t.Errorf("Relay: %v; want a RetryError of the fourth", o.err)
				}
				if n := len(o.of(image.EventWarning)); n != len(lost) || s.open != 0 {
					t.Errorf("%d warnings, want %d; %d bodies were not closed", n, len(lost), s.open)
				}
			})
		}
	}
}

// A sink that fails when all blobs are verified long since, fails in time.
func TestRelayLastSinkFailsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		blobs := [][]byte{randomBlob(1, 5000), randomBlob(2, 6000)}
		items, _ := itemsFor(t, newFakeSource(blobs...), blobs...)
		o := relayOn(t, items, Options{}, 2, []int{0, 1}, nil, func(i int, r io.Reader) ([]byte, error) {
			_, err := io.Copy(io.Discard, r)
			time.Sleep(time.Duration(i+1) * time.Minute)
			return nil, errors.Join(err, &image.RetryError{Err: errors.New("the upload is lost")})
		})
		if n := len(o.of(image.EventWarning)); n != 2 {
			t.Errorf("%d warnings, want 2", n)
		}
	})
}

// A sink that fails at once gives its lane to the next, and frees the memory for
// those that are left.
func TestRelayFailedSinkFreesLane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		blobs := make([][]byte, 20)
		var lost []int
		for i := range blobs {
			blobs[i] = randomBlob(uint64(i), 12<<20)
			if i < 19 {
				lost = append(lost, i)
			}
		}
		s := newFakeSource(blobs...)
		items, _ := itemsFor(t, s, blobs...)
		var running, most atomic.Int64
		begun := time.Now()
		relayOn(t, items, Options{}, 4, lost, nil, func(i int, r io.Reader) ([]byte, error) {
			most.Store(max(most.Load(), running.Add(1)))
			defer running.Add(-1)
			if _, err := r.Read(nil); err != nil {
				return nil, err
			}
			time.Sleep(time.Second) // connections fill its memory
			if i < 19 {
				return nil, errors.New("refused")
			}
			return io.ReadAll(r)
		})
		if took := time.Since(begun); took > 6*time.Second || most.Load() != 4 {
			t.Errorf("it took %s, with %d sinks side by side, want 5 s and 4", took, most.Load())
		}
	})
}

// Where nothing comes, and nothing goes, all are told.
func TestRelayAllFail(t *testing.T) {
	blobs := bigAndSmall(12)
	all := []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}
	onTestClock(t, "sources", func(t *testing.T) {
		s := newFakeSource()
		items, _ := itemsFor(t, s, blobs...)
		o := relayOn(t, items, Options{}, 3, all, nil, readAll)
		if !errors.Is(o.err, image.ErrNotFound) || o.stats.Fetched != 0 {
			t.Errorf("Relay: %v, after %d bytes", o.err, o.stats.Fetched)
		}
	})
	onTestClock(t, "sinks", func(t *testing.T) {
		s := newFakeSource(blobs...)
		items, _ := itemsFor(t, s, blobs...)
		refused := errors.New("refused")
		o := relayOn(t, items, Options{}, 3, all, nil, func(int, io.Reader) ([]byte, error) { return nil, refused })
		if !errors.Is(o.err, refused) || s.calls != 0 {
			t.Errorf("Relay: %v, after %d requests", o.err, s.calls)
		}
	})
}

// A registry that is down costs some tries, not some for each of its blobs. What
// a sink does not need of it is no error.
func TestRelayDeadSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		blobs := bigAndSmall(40)
		down, up := newFakeSource(), newFakeSource(blobs...)
		down.fail = every(1, errors.New("connection refused"))
		items, _ := itemsFor(t, down, blobs...)
		var lost, dropped []int
		for i := range items {
			switch i % 4 {
			case 0, 1:
				lost = append(lost, i)
			case 2:
				dropped = append(dropped, i)
			default:
				items[i].Source = up
			}
		}
		o := relayOn(t, items, Options{}, 3, lost, dropped, func(i int, r io.Reader) ([]byte, error) {
			if i%4 == 2 {
				return nil, nil // the destination has it
			}
			return io.ReadAll(r)
		})
		if slices.Contains(o.called, false) {
			t.Errorf("sinks were called: %v, want all", o.called)
		}
		if most := (maxBarren + 3) * DefaultRetries * 2; down.calls > most {
			t.Errorf("%d requests to a source that is down, want %d at most", down.calls, most)
		}
		if n := len(o.of(image.EventWarning)); n > 10 {
			t.Errorf("%d warnings of one dead source", n)
		}
	})
}

// What only lost images want is not given out, or no further; it is not listed,
// even if its sink returns an error for that.
func TestRelayUnwanted(t *testing.T) {
	for name, missing := range map[string]bool{"source": true, "sink": false} {
		onTestClock(t, name, func(t *testing.T) {
			first, reading, shared, later, empty := randomBlob(1, 1000), randomBlob(2, 40<<20), randomBlob(3, 9<<20), randomBlob(4, 5000), []byte(nil)
			blobs := [][]byte{first, reading, shared, later, empty, randomBlob(5, 6000)}
			s := newFakeSource(blobs...)
			s.delay = time.Millisecond
			if missing {
				delete(s.blobs, digest.FromBytes(first))
			}
			items, _ := itemsFor(t, s, blobs...)
			for i, wanted := range [][]int{{0, 2}, {0, 2}, {0, 1}, {2}, {0}, nil} {
				items[i].Wanted = wanted
			}
			o := relayOn(t, items, Options{}, 3, []int{0}, []int{1, 3}, func(i int, r io.Reader) ([]byte, error) {
				if i == 0 {
					time.Sleep(100 * time.Millisecond)
					if !missing {
						return nil, errors.New("refused")
					}
				}
				return io.ReadAll(r)
			})
			if want := []bool{true, true, true, false, false, true}; !slices.Equal(o.called, want) {
				t.Errorf("sinks were called: %v, want %v", o.called, want)
			}
			if err := o.ends[1]; err == nil || !strings.Contains(err.Error(), "each image that wants it lacks another") {
				t.Errorf("the unwanted blob's reader returned %v", err)
			}
			if o.ends[2] != nil || o.ends[5] != nil {
				t.Errorf("the wanted blobs' readers returned %v and %v", o.ends[2], o.ends[5])
			}
		})
	}
}

// A blob that is wrong before anybody has read of it, is not given out.
func TestRelayFailsBeforeSink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		blobs := [][]byte{randomBlob(1, 5000), nil, randomBlob(2, 6000), nil}
		items, _ := itemsFor(t, newFakeSource(blobs...), blobs...)
		items[1].Blob.Digest, items[3].Blob.Digest = digest.FromString("not"), digest.FromString("empty")
		o := relayOn(t, items, Options{}, 1, []int{1, 3}, nil, func(_ int, r io.Reader) ([]byte, error) {
			time.Sleep(time.Second)
			return io.ReadAll(r)
		})
		if want := []bool{true, false, true, false}; !slices.Equal(o.called, want) || !errors.Is(o.err, image.ErrVerification) {
			t.Errorf("sinks were called: %v, want %v (%v)", o.called, want, o.err)
		}
	})
}

// A source's error counts even where the sink did not wait for it, and its
// reader goes on to return it.
func TestRelaySinkIgnoresSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		missing, other := randomBlob(1, 5000), randomBlob(2, 6000)
		items, _ := itemsFor(t, newFakeSource(other), missing, other)
		relayOn(t, items, Options{}, 2, []int{0}, nil, func(i int, r io.Reader) ([]byte, error) {
			if i == 1 {
				return io.ReadAll(r)
			}
			for range 2 {
				if _, err := r.Read(make([]byte, 1)); !errors.Is(err, image.ErrNotFound) {
					t.Errorf("Read: %v, want %v", err, image.ErrNotFound)
				}
			}
			return nil, nil
		})
	})
}

// The end of the context is no error of single blobs, whatever the sinks make of
// it, nor does it wait for one that is stuck.
func TestRelayKeepGoingCancelled(t *testing.T) {
	for _, stuck := range []bool{false, true} {
		onTestClock(t, fmt.Sprintf("stuck %v", stuck), func(t *testing.T) {
			blobs := bigAndSmall(6)
			items, _ := itemsFor(t, newFakeSource(blobs...), blobs...)
			ctx, cancel := context.WithCancel(t.Context())
			release := make(chan struct{})
			defer close(release)
			_, err := Relay(ctx, items, Options{KeepGoing: true}, 6, func(i int, r io.Reader) error {
				if _, err := io.Copy(io.Discard, r); err != nil {
					return err
				}
				if i == 0 {
					synctest.Wait() // all blobs are verified, and all other sinks wait
					cancel()
				}
				<-ctx.Done()
				if stuck {
					<-release
				}
				return fmt.Errorf("push: %w", ctx.Err())
			})
			var list *BlobsError
			if !errors.Is(err, context.Canceled) || errors.As(err, &list) {
				t.Errorf("Relay: %v, want canceled", err)
			}
		})
	}
}

// What sinks return because the context has ended is told nowhere.
func TestRelayKeepGoingEndsQuietly(t *testing.T) {
	blob := randomBlob(1, 1000)
	for range 100 {
		items, _ := itemsFor(t, newFakeSource(blob), blob)
		ctx, cancel := context.WithCancel(t.Context())
		o := &outcome{}
		_, err := Relay(ctx, items, Options{KeepGoing: true, Events: o.event}, 1, func(int, io.Reader) error {
			cancel()
			return ctx.Err()
		})
		o.mu.Lock()
		if told := o.of(image.EventWarning); !errors.Is(err, context.Canceled) || len(told) > 0 {
			t.Fatalf("Relay: %v, with the warnings %v", err, told)
		}
		o.mu.Unlock()
	}
}

// A mirror's wrong bytes of a blob that is being read cost that blob, and the
// mirror the others.
func TestRelayKeepsGoingWithoutLiar(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var blobs [][]byte
		for i := range 5 {
			blobs = append(blobs, randomBlob(uint64(i), 40<<20))
		}
		liar := newMirror("liar.test", blobs...).lies()
		items, _ := through(t, blobs, newMirror("origin.test", blobs...), liar)
		o := relayOn(t, items, Options{}, 1, []int{0}, nil, readAll)
		if !errors.Is(o.err, image.ErrVerification) {
			t.Errorf("Relay: %v, want %v", o.err, image.ErrVerification)
		}
	})
}

// Whatever mix of faults a registry and sinks show, every blob is right,
// reported or unwanted. The sinks fail while connections write to their memory.
func TestRelayChaosKeepGoing(t *testing.T) {
	for seed := range uint64(24) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			blobs := [][]byte{randomBlob(1, 12<<20), randomBlob(2, 3<<20+5), randomBlob(3, 900_000), randomBlob(4, 17), nil}
			for i := range 12 {
				blobs = append(blobs, randomBlob(uint64(10+i), 10_000+i*300_000))
			}
			s := newChaosSource(seed, newFakeSource(blobs...))
			s.fatal = 60
			items, _ := itemsFor(t, s.fakeSource, blobs...)
			for i := range items {
				items[i].Source = s
				if i > 5 {
					items[i].Wanted = []int{i % 3, i % 4}
				}
			}
			right := make([]bool, len(items))
			broken := errors.New("refused")
			opts := Options{Backoff: time.Millisecond, Stall: 20 * time.Millisecond, Retries: 50, KeepGoing: true}
			_, err := Relay(t.Context(), items, opts, 1+int(seed%6), func(i int, r io.Reader) error {
				if (uint64(i)+seed)%5 == 0 {
					_, _ = io.CopyN(io.Discard, r, int64(len(blobs[i]))*int64(seed)/24)
					return broken
				}
				got, err := io.ReadAll(r)
				right[i] = err == nil && bytes.Equal(got, blobs[i])
				return err
			})
			var list *BlobsError
			if err != nil && !errors.As(err, &list) {
				t.Fatal(err)
			}
			checkEach(t, items, list, right)
		})
	}
}

// checkEach checks that each blob is right, or listed, or unwanted.
func checkEach(t *testing.T, items []Item, list *BlobsError, right []bool) {
	t.Helper()
	failed, lost := make([]bool, len(items)), map[int]bool{}
	for i, item := range items {
		failed[i] = list != nil && slices.ContainsFunc(list.Blobs, func(b BlobError) bool { return b.Digest == item.Blob.Digest })
		for _, n := range item.Wanted {
			lost[n] = lost[n] || failed[i]
		}
	}
	for i, item := range items {
		dropped := len(item.Wanted) > 0 && !slices.ContainsFunc(item.Wanted, func(n int) bool { return !lost[n] })
		switch {
		case right[i] && failed[i]:
			t.Errorf("blob %d is right and reported", i)
		case !right[i] && !failed[i] && !dropped:
			t.Errorf("blob %d is neither right nor reported nor unwanted", i)
		}
	}
}

// An error without KeepGoing ends all, and is no list.
func TestRelayDoesNotKeepGoing(t *testing.T) {
	blobs := [][]byte{randomBlob(1, 100), randomBlob(2, 200)}
	items, _ := itemsFor(t, newFakeSource(blobs...), blobs...)
	refused := errors.New("refused")
	var mu sync.Mutex
	calls := 0
	_, err := Relay(t.Context(), items, quick, 1, func(_ int, r io.Reader) error {
		mu.Lock()
		defer mu.Unlock()
		calls++
		_, _ = io.Copy(io.Discard, r)
		return refused
	})
	var list *BlobsError
	if !errors.Is(err, refused) || errors.As(err, &list) || calls != 1 {
		t.Errorf("Relay: %v, after %d sinks", err, calls)
	}
}
