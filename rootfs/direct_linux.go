package rootfs

import (
	"os"

	"golang.org/x/sys/unix"
)

// setDirect has the bytes of a file go past the system's cache, or through it
// again, and tells whether they do as asked.
func setDirect(f *os.File, on bool) bool {
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	if err != nil {
		return false
	}
	want := flags &^ unix.O_DIRECT
	if on {
		want |= unix.O_DIRECT
	}
	_, err = unix.FcntlInt(f.Fd(), unix.F_SETFL, want)
	return err == nil
}
