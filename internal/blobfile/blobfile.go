// Package blobfile fetches blobs that become files by themselves, those of an
// image layout for example: each has a partial and a lock of its own, so that
// processes that write into the same directory share the work.
//
// Nothing is believed that was not hashed in this run: a file that stands
// where a blob belongs is read whole, and where it is not the blob, it is
// replaced. To read what is there, without writing, is a Tree's affair.
package blobfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/partial"
)

// Where is where a blob goes.
type Where struct {
	// File is the path under which the blob stands when it is whole. Its
	// directory is there.
	File string
	// Partial is the directory of the blob while it is under way, on the same
	// file system. Its parents are made and stay.
	Partial string
}

// Options of Files. The zero value works.
type Options struct {
	// Restart discards what an earlier, unfinished run has left of a blob.
	Restart bool
	// Events receives a warning where a file is replaced. May be nil.
	Events image.EventFunc
}

// Files are the blobs of one output. Its methods may be called from many
// goroutines at once.
type Files struct {
	opts Options

	mu      sync.Mutex // guards the rest
	open    map[digest.Digest]*partial.Partial
	missing map[digest.Digest]bool // of the blobs that are expected
}

// New begins without any file. The caller ends with Close.
func New(opts Options) *Files {
	return &Files{opts: opts, open: map[digest.Digest]*partial.Partial{}, missing: map[digest.Digest]bool{}}
}

// Expect says which blobs are to be there in the end, in place of those that
// were expected before. What is there already stays so.
func (f *Files) Expect(blobs []digest.Digest) {
	f.mu.Lock()
	defer f.mu.Unlock()
	before := f.missing
	f.missing = map[digest.Digest]bool{}
	for _, d := range blobs {
		missing, known := before[d]
		f.missing[d] = missing || !known
	}
}

// Expects says whether a blob is one of those.
func (f *Files) Expects(d digest.Digest) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, known := f.missing[d]
	return known
}

// Settle notes that a blob is there.
func (f *Files) Settle(d digest.Digest) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.missing[d] = false
}

// Complete is an error where a blob that is expected is not there.
func (f *Files) Complete() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, d := range slices.Sorted(maps.Keys(f.missing)) {
		if f.missing[d] {
			return fmt.Errorf("blob %s is not there", d)
		}
	}
	return nil
}

// Place is where a blob is to be written. It is nil where the blob stands at
// its file already, which was read and hashed to know it. The error is
// image.ErrBusy where another process, or an earlier call, is fetching it.
//
// Whatever else stands there is replaced by Done, with a warning now: a wrong
// file, or a link, which is not followed. A directory is an error.
func (f *Files) Place(ctx context.Context, blob image.Descriptor, where Where) (image.Place, error) {
	place, err := f.place(ctx, blob, where, f.opts.Restart)
	if place == nil && err == nil {
		f.Settle(blob.Digest)
	}
	return place, err
}

