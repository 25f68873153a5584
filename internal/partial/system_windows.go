package partial

import (
	"errors"
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
func allocated(info os.FileInfo) int64 { return info.Size() }

// isTooLarge tells the error of a file that is larger than the file system
// allows. FAT32 says of a size beyond its limit that the disk is full; whether it
// is was asked before.
func isTooLarge(err error, size int64) bool {
	const most = 1<<32 - 1
	return errors.Is(err, windows.ERROR_FILE_TOO_LARGE) || size > most && errors.Is(err, windows.ERROR_DISK_FULL)
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
