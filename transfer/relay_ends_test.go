package transfer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/davit-cli/davit/image"
)

// What no sink reads is not fetched, and what is left unread is not missed.
func TestRelayFetchesWhatIsRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		blobs := [][]byte{randomBlob(1, 5<<20), randomBlob(2, 9<<20), nil, randomBlob(3, 100), randomBlob(4, 90<<20)}
		s := newFakeSource(blobs...)
		s.delay = time.Millisecond
		items, _ := itemsFor(t, s, blobs...)
		o := &outcome{}
		var got []byte
		stats, err := Relay(t.Context(), items, Options{Events: o.event}, 2, func(i int, r io.Reader) (err error) {
			time.Sleep(time.Second)
			switch i {
			case 1:
				got, err = io.ReadAll(r)
			case 4:
				_, err = io.CopyN(io.Discard, r, 1)
			}
			return err
		})
		if err != nil || !bytes.Equal(got, blobs[1]) {
			t.Errorf("Relay: %v", err)
		}
		if most := int64(len(blobs[1])) + relayWindow; stats.Fetched > most {
			t.Errorf("%d bytes were fetched, want %d at most", stats.Fetched, most)
		}
		var begun, givenUp []int64
		for _, e := range o.of(image.EventBlobStarted) {
			begun = append(begun, e.Blob.Size)
		}
		for _, e := range o.of(image.EventBlobGivenUp) {
			givenUp = append(givenUp, e.Blob.Size)
		}
		slices.Sort(givenUp)
		if want := []int64{0, 9 << 20, 90 << 20}; !slices.Equal(begun, want) {
			t.Errorf("blobs of %d bytes were begun, want %d", begun, want)
		}
		if want := []int64{100, 5 << 20, 90 << 20}; !slices.Equal(givenUp, want) {
			t.Errorf("blobs of %d bytes were given up, want %d", givenUp, want)
		}
	})
}

// What is told of blobs that no sink wants lies between the transfer's begin
// and its end.
func TestRelayOfNothing(t *testing.T) {
	blobs := [][]byte{randomBlob(1, 100), randomBlob(2, 200), randomBlob(3, 300)}
	s := newFakeSource(blobs...)
	items, _ := itemsFor(t, s, blobs...)
	o := &outcome{}
	_, err := Relay(t.Context(), items, Options{Events: o.event}, 3, func(int, io.Reader) error { return nil })
	if err != nil || s.calls > 0 {
		t.Errorf("Relay: %v, after %d requests", err, s.calls)
	}
	var kinds []image.EventKind
	for _, e := range o.events {
		kinds = append(kinds, e.Kind)
	}
	want := append(append([]image.EventKind{image.EventPlanned}, slices.Repeat([]image.EventKind{image.EventBlobGivenUp}, 3)...), image.EventDone)
	if !slices.Equal(kinds, want) {
		t.Errorf("events of kinds %d, want %d", kinds, want)
	}
}

// A blob is on its way while its sink, which has asked for nothing yet, makes
// ready.
func TestRelayReadOfNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		blob := randomBlob(1, 1<<20)
		s := newFakeSource(blob)
		items, _ := itemsFor(t, s, blob)
		_, err := Relay(t.Context(), items, Options{}, 1, func(_ int, r io.Reader) error {
			if n, err := r.Read(nil); n != 0 || err != nil {
				t.Errorf("Read: %d, %v", n, err)
			}
			synctest.Wait()
			if served := s.sent(); served != int64(len(blob)) {
				t.Errorf("%d bytes were fetched, want all", served)
			}
			_, err := io.Copy(io.Discard, r)
			return err
		})
		if err != nil {
			t.Errorf("Relay: %v", err)
		}
	})
}

// from refuses all calls but the first n.
func from(n int, err error) func(int) error {
	return func(call int) error {
		if call >= n {
			return err
		}
		return nil
	}
}

// An error, of a sink or of a source, ends the other sinks' reading; no sink
// begins after it.
func TestRelayFails(t *testing.T) {
	broken := errors.New("the destination is full")
	for name, test := range map[string]struct {
		fault func(*fakeSource)
		sink  error
		want  error
	}{
		"sink":   {func(*fakeSource) {}, broken, broken},
		"source": {func(s *fakeSource) { s.fail = from(30, image.ErrNotFound) }, nil, image.ErrNotFound},
	} {
		onTestClock(t, name, func(t *testing.T) {
			blobs := make([][]byte, 8)
			for i := range blobs {
				blobs[i] = randomBlob(uint64(i), 40<<20)
			}
			s := newFakeSource(blobs...)
			s.delay = time.Millisecond
			test.fault(s)
			items, _ := itemsFor(t, s, blobs...)
			var mu sync.Mutex
			var ends []error
			_, err := Relay(t.Context(), items, Options{}, 3, func(i int, r io.Reader) error {
				err := test.sink
				if i == 1 {
					synctest.Wait() // so that the other two have begun
				}
				if i != 1 || err == nil {
					_, err = io.Copy(io.Discard, r)
				}
				mu.Lock()
				defer mu.Unlock()
				ends = append(ends, err)
				return err
			})
			if !errors.Is(err, test.want) {
				t.Errorf("Relay: %v, want %v", err, test.want)
			}
			if len(ends) != 3 || !errors.Is(errors.Join(ends...), test.want) || slices.Contains(ends, nil) {
				t.Errorf("the sinks ended with %v", ends)
			}
		})
	}
}

