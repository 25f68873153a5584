package partial

import "golang.org/x/sys/windows"

// fileTooLarge is the system's error of a file that is larger than may be.
const fileTooLarge = windows.ERROR_FILE_TOO_LARGE
