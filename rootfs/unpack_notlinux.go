//go:build !linux

package rootfs

import (
	"errors"
	"os"
)

func makeNode(*os.File, string, Entry) error { return errors.ErrUnsupported }

// setXattr leaves Linux's attributes to Linux.
func setXattr(*os.File, *os.File, string, string, string) error { return errors.ErrUnsupported }
