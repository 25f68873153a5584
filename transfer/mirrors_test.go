package transfer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
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

// mirror stands before a fakeSource, under a name of its own.
type mirror struct {
	*fakeSource
	host string
	rate int // bytes a second of all connections together; 0 for no limit
	open func(ctx context.Context, blob image.Descriptor, off, n int64) error

	turns sync.Mutex
	free  time.Time // when all that was given has passed
}

func newMirror(host string, blobs ...[]byte) *mirror {
	return &mirror{fakeSource: newFakeSource(blobs...), host: host, rate: 20 << 20}
}

func (m *mirror) OpenRange(ctx context.Context, blob image.Descriptor, off, n int64) (*image.Range, error) {
	if m.open != nil {
		if err := m.open(ctx, blob, off, n); err != nil {
			return nil, err
		}
	}
	r, err := m.fakeSource.OpenRange(ctx, blob, off, n)
	if err != nil {
		return nil, err
	}
	r.Host = m.host
	if whole := r.Body; m.rate > 0 {
		r.Body = &body{whole, func(p []byte) (int, error) {
			p = p[:min(len(p), 16<<10)]
			if !sleep(ctx, m.turn(len(p))) {
				return 0, ctx.Err()
			}
			return whole.Read(p)
		}}
	}
	return r, nil
}

// turn tells how long n bytes have to wait.
func (m *mirror) turn(n int) time.Duration {
	m.turns.Lock()
	defer m.turns.Unlock()
	if now := time.Now(); m.free.Before(now) {
		m.free = now
	}
	m.free = m.free.Add(time.Duration(n) * time.Second / time.Duration(m.rate))
	return time.Until(m.free)
}

// lies makes a mirror send a wrong byte in each 64 KiB.
func (m *mirror) lies() *mirror {
	return m.changes(func(p []byte) {
		for i := 0; i < len(p); i += 64 << 10 {
			p[i] ^= 1
		}
	})
}

// changes makes a mirror send other bytes.
func (m *mirror) changes(change func(p []byte)) *mirror {
	for d, data := range m.blobs {
		m.blobs[d] = bytes.Clone(data)
		change(m.blobs[d])
	}
	return m
}

// down makes a mirror refuse every request.
func (m *mirror) down() *mirror {
	m.fail = every(1, errors.New("connection refused by "+m.host))
	return m
}

// hangs makes a mirror that never answers.
func (m *mirror) hangs() *mirror {
	m.open = func(ctx context.Context, _ image.Descriptor, _, _ int64) error {
		<-ctx.Done()
		return ctx.Err()
	}
	return m
}

// through makes items of blobs that are fetched from an origin and mirrors.
func through(t *testing.T, blobs [][]byte, origin *mirror, mirrors ...*mirror) ([]Item, []*memPlace) {
	items, places := itemsFor(t, nil, blobs...)
	for i := range items {
		items[i].Source = origin
		for _, m := range mirrors {
			items[i].Mirrors = append(items[i].Mirrors, m)
		}
	}
	return items, places
}

// fetchThrough fetches items and checks that all arrived, that progress adds
// up, and that warnings name the hosts that they should, once each.
func fetchThrough(t *testing.T, items []Item, places []*memPlace, blobs [][]byte, opts Options, warned ...string) *outcome {
	t.Helper()
	o := &outcome{}
	opts.Events = o.event
	ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
	defer cancel()
	if _, o.err = Fetch(ctx, items, opts); o.err != nil {
		t.Errorf("Fetch: %v", o.err)
	}
	for i, p := range places {
		if !bytes.Equal(p.data, blobs[i]) {
			t.Errorf("blob %d differs", i)
		}
	}
	var moved int64
	for _, kind := range []image.EventKind{image.EventBlobStarted, image.EventBlobAdvanced} {
		for _, e := range o.of(kind) {
			moved += e.Bytes + e.Have
		}
	}
	if want := sizes(blobs); moved != want {
		t.Errorf("progress adds up to %d, want %d", moved, want)
	}
	o.checkWarnings(t, warned...)
	return o
}

