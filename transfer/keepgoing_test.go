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

// outcome keeps the events that a transfer sends, and its error.
type outcome struct {
	mu     sync.Mutex
	events []image.Event
	err    error
}

func (o *outcome) event(e image.Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.events = append(o.events, e)
}

func (o *outcome) of(kind image.EventKind) (found []image.Event) {
	for _, e := range o.events {
		if e.Kind == kind {
			found = append(found, e)
		}
	}
	return found
}

// keepGoing fetches items, lost of which cannot be had (by their numbers, in
// order), and checks that the error lists just these, and that the rest but
// for dropped is verified, once each, with the right bytes.
func keepGoing(t *testing.T, items []Item, places []*memPlace, opts Options, lost, dropped []int) *outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
	defer cancel()
	o := &outcome{}
	opts.KeepGoing, opts.Events = true, o.event
	verified := make([]atomic.Int64, len(items))
	for i := range items {
		items[i].Verified = func() error { verified[i].Add(1); return nil }
	}
	_, err := Fetch(ctx, items, opts)
	var got []digest.Digest
	var list *BlobsError
	if errors.As(err, &list) {
		for _, b := range list.Blobs {
			got = append(got, b.Digest)
		}
	} else if err != nil {
		t.Fatalf("Fetch: %v, want a BlobsError", err)
	}
	var want []digest.Digest
	for _, i := range lost {
		want = append(want, items[i].Blob.Digest)
	}
	if !slices.Equal(got, want) {
		t.Errorf("the error lists %v, want %v:\n%v", got, want, err)
	}
	for i, item := range items {
		wanted := int64(1)
		if slices.Contains(lost, i) || slices.Contains(dropped, i) {
			wanted = 0
		}
		if verified[i].Load() != wanted {
			t.Errorf("item %d is verified %d times, want %d", i, verified[i].Load(), wanted)
		}
		if wanted == 1 && digest.FromBytes(places[i].data) != item.Blob.Digest {
			t.Errorf("item %d differs", i)
		}
	}
	if got, want := len(o.of(image.EventBlobGivenUp)), len(lost)+len(dropped); got != want {
		t.Errorf("%d blobs were said to be given up, want %d", got, want)
	}
	if len(o.of(image.EventDone)) != 1 || o.events[len(o.events)-1].Kind != image.EventDone {
		t.Error("the last event is not the only one of the end")
	}
	o.err = err
	return o
}

func TestKeepGoing(t *testing.T) {
	var blobs [][]byte
	for i := range 30 {
		blobs = append(blobs, randomBlob(uint64(i), 1000+i*100_000))
	}
	boom := errors.New("boom")
	for name, c := range map[string]struct {
		open func(s *fakeSource, ctx context.Context, blob image.Descriptor, off, n int64) (*image.Range, error)
		want error
	}{
		"not there": {func(*fakeSource, context.Context, image.Descriptor, int64, int64) (*image.Range, error) {
			return nil, image.ErrNotFound
		}, image.ErrNotFound},
		"refused": {func(*fakeSource, context.Context, image.Descriptor, int64, int64) (*image.Range, error) {
			return nil, image.ErrUnauthorized
		}, image.ErrUnauthorized},
		"never comes": {func(*fakeSource, context.Context, image.Descriptor, int64, int64) (*image.Range, error) {
			return nil, boom
		}, boom},
		"other bytes": {func(s *fakeSource, ctx context.Context, blob image.Descriptor, off, n int64) (*image.Range, error) {
			r, err := s.OpenRange(ctx, blob, off, n)
			whole := r.Body
			r.Body = &body{whole, func(p []byte) (int, error) {
				n, err := whole.Read(p)
				clear(p[:n])
				return n, err
			}}
			return r, err
		}, image.ErrVerification},
		"other size": {func(s *fakeSource, ctx context.Context, blob image.Descriptor, off, n int64) (*image.Range, error) {
			r, err := s.OpenRange(ctx, blob, off, n)
			r.Total++
			return r, err
		}, image.ErrVerification},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newFakeSource(blobs...)
				s.delay = time.Millisecond
				items, places := itemsFor(t, s, blobs...)
				lost := []int{0, 7, 29}
				bad := &hookedSource{s, func(ctx context.Context, blob image.Descriptor, off, n int64) (*image.Range, error) {
					for _, i := range lost {
						if items[i].Blob.Digest == blob.Digest {
							return c.open(s, ctx, blob, off, n)
						}
					}
					return s.OpenRange(ctx, blob, off, n)
				}}
				for i := range items {
					items[i].Source = bad
				}
				o := keepGoing(t, items, places, Options{}, lost, nil)
				if !errors.Is(o.err, c.want) {
					t.Errorf("Fetch: %v, want %v", o.err, c.want)
				}
				if warnings := o.of(image.EventWarning); len(warnings) != 3 || !strings.Contains(warnings[0].Text, c.want.Error()) {
					t.Errorf("warnings %v, want three that tell %v", warnings, c.want)
				}
				if s.open != 0 {
					t.Errorf("%d bodies were not closed", s.open)
				}
				moved, whole := int64(0), int64(0)
				for _, e := range o.of(image.EventBlobAdvanced) {
					moved += e.Bytes
				}
				for i, b := range blobs {
					if !slices.Contains(lost, i) {
						whole += int64(len(b))
					}
				}
				if moved != whole {
					t.Errorf("progress adds up to %d, want the %d of what is verified", moved, whole)
				}
			})
		})
	}
}

