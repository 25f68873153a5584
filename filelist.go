package davit

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/rootfs"
	"github.com/davit-cli/davit/toc"
)

// FileType is what a file of an image is.
type FileType string

// The types of files.
const (
	Regular     FileType = "file"
	Hardlink    FileType = "hardlink" // each further name of a file that has several
	Directory   FileType = "directory"
	Symlink     FileType = "symlink"
	CharDevice  FileType = "char"
	BlockDevice FileType = "block"
	FIFO        FileType = "fifo"
)

// FileMode has a file's permissions, set-uid (04000), set-gid (02000) and
// sticky (01000). Its text is octal: 0644.
type FileMode int64

// MarshalText implements encoding.TextMarshaler.
func (m FileMode) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%04o", int64(m)), nil }

// File is a file of an image, as a container would see it. Its JSON is the
// command line's --json.
type File struct {
	// Path begins with a slash.
	Path string   `json:"path"`
	Type FileType `json:"type"`
	Mode FileMode `json:"mode"`
	UID  int      `json:"uid"`
	GID  int      `json:"gid"`
	// Size is that of the content, in bytes.
	Size    int64     `json:"size"`
	ModTime time.Time `json:"mtime"`
	// Target is where a symbolic link leads, as written, or the path of a hard
	// link's first name.
	Target string `json:"target,omitempty"`
	// Major and Minor are a device's.
	Major int64 `json:"major,omitempty"`
	Minor int64 `json:"minor,omitempty"`
	// Layer is the number of the layer that it comes from, from 1; 0 for a
	// directory that no layer has an entry for.
	Layer int `json:"layer,omitempty"`
}

func newFile(e rootfs.Entry) File {
	f := File{
		Path: "/" + e.Path, Mode: FileMode(e.Mode), UID: e.UID, GID: e.GID, Size: e.Size, ModTime: e.ModTime.UTC(),
		Target: e.Target, Major: e.DevMajor, Minor: e.DevMinor, Layer: e.Layer + 1, Type: fileTypes[e.Type],
	}
	switch {
	case e.Path == ".":
		f.Path = "/"
	case e.Type == tar.TypeLink:
		f.Target = "/" + e.Target
	}
	return f
}

var fileTypes = map[byte]FileType{
	tar.TypeReg: Regular, tar.TypeLink: Hardlink, tar.TypeDir: Directory, tar.TypeSymlink: Symlink,
	tar.TypeChar: CharDevice, tar.TypeBlock: BlockDevice, tar.TypeFifo: FIFO,
}

// ListFiles lists the files of an image, in a registry or on disk, at path and
// below it; an empty path is the root. Of layers that have a table of contents
// only that is read, unless opts.NoTOC says otherwise; the others are read once
// from end to end and verified. Directories come before what is in them, and
// names are in the order of their bytes.
//
// Errors wrap image.ErrNotFound, also where the path is not there,
// image.ErrUnauthorized, image.ErrVerification, or are ErrNoFileSystem.
func ListFiles(ctx context.Context, name, path string, opts LookOptions) (iter.Seq[File], error) {
	l, err := openLook(ctx, name, opts)
	if err != nil {
		return nil, err
	}
	defer l.close()
	img, err := l.resolve(ctx)
	if err != nil {
		return nil, err
	}
	entries, err := l.files(ctx, img, path)
	if err != nil {
		return nil, fmt.Errorf("%s: list files: %w", l.name(img), err)
	}
	return func(yield func(File) bool) {
		for e := range entries {
			if !yield(newFile(e)) {
				return
			}
		}
	}, nil
}

// Cat writes the content of one file of an image, in a registry or on disk, to
// w, after it was verified, and tells which it was: links are followed inside
// of the image. Layers are read from the top down, and no further than to the
// one that holds the file; of those with a table of contents only the table and
// the file are read. Layers that are read over the network wait in temporary
// files.
//
// Errors are those of ListFiles.
func Cat(ctx context.Context, name, path string, w io.Writer, opts LookOptions) (File, error) {
	l, err := openLook(ctx, name, opts)
	if err != nil {
		return File{}, err
	}
	defer l.close()
	img, err := l.resolve(ctx)
	if err != nil {
		return File{}, err
	}
	f, err := l.cat(ctx, img, path, w)
	if err != nil {
		return File{}, fmt.Errorf("%s: %w", l.name(img), err)
	}
	return f, nil
}

// files are the entries at a path and below it.
func (l *look) files(ctx context.Context, img image.Image, path string) (iter.Seq[rootfs.Entry], error) {
	v, err := l.layers(img)
	if err != nil {
		return nil, err
	}
	defer v.release()
	view, err := v.view(ctx, map[digest.Digest]*rootfs.Listing{})
	if err != nil {
		return nil, err
	}
	return view.EntriesUnder(path)
}

// cat writes the content of a file of the image.
func (l *look) cat(ctx context.Context, img image.Image, path string, w io.Writer) (File, error) {
	v, err := l.layers(img)
	if err != nil {
		return File{}, err
	}
	defer v.release()
	// What is on disk is read again for the content, and may change meanwhile.
	v.keep, v.digests = true, l.store != nil
	found, err := rootfs.Find(ctx, len(v.layers), v.list, path)
	if err != nil {
		return File{}, err
	}
	err = v.content(ctx, found.Entry, w)
	if errors.Is(err, toc.ErrTooLarge) && !l.opts.NoTOC {
		l.opts.NoTOC = true // nothing was written yet
		return l.cat(ctx, img, path, w)
	}
	return newFile(found.Entry), err
}