// A sink that is stuck does not hold up an interrupted command.
func TestRelayLeavesStuckSink(t *testing.T) {
	blobs := [][]byte{randomBlob(1, 3<<20), randomBlob(2, 3<<20), randomBlob(3, 3<<20)}
	items, _ := itemsFor(t, newFakeSource(blobs...), blobs...)
	ctx, cancel := context.WithCancel(t.Context())
	release := make(chan struct{})
	defer close(release)
	_, err := Relay(ctx, items, quick, 2, func(int, io.Reader) error {
		cancel()
		<-release
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Relay: %v, want canceled", err)
	}
}

// A reader that outlives its sink, as that of an upload that was answered early
// may, gets nothing more.
func TestRelayReadsLate(t *testing.T) {
	blobs := [][]byte{randomBlob(1, 3<<20), randomBlob(2, 3<<20), randomBlob(3, 100), nil}
	items, _ := itemsFor(t, newFakeSource(blobs...), blobs...)
	readers := make([]io.Reader, len(blobs))
	_, err := Relay(t.Context(), items, quick, 2, func(i int, r io.Reader) error {
		readers[i] = r
		_, err := io.CopyN(io.Discard, r, []int64{0, 1, 100, 0}[i])
		return err
	})
	if err != nil {
		t.Fatalf("Relay: %v", err)
	}
	for i, r := range readers {
		if n, err := r.Read(make([]byte, 10)); n != 0 || err == nil {
			t.Errorf("blob %d: %d bytes came (%v)", i, n, err)
		}
	}
}

// As long as nobody has read of a blob, what a mirror gives wrong is fetched
// again.
func TestRelayThroughMirrors(t *testing.T) {
	blobs := [][]byte{nil, randomBlob(1, 2<<20), randomBlob(2, 70<<10), randomBlob(3, 1<<20)}
	onTestClock(t, "a liar", func(t *testing.T) {
		liar, honest := newMirror("liar.test", blobs...).lies(), newMirror("honest.test", blobs...)
		items, _ := through(t, blobs, newMirror("origin.test").down(), liar, honest)
		o := &outcome{}
		got, _, err := relayAll(t.Context(), items, Options{Events: o.event}, 3)
		if err != nil || !slices.EqualFunc(got, blobs, bytes.Equal) {
			t.Errorf("Relay: %v", err)
		}
		o.checkWarnings(t, "liar.test")
	})
}

// A memory keeps what lies ahead of its reader, and drops what comes late.
func TestMemory(t *testing.T) {
	pool := &pagePool{}
	row := newMemory(pool)
	first, second := memoryPlace{row, 0}, memoryPlace{row, pageSize + 100}
	content := randomBlob(1, 2*pageSize)
	for _, p := range []memoryPlace{first, second} {
		if n, err := p.WriteAt(content[:pageSize+100], 0); n != pageSize+100 || err != nil {
			t.Fatalf("WriteAt: %d, %v", n, err)
		}
	}
	got := make([]byte, pageSize)
	if _, err := second.ReadAt(got, 50); err != nil || !bytes.Equal(got, content[50:50+pageSize]) {
		t.Errorf("ReadAt: other bytes (%v)", err)
	}
	row.forget(pageSize + 10)
	if len(pool.free) != 1 {
		t.Errorf("%d pages were given back, want 1", len(pool.free))
	}
	if n, err := first.WriteAt(make([]byte, pageSize+100), 0); n != pageSize+100 || err != nil {
		t.Errorf("WriteAt: %d, %v", n, err)
	}
	if len(pool.free) != 1 {
		t.Error("a late write took a page")
	}
	if _, err := first.ReadAt(got[:1], pageSize); !errors.Is(err, errGone) {
		t.Errorf("ReadAt: %v, want %v", err, errGone)
	}
	if _, err := second.ReadAt(got, 0); err != nil || !bytes.Equal(got, content[:pageSize]) {
		t.Errorf("ReadAt: other bytes (%v)", err)
	}
	row.close()
	if len(pool.free) != pool.made {
		t.Errorf("%d pages of %d were given back", len(pool.free), pool.made)
	}
}