// A registry that is down costs some tries, not some for each of its blobs,
// and the others' blobs come all the same.
func TestDeadSourceBesideHealthy(t *testing.T) {
	for name, c := range map[string]struct {
		open  func(ctx context.Context) error
		calls int64
		took  time.Duration
	}{
		"refused at once": {func(context.Context) error { return errors.New("connection refused") }, 100, 3 * time.Minute},
		"times out":       {func(ctx context.Context) error { sleep(ctx, 30*time.Second); return errors.New("i/o timeout") }, 100, 10 * time.Minute},
		"busy":            {func(context.Context) error { return &image.RetryError{Busy: true, Err: errors.New("503")} }, 200, 20 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var blobs [][]byte
				for i := range 2000 { // 20 MB, 2 s at the least
					blobs = append(blobs, randomBlob(uint64(i), 10_000+i%7))
				}
				s := newFakeSource(blobs...)
				s.delay = 10 * time.Millisecond
				items, places := itemsFor(t, s, blobs...)
				var calls atomic.Int64
				dead := &hookedSource{s, func(ctx context.Context, _ image.Descriptor, _, _ int64) (*image.Range, error) {
					calls.Add(1)
					return nil, c.open(ctx)
				}}
				var lost []int
				for i := range items {
					if i%2 == 1 {
						items[i].Source = dead
						lost = append(lost, i)
					}
				}
				begun := time.Now()
				o := keepGoing(t, items, places, Options{}, lost, nil)
				took := time.Since(begun)
				if calls.Load() > c.calls || took > c.took {
					t.Errorf("it took %s and %d requests to the dead source, want at most %s and %d", took, calls.Load(), c.took, c.calls)
				}
				t.Logf("it took %s and %d requests to the dead source", took, calls.Load())
				if n := len(o.of(image.EventWarning)); n > 20 {
					t.Errorf("%d warnings of one dead source", n)
				}
				if lines := strings.Split(o.err.Error(), "\n"); len(lines) != 12 || lines[11] != "  and 990 more" {
					t.Errorf("Fetch: %v; want ten blobs and how many more", o.err)
				}
			})
		})
	}
}

// A blob that is fetched as one stream is given up once, too.
func TestKeepGoingWithoutRanges(t *testing.T) {
	blobs := [][]byte{randomBlob(1, 900_000), randomBlob(2, 800_000), randomBlob(3, 700_000), randomBlob(4, 600_000)}
	s := newFakeSource(blobs...)
	s.noRanges = true
	items, places := itemsFor(t, s, blobs...)
	delete(s.blobs, items[1].Blob.Digest)
	places[0].before = []image.Extent{{Off: 1000, Len: 10}} // asks for a range, and hears that there are none
	copy(places[0].data[1000:], blobs[0][1000:1010])
	opts := quick
	opts.Jobs = 1
	keepGoing(t, items, places, opts, []int{1}, nil)
	if s.calls != 5 {
		t.Errorf("%d requests, want one for each blob and one for a range", s.calls)
	}
}