func (o *outcome) checkWarnings(t *testing.T, hosts ...string) {
	t.Helper()
	warnings := o.of(image.EventWarning)
	for _, host := range hosts {
		n := 0
		for _, w := range warnings {
			if strings.Contains(w.Text, host) {
				n++
			}
		}
		if n != 1 {
			t.Errorf("%d warnings of %s, want one", n, host)
		}
	}
	if len(warnings) != len(hosts) {
		t.Errorf("warnings %v, want one for each of %q", warnings, hosts)
	}
}

// onTestClock runs a test on a clock of its own.
func onTestClock(t *testing.T, name string, f func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

const megabyte = 1 << 20

func TestMirrorsShareABlob(t *testing.T) {
	took := map[int]time.Duration{}
	for n := range 3 {
		onTestClock(t, fmt.Sprintf("%d mirrors", n), func(t *testing.T) {
			blobs := [][]byte{randomBlob(1, 80*megabyte)}
			origin := newMirror("origin.test", blobs...)
			origin.rate = 10 * megabyte
			var mirrors []*mirror
			for i := range n {
				m := newMirror(fmt.Sprintf("m%d.test", i), blobs...)
				m.rate = 10 * megabyte
				mirrors = append(mirrors, m)
			}
			items, places := through(t, blobs, origin, mirrors...)
			begun := time.Now()
			o := fetchThrough(t, items, places, blobs, Options{})
			took[n] = time.Since(begun)
			all := origin.served
			for _, m := range mirrors {
				all += m.served
				if m.served < sizes(blobs)/3 {
					t.Errorf("%s served %d bytes", m.host, m.served)
				}
			}
			if all != sizes(blobs) || n > 0 && origin.calls != 0 {
				t.Errorf("%d bytes were served, and the origin asked %d times", all, origin.calls)
			}
			steps := o.of(image.EventStep)
			if n > 0 && (len(steps) != 1 || !strings.Contains(steps[0].Text, fmt.Sprint(mirrors[0].served)+" from m0.test")) {
				t.Errorf("steps %v, want one that tells who gave how much", steps)
			}
			if n == 0 && len(steps) > 0 {
				t.Errorf("steps %v, want none", steps)
			}
		})
	}
	if took[2] > took[1]*55/100 || took[1] > took[0]*101/100 {
		t.Errorf("the origin took %s, one mirror %s, two %s", took[0], took[1], took[2])
	}
}

// A faster mirror gives more.
// A mirror that sends wrong bytes costs its own, and is named.
// One wrong byte, wherever it is and whoever has proved right before.
// fetchThroughAny is fetchThrough whatever the warnings.
func fetchThroughAny(t *testing.T, items []Item, places []*memPlace, blobs [][]byte, opts Options) *outcome {
	t.Helper()
	o := &outcome{}
	opts.Events = o.event
	if _, o.err = Fetch(t.Context(), items, opts); o.err != nil {
		t.Errorf("Fetch: %v", o.err)
	}
	for i, p := range places {
		if !bytes.Equal(p.data, blobs[i]) {
			t.Errorf("blob %d differs", i)
		}
	}
	return o
}

// What a mirror does not have, others and the origin give.
func TestMirrorWithout(t *testing.T) {
	for name, c := range map[string]struct {
		open   func(ctx context.Context, blob image.Descriptor, off, n int64) error
		warned []string
	}{
		"not found": {func(context.Context, image.Descriptor, int64, int64) error { return image.ErrNotFound }, nil},
		"unauthorized": {func(context.Context, image.Descriptor, int64, int64) error {
			return fmt.Errorf("get blob from bad.test: %w", image.ErrUnauthorized)
		}, []string{"bad.test"}},
		"wrong content": {func(context.Context, image.Descriptor, int64, int64) error {
			return fmt.Errorf("get blob from bad.test: %w", image.ErrVerification)
		}, []string{"bad.test"}},
	} {
		for _, others := range []int{0, 1} {
			onTestClock(t, fmt.Sprintf("%s, %d others", name, others), func(t *testing.T) {
				blobs := [][]byte{randomBlob(1, 5*megabyte), randomBlob(2, 3*megabyte), randomBlob(3, 1000)}
				origin, bad, good := newMirror("origin.test", blobs...), newMirror("bad.test", blobs...), newMirror("good.test", blobs...)
				bad.open = c.open
				mirrors := []*mirror{bad, good}[:1+others]
				items, places := through(t, blobs, origin, mirrors...)
				fetchThrough(t, items, places, blobs, Options{}, c.warned...)
				if (origin.calls == 0) != (others == 1) || bad.served > 0 || good.served+origin.served != sizes(blobs) {
					t.Errorf("the origin was asked %d times; %d and %d bytes served", origin.calls, good.served, origin.served)
				}
			})
		}
	}
}

// Where a layer lies elsewhere, its URLs come after the origin, and so are not
// for mirrors.
func TestMirrorIsNotGivenURLs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		blobs := [][]byte{randomBlob(1, 3*megabyte)}
		origin, m := newMirror("origin.test", blobs...), newMirror("m.test")
		urls := map[string]int{}
		var mu sync.Mutex
		note := func(name string) func(context.Context, image.Descriptor, int64, int64) error {
			return func(_ context.Context, blob image.Descriptor, _, _ int64) error {
				mu.Lock()
				defer mu.Unlock()
				urls[name] = len(blob.URLs)
				return nil
			}
		}
		origin.open, m.open = note("origin"), note("mirror")
		items, places := through(t, blobs, origin, m)
		items[0].Blob.URLs = []string{"https://elsewhere.test/layer"}
		fetchThrough(t, items, places, blobs, Options{})
		if urls["origin"] != 1 || urls["mirror"] != 0 || len(urls) != 2 {
			t.Errorf("given URLs: %v", urls)
		}
	})
}

