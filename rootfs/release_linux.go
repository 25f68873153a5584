package rootfs

import (
	"os"

	"golang.org/x/sys/unix"
)

// punch gives a piece of a file back to the file system, if that can be.
func punch(f *os.File, off, n int64) {
	_ = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
}
