// Package rootfs merges an image's layers into the file system that a
// container of it would see (OCI image-spec, layer.md), and writes that as one
// tar or into a directory.
//
// Merge decodes each layer once, several side by side, and keeps the content of
// files in a spool; the layers' entries are then applied in order, lowest
// first, to a tree in memory. What the tree holds in the end is all that
// WriteTar and Unpack write: every parent in it is a real directory, so that
// neither has a link to follow.
//
// Who wants to look only makes a Listing of each layer, which has no content,
// and the Overlay of all, by the same rules; or lets Find open no more layers
// than it takes to find one file. CopyEntry then reads its content.
package rootfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
)

// Layer is one layer of an image. In lists the lowest comes first.
type Layer struct {
	// Descriptor names the blob. Its Size is what is read of Blob; its media
	// type is not believed: the compression is told by the blob's first bytes.
	Descriptor image.Descriptor
	// DiffID is the digest of the layer's tar, to the decompressor's end, as
	// the image's config has it. Another digest is an error that wraps
	// image.ErrVerification. Empty: it is not checked.
	DiffID digest.Digest
	// Blob is the layer as it was served. Its bytes must be verified (once
	// Wait has returned); they may be read more than once, and until the Tree
	// is closed.
	Blob io.ReaderAt
	// Wait, if set, returns once Blob is whole and verified, so that layers
	// may be decoded while others are still fetched. It may be called more
	// than once. An error ends the merge.
	Wait func(context.Context) error
}

// Options tune Merge. The zero value works.
type Options struct {
	// SpoolDir is where the spool's files stand, "" for the system's
	// directory of temporary files. They are gone when the Tree is closed;
	// on Unix they have no name from the start, so that a killed process
	// leaves none.
	SpoolDir string
	// Jobs is how many layers are decoded at once. 0: one a processor.
	Jobs int
	// Limits bound what the layers may decode to.
	Limits Limits
	// Once says that the tree is written once, whether that succeeds or not.
	// The spool then shrinks as its content is written (on Linux, where the
	// file system can), so that it and the output together take little more
	// than the output alone.
	Once bool
	// Events receives notes (the size of the spool, for one) and the stage of
	// the decoding: of the sum of the blobs' sizes, what was decoded. May be nil.
	Events image.EventFunc
}

// Limits bound what an image's layers may decode to, all together. What
// exceeds them is refused with an error that wraps ErrLimit and
// image.ErrVerification.
type Limits struct {
	// Bytes caps the layers' tars, with the holes of sparse files. 0: DefaultBytes.
	Bytes int64
	// Entries caps the entries. 0: DefaultEntries.
	Entries int64
}

// What the zero values of Limits stand for, and limits that do not change.
const (
	DefaultBytes   = 1 << 40
	DefaultEntries = 10_000_000

	maxPath   = 4096      // bytes of a path or of a link's target, as on Linux
	maxDepth  = 2048      // directories above each other, after links are resolved
	maxXattrs = 256 << 20 // bytes of all different sets of extended attributes
	maxText   = 1 << 30   // bytes of all paths and links' targets
	maxLayers = 60_000
	maxLinks  = 255 // symbolic links in the resolution of one path
)

var (
	// ErrLimit: the layers decode to more than Limits allow.
	ErrLimit = errors.New("limit exceeded")
	// ErrNotEmpty: the directory to unpack into holds something.
	ErrNotEmpty = errors.New("the directory is not empty")
	// ErrWritten: a tree of Options.Once was written before.
	ErrWritten = errors.New("the tree was written before")
)

func (o Options) withDefaults() Options {
	if o.Jobs <= 0 {
		o.Jobs = runtime.GOMAXPROCS(0)
	}
	o.Limits = o.Limits.withDefaults()
	return o
}

func (l Limits) withDefaults() Limits {
	if l.Bytes <= 0 {
		l.Bytes = DefaultBytes
	}
	if l.Entries <= 0 {
		l.Entries = DefaultEntries
	}
	return l
}

// errEntries and errBytes say which limit was exceeded.
func (l Limits) errEntries() error {
	return fmt.Errorf("%w: the layers have more than %d entries", ErrLimit, l.Entries)
}

func (l Limits) errBytes() error {
	return fmt.Errorf("%w: the layers decode to more than %d bytes", ErrLimit, l.Bytes)
}

// Entry is one path of a Tree.
type Entry struct {
	// Path is without a leading or trailing slash; "." is the root.
	Path string
	// Type is one of tar's: TypeReg, TypeDir, TypeSymlink, TypeChar,
	// TypeBlock, TypeFifo, or TypeLink for each further name of a file that
	// has several.
	Type byte
	// Mode has the permissions, set-uid (04000), set-gid (02000) and sticky (01000).
	Mode int64
	UID  int
	GID  int
	// Size is that of a regular file, in bytes.
	Size    int64
	ModTime time.Time
	// Target is a symbolic link's target as written, or the path of a hard
	// link's first name, which comes earlier.
	Target string
	// DevMajor and DevMinor are a device's.
	DevMajor, DevMinor int64
	// Xattrs are the extended attributes; not to be changed.
	Xattrs map[string]string
	// Layer is the layer that the entry comes from, the lowest is 0; -1 for a
	// directory that no layer has an entry for. Of a file with several names it
	// is where the content stands, whichever layers have the names.
	Layer int
	// Ordinal says which entry of that layer it is, from 0: the index in the
	// tar, or in the headers that a Listing was made of, with all entries
	// counted. -1 where Layer is.
	Ordinal int
	// Digest is that of the content of a regular file, or of a further name of
	// one, where a Listing knows it.
	Digest digest.Digest

	node    uint32
	content content
}

// content is where the bytes of a file stand.
type content struct {
	in    io.ReaderAt
	off   int64
	spool *spool       // whose file in is, or nil
	stage *image.Stage // of the writing, or nil
}

// release says that n bytes of the content are written.
func (c content) release(n int64) {
	c.spool.release(c.off, n)
	c.stage.Add(n)
}

// Stats tell what Merge did.
type Stats struct {
	// Entries is how many the layers have, Decoded the bytes of their tars.
	Entries, Decoded int64
	// Paths is how many the tree has, with the root.
	Paths int
	// Spooled is the bytes in the spool.
	Spooled int64
	// Skipped is the bytes of files that were not spooled because an upper
	// layer hides them.
	Skipped int64
	// Again is how many layers were decoded a second time, because such a
	// file proved to have another name that is not hidden.
	Again int
}
