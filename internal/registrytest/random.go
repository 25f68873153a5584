package registrytest

import (
	"encoding/binary"
	"io"
)

// RandomBytes returns n incompressible bytes: the same for the same seed.
func RandomBytes(seed uint64, n int) []byte {
	p := make([]byte, n)
	fillRandom(p, seed, 0)
	return p
}

// RandomContent returns size incompressible bytes, the same for the same seed,
// that are computed when they are read.
func RandomContent(seed uint64, size int64) io.ReaderAt {
	return randomContent{seed: seed, size: size}
}

type randomContent struct {
	seed uint64
	size int64
}

func (c randomContent) ReadAt(p []byte, off int64) (int, error) {
	if off >= c.size {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), c.size-off))
	fillRandom(p[:n], c.seed, off)
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// fillRandom fills p with the bytes from offset off of the seed's content: of
// eight bytes each, the i-th word is mix(seed's start + i).
func fillRandom(p []byte, seed uint64, off int64) {
	word := mix(seed) + uint64(off/8)
	if skip := int(off % 8); skip > 0 {
		var b [8]byte
		binary.LittleEndian.PutUint64(b[:], mix(word))
		p = p[copy(p, b[skip:]):]
		word++
	}
	for ; len(p) >= 8; p = p[8:] {
		binary.LittleEndian.PutUint64(p, mix(word))
		word++
	}
	if len(p) > 0 {
		var b [8]byte
		binary.LittleEndian.PutUint64(b[:], mix(word))
		copy(p, b[:])
	}
}

// mix is the output function of SplitMix64.
func mix(n uint64) uint64 {
	n *= 0x9e3779b97f4a7c15
	n = (n ^ n>>30) * 0xbf58476d1ce4e5b9
	n = (n ^ n>>27) * 0x94d049bb133111eb
	return n ^ n>>31
}
