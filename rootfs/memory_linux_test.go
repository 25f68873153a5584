package rootfs

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"

	"github.com/davit-cli/davit/image"
)

// mostAPath is the memory that a path may take, all told: what the system
// gave the process at its peak, over what it gives one with a tiny image.
const mostAPath = 300

// gcPercent is what a program sets that merges large images: a collection each
// time that the memory in use has grown by a quarter, instead of doubled. As
// the tables have next to no pointers, one takes no time.
const gcPercent = 25

// TestMemory measures a process that merges an image of many paths and writes
// its tar, with gcPercent.
func TestMemory(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector takes several times the memory; the test runs without it too")
	}
	paths := 200_000
	if os.Getenv("DAVIT_E2E") == "1" {
		paths = 1_000_000
	}
	for _, tt := range []struct {
		how    string
		layers int
		most   int64
	}{
		{"merge", 1, mostAPath},
		{"merge", 2, mostAPath},
		{"list", 2, mostAPath + 2*sha256.Size}, // the digests
	} {
		took := memoryAPath(t, tt.how, tt.layers, paths, tt.most)
		t.Logf("%s: %d paths, each in %d layers: %d bytes a path at the peak", tt.how, paths, tt.layers, took)
		if took > tt.most {
			t.Errorf("%s: %d paths, each in %d layers: %d bytes a path, more than %d", tt.how, paths, tt.layers, took, tt.most)
		}
		if took < 50 {
			t.Errorf("%s: %d bytes a path: nothing was measured", tt.how, took)
		}
	}
}

// memoryAPath is the least of some measurements: where other processes keep the
// processors, a collection ends later, and the memory has grown by then.
func memoryAPath(t *testing.T, how string, layers, paths int, most int64) int64 {
	t.Helper()
	least := int64(math.MaxInt64)
	for range 3 {
		took := (peakOf(t, how, layers, paths) - peakOf(t, how, layers, 10)) / int64(paths)
		if least = min(least, took); least <= most {
			break
		}
	}
	return least
}

// memoryOf names an image for a process of peakOf: layers and paths, and what
// is done with it.
const memoryOf = "DAVIT_TEST_MEMORY_OF"

// peakOf is the peak of the resident memory, in bytes, of a process that
// merges layers that each have the same paths, and writes their tar; or lists
// them with digests, and goes through the overlay.
func peakOf(t *testing.T, how string, layers, paths int) int64 {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run=^TestMemoryOfThisProcess$", "-test.count=1")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d,%d,%s", memoryOf, layers, paths, how))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	_, peak, _ := strings.Cut(string(out), "peak ")
	peak, _, _ = strings.Cut(peak, " kB")
	kB, err := strconv.ParseInt(strings.TrimSpace(peak), 10, 64)
	if err != nil {
		t.Fatalf("no peak in %s", out)
	}
	return kB << 10
}

// TestMemoryOfThisProcess is what peakOf runs.
func TestMemoryOfThisProcess(t *testing.T) {
	var layers, paths int
	var how string
	if n, _ := fmt.Sscanf(os.Getenv(memoryOf), "%d,%d,%s", &layers, &paths, &how); n != 3 {
		return // TestMemory runs it, in a process of its own
	}
	debug.SetGCPercent(gcPercent)
	image := make([]Layer, layers)
	for i := range image {
		image[i] = manyPaths(t, paths)
	}
	if how == "list" {
		listAll(t, image, paths)
	} else {
		mergeAll(t, image, paths)
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, peak, _ := strings.Cut(string(status), "VmHWM:")
	peak, _, _ = strings.Cut(peak, "\n")
	fmt.Println("peak", peak)
}

func mergeAll(t *testing.T, image []Layer, paths int) {
	t.Helper()
	tree, err := Merge(context.Background(), image, Options{SpoolDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if n := tree.Stats().Paths; n < paths {
		t.Fatalf("the tree has %d paths, not %d", n, paths)
	}
	if err := tree.WriteTar(context.Background(), io.Discard, TarOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := tree.Close(); err != nil {
		t.Error(err)
	}
}

func listAll(t *testing.T, image []Layer, paths int) {
	t.Helper()
	var listings []*Listing
	for _, l := range image {
		listing, err := List(context.Background(), io.NewSectionReader(l.Blob, 0, l.Descriptor.Size), ListOptions{Digests: true})
		if err != nil {
			t.Fatal(err)
		}
		listings = append(listings, listing)
	}
	v, err := Overlay(context.Background(), listings, OverlayOptions{})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for range v.Entries() {
		n++
	}
	if n < paths {
		t.Fatalf("the overlay has %d paths, not %d", n, paths)
	}
}

// manyPaths is a layer of empty files, a plain tar that is made up as it is
// read.
func manyPaths(t *testing.T, n int) Layer {
	t.Helper()
	var b bytes.Buffer
	h := tar.Header{Typeflag: tar.TypeReg, Name: "x", Mode: 0o644, ModTime: someTime, Format: tar.FormatUSTAR}
	if err := tar.NewWriter(&b).WriteHeader(&h); err != nil {
		t.Fatal(err)
	}
	return Layer{Descriptor: image.Descriptor{Size: int64(n+2) * 512}, Blob: &pathsReader{n: int64(n), header: [512]byte(b.Bytes())}}
}

type pathsReader struct {
	n      int64
	header [512]byte
}

// ReadAt gives a header for each file, and zeros for the tar's end.
func (r *pathsReader) ReadAt(p []byte, off int64) (int, error) {
	if off%512 != 0 || len(p)%512 != 0 {
		return 0, errors.New("only whole headers can be read")
	}
	for at := 0; at < len(p); at += 512 {
		switch i := (off + int64(at)) / 512; {
		case i < r.n:
			r.put((*[512]byte)(p[at:]), i)
		default:
			clear(p[at : at+512])
		}
	}
	return len(p), nil
}

// put writes the header of a file.
func (r *pathsReader) put(p *[512]byte, i int64) {
	*p = r.header
	copy(p[:], fmt.Appendf(nil, "usr/lib/some/packages/p%04d/d%02d/file-of-a-usual-length-%d", i/1000, i/100%10, i))
	copy(p[148:], "        ") // the checksum is of itself as spaces
	sum := 0
	for _, b := range p {
		sum += int(b)
	}
	copy(p[148:], fmt.Appendf(nil, "%06o\x00", sum))
}
