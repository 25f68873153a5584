package rootfs

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/davit-cli/davit/image"
)

// Compression is how WriteTar compresses.
type Compression int

// The compressions.
const (
	None Compression = iota
	Gzip
	Zstd
)

// TarOptions tune WriteTar. The zero value works, and writes a plain tar.
type TarOptions struct {
	Compression Compression
	// Level is gzip's, 1 to 9, or zstd's, 1 to 19. 0: the fastest.
	Level int
	// Direct has a plain tar go to its file past the system's cache, where the
	// system can (Linux): for a caller that syncs the file afterwards, and so
	// would wait for the disk anyway.
	Direct bool
	// Jobs is how many processors compress. The bytes are the same
	// whatever it is. 0: all.
	Jobs int
	// Events receives the stage of the writing: of the files' content, what is
	// written. May be nil.
	Events image.EventFunc
}

// WriteTar writes the tree as one tar, in the order of Entries: the same
// layers and options give the same bytes. Headers are PAX where USTAR's do not
// hold a name, a time below seconds, an extended attribute and so on. Owners
// are numbers; names of users and groups are left out, as they would mean
// somebody else where the tar is unpacked. Times of access and change are left
// out too, and holes of sparse files are zeros.
//
// Where w is an *os.File that takes writes at offsets, a plain tar is copied
// into it from its current offset by several goroutines, and the offset is
// left behind the tar. On error what was written so far remains; any other w,
// a pipe, has got then what readers refuse: a tar that ends inside of an entry,
// a compressed stream without its end. Whether anything is on the disk yet,
// WriteTar does not ask: syncing is the caller's.
func (t *Tree) WriteTar(ctx context.Context, w io.Writer, opts TarOptions) error {
	if opts.Jobs <= 0 {
		opts.Jobs = t.opts.Jobs
	}
	if err := t.writeTar(ctx, w, opts); err != nil {
		return fmt.Errorf("write the tar: %w", err)
	}
	return nil
}

func (t *Tree) writeTar(ctx context.Context, w io.Writer, opts TarOptions) error {
	total, err := t.begin()
	if err != nil {
		return err
	}
	out, err := newSink(ctx, w, opts)
	if err != nil {
		return err
	}
	written := image.NewStage(opts.Events, "write tar", total)
	defer func() { written.End(err) }()
	err = t.tarTo(ctx, out, written)
	if endErr := out.end(err == nil); endErr != nil {
		err = endErr // it is why tarTo was cut short, if it was
	}
	return err
}

func newSink(ctx context.Context, w io.Writer, opts TarOptions) (sink, error) {
	if f, ok := w.(*os.File); ok && opts.Compression == None {
		if s, ok := newFileSink(ctx, f, opts.Direct); ok {
			return s, nil
		}
	}
	return newStreamSink(ctx, w, opts)
}

func (t *Tree) tarTo(ctx context.Context, out sink, written *image.Stage) error {
	var header bytes.Buffer
	for e := range t.Entries() {
		if err := ctx.Err(); err != nil {
			return err
		}
		header.Reset()
		if err := tar.NewWriter(&header).WriteHeader(e.header()); err != nil {
			return fmt.Errorf("entry %q: %w", short(e.Path), err)
		}
		if err := out.write(header.Bytes()); err != nil {
			return err
		}
		if e.Type != tar.TypeReg || e.Size == 0 {
			continue
		}
		e.content.stage = written
		if err := out.copy(e.content, e.Size); err != nil {
			return fmt.Errorf("entry %q: %w", short(e.Path), err)
		}
		if pad := -e.Size & 511; pad > 0 {
			if err := out.write(zeros[:pad]); err != nil {
				return err
			}
		}
	}
	return out.write(zeros[:])
}

var zeros [1024]byte

// header is the entry's header in a tar.
func (e Entry) header() *tar.Header {
	h := &tar.Header{
		Format:   tar.FormatPAX,
		Typeflag: e.Type,
		Name:     e.Path,
		Linkname: e.Target,
		Size:     e.Size,
		Mode:     e.Mode,
		Uid:      e.UID,
		Gid:      e.GID,
		ModTime:  e.ModTime,
		Devmajor: e.DevMajor,
		Devminor: e.DevMinor,
	}
	if e.Type == tar.TypeDir {
		h.Name += "/"
	}
	if h.ModTime.IsZero() { // tar's zero time is another
		h.ModTime = time.Unix(0, 0)
	}
	for k, v := range e.Xattrs {
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords[paxXattr+k] = v
	}
	return h
}
