package rootfs

import (
	"archive/tar"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// makeNode makes a device or pipe.
func makeNode(dir *os.File, name string, e Entry) error {
	dev := unix.Mkdev(uint32(e.DevMajor), uint32(e.DevMinor))
	if err := unix.Mknodat(int(dir.Fd()), name, nodeType(e)|0o600, int(dev)); err != nil {
		return &fs.PathError{Op: "mknodat", Path: name, Err: err}
	}
	return nil
}

// setXattr sets an attribute of an open file, or of a name in a directory.
func setXattr(f, dir *os.File, name, key, value string) error {
	var err error
	if f != nil {
		err = unix.Fsetxattr(int(f.Fd()), key, []byte(value), 0)
	} else {
		// There is no lsetxattrat before Linux 6.13.
		err = unix.Lsetxattr(fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), name), key, []byte(value), 0)
	}
	if err == unix.ENOTSUP {
		return fmt.Errorf("%w: %w", os.ErrPermission, err)
	}
	return err
}

func nodeType(e Entry) uint32 {
	return map[byte]uint32{tar.TypeChar: unix.S_IFCHR, tar.TypeBlock: unix.S_IFBLK, tar.TypeFifo: unix.S_IFIFO}[e.Type]
}
