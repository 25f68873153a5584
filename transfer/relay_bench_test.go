package transfer_test

import (
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/registrytest"
	"github.com/davit-cli/davit/ref"
	"github.com/davit-cli/davit/registry"
	"github.com/davit-cli/davit/transfer"
)

// BenchmarkRelay gives layers of a registry that holds each connection to
// 20 MB/s (Linux) to sinks of a certain rate, and tiny ones to sinks that take
// 50 ms each:
//
//	go test ./transfer -run - -bench Relay -benchtime 1x
func BenchmarkRelay(b *testing.B) {
	fat, tiny := slices.Repeat([]int{110e6}, 4), slices.Repeat([]int{20e3}, 60)
	for _, test := range []struct {
		name  string
		sizes []int
		lanes int
		rate  int           // bytes a second of each sink, 0 for no limit
		delay time.Duration // before each sink reads
	}{
		{name: "4 layers, fast sinks", sizes: fat, lanes: 6},
		{name: "1 layer, fast sink", sizes: []int{440e6}, lanes: 6},
		{name: "4 layers, sinks of 20 MB per s", sizes: fat, lanes: 6, rate: 20e6},
		{name: "4 layers, sinks of 20 MB per s", sizes: fat, lanes: 1, rate: 20e6},
		{name: "60 tiny layers, sinks of 50 ms", sizes: tiny, lanes: 6, delay: 50 * time.Millisecond},
		{name: "60 tiny layers, sinks of 50 ms", sizes: tiny, lanes: 16, delay: 50 * time.Millisecond},
	} {
		b.Run(fmt.Sprintf("%s, %d lanes", test.name, test.lanes), func(b *testing.B) {
			items, total := layersOf(b, test.sizes)
			b.SetBytes(total)
			for b.Loop() {
				_, err := transfer.Relay(b.Context(), items, transfer.Options{}, test.lanes, func(_ int, blob io.Reader) error {
					time.Sleep(test.delay)
					_, err := io.Copy(&heldTo{rate: test.rate}, blob)
					return err
				})
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkStream gives the same layers to one sink that is not limited.
func BenchmarkStream(b *testing.B) {
	items, total := layersOf(b, slices.Repeat([]int{110e6}, 4))
	b.SetBytes(total)
	for b.Loop() {
		_, err := transfer.Stream(b.Context(), items, transfer.Options{}, func(_ int, blob io.Reader) error {
			_, err := io.Copy(io.Discard, blob)
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

// layersOf are blobs of a registry that holds each connection to 20 MB/s.
func layersOf(b *testing.B, sizes []int) (items []transfer.Item, total int64) {
	b.Helper()
	s := registrytest.Start(b, registrytest.Options{Rate: 20e6, SendBuffer: 64 << 10})
	reference, err := ref.Parse(s.Host() + "/bench/image:1")
	if err != nil {
		b.Fatal(err)
	}
	var source image.Source
	if source, err = registry.Open(reference, registry.Options{}); err != nil {
		b.Fatal(err)
	}
	for i, size := range sizes {
		items = append(items, transfer.Item{Blob: s.AddBlob(registrytest.RandomBytes(uint64(i), size)), Source: source})
		total += int64(size)
	}
	return items, total
}

// heldTo takes so many bytes a second, counted from its first write.
type heldTo struct {
	rate  int
	begun time.Time
	n     int
}

func (w *heldTo) Write(p []byte) (int, error) {
	if w.rate == 0 {
		return len(p), nil
	}
	if w.n == 0 {
		w.begun = time.Now()
	}
	w.n += len(p)
	time.Sleep(time.Until(w.begun.Add(time.Duration(float64(w.n) / float64(w.rate) * float64(time.Second)))))
	return len(p), nil
}
