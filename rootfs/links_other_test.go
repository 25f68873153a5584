//go:build !unix

package rootfs

import "io/fs"

func links(fs.FileInfo) string { return "" }