// What is partly there is taken from there.
func TestPartialMirror(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		blobs := [][]byte{randomBlob(1, 5*megabyte), randomBlob(2, 3*megabyte)}
		origin, m := newMirror("origin.test", blobs...), newMirror("m.test", blobs[1])
		items, places := through(t, blobs, origin, m)
		fetchThrough(t, items, places, blobs, Options{})
		if origin.served != 5*megabyte || m.served != 3*megabyte {
			t.Errorf("the origin served %d, the mirror %d", origin.served, m.served)
		}
	})
}

func TestMirrorTellsAnotherSize(t *testing.T) {
	for name, corrupt := range map[string]func(p []byte) []byte{
		"longer":  func(p []byte) []byte { return append(p, 0) },
		"shorter": func(p []byte) []byte { return p[1:] },
	} {
		for _, mumbles := range []bool{false, true} {
			onTestClock(t, fmt.Sprintf("%s, mum %v", name, mumbles), func(t *testing.T) {
				blobs := [][]byte{randomBlob(1, 5*megabyte), randomBlob(2, 3*megabyte)}
				bad, good := newMirror("bad.test", blobs...), newMirror("good.test", blobs...)
				bad.corrupt = corrupt
				if mumbles {
					mum(bad.fakeSource)
				}
				items, places := through(t, blobs, newMirror("origin.test").down(), bad, good)
				o := fetchThroughAny(t, items, places, blobs, Options{})
				if !mumbles {
					o.checkWarnings(t, "bad.test")
				}
				if good.served > sizes(blobs) {
					t.Errorf("the good one served %d bytes", good.served)
				}
			})
		}
	}
}

