//go:build !linux

package rootfs

import "os"

func punch(*os.File, int64, int64) {}
