//go:build unix

package partial

import (
	"errors"
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
func allocated(info os.FileInfo) int64 {
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0
	}
	return s.Blocks * 512
}

// isTooLarge tells the error of a file that is larger than the file system
// allows.
func isTooLarge(err error, _ int64) bool { return errors.Is(err, syscall.EFBIG) }

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
