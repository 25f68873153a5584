package rootfs

import (
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

const canSync = true

// syncAll waits until all that was written to a directory's file system is on
// the disk: at once, which is a great deal faster than file by file.
func syncAll(dir *os.File) error {
	if err := unix.Syncfs(int(dir.Fd())); err != nil && err != unix.ENOSYS {
		return &fs.PathError{Op: "syncfs", Path: dir.Name(), Err: err}
	}
	return nil
}