// A mirror that goes down on the way costs no more than what was under way.
func TestMirrorGoesDown(t *testing.T) {
	for name, with := range map[string]bool{"with another": true, "alone": false} {
		onTestClock(t, name, func(t *testing.T) {
			blobs := [][]byte{randomBlob(1, 60*megabyte)}
			origin, bad, good := newMirror("origin.test", blobs...), newMirror("bad.test", blobs...), newMirror("good.test", blobs...)
			origin.rate, bad.rate, good.rate = 4*megabyte, 4*megabyte, 4*megabyte
			bad.open = func(context.Context, image.Descriptor, int64, int64) error {
				if bad.gave() > 8*megabyte {
					return errors.New("connection refused")
				}
				return nil
			}
			mirrors := []*mirror{bad, good}
			if !with {
				mirrors = mirrors[:1]
			}
			items, places := through(t, blobs, origin, mirrors...)
			begun := time.Now()
			fetchThrough(t, items, places, blobs, Options{}, "bad.test")
			if took := time.Since(begun); took > 17*time.Second {
				t.Errorf("it took %s", took)
			}
			if all := origin.served + bad.served + good.served; all > sizes(blobs)+megabyte || with && origin.calls > 0 {
				t.Errorf("%d bytes were served; the origin was asked %d times", all, origin.calls)
			}
		})
	}
}

func (m *mirror) gave() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.served
}

// A mirror that is down for a while is used again.
func TestMirrorComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		blobs := [][]byte{randomBlob(1, 60*megabyte)}
		m := newMirror("m.test", blobs...)
		m.rate = 4 * megabyte
		begun := time.Now()
		m.open = func(context.Context, image.Descriptor, int64, int64) error {
			if since := time.Since(begun); since > 2*time.Second && since < 12*time.Second {
				return errors.New("connection refused")
			}
			return nil
		}
		items, places := through(t, blobs, newMirror("origin.test").down(), m)
		fetchThrough(t, items, places, blobs, Options{})
	})
}

// A mirror that never answers holds nothing up, and is dropped.
// A mirror that trickles holds neither the way nor the end.
// Mirrors whose answers are slow in coming, as where they fetch the blob
// themselves first, are not dropped for it where nobody is faster.
func TestMirrorWithoutRanges(t *testing.T) {
	blobs := [][]byte{randomBlob(1, 20*megabyte), randomBlob(2, 5*megabyte), randomBlob(3, 1000)}
	for name, fault := range map[string]func(*fakeSource){
		"ignored": func(s *fakeSource) { s.noRanges = true },
		"refused": func(s *fakeSource) { s.refuse416 = true },
	} {
		onTestClock(t, name+", alone", func(t *testing.T) {
			origin, m := newMirror("origin.test", blobs...), newMirror("m.test", blobs...)
			fault(m.fakeSource)
			items, places := through(t, blobs, origin, m)
			fetchThrough(t, items, places, blobs, Options{})
			if origin.calls > 0 {
				t.Errorf("the origin was asked %d times", origin.calls)
			}
		})
		onTestClock(t, name+", beside another", func(t *testing.T) {
			origin, m, good := newMirror("origin.test", blobs...), newMirror("m.test", blobs...), newMirror("good.test", blobs...)
			fault(m.fakeSource)
			items, places := through(t, blobs, origin, m, good)
			fetchThrough(t, items, places, blobs, Options{})
			if all := m.served + good.served; origin.calls > 0 || all > sizes(blobs)+2*megabyte {
				t.Errorf("%d bytes were served; the origin was asked %d times", all, origin.calls)
			}
		})
	}
}

