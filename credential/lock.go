package credential

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/gofrs/flock"
)

// lockPause is how long after a look at another process's lock comes the next.
const lockPause = 5 * time.Millisecond

// lockOf is the lock of the file at path, which is no link.
func lockOf(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".davit-lock")
}

// lock waits until nobody else has the lock at path, and takes it. The caller
// ends with unlock, which removes the file, since it lies in Docker's directory;
// Windows keeps it, as it removes no file that others may have open.
func lock(ctx context.Context, path string) (unlock func() error, err error) {
	for {
		file := flock.New(path)
		if _, err := file.TryLockContext(ctx, lockPause); err != nil {
			return nil, fmt.Errorf("lock %s: %w", path, errors.Join(err, file.Close()))
		}
		if stands(file, path) {
			return func() error {
				var err error
				if runtime.GOOS != "windows" {
					err = os.Remove(path)
				}
				return errors.Join(err, file.Unlock())
			}, nil
		}
		// Its owner has removed it between our opening and our locking it.
		if err := file.Unlock(); err != nil {
			return nil, fmt.Errorf("unlock %s: %w", path, err)
		}
	}
}

// stands tells whether the locked file is still the one at the path.
func stands(file *flock.Flock, path string) bool {
	at, err := os.Stat(path)
	if err != nil {
		return false
	}
	mine, err := file.Stat()
	return err == nil && os.SameFile(at, mine)
}