// A stream that breaks off where nothing more was missing of its blob is not
// asked for again, and takes nothing away from the blob.
func TestStreamBreaksBehindTheLastGap(t *testing.T) {
	blob, other := randomBlob(1, 900_000), randomBlob(2, 100_000)
	for _, going := range []bool{false, true} {
		s := newFakeSource(blob, other)
		s.noRanges = true
		s.cut = 500_000
		s.fail = func(call int) error {
			if call == 2 {
				return image.ErrNotFound
			}
			return nil
		}
		items, places := itemsFor(t, s, blob, other)
		items[1].Source = newFakeSource(other)
		left := image.Extent{Off: 100_000, Len: 800_000}
		copy(places[0].data[left.Off:], blob[left.Off:])
		places[0].before, places[0].written = []image.Extent{left}, extents{left}
		opts := quick
		opts.KeepGoing = going
		_, err := Fetch(t.Context(), items, opts)
		if err != nil || !bytes.Equal(places[0].data, blob) || s.calls != 2 {
			t.Errorf("KeepGoing %v: %v after %d requests, want a range and a stream", going, err, s.calls)
		}
	}
}

// Blobs that cannot be had, side by side, do not condemn a source that gives others.
func TestBadBlobsOfHealthySource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var blobs [][]byte
		for i := range 40 {
			blobs = append(blobs, randomBlob(uint64(i), 400_000-i))
		}
		s := newFakeSource(blobs...)
		s.delay = 2 * time.Second // 50 s a blob
		items, places := itemsFor(t, s, blobs...)
		lost := []int{0, 1, 2, 3, 4}
		bad := &hookedSource{s, func(ctx context.Context, blob image.Descriptor, off, n int64) (*image.Range, error) {
			if blob.Size > 400_000-5 {
				return nil, errors.New("500")
			}
			return s.OpenRange(ctx, blob, off, n)
		}}
		for i := range items {
			items[i].Source = bad
		}
		keepGoing(t, items, places, Options{}, lost, nil)
	})
}

// Whoever is at a blob that is given up, is called away at once.
func TestGivenUpBlobEndsPromptly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		blob, other := randomBlob(1, 20<<20), randomBlob(2, 5000)
		s := newFakeSource(blob, other)
		items, places := itemsFor(t, s, blob, other)
		var calls atomic.Int64
		items[0].Source = &hookedSource{s, func(ctx context.Context, blob image.Descriptor, off, n int64) (*image.Range, error) {
			if calls.Add(1) == 6 {
				sleep(ctx, time.Second)
				return nil, image.ErrNotFound
			}
			r, err := s.OpenRange(ctx, blob, off, n)
			r.Body = &body{r.Body, func([]byte) (int, error) { <-ctx.Done(); return 0, ctx.Err() }}
			return r, err
		}}
		begun := time.Now()
		keepGoing(t, items, places, Options{Stall: time.Hour}, []int{0}, nil)
		if took := time.Since(begun); took > 2*time.Second || s.open != 0 {
			t.Errorf("it took %s, and %d bodies were not closed", took, s.open)
		}
	})
}

// What only lost images want is not fetched in vain, and what was written of
// it stays; what another image wants too is fetched.
func TestUnwantedBlobsAreDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		missing, only, shared, anyway := randomBlob(1, 4<<20), randomBlob(2, 4<<20-1), randomBlob(3, 3<<20), randomBlob(4, 2<<20)
		whole := randomBlob(5, 1<<20) // of the lost image, and there already
		blobs := [][]byte{missing, only, shared, anyway, whole}
		s := newFakeSource(blobs...)
		s.delay = 20 * time.Millisecond // 0.8 MB/s a connection
		items, places := itemsFor(t, s, blobs...)
		for i, wanted := range [][]int{{0, 2}, {0, 2}, {0, 1}, nil, {0}} {
			items[i].Wanted = wanted
		}
		copy(places[4].data, whole)
		places[4].before = []image.Extent{{Len: 1 << 20}}
		items[4].Place = &slowPlace{places[4]} // it wants nothing but its hash
		items[0].Source = &hookedSource{s, func(ctx context.Context, blob image.Descriptor, off, n int64) (*image.Range, error) {
			sleep(ctx, time.Second)
			return nil, image.ErrNotFound
		}}
		keepGoing(t, items, places, Options{}, []int{0}, []int{1})
		if written := places[1].written.sum(); places[1].forgot != 0 || written == 0 || written == int64(len(only)) {
			t.Errorf("%d bytes of the dropped blob are in its place, forgotten %d times; want what had come", written, places[1].forgot)
		}
	})
}

