package davit

import (
	"archive/tar"
	"cmp"
	"context"
	"fmt"
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
	changes := []FileChange{}
	if slices.EqualFunc(a.manifest().Layers, b.manifest().Layers, func(x, y image.Descriptor) bool { return x.Digest == y.Digest }) {
		return changes, nil
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
	for path, file := range left {
		other, there := right[path]
		if !there {
			changes = append(changes, FileChange{Path: path, Change: Removed, Type: fileTypes[file.Type], SizeA: file.Size})
		} else if what := file.changes(other); len(what) > 0 {
			changes = append(changes, FileChange{Path: path, Change: Changed, Type: fileTypes[other.Type], What: what, SizeA: file.Size, SizeB: other.Size})
		}
	}
	for path, file := range right {
		if _, there := left[path]; !there {
			changes = append(changes, FileChange{Path: path, Change: Added, Type: fileTypes[file.Type], SizeB: file.Size})
		}
	}
	slices.SortFunc(changes, func(x, y FileChange) int { return cmp.Compare(x.Path, y.Path) })
	return changes, nil
}

// comparedFile is a file with what tells its content apart.
type comparedFile struct {
	rootfs.Entry
	layer digest.Digest // that has the content
}

// files are the files of one of the images, by path.
func (s *side) files(ctx context.Context, known map[digest.Digest]*rootfs.Listing) (map[string]comparedFile, error) {
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
	files := map[string]comparedFile{}
	for e := range view.Entries() {
		if e.Type == tar.TypeLink { // a name like any other
			if e, err = view.Lookup(e.Path, false); err != nil {
				return nil, fmt.Errorf("%s: list files: %w", s.name(s.image), err)
			}
		}
		f := comparedFile{Entry: e}
		if e.Layer >= 0 {
			f.layer = v.layers[e.Layer].Digest
		}
		files[newFile(e).Path] = f
	}
	return files, nil
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
