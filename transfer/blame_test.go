package transfer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/memregistry"
	"github.com/davit-cli/davit/internal/partial"
	"github.com/davit-cli/davit/internal/registrytest"
	"github.com/davit-cli/davit/ref"
	"github.com/davit-cli/davit/registry"
)

func TestLiar(t *testing.T) {
	one := [][]byte{randomBlob(1, 40*megabyte)}
	var many [][]byte
	for i := range 20 {
		many = append(many, randomBlob(uint64(i), 300_000+i*150_000))
	}
	for name, blobs := range map[string][][]byte{"one blob": one, "many blobs": many} {
		onTestClock(t, name+", two mirrors", func(t *testing.T) {
			honest, liar := newMirror("honest.test", blobs...), newMirror("liar.test", blobs...).lies()
			origin := newMirror("origin.test").down()
			items, places := through(t, blobs, origin, liar, honest)
			fetchThrough(t, items, places, blobs, Options{}, "liar.test")
			// Of what cannot be compared, honest bytes may have to be fetched twice.
			if honest.served > sizes(blobs)+liar.served || liar.served > 2*sizes(blobs) || origin.served > 0 {
				t.Errorf("of %d bytes the honest one served %d, the liar %d, the origin %d", sizes(blobs), honest.served, liar.served, origin.served)
			}
			t.Logf("of %d bytes the honest one served %d, the liar %d", sizes(blobs), honest.served, liar.served)
		})
		onTestClock(t, name+", two mirrors, origin to compare with", func(t *testing.T) {
			honest, liar, origin := newMirror("honest.test", blobs...), newMirror("liar.test", blobs...).lies(), newMirror("origin.test", blobs...)
			items, places := through(t, blobs, origin, liar, honest)
			fetchThrough(t, items, places, blobs, Options{}, "liar.test")
			samples := int64(2 * sampleSize * len(blobs))
			if honest.served > sizes(blobs)+samples || origin.served > samples || liar.served > sizes(blobs) {
				t.Errorf("of %d bytes the honest one served %d, the liar %d, the origin %d", sizes(blobs), honest.served, liar.served, origin.served)
			}
		})
		onTestClock(t, name+", two mirrors, origin without ranges", func(t *testing.T) {
			honest, liar, origin := newMirror("honest.test", blobs...), newMirror("liar.test", blobs...).lies(), newMirror("origin.test", blobs...)
			origin.noRanges = true
			items, places := through(t, blobs, origin, liar, honest)
			fetchThrough(t, items, places, blobs, Options{}, "liar.test")
		})
		onTestClock(t, name+", three mirrors", func(t *testing.T) {
			a, b, liar := newMirror("a.test", blobs...), newMirror("b.test", blobs...), newMirror("liar.test", blobs...).lies()
			items, places := through(t, blobs, newMirror("origin.test").down(), liar, a, b)
			fetchThrough(t, items, places, blobs, Options{}, "liar.test")
			if a.served+b.served > 2*sizes(blobs)+liar.served || max(a.served, b.served) > sizes(blobs)+liar.served {
				t.Errorf("of %d bytes the honest served %d and %d, the liar %d", sizes(blobs), a.served, b.served, liar.served)
			}
			t.Logf("of %d bytes the honest served %d and %d, the liar %d", sizes(blobs), a.served, b.served, liar.served)
		})
		onTestClock(t, name+", one mirror", func(t *testing.T) {
			origin, liar := newMirror("origin.test", blobs...), newMirror("liar.test", blobs...).lies()
			items, places := through(t, blobs, origin, liar)
			fetchThrough(t, items, places, blobs, Options{}, "liar.test")
			if origin.served > sizes(blobs) || liar.served > sizes(blobs) {
				t.Errorf("of %d bytes the origin served %d, the liar %d", sizes(blobs), origin.served, liar.served)
			}
		})
		onTestClock(t, name+", all lie", func(t *testing.T) {
			origin, a, b := newMirror("origin.test", blobs...), newMirror("a.test", blobs...).lies(), newMirror("b.test", blobs...)
			b.changes(func(p []byte) { p[len(p)/2] ^= 4; p[0] ^= 4 })
			items, places := through(t, blobs, origin, a, b)
			fetchThrough(t, items, places, blobs, Options{}, "a.test", "b.test")
		})
	}
}

func TestLiarIsTrusted(t *testing.T) {
	for _, at := range []int{0, 1, 7*megabyte + 3, 15 * megabyte, 20*megabyte - 1} {
		for _, proven := range []bool{false, true} {
			onTestClock(t, fmt.Sprintf("byte %d, proven %v", at, proven), func(t *testing.T) {
				first, blob := randomBlob(1, 2*megabyte), randomBlob(2, 20*megabyte)
				honest, liar := newMirror("honest.test", blob), newMirror("liar.test", first, blob)
				liar.changes(func(p []byte) {
					if len(p) == len(blob) {
						p[at] ^= 1
					}
				})
				origin := newMirror("origin.test").down()
				verdicts := &Verdicts{}
				if proven { // which the liar has from the start
					items, places := through(t, [][]byte{first}, origin, liar)
					fetchThrough(t, items, places, [][]byte{first}, Options{Verdicts: verdicts})
				}
				liar.served = 0
				blobs := [][]byte{blob}
				items, places := through(t, blobs, origin, honest, liar)
				o := fetchThroughAny(t, items, places, blobs, Options{Verdicts: verdicts})
				if honest.served > sizes(blobs)+liar.served {
					t.Errorf("the honest one served %d, the liar %d", honest.served, liar.served)
				}
				// Where the wrong byte was the honest one's to give, nobody can tell.
				if wrong := places[0].forgot > 0; wrong {
					o.checkWarnings(t, "liar.test")
				} else {
					o.checkWarnings(t)
				}
			})
		}
	}
}

func TestVerdictsAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		blobs := [][]byte{randomBlob(1, 10*megabyte)}
		honest, liar := newMirror("honest.test", blobs...), newMirror("liar.test", blobs...).lies()
		verdicts := &Verdicts{}
		items, places := through(t, blobs, newMirror("origin.test").down(), liar, honest)
		fetchThrough(t, items, places, blobs, Options{Verdicts: verdicts}, "liar.test")
		calls := liar.calls
		items, places = through(t, blobs, newMirror("origin.test").down(), liar, honest)
		fetchThrough(t, items, places, blobs, Options{Verdicts: verdicts})
		if liar.calls != calls {
			t.Errorf("the liar was asked %d times more", liar.calls-calls)
		}
	})
}

func TestAllLie(t *testing.T) {
	for _, going := range []bool{false, true} {
		onTestClock(t, fmt.Sprintf("KeepGoing %v", going), func(t *testing.T) {
			blob, other := randomBlob(1, 10*megabyte), randomBlob(2, megabyte)
			lies := func(host string, at int) *mirror {
				return newMirror(host, blob, other).changes(func(p []byte) {
					if len(p) == len(blob) {
						p[at] ^= 1
						p[len(p)-1-at] ^= 1
					}
				})
			}
			origin, a, b := lies("origin.test", 10), lies("a.test", 20), lies("b.test", 30)
			items, places := through(t, [][]byte{blob, other}, origin, a, b)
			if going {
				o := keepGoing(t, items, places, Options{}, []int{0}, nil)
				if !errors.Is(o.err, image.ErrVerification) {
					t.Errorf("Fetch: %v, want a verification error", o.err)
				}
				return
			}
			_, err := timed(t, items, Options{})
			if !errors.Is(err, image.ErrVerification) || !strings.Contains(err.Error(), "origin.test") {
				t.Errorf("Fetch: %v, want a verification error of the origin", err)
			}
			if served := origin.served + a.served + b.served; served > 4*11*megabyte {
				t.Errorf("%d bytes were served", served)
			}
		})
	}
}

// The origin, asked alone to find out who was wrong, is not waited for without
// end where it fails from then on.
func TestOriginFailsAsTheSoleOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		blobs := [][]byte{randomBlob(1, 40*megabyte), randomBlob(2, 44*megabyte)}
		origin, liar := newMirror("origin.test", blobs...), newMirror("liar.test", blobs[0]).lies()
		reset := false
		liar.open = func(_ context.Context, blob image.Descriptor, _, _ int64) error {
			if blob.Size == 44*megabyte || reset {
				return nil
			}
			reset = true // so that the origin gives some of the blob
			return errors.New("connection reset by liar.test")
		}
		origin.open = func(context.Context, image.Descriptor, int64, int64) error {
			if liar.gave() > 4*megabyte {
				return errors.New("connection refused by origin.test")
			}
			return nil
		}
		items, _ := through(t, blobs, origin, liar)
		o := &outcome{}
		_, err := timed(t, items, Options{Events: o.event})
		if err == nil || !strings.Contains(err.Error(), "refused by origin.test (gave up after 5 tries") {
			t.Errorf("Fetch: %v, want the origin's error", err)
		}
		o.checkWarnings(t, "liar.test sent other content")
	})
}

func TestResumeBesideLiar(t *testing.T) {
	for name, zeros := range map[string]bool{"left wrong": true, "left right": false} {
		onTestClock(t, name, func(t *testing.T) {
			blobs := [][]byte{randomBlob(1, 20*megabyte)}
			honest, liar := newMirror("honest.test", blobs...), newMirror("liar.test", blobs...).lies()
			items, places := through(t, blobs, newMirror("origin.test").down(), liar, honest)
			left := image.Extent{Off: 4 * megabyte, Len: 6 * megabyte}
			places[0].before = []image.Extent{left}
			if !zeros {
				copy(places[0].data[left.Off:], blobs[0][left.Off:left.Off+left.Len])
			}
			fetchThrough(t, items, places, blobs, Options{}, "liar.test")
			if honest.served > sizes(blobs)+liar.served {
				t.Errorf("the honest one served %d, the liar %d", honest.served, liar.served)
			}
		})
	}
	onTestClock(t, "left wrong, nobody lies", func(t *testing.T) {
		blobs := [][]byte{randomBlob(1, 20*megabyte)}
		a, b := newMirror("a.test", blobs...), newMirror("b.test", blobs...)
		items, places := through(t, blobs, newMirror("origin.test").down(), a, b)
		places[0].before = []image.Extent{{Off: 4 * megabyte, Len: 6 * megabyte}}
		fetchThrough(t, items, places, blobs, Options{})
		if a.served+b.served != sizes(blobs) {
			t.Errorf("%d bytes were served, want %d", a.served+b.served, sizes(blobs))
		}
	})
}

