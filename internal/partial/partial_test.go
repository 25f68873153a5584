package partial

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
)

var (
	blobA = bytes.Repeat([]byte("a"), 300_000)
	blobB = bytes.Repeat([]byte("b"), 200_000)
	slotA = Slot{digest.FromBytes(blobA), int64(len(blobA)), 1024}
	slotB = Slot{digest.FromBytes(blobB), int64(len(blobB)), 400_000}
)

func open(t *testing.T, output string, size int64, slots ...Slot) *Partial {
	t.Helper()
	p, err := Open(output, slots, size, false)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func write(t *testing.T, p *Partial, s Slot, b []byte, off int64) {
	t.Helper()
	if _, err := p.Place(s.Digest).WriteAt(b, off); err != nil {
		t.Fatalf("WriteAt: %v", err)
	}
}

func sum(list []image.Extent) (n int64) {
	for _, e := range list {
		n += e.Len
	}
	return n
}

// abandon leaves a partial as a killed process does: nothing is flushed.
func abandon(p *Partial) {
	_ = errors.Join(p.journal.Close(), p.data.Close(), p.lock.release())
	p.journal, p.data, p.lock = nil, nil, nil
}

func TestCommit(t *testing.T) {
	output := filepath.Join(t.TempDir(), "deep", "out.tar")
	p := open(t, output, 1_000_000, slotA, slotB)
	write(t, p, slotB, blobB, 0)
	write(t, p, slotA, blobA[100:], 100)
	write(t, p, slotA, blobA[:100], 0)
	if _, err := p.WriteAt([]byte("head"), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(output); !os.IsNotExist(err) {
		t.Error("the output stands there before it is whole")
	}
	if err := p.Commit(); err != nil {
		t.Fatalf("Commit: %v", err)
	}
	got, err := os.ReadFile(output)
	want := make([]byte, 1_000_000)
	copy(want, "head")
	copy(want[slotA.Offset:], blobA)
	copy(want[slotB.Offset:], blobB)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("the output differs (%v)", err)
	}
	if _, err := os.Stat(output + Suffix); !os.IsNotExist(err) {
		t.Error("the partial is still there")
	}
}

func TestKilledRunIsResumed(t *testing.T) {
	output := filepath.Join(t.TempDir(), "out.tar")
	p := open(t, output, 1_000_000, slotA, slotB)
	write(t, p, slotA, blobA[:journalStep], 0)
	write(t, p, slotA, blobA[200_000:200_010], 200_000) // too short to be journaled yet
	for off := 0; off+1000 <= len(blobB); off += 1000 { // small pieces gather
		write(t, p, slotB, blobB[off:off+1000], int64(off))
	}
	abandon(p)

	p = open(t, output, 1_000_000, slotA, slotB)
	if got, want := p.Place(slotA.Digest).Written(), []image.Extent{{Off: 0, Len: journalStep}}; !slices.Equal(got, want) {
		t.Errorf("A: %v, want %v", got, want)
	}
	if n := sum(p.Place(slotB.Digest).Written()); n < int64(len(blobB))-journalStep {
		t.Errorf("B: %d bytes survived a kill, want all but the last step", n)
	}
	b := make([]byte, journalStep)
	if _, err := p.Place(slotA.Digest).ReadAt(b, 0); err != nil || !bytes.Equal(b, blobA[:journalStep]) {
		t.Errorf("A reads back wrong (%v)", err)
	}
}

// Blobs that are shorter than a step, and pieces that end where chunks do,
// are journaled at once.
func TestKilledRunKeepsWhatIsWhole(t *testing.T) {
	output := filepath.Join(t.TempDir(), "out.tar")
	small := Slot{digest.FromString("small"), 5, 512}
	p := open(t, output, 1_000_000, small, slotA)
	write(t, p, small, []byte("small"), 0)
	write(t, p, slotA, blobA[journalStep-10:journalStep], journalStep-10)
	abandon(p)
	p = open(t, output, 1_000_000, small, slotA)
	if n := sum(p.Place(small.Digest).Written()); n != 5 {
		t.Errorf("%d bytes of a small blob survived a kill, want 5", n)
	}
	if n := sum(p.Place(slotA.Digest).Written()); n != 10 {
		t.Errorf("%d bytes before a step's end survived a kill, want 10", n)
	}
}

func TestManyShortRuns(t *testing.T) {
	output := filepath.Join(t.TempDir(), "out.tar")
	p := open(t, output, 1_000_000, slotA)
	for off := 0; off < 200*1000; off += 1000 {
		write(t, p, slotA, blobA[off:off+10], int64(off))
	}
	abandon(p)
	p = open(t, output, 1_000_000, slotA)
	if n := sum(p.Place(slotA.Digest).Written()); n < 10*(200-maxRuns-1) {
		t.Errorf("%d of 2000 bytes in short runs survived a kill", n)
	}
}

func TestCloseKeepsTheLastPieces(t *testing.T) {
	output := filepath.Join(t.TempDir(), "out.tar")
	p := open(t, output, 1_000_000, slotA)
	write(t, p, slotA, blobA[:10], 0)
	p.Close()
	p = open(t, output, 1_000_000, slotA)
	if n := sum(p.Place(slotA.Digest).Written()); n != 10 {
		t.Errorf("%d bytes survived, want 10", n)
	}
}

func TestTornJournal(t *testing.T) {
	output := filepath.Join(t.TempDir(), "out.tar")
	p := open(t, output, 1_000_000, slotA)
	write(t, p, slotA, blobA[:journalStep], 0)
	p.Close()
	path := filepath.Join(output+Suffix, journalName)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := range whole {
		if err := os.WriteFile(path, whole[:n], 0o666); err != nil {
			t.Fatal(err)
		}
		p := open(t, output, 1_000_000, slotA)
		if got := sum(p.Place(slotA.Digest).Written()); got != 0 {
			t.Errorf("a journal torn after %d bytes tells of %d bytes", n, got)
		}
		write(t, p, slotA, blobA[:journalStep], 0)
		p.Close()
		p = open(t, output, 1_000_000, slotA)
		if got := sum(p.Place(slotA.Digest).Written()); got != journalStep {
			t.Errorf("after a journal torn after %d bytes %d bytes survive, want %d", n, got, journalStep)
		}
		p.Close()
	}
}

func TestLyingJournal(t *testing.T) {
	output := filepath.Join(t.TempDir(), "out.tar")
	for _, line := range []string{
		"+ 0 -1 10 0\n", "+ 0 0 400000 0\n", "+ 1 0 10 0\n", "+ 0 9223372036854775807 10 0\n", "- 7\n", "?\n", "\n",
		fmt.Sprintf("blob %s -5 0\n", "sha256:../../x"),
	} {
		p := open(t, output, 1_000_000, slotA)
		p.Close()
		f, err := os.OpenFile(filepath.Join(output+Suffix, journalName), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(line); err != nil {
			t.Fatal(err)
		}
		f.Close()
		p = open(t, output, 1_000_000, slotA)
		if got := p.Place(slotA.Digest).Written(); len(got) != 0 {
			t.Errorf("%q is believed: %v", line, got)
		}
		p.Close()
	}
}

// A tag has moved: the blobs that the new image shares with the old one stand
// elsewhere now.
func TestMovedLayoutKeepsBlobs(t *testing.T) {
	output := filepath.Join(t.TempDir(), "out.tar")
	p := open(t, output, 1_000_000, slotA, slotB)
	write(t, p, slotA, blobA[:150_000], 0)
	write(t, p, slotB, blobB, 0)
	abandon(p)

	movedB := Slot{slotB.Digest, slotB.Size, 512}
	other := Slot{digest.FromString("other"), 99, 300_000}
	p = open(t, output, 500_000, movedB, other)
	if n := sum(p.Place(movedB.Digest).Written()); n != movedB.Size {
		t.Errorf("%d bytes of B were carried over, want %d", n, movedB.Size)
	}
	b := make([]byte, movedB.Size)
	if _, err := p.Place(movedB.Digest).ReadAt(b, 0); err != nil || !bytes.Equal(b, blobB) {
		t.Errorf("B differs after it was carried over (%v)", err)
	}
	if n := sum(p.Place(other.Digest).Written()); n != 0 {
		t.Errorf("%d bytes of a new blob are said to be there", n)
	}
	p.Close()
	if left, _ := filepath.Glob(filepath.Join(output+Suffix, "old-*")); len(left) > 0 {
		t.Errorf("%q is left over", left)
	}
}

// The process is killed again while it sets the old data aside, or while it
// carries blobs over.
func TestMovedLayoutInterrupted(t *testing.T) {
	movedB := Slot{slotB.Digest, slotB.Size, 512}
	move := func(t *testing.T, dir, from, to string) {
		t.Helper()
		if err := os.Rename(filepath.Join(dir, from), filepath.Join(dir, to)); err != nil {
			t.Fatal(err)
		}
	}
	for name, killed := range map[string]func(t *testing.T, dir string){
		"data set aside": func(t *testing.T, dir string) {
			move(t, dir, dataName, oldDataName)
		},
		"both set aside": func(t *testing.T, dir string) {
			move(t, dir, dataName, oldDataName)
			move(t, dir, journalName, oldJournalName)
		},
		"new journal begun": func(t *testing.T, dir string) {
			move(t, dir, dataName, oldDataName)
			move(t, dir, journalName, oldJournalName)
			journal := header([]Slot{movedB}, 500_000, 0)
			if err := os.WriteFile(filepath.Join(dir, journalName), journal, 0o666); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, dataName), nil, 0o666); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			output := filepath.Join(t.TempDir(), "out.tar")
			p := open(t, output, 1_000_000, slotA, slotB)
			write(t, p, slotA, blobA, 0)
			write(t, p, slotB, blobB, 0)
			abandon(p)
			killed(t, output+Suffix)
			p = open(t, output, 500_000, movedB)
			b := make([]byte, movedB.Size)
			if n := sum(p.Place(movedB.Digest).Written()); n != movedB.Size {
				t.Errorf("%d bytes of B were carried over, want %d", n, movedB.Size)
			} else if _, err := p.Place(movedB.Digest).ReadAt(b, 0); err != nil || !bytes.Equal(b, blobB) {
				t.Errorf("B differs after it was carried over (%v)", err)
			}
		})
	}
}

