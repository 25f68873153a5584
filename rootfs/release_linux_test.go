package rootfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// The spool of a tree that is written once is given back while it is; where
// the file system gives nothing back, the tree is written all the same.
func TestSpoolShrinks(t *testing.T) {
	for _, gives := range []bool{true, false} {
		t.Run(fmt.Sprint(gives), func(t *testing.T) {
			tree := merged(t, sizable(t), Options{Once: true})
			spools := tree.spools
			if gives && !canPunch(t) {
				gives = false // on this file system
			}
			if !gives {
				for _, s := range spools {
					s.file.File = readOnly(t, s.file.File)
				}
			}
			want := tarred(t, merged(t, sizable(t), Options{}), TarOptions{})
			before := allocated(t, spools)
			if before < tree.Stats().Spooled {
				t.Errorf("%d bytes are spooled in %d", tree.Stats().Spooled, before)
			}
			f, err := os.Create(t.TempDir() + "/a.tar")
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if err := tree.WriteTar(context.Background(), f, TarOptions{}); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(f.Name()); err != nil || !bytes.Equal(got, want) {
				t.Errorf("the tar is another: %v", err)
			}
			switch after := allocated(t, spools); {
			case gives && after > before/10:
				t.Errorf("of %d bytes %d are left", before, after)
			case !gives && after != before:
				t.Errorf("of %d bytes %d are left", before, after)
			}
		})
	}
}

// canPunch says whether the file system of temporary files can have holes made.
func canPunch(t *testing.T) bool {
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	err = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 4096)
	return !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.ENOSYS)
}

// readOnly opens the file again, so that no hole can be made in it.
func readOnly(t *testing.T, f *os.File) *os.File {
	t.Helper()
	again, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return again
}

// allocated is what the spools take on the disk.
func allocated(t *testing.T, spools []*spool) int64 {
	t.Helper()
	var n int64
	for _, s := range spools {
		if err := s.file.Sync(); err != nil { // or nothing is allocated yet
			t.Fatal(err)
		}
		var st unix.Stat_t
		if err := unix.Fstat(int(s.file.Fd()), &st); err != nil {
			t.Fatal(err)
		}
		n += int64(st.Blocks) * 512
	}
	return n
}
