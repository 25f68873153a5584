package partial

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
)

// lock is held by the one process that may write a partial.
type lock struct {
	file *flock.Flock
	path string
}

// acquireTries is how often another process may finish and remove the lock
// just while it is taken, before that is no accident.
const acquireTries = 100

// acquire makes the partial's directory and locks it. The error is ErrLocked
// where another process has it. A directory that another user could have
// prepared, with links in it that lead elsewhere, is refused.
func acquire(dir, path string) (*lock, error) {
	var gone error
	for range acquireTries {
		if err := makeDir(dir); os.IsExist(err) || os.IsNotExist(err) {
			gone = err
			continue // another process has removed the parent, which was empty
		} else if err != nil {
			return nil, err
		}
		if info, err := os.Lstat(dir); os.IsNotExist(err) {
			continue // its owner has just finished
		} else if err != nil {
			return nil, err
		} else if !info.IsDir() || !own(info) {
			return nil, fmt.Errorf("%s is not a directory of this user's: remove it, or choose another output", dir)
		}
		if info, err := os.Lstat(path); err == nil && !plain(info) {
			return nil, fmt.Errorf("%s is not a file of davit's: remove it", path)
		}
		l := &lock{flock.New(path), path}
		ok, err := l.file.TryLock()
		if os.IsNotExist(err) {
			continue // its owner has just finished and removed the directory
		}
		if err != nil {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if !ok {
			return nil, ErrLocked
		}
		if l.stands() {
			return l, nil
		}
		if err := l.file.Unlock(); err != nil { // it was removed between opening and locking
			return nil, fmt.Errorf("unlock %s: %w", path, err)
		}
	}
	if gone != nil {
		return nil, gone
	}
	return nil, fmt.Errorf("lock %s: it cannot be opened: remove %s, or choose another output", path, dir)
}

// makeDir makes the partial's directory where it is missing, with its parents.
func makeDir(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o777); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !os.IsExist(err) {
		return err
	}
	return nil
}

// Lock waits until no other process has the lock in the directory dir, and
// takes it. The directory is made, with its parents. The caller ends with
// unlock, which removes the directory but none of its parents.
func Lock(ctx context.Context, dir string) (unlock func() error, err error) {
	for pause := time.Millisecond; ; pause = min(2*pause, maxPause) {
		l, err := acquire(dir, filepath.Join(dir, lockName))
		if err == nil {
			return func() error { return l.remove(dir) }, nil
		}
		if !errors.Is(err, ErrLocked) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(pause):
		}
	}
}

// maxPause is how long Lock waits at most before it looks again.
const maxPause = 20 * time.Millisecond

// stands tells whether the locked file is still the one at the path.
func (l *lock) stands() bool {
	at, err := os.Stat(l.path)
	if err != nil {
		return false
	}
	mine, err := l.file.Stat()
	return err == nil && os.SameFile(at, mine)
}

// remove ends the lock together with the directory, which is empty otherwise.
func (l *lock) remove(dir string) error {
	removed := os.Remove(l.path) == nil
	if err := l.file.Unlock(); err != nil {
		return fmt.Errorf("unlock %s: %w", l.path, err)
	}
	if !removed { // Windows removes no open file
		_ = os.Remove(l.path)
	}
	_ = os.Remove(dir) // not empty where another process has come already
	return nil
}

func (l *lock) release() error { return l.file.Unlock() }
