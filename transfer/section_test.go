package transfer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/davit-cli/davit/image"
)

// sectionOf reads a part of a blob on the test's own clock, from the origin and
// its mirrors, and returns what came and how long it took.
func sectionOf(t *testing.T, blob []byte, off, n int64, opts Options, origin image.Source, mirrors ...image.Source) ([]byte, time.Duration, error) {
	t.Helper()
	items, _ := itemsFor(t, nil, blob)
	items[0].Source, items[0].Mirrors, items[0].Place = origin, mirrors, nil
	var out bytes.Buffer
	begun := time.Now()
	err := Section(t.Context(), items[0], off, n, &out, opts)
	return out.Bytes(), time.Since(begun), err
}

func TestSection(t *testing.T) {
	blob := randomBlob(1, 5*megabyte)
	const off, n = 1_000_001, 2_000_003
	after := func(call int, err error) func(int) error {
		return func(c int) error {
			if c < call {
				return err
			}
			return nil
		}
	}
	for name, test := range map[string]struct {
		origin  func(s *fakeSource)
		mirror  func(s *fakeSource) // nil: there is none
		opts    Options
		atLeast time.Duration // that it takes
		atMost  time.Duration
		served  int64 // by the origin, and by the mirror
		other   int64
	}{
		"healthy":           {served: n},
		"cut":               {origin: func(s *fakeSource) { s.cut = 300_000 }, served: n},
		"lengths untold":    {origin: func(s *fakeSource) { s.noLength = true }, served: n},
		"stalls":            {origin: func(s *fakeSource) { s.stalls = 2 }, served: n, atLeast: 60 * time.Second, atMost: 70 * time.Second},
		"stalls, impatient": {origin: func(s *fakeSource) { s.stalls = 1 }, opts: Options{Stall: time.Second}, served: n, atLeast: time.Second, atMost: 4 * time.Second},
		"refuses at first": {origin: func(s *fakeSource) { s.fail = after(4, errors.New("reset")) }, served: n,
			atLeast: 15 * time.Second, atMost: 20 * time.Second},
		"busy": {origin: func(s *fakeSource) {
			s.fail = after(1, &image.RetryError{Busy: true, After: 40 * time.Second, Err: errors.New("429")})
		}, served: n, atLeast: 40 * time.Second, atMost: 41 * time.Second},
		"capped":        {opts: Options{LimitRate: 500_000}, served: n, atLeast: 3 * time.Second, atMost: 5 * time.Second},
		"mirror":        {mirror: func(*fakeSource) {}, other: n},
		"mirror is cut": {mirror: func(s *fakeSource) { s.cut = 100_000 }, other: n},
		"mirror is busy": {mirror: func(s *fakeSource) {
			s.fail = after(1, &image.RetryError{Busy: true, After: time.Hour, Err: errors.New("429")})
		}, served: n},
		"mirror lacks it":      {mirror: func(s *fakeSource) { clear(s.blobs) }, served: n},
		"mirror has no ranges": {mirror: func(s *fakeSource) { s.noRanges = true }, served: n},
		"mirror refuses them":  {mirror: func(s *fakeSource) { s.refuse416 = true }, served: n},
		"mirror has another size": {mirror: func(s *fakeSource) {
			s.corrupt = func(p []byte) []byte { return append(p, 0) }
		}, served: n},
		"mirror stalls":        {mirror: func(s *fakeSource) { s.stalls = 9 }, served: n - 1<<20, other: 1 << 20, atLeast: 30 * time.Second, atMost: 31 * time.Second},
		"origin has no ranges": {origin: func(s *fakeSource) { s.noRanges = true }, mirror: func(s *fakeSource) { s.fail = after(2, errors.New("reset")) }, other: n, atMost: 10 * time.Second},
	} {
		onTestClock(t, name, func(t *testing.T) {
			origin, mirror := newFakeSource(blob), newFakeSource(blob)
			var mirrors []image.Source
			if test.origin != nil {
				test.origin(origin)
			}
			if test.mirror != nil {
				test.mirror(mirror)
				mirrors = []image.Source{mirror, mirror}
			}
			got, took, err := sectionOf(t, blob, off, n, test.opts, origin, mirrors...)
			if err != nil || !bytes.Equal(got, blob[off:off+n]) {
				t.Errorf("%d bytes, %v; want %d right ones", len(got), err, n)
			}
			if took < test.atLeast || took > max(test.atMost, test.atLeast) {
				t.Errorf("it took %s, want %s to %s", took, test.atLeast, test.atMost)
			}
			if origin.served != test.served || mirror.served != test.other {
				t.Errorf("the origin gave %d, the mirror %d, want %d and %d", origin.served, mirror.served, test.served, test.other)
			}
			if origin.open+mirror.open != 0 {
				t.Errorf("%d bodies are open", origin.open+mirror.open)
			}
		})
	}
}

// Every part, however small, of a blob however small.
func TestSectionBounds(t *testing.T) {
	blob := randomBlob(1, 10)
	s := newFakeSource(blob)
	for off := range int64(12) {
		for n := range int64(12) {
			got, _, err := sectionOf(t, blob, off, n, Options{}, s)
			switch {
			case off+n > 10:
				if err == nil || len(got) > 0 {
					t.Errorf("%d+%d: %d bytes, %v; want an error", off, n, len(got), err)
				}
			case err != nil || !bytes.Equal(got, blob[off:off+n]):
				t.Errorf("%d+%d: %x, %v", off, n, got, err)
			}
		}
	}
	for _, of := range [][2]int64{{-1, 1}, {1, -1}, {1, 1<<63 - 1}} {
		if _, _, err := sectionOf(t, blob, of[0], of[1], Options{}, s); err == nil {
			t.Errorf("%d: no error", of)
		}
	}
}

