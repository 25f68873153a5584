package verify

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-cli/davit/image"
)

const (
	blobsDir  = "blobs"
	layersDir = "layers/"

	rootIndex    = "manifest_list.json"  // of components
	rootManifest = "image_manifest.json" // of components
	rootUnknown  = "unknown_manifest.json"

	partialEnd = ".davit-part"

	maxFiles = 1 << 20 // of a directory
)

// openDir finds the files of a directory. The caller closes the tree.
func (c *checker) openDir(dir string) (*tree, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	t := &tree{blobs: map[digest.Digest]*file{}, close: func() { _ = root.Close() }}
	if err := c.listDir(t, root); err != nil {
		t.close()
		return nil, err
	}
	byName := map[string]*file{}
	t.layers = t.blobs
	if c.report.Format == Components {
		t.layers = map[digest.Digest]*file{}
	}
	for _, f := range t.files {
		byName[f.name] = f
		t.bytes += f.size
		into := t.blobs
		if strings.HasPrefix(f.name, layersDir) {
			into = t.layers
		}
		if f.claim != "" && into[f.claim] == nil {
			into[f.claim] = f
		}
	}
	t.find = func(name string) (*file, error) {
		if f := byName[name]; f != nil {
			return f, nil
		}
		return nil, fmt.Errorf("%w: %q", image.ErrNotFound, name)
	}
	return t, nil
}

// listDir lists what belongs to the format.
func (c *checker) listDir(t *tree, root *os.Root) error {
	top, err := list(root, ".")
	if err != nil {
		return err
	}
	has := func(name string) bool {
		return slices.ContainsFunc(top, func(e fs.FileInfo) bool { return e.Name() == name })
	}
	c.report.Format = OCI
	if !has(ocispec.ImageLayoutFile) && !has(ocispec.ImageIndexFile) && (has(rootIndex) || has(rootManifest) || has(rootUnknown)) {
		c.report.Format = Components
	}
	c.partials(top, ".")
	if c.report.Format == OCI {
		return c.listLayout(t, root, top)
	}
	for _, e := range top {
		switch name := e.Name(); name {
		case rootIndex, rootManifest, rootUnknown:
			t.files = append(t.files, dirFile(root, name, e))
		default:
			if d, ok := componentClaim(name); ok && strings.HasSuffix(name, ".json") {
				f := dirFile(root, name, e)
				f.claim = d
				t.files = append(t.files, f)
			}
		}
	}
	return c.listComponents(t, root)
}

// listLayout lists an image layout.
func (c *checker) listLayout(t *tree, root *os.Root, top []fs.FileInfo) error {
	for _, e := range top {
		if e.Name() == ocispec.ImageLayoutFile || e.Name() == ocispec.ImageIndexFile {
			t.files = append(t.files, dirFile(root, e.Name(), e))
		}
	}
	algorithms, err := c.below(root, blobsDir)
	if err != nil {
		return err
	}
	for _, a := range algorithms {
		dir := path.Join(blobsDir, a.Name())
		blobs, err := c.below(root, dir)
		if err != nil {
			return err
		}
		others := 0
		for _, e := range blobs {
			d, ok := blobClaim(path.Join(dir, e.Name()))
			if !ok {
				others++
				continue
			}
			f := dirFile(root, path.Join(dir, e.Name()), e)
			f.claim = d
			t.files = append(t.files, f)
		}
		if others > 0 {
			c.note("%s has %d files whose names are no digests: they were not looked at", dir, others)
		}
	}
	return nil
}

// listComponents lists the layers of components.
func (c *checker) listComponents(t *tree, root *os.Root) error {
	dir := strings.TrimSuffix(layersDir, "/")
	layers, err := c.below(root, dir)
	if err != nil {
		return err
	}
	c.partials(layers, dir)
	for _, e := range layers {
		name := layersDir + e.Name()
		if d, ok := componentClaim(name); ok && !strings.HasSuffix(name, partialEnd) {
			f := dirFile(root, name, e)
			f.claim = d
			t.files = append(t.files, f)
		}
	}
	return nil
}

// below lists a directory that may be missing. A link in its place is a
// problem, and is not followed.
func (c *checker) below(root *os.Root, dir string) ([]fs.FileInfo, error) {
	info, err := root.Lstat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	case info.Mode()&fs.ModeSymlink != 0:
		c.problem(Unreadable, dir, "", "%s is a link, which is not followed", dir)
		return nil, nil
	case !info.IsDir():
		c.note("%s is no directory: it was not looked at", dir)
		return nil, nil
	}
	return list(root, dir)
}

// list lists a directory by name.
func list(root *os.Root, dir string) ([]fs.FileInfo, error) {
	f, err := root.Open(dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	var all []fs.FileInfo
	for {
		some, err := f.Readdir(4096)
		all = append(all, some...)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if len(all) > maxFiles {
			return nil, fmt.Errorf("%s has more than %d files", dir, maxFiles)
		}
	}
	slices.SortFunc(all, func(a, b fs.FileInfo) int { return strings.Compare(a.Name(), b.Name()) })
	return all, nil
}

// partials notes what unfinished runs have left.
func (c *checker) partials(files []fs.FileInfo, dir string) {
	for _, e := range files {
		if strings.HasSuffix(e.Name(), partialEnd) {
			c.note("%s is of an unfinished run of davit", path.Join(dir, e.Name()))
		}
	}
}

// dirFile is a file of a directory. What is no regular file is not opened.
func dirFile(root *os.Root, name string, info fs.FileInfo) *file {
	f := &file{name: name, size: info.Size()}
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		f.fault = "it is a link, which is not followed"
	case !info.Mode().IsRegular():
		f.fault = "it is no regular file"
	}
	if f.fault != "" {
		f.size = 0
		return f
	}
	f.open = func() (io.ReadCloser, error) {
		in, err := root.Open(name)
		if err != nil {
			return nil, err
		}
		if now, err := in.Stat(); err != nil || !now.Mode().IsRegular() {
			_ = in.Close()
			return nil, errors.Join(err, errors.New("it is no regular file any more"))
		}
		return in, nil
	}
	return f
}
