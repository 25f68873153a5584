package partial

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/split"
)

const whole = 1_000_000

// openParts opens the partial of an output in parts of so many bytes; 0 is one
// file.
func openParts(t *testing.T, output string, part int64, slots ...Slot) *Partial {
	t.Helper()
	p, err := OpenParts(output+Suffix, output, slots, whole, part, false)
	if err != nil {
		t.Fatalf("OpenParts: %v", err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// joined is what stands at output, as one file or in parts.
func joined(t *testing.T, output string) []byte {
	t.Helper()
	set, err := split.Find(output)
	if err != nil {
		t.Fatalf("Find: %v", err)
	}
	if set == nil {
		b, err := os.ReadFile(output)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	row, err := set.Open()
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	defer func() { _ = row.Close() }()
	b, err := io.ReadAll(io.NewSectionReader(row, 0, set.Size))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// wantWhole checks an output of both blobs.
func wantWhole(t *testing.T, output string) {
	t.Helper()
	want := make([]byte, whole)
	copy(want[slotA.Offset:], blobA)
	copy(want[slotB.Offset:], blobB)
	if !bytes.Equal(joined(t, output), want) {
		t.Error("the output differs")
	}
	if _, err := os.Stat(output + Suffix); !os.IsNotExist(err) {
		t.Error("the partial is still there")
	}
}

func commitOf(t *testing.T, p *Partial, part int64) error {
	t.Helper()
	// What no blob brings is written by every run.
	for _, off := range []int64{0, slotA.Offset + slotA.Size, slotB.Offset + slotB.Size, whole - 1} {
		if _, err := p.WriteAt([]byte{0}, off); err != nil {
			return err
		}
	}
	if part == 0 {
		return p.Commit()
	}
	for off := slotB.Offset + slotB.Size; off < whole; off += 1000 {
		if _, err := p.WriteAt([]byte{0}, off); err != nil {
			return err
		}
	}
	return p.CommitParts(t.Context(), whole, nil)
}

// What a killed run has written is found by the next one, also where that wants
// parts of another size, or none.
func TestKilledRunInPartsIsResumed(t *testing.T) {
	for _, first := range []int64{0, 70_000, 300_000} {
		for _, then := range []int64{0, 70_000, 110_001, 2_000_000} {
			t.Run(fmt.Sprintf("%d then %d", first, then), func(t *testing.T) {
				output := filepath.Join(t.TempDir(), "deep", "out.tar")
				p := openParts(t, output, first, slotA, slotB)
				write(t, p, slotB, blobB, 0)
				write(t, p, slotA, blobA[200_000:], 200_000)
				write(t, p, slotA, blobA[:100_000], 0)
				abandon(p)

				p = openParts(t, output, then, slotA, slotB)
				if n := sum(p.Place(slotA.Digest).Written()); n < 200_000-2*journalStep {
					t.Errorf("%d bytes of A are left", n)
				}
				if n := sum(p.Place(slotB.Digest).Written()); n != slotB.Size {
					t.Errorf("%d bytes of B are left", n)
				}
				for _, e := range p.Place(slotA.Digest).Written() {
					b := make([]byte, e.Len)
					if _, err := p.Place(slotA.Digest).ReadAt(b, e.Off); err != nil || !bytes.Equal(b, blobA[e.Off:e.Off+e.Len]) {
						t.Errorf("A reads back wrong at %d (%v)", e.Off, err)
					}
				}
				for _, name := range []string{oldDataName, oldPartsName, oldJournalName} {
					if p.has(name) {
						t.Errorf("%s is still there", name)
					}
				}
				write(t, p, slotA, blobA, 0)
				if err := commitOf(t, p, then); err != nil {
					t.Fatalf("Commit: %v", err)
				}
				wantWhole(t, output)
			})
		}
	}
}

// The old data get shorter as they are carried over, and a run that ends meanwhile
// leaves what is carried in the new data, the rest in the old.
func TestCarryingOverMakesRoom(t *testing.T) {
	const part = 100_000
	output := filepath.Join(t.TempDir(), "out.tar")
	p := openParts(t, output, 0, slotA, slotB)
	for off := 0; off < len(blobA); off += 50_000 {
		write(t, p, slotA, blobA[off:off+50_000], int64(off))
	}
	write(t, p, slotB, blobB, 0)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}

	// As OpenParts does it, but that the second part cannot be opened.
	p = &Partial{output: output, dir: output + Suffix, slots: []Slot{slotA, slotB}, part: part}
	var err error
	if p.lock, err = acquire(p.dir, p.path(lockName)); err != nil {
		t.Fatal(err)
	}
	for _, step := range []func() error{
		func() error { return p.setAside(0) },
		func() error { return p.openData(nil, whole) },
		func() error { return p.openJournal(nil, whole) },
		func() error { return os.Mkdir(p.dataPath(2), 0o700) },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.salvage(); err == nil {
		t.Fatal("a part that cannot be opened is no error")
	}
	info, err := os.Stat(p.path(oldDataName))
	if err != nil || info.Size() > 300_000 || info.Size() < 100_000 {
		t.Errorf("the old data are %d bytes still (%v)", info.Size(), err)
	}
	if err := os.Remove(p.dataPath(2)); err != nil {
		t.Fatal(err)
	}
	abandon(p)

	p = openParts(t, output, part, slotA, slotB)
	if n := sum(p.Place(slotA.Digest).Written()) + sum(p.Place(slotB.Digest).Written()); n != slotA.Size+slotB.Size {
		t.Errorf("%d bytes are carried over", n)
	}
	if err := commitOf(t, p, part); err != nil {
		t.Fatal(err)
	}
	wantWhole(t, output)
}

// A run that was killed in its commit is resumed with all that it had.
func TestKilledCommit(t *testing.T) {
	output := filepath.Join(t.TempDir(), "out.tar")
	p := openParts(t, output, 300_000, slotA, slotB)
	write(t, p, slotA, blobA, 0)
	write(t, p, slotB, blobB, 0)
	for n := 1; n <= 4; n++ {
		if err := p.data.Open(n); err != nil {
			t.Fatal(err)
		}
	}
	// As split.Commit leaves it after its first renames.
	sums := split.Sums{Size: whole}
	for range 4 {
		sums.Parts = append(sums.Parts, fmt.Sprintf("%064d", 0))
	}
	parts := p.path(partsName)
	if err := os.WriteFile(filepath.Join(parts, "sha256"), sums.Format(output), 0o666); err != nil {
		t.Fatal(err)
	}
	abandon(p)
	for _, n := range []int{4, 3} {
		if err := os.Rename(filepath.Join(parts, split.PartName(n)), split.Name(output, n)); err != nil {
			t.Fatal(err)
		}
	}

	p = openParts(t, output, 300_000, slotA, slotB)
	for _, s := range []Slot{slotA, slotB} {
		if n := sum(p.Place(s.Digest).Written()); n != s.Size {
			t.Errorf("%d of %d bytes are left", n, s.Size)
		}
	}
	b := make([]byte, slotB.Size)
	if _, err := p.Place(slotB.Digest).ReadAt(b, 0); err != nil || !bytes.Equal(b, blobB) {
		t.Errorf("B reads back wrong (%v)", err)
	}
	if _, err := os.Stat(split.Name(output, 4)); !os.IsNotExist(err) {
		t.Error("a part of what is not whole stands under its name")
	}
	if err := commitOf(t, p, 300_000); err != nil {
		t.Fatal(err)
	}
	wantWhole(t, output)
}

// An output in parts may be derived, of spooled blobs.
func TestDerivedParts(t *testing.T) {
	output := filepath.Join(t.TempDir(), "out.tar")
	p := openParts(t, output, 70_000, slotA)
	row, err := p.DerivedParts()
	if err != nil {
		t.Fatal(err)
	}
	for off := 0; off < len(blobA); off += 1000 {
		if _, err := row.WriteAt(blobA[off:off+1000], int64(off)); err != nil {
			t.Fatal(err)
		}
	}
	if err := row.Close(); err != nil {
		t.Fatal(err)
	}
	var told bool
	err = p.CommitDerivedParts(t.Context(), int64(len(blobA)), func(e image.Event) { told = told || e.Kind == image.EventStage })
	if err != nil || !told {
		t.Fatalf("commit: %v, told %v", err, told)
	}
	if !bytes.Equal(joined(t, output), blobA) {
		t.Error("the output differs")
	}
	if _, err := os.Stat(output + Suffix); !os.IsNotExist(err) {
		t.Error("the partial is still there")
	}
}

// That the file system holds no such file is told apart, with the system's error.
func TestTooLarge(t *testing.T) {
	err := tooLarge(&os.PathError{Op: "truncate", Path: "data", Err: fileTooLarge}, 1)
	if !errors.Is(err, ErrTooLarge) || !errors.Is(err, fileTooLarge) {
		t.Errorf("%v", err)
	}
	if err := tooLarge(os.ErrPermission, 1<<40); errors.Is(err, ErrTooLarge) || !errors.Is(err, os.ErrPermission) {
		t.Errorf("%v", err)
	}
}

func TestTooManyDerivedParts(t *testing.T) {
	p := openParts(t, filepath.Join(t.TempDir(), "out.tar"), 100, slotA)
	row, err := p.DerivedParts()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = row.Close() }()
	if _, err := row.WriteAt([]byte("x"), 100*split.MaxParts-1); err != nil {
		t.Errorf("the last part: %v", err)
	}
	if _, err := row.WriteAt([]byte("x"), 100*split.MaxParts); err == nil {
		t.Error("there is one part more")
	}
}