// Old data that are shorter than their journal tells are worth what they hold.
func TestMovedLayoutWithShortData(t *testing.T) {
	output := filepath.Join(t.TempDir(), "out.tar")
	p := open(t, output, 1_000_000, slotA, slotB)
	write(t, p, slotA, blobA, 0)
	write(t, p, slotB, blobB, 0)
	abandon(p)
	if err := os.Truncate(filepath.Join(output+Suffix, dataName), slotB.Offset); err != nil {
		t.Fatal(err)
	}
	p = open(t, output, 900_000, slotA, Slot{slotB.Digest, slotB.Size, 500_000})
	if n := sum(p.Place(slotA.Digest).Written()); n != slotA.Size {
		t.Errorf("%d bytes of A were carried over, want %d", n, slotA.Size)
	}
	if n := sum(p.Place(slotB.Digest).Written()); n != 0 {
		t.Errorf("%d bytes of B are said to be there", n)
	}
}

// What stands where the partial's directory belongs is not followed.
func TestForeignDirectory(t *testing.T) {
	dir := t.TempDir()
	output := filepath.Join(dir, "out.tar")
	if err := os.Symlink(t.TempDir(), output+Suffix); err != nil {
		t.Skipf("no symbolic links here: %v", err)
	}
	if _, err := Open(output, []Slot{slotA}, 1_000_000, false); err == nil {
		t.Error("a link is taken for the partial's directory")
	}
	file := filepath.Join(dir, "other.tar")
	if err := os.WriteFile(file+Suffix, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(file, []Slot{slotA}, 1_000_000, false); err == nil {
		t.Error("a file is taken for the partial's directory")
	}
}

// Links that were planted in the partial are refused, and lead nowhere.
func TestPlantedLinks(t *testing.T) {
	for _, name := range []string{dataName, partsName, journalName, lockName, oldDataName, oldPartsName, oldJournalName} {
		for target, made := range map[string]bool{"victim": true, "nowhere": false} {
			dir := t.TempDir()
			output, victim := filepath.Join(dir, "out.tar"), filepath.Join(dir, target)
			if made {
				if err := os.WriteFile(victim, header([]Slot{slotA}, 1_000_000, 0), 0o666); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Mkdir(output+Suffix, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(victim, filepath.Join(output+Suffix, name)); err != nil {
				t.Skipf("no symbolic links here: %v", err)
			}
			if name == oldDataName { // it is looked at only beside its journal
				if err := os.WriteFile(filepath.Join(output+Suffix, oldJournalName), header([]Slot{slotA}, 1_000_000, 0), 0o666); err != nil {
					t.Fatal(err)
				}
			}
			p, err := Open(output, []Slot{slotA}, 1_000_000, false)
			if err == nil {
				p.Close()
				t.Errorf("%s may be a link to what is there: %v", name, made)
			}
			got, err := os.ReadFile(victim)
			if made && (err != nil || !bytes.Equal(got, header([]Slot{slotA}, 1_000_000, 0))) || !made && err == nil {
				t.Errorf("%s: what the link leads to was changed (%v)", name, err)
			}
		}
	}
}

func TestLongJournalLine(t *testing.T) {
	output := filepath.Join(t.TempDir(), "out.tar")
	p := open(t, output, 1_000_000, slotA)
	p.Close()
	path := filepath.Join(output+Suffix, journalName)
	if err := os.WriteFile(path, bytes.Repeat([]byte("davit-journal "), 100_000), 0o666); err != nil {
		t.Fatal(err)
	}
	p = open(t, output, 1_000_000, slotA)
	if got := p.Place(slotA.Digest).Written(); len(got) != 0 {
		t.Errorf("a foreign journal is believed: %v", got)
	}
}

func TestDamagedBytesAreForgotten(t *testing.T) {
	output := filepath.Join(t.TempDir(), "out.tar")
	p := open(t, output, 1_000_000, slotA)
	write(t, p, slotA, blobA[:100_000], 0)
	write(t, p, slotA, blobA[100_000:200_000], 100_000)
	p.Close()
	data, err := os.OpenFile(filepath.Join(output+Suffix, dataName), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := data.WriteAt([]byte{0}, slotA.Offset+150_000); err != nil {
		t.Fatal(err)
	}
	data.Close()

	p = open(t, output, 1_000_000, slotA)
	place := p.Place(slotA.Digest)
	if n := sum(place.Written()); n != 200_000 {
		t.Fatalf("%d bytes are said to be there, want 200000", n)
	}
	if err := place.Forget(); err != nil {
		t.Fatal(err)
	}
	if got, want := place.Written(), []image.Extent{{Off: 0, Len: 100_000}}; !slices.Equal(got, want) {
		t.Errorf("what is sound: %v, want %v", got, want)
	}
	if err := place.Forget(); err != nil { // sound, yet wrong
		t.Fatal(err)
	}
	p.Close()
	p = open(t, output, 1_000_000, slotA)
	if got := p.Place(slotA.Digest).Written(); len(got) != 0 {
		t.Errorf("%v is remembered after it was forgotten", got)
	}
}

func TestRestart(t *testing.T) {
	output := filepath.Join(t.TempDir(), "out.tar")
	p := open(t, output, 1_000_000, slotA)
	write(t, p, slotA, blobA, 0)
	p.Close()
	p, err := Open(output, []Slot{slotA}, 1_000_000, true)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if got := p.Place(slotA.Digest).Written(); len(got) != 0 {
		t.Errorf("restart kept %v", got)
	}
}

func TestLocked(t *testing.T) {
	output := filepath.Join(t.TempDir(), "out.tar")
	p := open(t, output, 1_000_000, slotA)
	if _, err := Open(output, []Slot{slotA}, 1_000_000, false); !errors.Is(err, ErrLocked) {
		t.Errorf("a second Open: %v, want %v", err, ErrLocked)
	}
	p.Close()
	open(t, output, 1_000_000, slotA)
}

// However many want the output at once: one has it at a time, and every
// output that comes out is whole.
func TestManyAtOnce(t *testing.T) {
	output := filepath.Join(t.TempDir(), "out.tar")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for done := false; !done; {
				p, err := Open(output, []Slot{slotA}, 400_000, false)
				if errors.Is(err, ErrLocked) {
					continue
				}
				if err != nil {
					t.Errorf("Open: %v", err)
					return
				}
				if _, err := p.Place(slotA.Digest).WriteAt(blobA, 0); err != nil {
					t.Errorf("WriteAt: %v", err)
				}
				if err := p.Commit(); err != nil {
					t.Errorf("Commit: %v", err)
				}
				p.Close()
				done = true
			}
		})
	}
	wg.Wait()
	got, err := os.ReadFile(output)
	if err != nil || len(got) != 400_000 || !bytes.Equal(got[slotA.Offset:slotA.Offset+slotA.Size], blobA) {
		t.Errorf("the output differs (%v)", err)
	}
}

func TestNoSpace(t *testing.T) {
	output := filepath.Join(t.TempDir(), "out.tar")
	if _, ok := freeSpace(filepath.Dir(output)); !ok {
		t.Fatal("this system does not tell how much is free")
	}
	if _, err := Open(output, nil, math.MaxInt64/2, false); !errors.Is(err, ErrNoSpace) {
		t.Errorf("Open: %v, want %v", err, ErrNoSpace)
	}
	if left, _ := filepath.Glob(output + "*"); len(left) > 0 {
		t.Errorf("%q is left of an output that was never begun", left)
	}
}

func TestReplacedOutputKeepsItsMode(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("modes are not kept on Windows")
	}
	output := filepath.Join(t.TempDir(), "out.tar")
	if err := os.WriteFile(output, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p := open(t, output, 0)
	if err := p.Commit(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(output); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the new output is %v (%v), the old one was -rw-------", info.Mode(), err)
	}
}

func TestLock(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "parent", "lock")
	var held sync.Mutex
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for range 5 {
				unlock, err := Lock(t.Context(), dir)
				if err != nil {
					t.Error(err)
					return
				}
				if !held.TryLock() {
					t.Error("two have the lock")
					return
				}
				runtime.Gosched() // others' turn to do wrong
				held.Unlock()
				if err := unlock(); err != nil {
					t.Error(err)
				}
				_ = os.Remove(filepath.Dir(dir)) // as outputs do when they are whole
			}
		})
	}
	all.Wait()
	if _, err := os.Lstat(dir); !os.IsNotExist(err) {
		t.Errorf("the lock is still there: %v", err)
	}
	unlock, err := Lock(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unlock() }()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Lock(ctx, dir); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting for the lock: %v", err)
	}
}
