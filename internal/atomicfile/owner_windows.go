package atomicfile

import "os"

// keepOwner has nothing to do: a file belongs to whom its directory says.
func keepOwner(*os.File, os.FileInfo) {}
