//go:build !linux

package rootfs

import "os"

func copyRange(*os.File, int64, *os.File, int64, int64) int64 { return 0 }
