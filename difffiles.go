package davit

import (
	"archive/tar"
	"cmp"
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/rootfs"
)

// What became of a file.
const (
	Added   = "added"
	Changed = "changed"
	Removed = "removed"
)

// FileChange is a file that is different. Times do not count.
type FileChange struct {
	Path string `json:"path"`
	// Change is Added, Changed or Removed.
	Change string `json:"change"`
	// Type is B's; of what was removed A's.
	Type FileType `json:"type"`
	// What changed: type, content, mode, owner, target, device, xattrs.
	What []string `json:"what,omitempty"`
	// SizeA and SizeB are those of the content, in bytes.
	SizeA int64 `json:"size_a,omitempty"`
	SizeB int64 `json:"size_b,omitempty"`
}

// diffFiles compares the files of two images, in the order of their paths.
// Where both have the same layers in the same order there is nothing to read.
func diffFiles(ctx context.Context, a, b *side) ([]FileChange, error) {
	if slices.EqualFunc(a.manifest().Layers, b.manifest().Layers, func(x, y image.Descriptor) bool { return x.Digest == y.Digest }) {
		return []FileChange{}, nil
	}
	known := map[digest.Digest]*rootfs.Listing{}
	left, err := a.files(ctx, known)
	if err != nil {
		return nil, err
	}
	right, err := b.files(ctx, known)
	if err != nil {
		return nil, err
	}
	changes := compareFiles(left, right)
	slices.SortFunc(changes, func(x, y FileChange) int { return cmp.Compare(x.Path, y.Path) })
	return changes, context.Cause(ctx)
}

// compareFiles goes through the files of both images side by side.
func compareFiles(a, b iter.Seq[comparedFile]) []FileChange {
	changes := []FileChange{}
	nextA, stopA := iter.Pull(a)
	defer stopA()
	nextB, stopB := iter.Pull(b)
	defer stopB()
	left, inA := nextA()
	right, inB := nextB()
	for inA || inB {
		order := 0
		switch {
		case !inA:
			order = 1
		case !inB:
			order = -1
		default:
			order = compareWalked(left.Path, right.Path)
		}
		switch {
		case order < 0:
			changes = append(changes, FileChange{Path: newFile(left.Entry).Path, Change: Removed, Type: fileTypes[left.Type], SizeA: left.Size})
		case order > 0:
			changes = append(changes, FileChange{Path: newFile(right.Entry).Path, Change: Added, Type: fileTypes[right.Type], SizeB: right.Size})
		default:
			if what := left.changes(right); len(what) > 0 {
				changes = append(changes, FileChange{Path: newFile(left.Entry).Path, Change: Changed, Type: fileTypes[right.Type], What: what, SizeA: left.Size, SizeB: right.Size})
			}
		}
		if order <= 0 {
			left, inA = nextA()
		}
		if order >= 0 {
			right, inB = nextB()
		}
	}
	return changes
}

// compareWalked orders paths as View.Names gives them: the root, then a directory
// before what is in it, and that before what follows the directory.
func compareWalked(a, b string) int {
	if a == "." {
		a = ""
	}
	if b == "." {
		b = ""
	}
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	a, b = a[n:], b[n:]
	if a != "" && b != "" && (a[0] == '/') != (b[0] == '/') {
		if a[0] == '/' {
			return -1
		}
		return 1
	}
	return cmp.Compare(a, b)
}

// comparedFile is a file with what tells its content apart.
type comparedFile struct {
	rootfs.Entry
	layer digest.Digest // that has the content
}

// files are the files of one of the images, each by each of its names.
func (s *side) files(ctx context.Context, known map[digest.Digest]*rootfs.Listing) (iter.Seq[comparedFile], error) {
	v, err := s.layers(s.image)
	if err != nil {
		return nil, fmt.Errorf("%s: list files: %w", s.name(s.image), err)
	}
	defer v.release()
	v.digests = true
	view, err := v.view(ctx, known)
	if err != nil {
		return nil, fmt.Errorf("%s: list files: %w", s.name(s.image), err)
	}
	return func(yield func(comparedFile) bool) {
		for e := range view.Names() {
			f := comparedFile{Entry: e}
			if e.Layer >= 0 {
				f.layer = v.layers[e.Layer].Digest
			}
			if !yield(f) {
				return
			}
		}
	}, nil
}

// changes are what is different in another file of the same path.
func (f comparedFile) changes(other comparedFile) []string {
	var what []string
	differ := func(name string, differs bool) {
		if differs {
			what = append(what, name)
		}
	}
	if f.Type != other.Type {
		return []string{"type"}
	}
	differ("content", f.Type == tar.TypeReg && !f.sameContent(other))
	differ("target", f.Target != other.Target)
	differ("mode", f.Mode != other.Mode)
	differ("owner", f.UID != other.UID || f.GID != other.GID)
	differ("device", f.DevMajor != other.DevMajor || f.DevMinor != other.DevMinor)
	differ("xattrs", !maps.Equal(f.Xattrs, other.Xattrs))
	return what
}

func (f comparedFile) sameContent(other comparedFile) bool {
	switch {
	case f.Size != other.Size:
		return false
	case f.Size == 0 || f.layer == other.layer && f.Ordinal == other.Ordinal:
		return true
	}
	return f.Digest != "" && f.Digest == other.Digest
}
