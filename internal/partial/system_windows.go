package partial

import (
	"os"

	"golang.org/x/sys/windows"
)

// freeSpace tells how many bytes this user may still write below a directory.
func freeSpace(dir string) (int64, bool) {
	name, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return 0, false
	}
	var free uint64
	if windows.GetDiskFreeSpaceEx(name, &free, nil, nil) != nil {
		return 0, false
	}
	return int64(free), true
}

// allocated is how much of a sparse file stands on the disk already.
func allocated(f *os.File) int64 {
	info, err := f.Stat()
	if err != nil {
		return 0
	}
	return info.Size()
}

// own is not asked on Windows, where making links is a privilege.
func own(os.FileInfo) bool { return true }

// plain tells whether a file is a regular one.
func plain(info os.FileInfo) bool { return info.Mode().IsRegular() }

// noFollow keeps opening from following a link; there is no such flag here.
const noFollow = 0

// markSparse keeps NTFS from filling the file with zeros up to the first
// byte that is written far behind. File systems that know no sparse files
// (FAT) refuse, which does no harm but for the time it takes.
func markSparse(f *os.File) error {
	const fsctlSetSparse = 0x000900c4
	var n uint32
	_ = windows.DeviceIoControl(windows.Handle(f.Fd()), fsctlSetSparse, nil, 0, nil, 0, &n, nil)
	return nil
}
