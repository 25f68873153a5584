//go:build unix

package rootfs

import (
	"fmt"
	"io/fs"
	"syscall"
)

// links tells of a file's owner and number of names.
func links(info fs.FileInfo) string {
	st := info.Sys().(*syscall.Stat_t)
	return fmt.Sprint(" links ", st.Nlink, " owner ", st.Uid, ":", st.Gid)
}
