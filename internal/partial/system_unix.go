//go:build unix

package partial

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// freeSpace tells how many bytes this user may still write below a directory.
func freeSpace(dir string) (int64, bool) {
	var s unix.Statfs_t
	if unix.Statfs(dir, &s) != nil {
		return 0, false
	}
	return int64(s.Bavail) * int64(s.Bsize), true
}

// allocated is how much of a sparse file stands on the disk already.
func allocated(f *os.File) int64 {
	var s unix.Stat_t
	if unix.Fstat(int(f.Fd()), &s) != nil {
		return 0
	}
	return s.Blocks * 512
}

// own tells whether a file is this user's.
func own(info os.FileInfo) bool {
	s, ok := info.Sys().(*syscall.Stat_t)
	return !ok || int(s.Uid) == os.Geteuid()
}

// plain tells whether a file is a regular one, with no second name elsewhere.
func plain(info os.FileInfo) bool {
	s, ok := info.Sys().(*syscall.Stat_t)
	return info.Mode().IsRegular() && (!ok || s.Nlink <= 1)
}

// noFollow keeps opening from following a link.
const noFollow = syscall.O_NOFOLLOW

// markSparse has nothing to do: files are sparse.
func markSparse(*os.File) error { return nil }