// What an earlier run left damaged of a source's blob, once the source is
// dead, is given up and not waited for.
func TestDamagedBlobOfDeadSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var blobs [][]byte
		for i := range 4 {
			blobs = append(blobs, randomBlob(uint64(i), 1000))
		}
		s := newFakeSource(blobs...)
		s.fail = every(1, errors.New("connection refused"))
		items, places := itemsFor(t, s, blobs...)
		places[3].before = []image.Extent{{Len: 1000}} // zeros in truth
		items[3].Place = &slowPlace{places[3]}
		keepGoing(t, items, places, Options{}, []int{0, 1, 2, 3}, nil)
		if s.calls > 3*DefaultRetries {
			t.Errorf("%d requests, want none after the source was given up", s.calls)
		}
	})
}

// slowPlace takes an hour to read back.
type slowPlace struct{ *memPlace }

func (p *slowPlace) ReadAt(b []byte, off int64) (int, error) {
	time.Sleep(time.Hour)
	return p.memPlace.ReadAt(b, off)
}

// A fault of our own side ends everything.
func TestOwnFaultsEndAll(t *testing.T) {
	full := errors.New("no space left on device")
	for name, spoil := range map[string]func(item *Item, p *memPlace){
		"write": func(item *Item, p *memPlace) { item.Place = &brokenPlace{p, full, nil, nil} },
		"read back": func(item *Item, p *memPlace) {
			p.before = []image.Extent{{Len: 1}}
			item.Place = &brokenPlace{p, nil, full, nil}
		},
		"forget": func(item *Item, p *memPlace) {
			p.before = []image.Extent{{Len: item.Blob.Size}}
			item.Place = &brokenPlace{p, nil, nil, full}
		},
		"verified": func(item *Item, p *memPlace) { item.Verified = func() error { return full } },
	} {
		t.Run(name, func(t *testing.T) {
			good, missing, endless := randomBlob(1, 50_000), randomBlob(2, 100), randomBlob(3, 1<<20)
			s := newFakeSource(good, endless)
			items, places := itemsFor(t, s, good, missing, endless)
			spoil(&items[0], places[0])
			items[2].Source = &hookedSource{s, func(ctx context.Context, _ image.Descriptor, _, _ int64) (*image.Range, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}}
			opts := quick
			opts.KeepGoing = true
			_, err := Fetch(t.Context(), items, opts)
			var list *BlobsError
			if !errors.Is(err, full) || errors.As(err, &list) {
				t.Errorf("Fetch: %v, want %v", err, full)
			}
		})
	}
}

// brokenPlace fails where it is told to.
type brokenPlace struct {
	*memPlace
	write, read, forget error
}

func (p *brokenPlace) WriteAt(b []byte, off int64) (int, error) {
	if p.write != nil {
		return 0, p.write
	}
	return p.memPlace.WriteAt(b, off)
}

func (p *brokenPlace) ReadAt(b []byte, off int64) (int, error) {
	if p.read != nil {
		return 0, p.read
	}
	return p.memPlace.ReadAt(b, off)
}

func (p *brokenPlace) Forget() error {
	if p.forget != nil {
		return p.forget
	}
	return p.memPlace.Forget()
}