// Where all mirrors are dropped the origin gives everything, and where it does
// not, its error is the transfer's.
func TestMirrorsAllDown(t *testing.T) {
	blobs := [][]byte{randomBlob(1, 10*megabyte), randomBlob(2, megabyte), randomBlob(3, 1000)}
	denied := fmt.Errorf("get blob from origin.test: %w", image.ErrUnauthorized)
	for name, c := range map[string]struct {
		mirrors []*mirror
		warned  []string
	}{
		"down":  {[]*mirror{newMirror("a.test").down(), newMirror("b.test").down()}, []string{"a.test", "b.test"}},
		"empty": {[]*mirror{newMirror("a.test"), newMirror("b.test")}, nil},
		"liars": {[]*mirror{newMirror("a.test", blobs...).lies(), newMirror("b.test", blobs...).lies()}, nil},
	} {
		onTestClock(t, name+", origin well", func(t *testing.T) {
			origin := newMirror("origin.test", blobs...)
			items, places := through(t, blobs, origin, c.mirrors...)
			o := fetchThroughAny(t, items, places, blobs, Options{})
			if c.warned != nil {
				o.checkWarnings(t, c.warned...)
			}
			if origin.served > sizes(blobs) {
				t.Errorf("the origin served %d bytes", origin.served)
			}
		})
		for _, going := range []bool{false, true} {
			onTestClock(t, fmt.Sprintf("%s, origin denies, KeepGoing %v", name, going), func(t *testing.T) {
				origin := newMirror("origin.test", blobs...)
				origin.fail = every(1, denied)
				items, places := through(t, blobs, origin, c.mirrors...)
				if going {
					keepGoing(t, items, places, Options{}, []int{0, 1, 2}, nil)
					return
				}
				if took, err := timed(t, items, Options{}); !errors.Is(err, denied) || took > time.Minute {
					t.Errorf("after %s: %v, want %v", took, err, denied)
				}
			})
			onTestClock(t, fmt.Sprintf("%s, origin down, KeepGoing %v", name, going), func(t *testing.T) {
				origin := newMirror("origin.test", blobs...).down()
				items, places := through(t, blobs, origin, c.mirrors...)
				if going {
					keepGoing(t, items, places, Options{}, []int{0, 1, 2}, nil)
				} else if took, err := timed(t, items, Options{}); err == nil || !strings.Contains(err.Error(), "refused by origin.test") || took > 3*time.Minute {
					t.Errorf("after %s: %v, want the origin's error", took, err)
				}
			})
		}
	}
}

// Blobs that no mirror has are the origin's, whose failures end these alone;
// what a mirror has is fetched, however dead the origin is.
func TestKeepGoingThroughMirrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var blobs, there [][]byte
		var lost []int
		for i := range 24 {
			blobs = append(blobs, randomBlob(uint64(i), 200_000+i*100_000))
			if i%4 == 0 {
				lost = append(lost, i)
			} else {
				there = append(there, blobs[i])
			}
		}
		origin := newMirror("origin.test").down()
		m := newMirror("m.test", there...)
		m.rate = 200_000
		items, places := through(t, blobs, origin, m)
		keepGoing(t, items, places, Options{}, lost, nil)
	})
}

// A mirror that wants fewer requests holds up none to others.
func TestBusyMirror(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		blobs := [][]byte{randomBlob(1, 60*megabyte)}
		busy, good := newMirror("busy.test", blobs...), newMirror("good.test", blobs...)
		busy.open = func(context.Context, image.Descriptor, int64, int64) error {
			return &image.RetryError{Busy: true, After: 30 * time.Second, Err: errors.New("429")}
		}
		good.rate = 4 * megabyte
		var most int
		items, places := through(t, blobs, newMirror("origin.test").down(), busy, good)
		begun := time.Now()
		fetchThrough(t, items, places, blobs, Options{}, "gave nothing")
		most = good.maxOpen
		if took := time.Since(begun); took > 16*time.Second || most < firstTarget || busy.calls > 20 {
			t.Errorf("it took %s over %d connections", took, most)
		}
	})
}