// Whoever sends the whole blob in place of a part is not read.
func TestSectionWithoutRanges(t *testing.T) {
	blob := randomBlob(1, 5*megabyte)
	for name, set := range map[string]func(s *fakeSource){
		"ignored": func(s *fakeSource) { s.noRanges = true },
		"refused": func(s *fakeSource) { s.refuse416 = true },
	} {
		onTestClock(t, name, func(t *testing.T) {
			origin, mirror, lost := newFakeSource(blob), newFakeSource(blob), newFakeSource()
			set(origin)
			set(mirror)
			for _, off := range []int64{0, 1000} {
				got, took, err := sectionOf(t, blob, off, 1000, Options{}, origin, lost, mirror)
				var noRange *image.NoRangeError
				if !errors.As(err, &noRange) || len(got) > 0 || took > 0 {
					t.Errorf("%d bytes after %s, %v; want an image.NoRangeError", len(got), took, err)
				}
			}
			if origin.served+mirror.served > 0 || origin.open+mirror.open > 0 {
				t.Errorf("%d bytes were read, %d bodies are open", origin.served+mirror.served, origin.open+mirror.open)
			}
		})
	}
}

func TestSectionGivesUp(t *testing.T) {
	blob := randomBlob(1, 1000)
	refused := errors.New("connection refused")
	for name, test := range map[string]struct {
		origin, mirror error
		want           error
		calls          int // to the origin
	}{
		"refused":           {origin: refused, mirror: refused, want: refused, calls: 5},
		"not found":         {origin: image.ErrNotFound, mirror: image.ErrUnauthorized, want: image.ErrNotFound, calls: 1},
		"origin not found":  {origin: image.ErrNotFound, mirror: refused, want: image.ErrNotFound, calls: 1},
		"mirror not found":  {origin: refused, mirror: image.ErrNotFound, want: refused, calls: 5},
		"other size, alone": {origin: image.ErrVerification, want: image.ErrVerification, calls: 1},
	} {
		onTestClock(t, name, func(t *testing.T) {
			origin, mirror := newFakeSource(blob), newFakeSource(blob)
			origin.fail = every(1, test.origin)
			mirrors := []image.Source{mirror}
			if mirror.fail = every(1, test.mirror); test.mirror == nil {
				mirrors = nil
			}
			got, took, err := sectionOf(t, blob, 0, 1000, Options{}, origin, mirrors...)
			if !errors.Is(err, test.want) || len(got) > 0 || took > time.Minute {
				t.Errorf("%d bytes after %s, %v; want %v", len(got), took, err, test.want)
			}
			if origin.calls != test.calls {
				t.Errorf("the origin was asked %d times, want %d", origin.calls, test.calls)
			}
		})
	}
}

// A mirror that hangs does not hold up what the origin can give; the origin,
// where only it is left, has the time that it needs.
func TestSectionHangs(t *testing.T) {
	blob := randomBlob(1, 1000)
	synctest.Test(t, func(t *testing.T) {
		hung, late := newMirror("hung.test").hangs(), newMirror("late.test", blob)
		late.open = func(ctx context.Context, _ image.Descriptor, _, _ int64) error {
			if !sleep(ctx, time.Minute) {
				return ctx.Err()
			}
			return nil
		}
		got, took, err := sectionOf(t, blob, 0, 1000, Options{Retries: 1}, late, hung)
		if err != nil || !bytes.Equal(got, blob) || took > 2*time.Minute {
			t.Errorf("%d bytes after %s, %v", len(got), took, err)
		}
	})
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

// What ends it on our side ends it at once.
func TestSectionEnds(t *testing.T) {
	blob := randomBlob(1, 1000)
	items, _ := itemsFor(t, newFakeSource(blob), blob)
	full := errors.New("disk full")
	if err := Section(t.Context(), items[0], 0, 1000, failingWriter{full}, Options{}); !errors.Is(err, full) {
		t.Errorf("%v, want the writer's error", err)
	}
	synctest.Test(t, func(t *testing.T) {
		s := newFakeSource(blob)
		s.fail = every(1, errors.New("reset"))
		items, _ := itemsFor(t, s, blob)
		why := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(2*time.Second, func() { cancel(why) })
		begun := time.Now()
		err := Section(ctx, items[0], 0, 1000, io.Discard, Options{})
		if took := time.Since(begun); !errors.Is(err, why) || took > 2*time.Second {
			t.Errorf("%v after %s, want the context's cause", err, took)
		}
	})
}

// Who is known to be bad is not asked, and each wait is told.
func TestSectionTells(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		blob := randomBlob(1, 1000)
		origin, bad := newFakeSource(blob), newFakeSource(blob)
		origin.fail = func(call int) error {
			if call < 2 {
				return errors.New("reset")
			}
			return nil
		}
		verdicts := &Verdicts{}
		verdicts.learn(&source{Source: bad, mirror: true, dropped: true}, 0)
		var waits []time.Duration
		opts := Options{Verdicts: verdicts, Events: func(e image.Event) {
			if e.Kind == image.EventRetry {
				waits = append(waits, e.Wait.Round(time.Second))
			}
		}}
		if got, _, err := sectionOf(t, blob, 0, 1000, opts, origin, bad); err != nil || !bytes.Equal(got, blob) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		if bad.calls > 0 || len(waits) != 2 || !slices.IsSorted(waits) {
			t.Errorf("the mirror was asked %d times; the waits were %s", bad.calls, waits)
		}
	})
}
