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
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
)

// quick makes pauses short: no test waits for the clock to prove anything.
var quick = Options{Backoff: time.Millisecond, Stall: 50 * time.Millisecond}

// fetchAll fetches blobs and checks that they arrived.
func fetchAll(t *testing.T, s *fakeSource, opts Options, blobs ...[]byte) Stats {
	t.Helper()
	items, places := itemsFor(t, s, blobs...)
	stats, err := Fetch(t.Context(), items, opts)
	if err != nil {
		t.Fatalf("Fetch: %v", err)
	}
	for i, p := range places {
		if !bytes.Equal(p.data, blobs[i]) {
			t.Errorf("blob %d differs", i)
		}
	}
	return stats
}

func sizes(blobs [][]byte) (n int64) {
	for _, b := range blobs {
		n += int64(len(b))
	}
	return n
}

func TestFetchManyBlobs(t *testing.T) {
	blobs := [][]byte{nil, randomBlob(1, 1), randomBlob(2, 20<<20), randomBlob(3, 5<<20+7)}
	for i := range 60 {
		blobs = append(blobs, randomBlob(uint64(10+i), 1000+i))
	}
	s := newFakeSource(blobs...)
	stats := fetchAll(t, s, quick, blobs...)
	if want := sizes(blobs); stats.Fetched != want || s.served != want {
		t.Errorf("fetched %d, served %d, want %d each", stats.Fetched, s.served, want)
	}
	if s.open != 0 {
		t.Errorf("%d bodies were not closed", s.open)
	}
}

func TestFatBlobUsesManyConnections(t *testing.T) {
	blob := randomBlob(1, 32<<20)
	s := newFakeSource(blob)
	s.delay = 200 * time.Microsecond
	fetchAll(t, s, Options{Jobs: 16}, blob)
	if s.maxOpen < 8 {
		t.Errorf("%d connections at most were open, want 8 or more", s.maxOpen)
	}
}

func TestJobsCapConnections(t *testing.T) {
	blob := randomBlob(1, 16<<20)
	s := newFakeSource(blob)
	fetchAll(t, s, Options{Jobs: 3}, blob)
	if s.maxOpen > 3 {
		t.Errorf("%d connections were open, 3 are allowed", s.maxOpen)
	}
}

func TestFaultsThatPass(t *testing.T) {
	blobs := [][]byte{randomBlob(1, 9<<20), randomBlob(2, 3<<20), randomBlob(3, 100)}
	for name, fault := range map[string]func(*fakeSource){
		"cut every 300 KB":   func(s *fakeSource) { s.cut = 300_000 },
		"ranges ignored":     func(s *fakeSource) { s.noRanges = true },
		"ranges refused":     func(s *fakeSource) { s.refuse416 = true },
		"no length":          func(s *fakeSource) { s.noLength = true },
		"three stall":        func(s *fakeSource) { s.stalls = 3 },
		"every third broken": func(s *fakeSource) { s.fail = every(3, errors.New("connection reset")) },
		"busy at first": func(s *fakeSource) {
			s.fail = func(call int) error {
				if call < 4 {
					return &image.RetryError{Busy: true, After: time.Millisecond, Err: errors.New("429")}
				}
				return nil
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newFakeSource(blobs...)
			fault(s)
			fetchAll(t, s, quick, blobs...)
		})
	}
}

func every(n int, err error) func(int) error {
	return func(call int) error {
		if call%n == 0 {
			return err
		}
		return nil
	}
}

func TestCutsServeLittleTwice(t *testing.T) {
	blob := randomBlob(1, 24<<20)
	s := newFakeSource(blob)
	s.cut = 2 << 20
	fetchAll(t, s, quick, blob)
	if limit := int64(len(blob)) * 105 / 100; s.served > limit {
		t.Errorf("served %d bytes of %d, want at most %d", s.served, len(blob), limit)
	}
}

