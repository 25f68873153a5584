//go:build unix

package atomicfile

import (
	"os"
	"syscall"
)

// keepOwner gives f the owner of the old file: root writes for another user.
// Others may at most give it a group of theirs.
func keepOwner(f *os.File, old os.FileInfo) {
	if stat, ok := old.Sys().(*syscall.Stat_t); ok {
		if err := f.Chown(int(stat.Uid), int(stat.Gid)); err != nil {
			_ = f.Chown(-1, int(stat.Gid))
		}
	}
}