// A mirror that allows few connections is asked for no more than it bears, and
// the origin gives only what the mirror's pauses leave to it.
func TestMirrorOfFewConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		blobs := [][]byte{randomBlob(1, 60*megabyte)}
		origin, m := newMirror("origin.test", blobs...), newMirror("m.test", blobs...)
		m.rate, origin.rate = 2*megabyte, 2*megabyte
		refused := 0
		m.open = func(context.Context, image.Descriptor, int64, int64) error {
			m.mu.Lock()
			defer m.mu.Unlock()
			if m.fakeSource.open >= 2 {
				refused++
				return &image.RetryError{Busy: true, Err: errors.New("503")}
			}
			return nil
		}
		items, places := through(t, blobs, origin, m)
		begun := time.Now()
		fetchThrough(t, items, places, blobs, Options{})
		t.Logf("it took %s; %d were refused; the origin served %d", time.Since(begun), refused, origin.served)
		if refused > 60 || origin.served > sizes(blobs)*2/3 {
			t.Errorf("%d requests were refused, and the origin served %d bytes", refused, origin.served)
		}
	})
}

// A registry that is busy holds up none of the requests to another one.
func TestBusyRegistryBesideAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var blobs [][]byte
		for i := range 40 {
			blobs = append(blobs, randomBlob(uint64(i), megabyte))
		}
		busy, good := newMirror("busy.test", blobs...), newMirror("good.test", blobs...)
		good.rate = 2 * megabyte
		var first atomic.Bool
		begun := time.Now()
		busy.open = func(context.Context, image.Descriptor, int64, int64) error {
			first.Store(true)
			if time.Since(begun) < time.Minute {
				return &image.RetryError{Busy: true, After: time.Minute, Err: errors.New("429")}
			}
			return nil
		}
		items, places := through(t, blobs, busy)
		var left atomic.Int64
		left.Store(20)
		var at time.Duration
		for i := 20; i < 40; i++ {
			items[i].Source = good
			items[i].Verified = func() error {
				if left.Add(-1) == 0 {
					at = time.Since(begun)
				}
				return nil
			}
		}
		fetchThrough(t, items, places, blobs, Options{})
		if at > 15*time.Second || !first.Load() {
			t.Errorf("the other registry's blobs took %s for what takes 10s", at)
		}
	})
}

// Whatever faults mirrors and their origin show, what arrives is right.
func TestChaosMirrors(t *testing.T) {
	blobs := [][]byte{randomBlob(1, 7<<20), randomBlob(2, 3<<20+5), randomBlob(3, 900_000), randomBlob(4, 17), nil}
	for i := range 8 {
		blobs = append(blobs, randomBlob(uint64(10+i), 10_000+i*30_000))
	}
	for seed := range uint64(16) {
		for _, inOrder := range []bool{false, true} {
			t.Run(fmt.Sprintf("seed %d, in order %v", seed, inOrder), func(t *testing.T) {
				t.Parallel()
				chaos := func(host string, n uint64, fatal int) *chaosSource {
					m := newMirror(host, blobs...)
					if host == "liar.test" {
						m.lies()
					}
					s := newChaosSource(10*seed+n, m.fakeSource)
					s.fatal = fatal
					return s
				}
				origin, mirrors := chaos("origin.test", 1, 0), []image.Source{
					chaos("liar.test", 2, 10), chaos("a.test", 3, 30), chaos("b.test", 4, 100), newMirror("empty.test"),
				}
				items, places := itemsFor(t, nil, blobs...)
				for i := range items {
					items[i].Source, items[i].Mirrors = origin, mirrors[int(seed)%2:]
				}
				if seed%3 == 0 { // an earlier run left it, wrong
					places[1].before = []image.Extent{{Off: megabyte, Len: megabyte}}
				}
				opts := Options{Backoff: time.Millisecond, Stall: 20 * time.Millisecond, Retries: 50}
				var got [][]byte
				var err error
				if inOrder {
					var o *outcome
					got, o = streamThrough(t, items, opts)
					err = o.err
				} else {
					_, err = Fetch(t.Context(), items, opts)
					for _, p := range places {
						got = append(got, p.data)
					}
				}
				if err != nil {
					t.Fatal(err)
				}
				for i := range blobs {
					if !bytes.Equal(got[i], blobs[i]) {
						t.Errorf("blob %d differs", i)
					}
				}
			})
		}
	}
}