func TestFaultsThatStay(t *testing.T) {
	blob := randomBlob(1, 3<<20)
	boom := errors.New("boom")
	for name, c := range map[string]struct {
		fault func(*fakeSource)
		want  error
	}{
		"not there":    {func(s *fakeSource) { s.blobs = nil }, image.ErrNotFound},
		"other bytes":  {func(s *fakeSource) { s.corrupt = func(p []byte) []byte { p[len(p)-1] ^= 1; return p } }, image.ErrVerification},
		"longer":       {func(s *fakeSource) { s.corrupt = func(p []byte) []byte { return append(p, 0) } }, image.ErrVerification},
		"shorter":      {func(s *fakeSource) { s.corrupt = func(p []byte) []byte { return p[1:] } }, image.ErrVerification},
		"longer, mum":  {func(s *fakeSource) { s.corrupt = func(p []byte) []byte { return append(p, 0) }; mum(s) }, image.ErrVerification},
		"shorter, mum": {func(s *fakeSource) { s.corrupt = func(p []byte) []byte { return p[1:] }; mum(s) }, image.ErrVerification},
		"always down":  {func(s *fakeSource) { s.fail = every(1, boom) }, boom},
		"refused":      {func(s *fakeSource) { s.fail = every(1, fmt.Errorf("401: %w", image.ErrUnauthorized)) }, image.ErrUnauthorized},
	} {
		t.Run(name, func(t *testing.T) {
			s := newFakeSource(blob)
			c.fault(s)
			items, places := itemsFor(t, s, blob)
			items[0].Blob.Digest = digest.FromBytes(blob)
			verified := false
			items[0].Verified = func() error { verified = true; return nil }
			_, err := Fetch(t.Context(), items, quick)
			if !errors.Is(err, c.want) {
				t.Fatalf("Fetch: %v, want %v", err, c.want)
			}
			if verified {
				t.Error("a bad blob was said to be verified")
			}
			if name == "other bytes" && places[0].forgot != 1 {
				t.Errorf("the bad bytes were forgotten %d times, want once", places[0].forgot)
			}
		})
	}
}

// mum makes a source tell no sizes.
func mum(s *fakeSource) { s.noLength, s.noRanges = true, true }

func TestGivesUpAfterTriesWithoutAByte(t *testing.T) {
	blob := randomBlob(1, 100)
	s := newFakeSource(blob)
	s.fail = every(1, errors.New("connection refused"))
	items, _ := itemsFor(t, s, blob)
	opts := quick
	opts.Retries = 3
	_, err := Fetch(t.Context(), items, opts)
	if err == nil || !strings.Contains(err.Error(), "gave up after 3 tries") || s.calls != 3 {
		t.Errorf("after %d calls: %v; want to give up after 3", s.calls, err)
	}
}

func TestOneByteIsProgress(t *testing.T) {
	blob := randomBlob(1, 40)
	s := newFakeSource(blob)
	s.cut = 1 // forty connections, each of which gives one byte
	opts := quick
	opts.Retries = 2
	fetchAll(t, s, opts, blob)
	if s.served != 40 {
		t.Errorf("served %d bytes, want 40", s.served)
	}
}

func TestResume(t *testing.T) {
	blob := randomBlob(1, 10<<20)
	left := []image.Extent{{Off: 0, Len: 3 << 20}, {Off: 5 << 20, Len: 1 << 20}}
	s := newFakeSource(blob)
	items, places := itemsFor(t, s, blob)
	places[0].before = left
	for _, e := range left {
		copy(places[0].data[e.Off:], blob[e.Off:e.Off+e.Len])
	}
	stats, err := Fetch(t.Context(), items, quick)
	if err != nil || !bytes.Equal(places[0].data, blob) {
		t.Fatalf("Fetch: %v, equal: %v", err, bytes.Equal(places[0].data, blob))
	}
	if s.served != 6<<20 || stats.Resumed != 4<<20 || stats.Fetched != 6<<20 {
		t.Errorf("served %d, stats %+v; want 6 MiB fetched and 4 MiB resumed", s.served, stats)
	}
}

