//go:build !linux

package rootfs

import (
	"context"
	"os"
)

func copyRange(context.Context, *os.File, int64, *os.File, int64, int64) (int64, error) {
	return 0, nil
}
