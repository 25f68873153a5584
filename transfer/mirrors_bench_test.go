package transfer_test

import (
	"fmt"
	"testing"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/registrytest"
	"github.com/davit-cli/davit/ref"
	"github.com/davit-cli/davit/registry"
	"github.com/davit-cli/davit/transfer"
)

// discard is a place that keeps what the hash wants to read back.
type discard struct{ data []byte }

func (p discard) WriteAt(b []byte, off int64) (int, error) { return copy(p.data[off:], b), nil }

func (p discard) ReadAt(b []byte, off int64) (int, error) { return copy(b, p.data[off:]), nil }

func (p discard) Written() []image.Extent { return nil }

func (p discard) Forget() error { return nil }

// BenchmarkMirrors fetches 100 MB in three blobs through mirrors that are held
// to 10 MB/s each, all connections together:
//
//	go test ./transfer -run - -bench Mirrors -benchtime 1x
func BenchmarkMirrors(b *testing.B) {
	open := func(s *registrytest.Server) image.Source {
		reference, err := ref.Parse(s.Host() + "/bench/image:1")
		if err != nil {
			b.Fatal(err)
		}
		r, err := registry.Open(reference, registry.Options{})
		if err != nil {
			b.Fatal(err)
		}
		return r
	}
	origin := registrytest.Start(b, registrytest.Options{})
	blobs := []image.Descriptor{
		origin.AddBlob(registrytest.RandomBytes(1, 60e6)),
		origin.AddBlob(registrytest.RandomBytes(2, 30e6)),
		origin.AddBlob(registrytest.RandomBytes(3, 10e6)),
	}
	for n := 1; n <= 3; n++ {
		b.Run(fmt.Sprintf("%d", n), func(b *testing.B) {
			b.SetBytes(100e6)
			for b.Loop() {
				var mirrors []image.Source
				for range n {
					mirrors = append(mirrors, open(registrytest.Start(b, registrytest.Options{Content: origin.Content, TotalRate: 10e6})))
				}
				var items []transfer.Item
				for _, blob := range blobs {
					items = append(items, transfer.Item{
						Blob: blob, Source: open(origin), Mirrors: mirrors, Place: discard{make([]byte, blob.Size)},
					})
				}
				if _, err := transfer.Fetch(b.Context(), items, transfer.Options{}); err != nil {
					b.Fatal(err)
				}
			}
			if n := origin.BlobBytes(); n > 0 {
				b.Errorf("the origin served %d bytes", n)
			}
		})
	}
}