func TestResumeWithoutRanges(t *testing.T) {
	blob := randomBlob(1, 4<<20)
	s := newFakeSource(blob)
	s.noRanges = true
	items, places := itemsFor(t, s, blob)
	places[0].before = []image.Extent{{Off: 1 << 20, Len: 1 << 20}}
	copy(places[0].data[1<<20:], blob[1<<20:2<<20])
	places[0].written = extents{}.add(1<<20, 1<<20)
	if _, err := Fetch(t.Context(), items, quick); err != nil || !bytes.Equal(places[0].data, blob) {
		t.Fatalf("Fetch: %v", err)
	}
}

func TestDamagedPartialIsFetchedAgain(t *testing.T) {
	blob := randomBlob(1, 2<<20)
	s := newFakeSource(blob)
	items, places := itemsFor(t, s, blob)
	places[0].before = []image.Extent{{Off: 0, Len: 1 << 20}} // zeros in truth
	var mu sync.Mutex
	var notes []string
	var sum int64
	opts := quick
	opts.Events = func(e image.Event) {
		mu.Lock()
		defer mu.Unlock()
		switch e.Kind {
		case image.EventNote:
			notes = append(notes, e.Text)
		case image.EventBlobStarted:
			sum += e.Have
		case image.EventBlobAdvanced:
			sum += e.Bytes
		}
	}
	if _, err := Fetch(t.Context(), items, opts); err != nil || !bytes.Equal(places[0].data, blob) {
		t.Fatalf("Fetch: %v", err)
	}
	if len(notes) != 1 || !strings.Contains(notes[0], "damaged") {
		t.Errorf("notes %q, want one of damage", notes)
	}
	if sum != int64(len(blob)) {
		t.Errorf("progress adds up to %d, want %d", sum, len(blob))
	}
}

func TestWholePartialNeedsNoRequest(t *testing.T) {
	blob := randomBlob(1, 2<<20)
	s := newFakeSource(blob)
	items, places := itemsFor(t, s, blob)
	copy(places[0].data, blob)
	places[0].before = []image.Extent{{Off: 0, Len: 2 << 20}}
	if _, err := Fetch(t.Context(), items, quick); err != nil || s.calls != 0 {
		t.Errorf("Fetch: %v after %d requests, want none", err, s.calls)
	}
}

func TestSlowConnectionIsTakenOver(t *testing.T) {
	blob := randomBlob(1, 4<<20)
	s := newFakeSource(blob)
	s.delay, s.slowFirst = 400*time.Millisecond, true // its 2 MiB would take 51 s
	begun := time.Now()
	fetchAll(t, s, Options{Jobs: 4}, blob)
	if took := time.Since(begun); took > 30*time.Second {
		t.Errorf("took %s: the others did not help the slow connection", took)
	}
}

func TestCancel(t *testing.T) {
	blob := randomBlob(1, 4<<20)
	s := newFakeSource(blob)
	s.stalls = 100
	ctx, cancel := context.WithCancel(t.Context())
	items, _ := itemsFor(t, s, blob)
	opts := Options{Events: func(e image.Event) {
		if e.Kind == image.EventBlobAdvanced {
			cancel()
		}
	}}
	if _, err := Fetch(ctx, items, opts); !errors.Is(err, context.Canceled) {
		t.Errorf("Fetch: %v, want canceled", err)
	}
	if s.open != 0 {
		t.Errorf("%d bodies were not closed", s.open)
	}
}

func TestLimitRate(t *testing.T) {
	blob := randomBlob(1, 300<<10)
	s := newFakeSource(blob)
	begun := time.Now()
	fetchAll(t, s, Options{LimitRate: 512 << 10}, blob)
	// 300 KiB at 512 KiB/s, of which the first 64 KiB come at once.
	if took := time.Since(begun); took < 400*time.Millisecond {
		t.Errorf("took %s, which is faster than the limit", took)
	}
}