// moody makes a mirror with one of the faults that last.
func moody(random *rand.Rand, host string, blobs [][]byte) (m *mirror, mood string) {
	m = newMirror(host, blobs...)
	m.rate = 1 << (20 + random.IntN(5))
	moods := []struct {
		name string
		give func()
	}{
		{"is sound", func() {}},
		{"lies", func() { m.lies() }},
		{"lies a little", func() {
			at := random.Int()
			m.changes(func(p []byte) { p[at%len(p)] ^= 1 })
		}},
		{"is down", func() { m.down() }},
		{"does not answer", func() { m.tiresAfter(time.Duration(5+random.IntN(60)) * time.Second) }},
		{"dies", func() {
			left := 1 + random.IntN(12)
			m.fail = func(call int) error {
				if call < left {
					return nil
				}
				return errors.New("connection refused by " + host)
			}
		}},
		{"fails at times", func() { m.fail = every(2+random.IntN(4), errors.New("connection reset by "+host)) }},
		{"is busy at times", func() {
			m.fail = every(2+random.IntN(4), &image.RetryError{Busy: true, After: time.Second, Err: errors.New("503")})
		}},
		{"has no ranges", func() { m.noRanges = true }},
		{"refuses ranges", func() { m.refuse416 = true }},
		{"lacks some", func() {
			for _, b := range blobs {
				if random.IntN(2) == 0 {
					delete(m.blobs, digest.FromBytes(b))
				}
			}
		}},
		{"cuts", func() { m.cut = 100_000 + random.IntN(1_000_000) }},
		{"trickles", func() { m.rate = 20_000 }},
		{"stalls", func() { m.stalls = 1 + random.IntN(20) }},
	}
	chosen := moods[random.IntN(len(moods))]
	chosen.give()
	return m, chosen.name
}

// Whatever faults last, a transfer ends, with the right bytes or an error.
func TestMoodyMirrors(t *testing.T) {
	blobs := [][]byte{randomBlob(1, 9<<20), randomBlob(2, 5<<20+5), randomBlob(3, 900_000), randomBlob(4, 17)}
	for seed := range uint64(40) {
		onTestClock(t, fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 2))
			origin, mood := moody(random, "origin.test", blobs)
			t.Logf("the origin %s", mood)
			sound := mood == "is sound"
			var mirrors []*mirror
			for i := range 1 + random.IntN(3) {
				m, mood := moody(random, fmt.Sprintf("m%d.test", i), blobs)
				t.Logf("mirror %d %s", i, mood)
				mirrors = append(mirrors, m)
			}
			items, places := through(t, blobs, origin, mirrors...)
			opts := Options{Jobs: 1 + random.IntN(8), KeepGoing: random.IntN(2) == 0}
			ctx, cancel := context.WithTimeout(t.Context(), 12*time.Hour)
			defer cancel()
			var got [][]byte
			var err error
			switch random.IntN(3) {
			case 0:
				got, _, err = relayAll(ctx, items, opts, 3)
			case 1:
				_, err = Stream(ctx, items, opts, func(_ int, r io.Reader) error {
					b, err := io.ReadAll(r)
					got = append(got, b)
					return err
				})
			default:
				_, err = Fetch(ctx, items, opts)
				for _, p := range places {
					got = append(got, p.data)
				}
			}
			switch {
			case errors.Is(err, context.DeadlineExceeded) || sound && err != nil:
				t.Errorf("it ended with %v", err)
			case err == nil && !slices.EqualFunc(got, blobs, bytes.Equal):
				t.Error("what arrived differs")
			}
		})
	}
}