func TestKeepGoingCancelled(t *testing.T) {
	blob := randomBlob(1, 4<<20)
	s := newFakeSource(blob)
	s.stalls = 100
	ctx, cancel := context.WithCancel(t.Context())
	items, _ := itemsFor(t, s, blob)
	opts := Options{KeepGoing: true, Events: func(e image.Event) {
		if e.Kind == image.EventBlobAdvanced {
			cancel()
		}
	}}
	var list *BlobsError
	if _, err := Fetch(ctx, items, opts); !errors.Is(err, context.Canceled) || errors.As(err, &list) {
		t.Errorf("Fetch: %v, want canceled", err)
	}
}

// A stream leaves no blob out.
func TestStreamDoesNotKeepGoing(t *testing.T) {
	good, missing := randomBlob(1, 5000), randomBlob(2, 5000)
	items, _ := itemsFor(t, newFakeSource(good), missing, good)
	opts := quick
	opts.KeepGoing = true
	_, err := Stream(t.Context(), items, opts, func(_ int, r io.Reader) error {
		_, err := io.Copy(io.Discard, r)
		return err
	})
	var list *BlobsError
	if !errors.Is(err, image.ErrNotFound) || errors.As(err, &list) {
		t.Errorf("Stream: %v, want %v", err, image.ErrNotFound)
	}
}

func TestBlobsError(t *testing.T) {
	one := &BlobsError{Blobs: []BlobError{{"sha256:a", fmt.Errorf("blob a: %w", image.ErrNotFound)}}}
	if got := one.Error(); got != "blob a: not found" {
		t.Errorf("one blob: %q", got)
	}
	two := &BlobsError{Blobs: append(slices.Clone(one.Blobs), BlobError{"sha256:b", fmt.Errorf("blob b: %w", image.ErrUnauthorized)})}
	if got := two.Error(); got != "2 blobs could not be had:\n  blob a: not found\n  blob b: not authorized" {
		t.Errorf("two blobs: %q", got)
	}
	if !errors.Is(two, image.ErrNotFound) || !errors.Is(two, image.ErrUnauthorized) || errors.Is(two, image.ErrVerification) {
		t.Error("errors.Is does not look through the list")
	}
}

// Whatever mix of faults a registry shows, every blob is right or reported.
func TestChaosKeepGoing(t *testing.T) {
	for seed := range uint64(24) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			blobs := [][]byte{randomBlob(1, 7<<20), randomBlob(2, 3<<20+5), randomBlob(3, 900_000), randomBlob(4, 17), nil}
			for i := range 12 {
				blobs = append(blobs, randomBlob(uint64(10+i), 10_000+i*30_000))
			}
			s := newChaosSource(seed, newFakeSource(blobs...))
			s.fatal = 60
			items, places := itemsFor(t, s.fakeSource, blobs...)
			var verified [17]atomic.Bool
			for i := range items {
				items[i].Source = s
				items[i].Verified = func() error { verified[i].Store(true); return nil }
				if i > 5 {
					items[i].Wanted = []int{i % 3, i % 4}
				}
			}
			opts := Options{Backoff: time.Millisecond, Stall: 20 * time.Millisecond, Retries: 50, KeepGoing: true}
			_, err := Fetch(t.Context(), items, opts)
			var list *BlobsError
			if err != nil && !errors.As(err, &list) {
				t.Fatal(err)
			}
			failed := map[digest.Digest]bool{}
			lost := map[int]bool{}
			for i, item := range items {
				if list != nil && slices.ContainsFunc(list.Blobs, func(b BlobError) bool { return b.Digest == item.Blob.Digest }) {
					failed[item.Blob.Digest] = true
					for _, n := range items[i].Wanted {
						lost[n] = true
					}
				}
			}
			for i, item := range items {
				dropped := len(item.Wanted) > 0 && !slices.ContainsFunc(item.Wanted, func(n int) bool { return !lost[n] })
				switch isVerified, isFailed := verified[i].Load(), failed[item.Blob.Digest]; {
				case isVerified && isFailed:
					t.Errorf("blob %d is verified and reported", i)
				case isVerified && !bytes.Equal(places[i].data, blobs[i]):
					t.Errorf("blob %d differs", i)
				case !isVerified && !isFailed && !dropped:
					t.Errorf("blob %d is neither verified nor reported nor unwanted", i)
				}
			}
		})
	}
}