func TestHostileDescriptors(t *testing.T) {
	for _, d := range []image.Descriptor{
		{Digest: digest.FromString("x"), Size: -1},
		{Digest: "sha256:../x", Size: 1},
	} {
		_, err := Fetch(t.Context(), []Item{{Blob: d, Source: newFakeSource(), Place: &memPlace{t: t}}}, quick)
		if !errors.Is(err, image.ErrVerification) {
			t.Errorf("%v: %v, want a verification error", d, err)
		}
	}
}

func TestStream(t *testing.T) {
	blobs := [][]byte{randomBlob(1, 100), randomBlob(2, 40<<20), nil, randomBlob(3, 9<<20), randomBlob(4, 70<<10)}
	for name, fault := range map[string]func(*fakeSource){
		"healthy":        func(*fakeSource) {},
		"cut":            func(s *fakeSource) { s.cut = 300_000 },
		"ranges ignored": func(s *fakeSource) { s.noRanges = true },
		"stalls":         func(s *fakeSource) { s.stalls = 3 },
	} {
		t.Run(name, func(t *testing.T) {
			s := newFakeSource(blobs...)
			fault(s)
			items, _ := itemsFor(t, s, blobs...)
			var got [][]byte
			_, err := Stream(t.Context(), items, quick, func(i int, r io.Reader) error {
				b, err := io.ReadAll(r)
				got = append(got, b)
				return err
			})
			if err != nil {
				t.Fatalf("Stream: %v", err)
			}
			if !slices.EqualFunc(got, blobs, bytes.Equal) {
				t.Error("the stream differs")
			}
		})
	}
}

func TestStreamHoldsBadBlobBack(t *testing.T) {
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
		var read []int
		_, err := Stream(t.Context(), items, quick, func(i int, r io.Reader) error {
			b, err := io.ReadAll(r)
			read = append(read, len(b))
			return err
		})
		if !errors.Is(err, image.ErrVerification) {
			t.Fatalf("size %d: %v, want a verification error", size, err)
		}
		if len(read) == 2 && read[1] > max(size-held, 0) {
			t.Errorf("size %d: %d bytes got out before the digest was known", size, read[1])
		}
	}
}

func TestStreamSinkFails(t *testing.T) {
	blob := randomBlob(1, 50<<20)
	s := newFakeSource(blob)
	items, _ := itemsFor(t, s, blob)
	broken := errors.New("broken pipe")
	_, err := Stream(t.Context(), items, quick, func(i int, r io.Reader) error {
		_, _ = io.CopyN(io.Discard, r, 1000)
		return broken
	})
	if !errors.Is(err, broken) {
		t.Errorf("Stream: %v, want %v", err, broken)
	}
	if s.served > 2*windowSize {
		t.Errorf("%d bytes were fetched for a reader that had gone", s.served)
	}
}

func TestExtents(t *testing.T) {
	var x extents
	for _, e := range []image.Extent{{Off: 10, Len: 5}, {Off: 0, Len: 5}, {Off: 20, Len: 5}, {Off: 5, Len: 5}, {Off: 12, Len: 9}} {
		x = x.add(e.Off, e.Len)
	}
	if want := (extents{{Off: 0, Len: 25}}); !slices.Equal(x, want) {
		t.Errorf("extents %v, want %v", x, want)
	}
	x = newExtents([]image.Extent{{Off: -5, Len: 10}, {Off: 8, Len: 100}, {Off: 50, Len: 1}, {Off: 7, Len: -2}}, 20)
	if want := (extents{{Off: 0, Len: 5}, {Off: 8, Len: 12}}); !slices.Equal(x, want) {
		t.Errorf("extents %v, want %v", x, want)
	}
	if want := []image.Extent{{Off: 5, Len: 3}}; !slices.Equal(x.gaps(20), want) {
		t.Errorf("gaps %v, want %v", x.gaps(20), want)
	}
	if x.end(1) != 5 || x.end(5) != 5 || x.end(8) != 20 || x.sum() != 17 {
		t.Errorf("ends %d %d %d, sum %d", x.end(1), x.end(5), x.end(8), x.sum())
	}
}
