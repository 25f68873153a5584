package split

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"github.com/davit-cli/davit/image"
)

// Set is a file that stands in parts.
type Set struct {
	// Path is the whole's, which is not there.
	Path string
	// Paths are those of the parts.
	Paths []string
	// Size is the whole's in bytes, Part that of all parts but the last.
	Size, Part int64
	// Sums are the checksums; nil where there are none.
	Sums *Sums

	infos []fs.FileInfo
}

// Error says which part is not what it must be. It wraps image.ErrNotFound where
// that is missing, image.ErrVerification else.
type Error struct {
	Part string // its name, without a directory
	Err  error
}

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap is the cause.
func (e *Error) Unwrap() error { return e.Err }

// Begun says whether there are parts of the file at path, perhaps not all.
func Begun(path string) bool {
	numbers, err := present(path)
	return err == nil && len(numbers) > 0
}

// Stands says whether there is no such file, but its first part.
func Stands(path string) bool {
	if _, err := os.Stat(path); err == nil {
		return false
	}
	return regular(Name(path, 1))
}

// First is the name, without a directory, of the first part that stands beside
// the file at path, where that has the name of another one.
func First(path string) (name string, ok bool) {
	whole, n, ok := Number(path)
	if !ok || n == 1 || !regular(Name(whole, 1)) {
		return "", false
	}
	return filepath.Base(Name(whole, 1)), true
}

func regular(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// Find finds the parts of a file that is named by its own name or by its first
// part's. The whole itself, where it is there by the name that was given, is no
// set: then, and where there is nothing at all, the set is nil.
//
// Parts must be there from 1 on, without a gap, and all but the last be of one
// size; where there are checksums, there are as many parts and as many bytes as
// they tell. Else the error is an *Error. Nothing is hashed.
func Find(path string) (*Set, error) {
	switch whole, n, ok := Number(path); {
	case regular(path) && ok && n == 1:
		path = whole
	case exists(path):
		return nil, nil
	}
	numbers, err := present(path)
	if err != nil {
		return nil, nil // nothing that could be read is there
	}
	if len(numbers) > 0 && numbers[0] == 0 {
		numbers = numbers[1:]
	}
	if len(numbers) == 0 {
		return nil, nil
	}
	s := &Set{Path: path}
	if s.Sums, err = readSums(path); err != nil {
		return nil, &Error{filepath.Base(SumsName(path)), err}
	}
	count := numbers[len(numbers)-1]
	if s.Sums != nil && len(s.Sums.Parts) > count {
		count = len(s.Sums.Parts)
	}
	for n := 1; n <= count; n++ {
		if err := s.add(n); err != nil {
			return nil, err
		}
	}
	if err := s.checkSums(); err != nil {
		return nil, err
	}
	return s, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// add takes in the part n, the next one.
func (s *Set) add(n int) error {
	path := Name(s.Path, n)
	base := filepath.Base(path)
	info, err := os.Stat(path)
	switch {
	case os.IsNotExist(err):
		return &Error{base, fmt.Errorf("%w: the part %s is not there", image.ErrNotFound, base)}
	case err != nil:
		return &Error{base, err}
	case !info.Mode().IsRegular():
		return &Error{base, fmt.Errorf("%w: %s is no regular file", image.ErrVerification, base)}
	case info.Size() == 0:
		return &Error{base, fmt.Errorf("%w: the part %s is empty", image.ErrVerification, base)}
	case n == 1:
		s.Part = info.Size()
	case s.infos[n-2].Size() != s.Part:
		before := filepath.Base(s.Paths[n-2])
		return &Error{before, fmt.Errorf("%w: the part %s has %d bytes, the first one %d: only the last may have another size",
			image.ErrVerification, before, s.infos[n-2].Size(), s.Part)}
	case info.Size() > s.Part:
		return &Error{base, fmt.Errorf("%w: the part %s has %d bytes, the first one only %d", image.ErrVerification, base, info.Size(), s.Part)}
	}
	s.Paths, s.infos = append(s.Paths, path), append(s.infos, info)
	s.Size += info.Size()
	return nil
}

// checkSums compares counts and sizes with the checksums' file.
func (s *Set) checkSums() error {
	if s.Sums == nil {
		return nil
	}
	told := filepath.Base(SumsName(s.Path))
	if want := len(s.Sums.Parts); len(s.Paths) > want {
		base := filepath.Base(s.Paths[want])
		return &Error{base, fmt.Errorf("%w: the part %s is one too many: %s tells of %d", image.ErrVerification, base, told, want)}
	}
	if s.Sums.Size > 0 && s.Size != s.Sums.Size {
		last := filepath.Base(s.Paths[len(s.Paths)-1])
		return &Error{last, fmt.Errorf("%w: the part %s, the last, makes it %d bytes: %s says %d", image.ErrVerification, last, s.Size, told, s.Sums.Size)}
	}
	return nil
}

// Open opens the parts as one. What replaces them then is not read: the error
// says so. The caller closes the row.
func (s *Set) Open() (*Row, error) {
	path := func(n int) string { return s.Paths[n-1] }
	r := NewRow(s.Size, s.Part, path, s.open)
	for n := range min(len(s.Paths), maxOpen) {
		if err := r.Open(n + 1); err != nil {
			_ = r.Close() // what is only read loses nothing
			return nil, err
		}
	}
	return r, nil
}

func (s *Set) open(n int) (*os.File, error) {
	f, err := os.Open(s.Paths[n-1])
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !(os.SameFile(info, s.infos[n-1]) && info.ModTime().Equal(s.infos[n-1].ModTime()) && info.Size() == s.infos[n-1].Size()) {
		err = fmt.Errorf("%w: %s has changed since it was opened", image.ErrVerification, s.Paths[n-1])
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// Verify hashes the parts, several at once, and returns the names of those that
// have other checksums than Sums tells, which must be there.
func (s *Set) Verify(ctx context.Context, jobs int, events image.EventFunc) (_ []string, err error) {
	stage := image.NewStage(events, "hash the parts", s.Size)
	defer func() { stage.End(err) }()
	got := make([]string, len(s.Paths))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(jobs)
	for n := range s.Paths {
		group.Go(func() error {
			f, err := s.open(n + 1)
			if err != nil {
				return err
			}
			defer func() { _ = f.Close() }()
			h := sha256.New()
			_, err = copyHash(ctx, h, f, stage)
			got[n] = hexOf(h)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var wrong []string
	for n, sum := range got {
		if sum != s.Sums.Parts[n] {
			wrong = append(wrong, filepath.Base(s.Paths[n]))
		}
	}
	return wrong, nil
}
