package transfer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/davit-cli/davit/image"
)

// chaosSource answers every request as its mood is.
type chaosSource struct {
	*fakeSource
	moods sync.Mutex
	rand  *rand.Rand
	fatal int // of a thousand answers, so many leave no hope for the blob
}

func newChaosSource(seed uint64, s *fakeSource) *chaosSource {
	return &chaosSource{fakeSource: s, rand: rand.New(rand.NewPCG(seed, 1))}
}

func (s *chaosSource) OpenRange(ctx context.Context, blob image.Descriptor, off, n int64) (*image.Range, error) {
	s.moods.Lock()
	mood, cut := s.rand.IntN(12), 1+s.rand.IntN(700_000)
	fatal := s.fatal > 0 && s.rand.IntN(1000) < s.fatal
	s.moods.Unlock()
	if fatal {
		return nil, []error{image.ErrNotFound, image.ErrUnauthorized, image.ErrVerification}[cut%3]
	}
	switch {
	case mood == 0:
		return nil, errors.New("connection reset")
	case mood == 1:
		return nil, &image.RetryError{Busy: true, Err: errors.New("503")}
	case mood == 2 && n < blob.Size:
		return nil, &image.NoRangeError{Host: "fake", Err: errors.New("416")}
	case mood == 3:
		off, n = 0, blob.Size // ignores the range
	}
	r, err := s.fakeSource.OpenRange(ctx, blob, off, n)
	if err != nil {
		return nil, err
	}
	body := r.Body.(*fakeBody)
	switch mood {
	case 4, 5, 6:
		body.cut = cut
	case 7:
		body.stallAt = len(body.left) / 3
	case 8:
		body.delay = time.Millisecond
	case 9:
		r.Total, r.Len = -1, -1
	}
	return r, nil
}

// Whatever mix of faults a registry shows, what arrives is right, and no byte
// is written twice.
func TestChaos(t *testing.T) {
	blobs := [][]byte{randomBlob(1, 7<<20), randomBlob(2, 3<<20+5), randomBlob(3, 900_000), randomBlob(4, 17), nil}
	for seed := range uint64(12) {
		for _, way := range []string{"fetch", "stream", "relay"} {
			t.Run(fmt.Sprintf("seed %d, %s", seed, way), func(t *testing.T) {
				t.Parallel()
				s := newChaosSource(seed, newFakeSource(blobs...))
				items, places := itemsFor(t, s.fakeSource, blobs...)
				for i := range items {
					items[i].Source = s
				}
				opts := Options{Backoff: time.Millisecond, Stall: 20 * time.Millisecond, Retries: 50}
				var got [][]byte
				var err error
				switch way {
				case "relay":
					got, _, err = relayAll(t.Context(), items, opts, 3)
				case "stream":
					_, err = Stream(t.Context(), items, opts, func(_ int, r io.Reader) error {
						b, err := io.ReadAll(r)
						got = append(got, b)
						return err
					})
				default:
					_, err = Fetch(t.Context(), items, opts)
					for _, p := range places {
						got = append(got, p.data)
					}
				}
				if err != nil {
					t.Fatal(err)
				}
				if !slices.EqualFunc(got, blobs, bytes.Equal) {
					t.Error("what arrived differs")
				}
			})
		}
	}
}