func (f *Files) place(ctx context.Context, blob image.Descriptor, where Where, restart bool) (image.Place, error) {
	if have, err := holds(ctx, where.File, blob); have || err != nil {
		return nil, errors.Join(err, forget(where, have))
	}
	p, err := partial.OpenIn(where.Partial, where.File, []partial.Slot{{Digest: blob.Digest, Size: blob.Size}}, blob.Size, restart)
	if errors.Is(err, partial.ErrLocked) {
		return nil, fmt.Errorf("open blob %s: %w", blob.Digest, image.ErrBusy)
	}
	// Another process may have finished between the two.
	have, readErr := holds(ctx, where.File, blob)
	if have && readErr == nil {
		if err == nil {
			err = p.Close()
			return nil, errors.Join(err, forget(where, true))
		}
		return nil, nil // there was no room for a second one
	}
	if err != nil {
		return nil, fmt.Errorf("open blob %s: %w", blob.Digest, err)
	}
	if readErr != nil {
		return nil, errors.Join(readErr, p.Close())
	}
	if _, err := os.Lstat(where.File); err == nil {
		f.opts.Events.Send(image.Event{Kind: image.EventWarning, Text: fmt.Sprintf("%s is not what its name says: it is fetched anew and replaced", where.File)})
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open[blob.Digest] = p
	return p.Place(blob.Digest), nil
}

// forget removes the partial of a blob that is there: a process may have been
// killed between the two.
func forget(where Where, have bool) error {
	if !have {
		return nil
	}
	if err := partial.Remove(where.Partial); err != nil && !errors.Is(err, partial.ErrLocked) {
		return fmt.Errorf("remove %s: %w", where.Partial, err)
	}
	return nil
}

// Done makes a blob that got a place its file, durably.
func (f *Files) Done(blob image.Descriptor) error {
	f.mu.Lock()
	p := f.open[blob.Digest]
	f.mu.Unlock()
	if p == nil {
		return fmt.Errorf("finish blob %s: it has no place", blob.Digest)
	}
	if err := p.Commit(); err != nil {
		return fmt.Errorf("finish blob %s: %w", blob.Digest, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.open, blob.Digest)
	f.missing[blob.Digest] = false
	return nil
}

// UnderWay is how many blobs have got a place and are not done.
func (f *Files) UnderWay() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.open)
}

// Put makes bytes that are known, and verified, a file as a blob becomes one.
// It waits while another process is at it.
func (f *Files) Put(ctx context.Context, c image.Content, where Where) error {
	for {
		place, err := f.place(ctx, c.Descriptor, where, true)
		switch {
		case errors.Is(err, image.ErrBusy):
			if err := pause(ctx); err != nil {
				return err
			}
			continue
		case err != nil:
			return err
		case place == nil:
			return nil
		}
		if _, err := place.WriteAt(c.Bytes, 0); err != nil {
			return fmt.Errorf("write blob %s: %w", c.Digest, err)
		}
		return f.Done(c.Descriptor)
	}
}

// pause waits a moment, before something is asked again.
func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(20 * time.Millisecond):
		return nil
	}
}

// Close keeps the blobs that are under way for the next run. It may be called
// more than once.
func (f *Files) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var errs []error
	for _, p := range f.open {
		errs = append(errs, p.Close())
	}
	clear(f.open)
	return errors.Join(errs...)
}

// holds reads the file at path, if it can be the blob, and says whether it is.
func holds(ctx context.Context, path string, blob image.Descriptor) (bool, error) {
	info, err := os.Lstat(path)
	if os.IsNotExist(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if info.IsDir() {
		return false, fmt.Errorf("%s is a directory, where a blob belongs: remove it", path)
	}
	if !info.Mode().IsRegular() || info.Size() != blob.Size {
		return false, nil
	}
	file, err := os.Open(path)
	if os.IsNotExist(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = file.Close() }()
	if opened, err := file.Stat(); err != nil || !os.SameFile(info, opened) {
		return false, err // it was replaced just now
	}
	verifier := blob.Digest.Verifier()
	if _, err := io.CopyBuffer(verifier, reader{ctx, file}, make([]byte, 1<<20)); err != nil {
		return false, fmt.Errorf("read %s: %w", path, err)
	}
	return verifier.Verified(), nil
}

// reader ends with its context.
type reader struct {
	ctx context.Context
	io.Reader
}

func (r reader) Read(b []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(b)
}

// MakeDir makes directories below root, one within the other, where they are
// missing, and returns the last one's path. A link, or whatever else stands
// where one of them belongs, is an error: what is written must stay below root.
func MakeDir(root string, names ...string) (string, error) {
	dir := root
	for _, name := range names {
		dir = filepath.Join(dir, name)
		if err := os.Mkdir(dir, 0o777); err != nil && !os.IsExist(err) {
			return "", err
		}
		if err := CheckDir(dir); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// CheckDir says whether dir, if anything is there, is a directory itself
// rather than a link to one.
func CheckDir(dir string) error {
	info, err := os.Lstat(dir)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is no directory: remove it, or choose another output", dir)
	}
	return nil
}
