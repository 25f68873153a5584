package rootfs

import (
	"context"
	"os"

	"golang.org/x/sys/unix"
)

// copyRange lets the kernel copy, as far as it can; the caller does the rest.
func copyRange(ctx context.Context, to *os.File, at int64, from *os.File, off, n int64) (int64, error) {
	var done int64
	for done < n {
		if err := ctx.Err(); err != nil {
			return done, err
		}
		a, b := off+done, at+done
		m, err := unix.CopyFileRange(int(from.Fd()), &a, int(to.Fd()), &b, int(min(n-done, 16<<20)), 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil || m == 0 {
			return done, nil // another file system, an old kernel: copy by hand
		}
		done += int64(m)
	}
	return done, nil
}
