//go:build unix

package partial

import "syscall"

// fileTooLarge is the system's error of a file that is larger than may be.
const fileTooLarge = syscall.EFBIG
