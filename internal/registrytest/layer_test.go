package registrytest

import (
	"archive/tar"
	"io"
	"testing"
)

// Around 8 GiB the header of the one file grows from one block to three.
func TestRandomTarAroundEightGiB(t *testing.T) {
	for size := int64(8<<30 - 2048); size <= 8<<30+4096; size += 512 {
		content, err := randomTar{seed: 1, size: size}.build()
		if err != nil {
			t.Fatal(err)
		}
		h, err := tar.NewReader(io.NewSectionReader(content, 0, size)).Next()
		if err != nil {
			t.Fatalf("%d: %v", size, err)
		}
		if left := size - h.Size; left < 512+1024 || left > 5*512+1024 {
			t.Errorf("%d: the file has %d bytes", size, h.Size)
		}
		last := make([]byte, 1024)
		if n, err := content.ReadAt(last, size-1024); n != 1024 || [1024]byte(last) != [1024]byte{} {
			t.Errorf("%d: no trailer: %d bytes, %v", size, n, err)
		}
	}
}
