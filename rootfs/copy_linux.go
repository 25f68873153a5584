package rootfs

import (
	"os"

	"golang.org/x/sys/unix"
)

// copyRange lets the kernel copy, and tells how much it did: less than n, or
// nothing where it cannot (another file system, an old kernel).
func copyRange(to *os.File, at int64, from *os.File, off, n int64) int64 {
	for {
		m, err := unix.CopyFileRange(int(from.Fd()), &off, int(to.Fd()), &at, int(n), 0)
		if err == unix.EINTR {
			continue
		}
		return int64(max(m, 0))
	}
}
