package atomicfile

// SyncDir has nothing to do: Windows knows no sync of directories.
func SyncDir(string) {}
