//go:build unix

package rootfs

import (
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// canOwn says whether the caller may give files to others.
func canOwn() bool { return os.Geteuid() == 0 }

// setTime sets the time of a name in a directory, of a link's own where it is one.
func setTime(_ *os.Root, dir *os.File, name string, e Entry) error {
	ts, err := unix.TimeToTimespec(e.ModTime)
	if err != nil {
		ts = unix.Timespec{} // a 32-bit system does not know that time
	}
	if err := unix.UtimesNanoAt(int(dir.Fd()), name, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &fs.PathError{Op: "utimensat", Path: name, Err: err}
	}
	return nil
}

func chmodDir(f *os.File, mode fs.FileMode) error { return f.Chmod(mode) }

// chmodNode sets the mode of a device or pipe that was just made.
func chmodNode(dir *os.File, name string, mode int64) error {
	if err := unix.Fchmodat(int(dir.Fd()), name, uint32(mode), 0); err != nil {
		return &fs.PathError{Op: "fchmodat", Path: name, Err: err}
	}
	return nil
}
