//go:build unix

package atomicfile

import "os"

// SyncDir makes what was renamed, made and removed in a directory durable. It
// is as good as the system allows: some file systems refuse, and so do
// directories that may not be read.
func SyncDir(dir string) {
	d, err := os.Open(dir)
	if err != nil {
		return
	}
	_ = d.Sync()
	_ = d.Close()
}