// damagedPlace finds, when it is to forget, that a part of what an earlier run
// left is no longer what was written, and keeps the rest.
type damagedPlace struct {
	*memPlace
	sound []image.Extent
}

func (p *damagedPlace) Forget() error {
	err := p.memPlace.Forget()
	p.before, p.sound = p.sound, nil
	return err
}

// A disk that damaged what was written is no mirror's fault.
func TestDamageIsNobodysFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		blobs := [][]byte{randomBlob(1, 20*megabyte)}
		a, b := newMirror("a.test", blobs...), newMirror("b.test", blobs...)
		items, places := through(t, blobs, newMirror("origin.test").down(), a, b)
		left := []image.Extent{{Off: 0, Len: 2 * megabyte}, {Off: 2 * megabyte, Len: 6 * megabyte}}
		copy(places[0].data, blobs[0][:8*megabyte])
		places[0].data[megabyte] ^= 1
		places[0].before = left
		// It vouches for all but the damaged run, also for what came since.
		items[0].Place = &damagedPlace{places[0], []image.Extent{{Off: 2 * megabyte, Len: 18 * megabyte}}}
		o := fetchThrough(t, items, places, blobs, Options{})
		if served := a.served + b.served; served != 14*megabyte {
			t.Errorf("%d bytes were served, want what was missing and what was damaged", served)
		}
		if notes := o.of(image.EventNote); len(notes) != 1 || !strings.Contains(notes[0].Text, "damaged") {
			t.Errorf("notes %v, want one of damage", notes)
		}
	})
}

// An empty blob is wrong by itself: nobody is at fault, and nobody asked.
func TestEmptyBlobOfAnotherDigest(t *testing.T) {
	m := newMirror("m.test")
	items, _ := through(t, [][]byte{nil}, newMirror("origin.test"), m)
	items[0].Blob.Digest = digest.FromString("x")
	if _, err := Fetch(t.Context(), items, quick); !errors.Is(err, image.ErrVerification) || m.calls > 0 {
		t.Errorf("Fetch: %v after %d requests", err, m.calls)
	}
}

// In a file, between servers, the same holds.
func TestLiarOnDisk(t *testing.T) {
	content := memregistry.New()
	honest := registrytest.Start(t, registrytest.Options{Content: content})
	liar := registrytest.Start(t, registrytest.Options{Content: content})
	origin := registrytest.Start(t, registrytest.Options{})
	var items []Item
	var slots []partial.Slot
	var size int64
	lies := map[digest.Digest]*registrytest.Corrupt{}
	for i, n := range []int{20e6, 3e6, 100} {
		blob := honest.AddBlob(registrytest.RandomBytes(uint64(i), n))
		corrupt := &registrytest.Corrupt{}
		for at := int64(0); at < blob.Size; at += 100_000 {
			corrupt.Flip = append(corrupt.Flip, at)
		}
		lies[blob.Digest] = corrupt
		items = append(items, Item{Blob: blob})
		slots = append(slots, partial.Slot{Digest: blob.Digest, Size: blob.Size, Offset: size})
		size += blob.Size
	}
	liar.Configure(func(o *registrytest.Options) { o.Corrupt = lies })
	var sources []image.Source
	for _, s := range []*registrytest.Server{origin, liar, honest} {
		reference, err := ref.Parse(s.Host() + "/a/b:1")
		if err != nil {
			t.Fatal(err)
		}
		r, err := registry.Open(reference, registry.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = r.Close() }()
		sources = append(sources, r)
	}
	path := filepath.Join(t.TempDir(), "output")
	p, err := partial.Open(path, slots, size, false)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for i := range items {
		items[i].Source, items[i].Mirrors, items[i].Place = sources[0], sources[1:], p.Place(items[i].Blob.Digest)
	}
	o := &outcome{}
	if _, err := Fetch(t.Context(), items, Options{Events: o.event}); err != nil {
		t.Fatal(err)
	}
	o.checkWarnings(t, liar.Host())
	// What is on its way when a connection is cut short was served too.
	if honest.BlobBytes() > size+liar.BlobBytes()+5e6 || origin.BlobBytes() > 0 {
		t.Errorf("of %d bytes the honest one served %d, the liar %d", size, honest.BlobBytes(), liar.BlobBytes())
	}
	t.Logf("of %d bytes the honest one served %d, the liar %d", size, honest.BlobBytes(), liar.BlobBytes())
	if err := p.Commit(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range slots {
		if digest.FromBytes(data[s.Offset:s.Offset+s.Size]) != s.Digest {
			t.Errorf("blob %d differs", i)
		}
	}
}
