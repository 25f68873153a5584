package rootfs

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/davit-cli/davit/image"
)

// UnpackOptions tune Unpack. The zero value works.
type UnpackOptions struct {
	// Existing allows a directory that holds something. Directories stay, with
	// what the image does not have; anything else at a path of the image is
	// replaced.
	Existing bool
	// NoOwner gives everything to the caller, even to root.
	NoOwner bool
	// NoSync returns as soon as all is written, though not yet on the disk.
	NoSync bool
	// Jobs is how many files are written at once. 0: one a processor.
	Jobs int
	// Events receives notes and warnings (what could not be done without
	// root, once each) and the stage of the writing: of the files' content,
	// what is written. May be nil.
	Events image.EventFunc
}

// Unpack writes the tree into a directory, and makes it where it is missing.
// As root it gives everything its owner, and makes devices; without root all
// is the caller's, set-uid and set-gid bits of files are dropped, devices are
// skipped, and one warning says so.
//
// Nothing outside of the directory is touched. As every parent in a Tree is a
// directory, which Unpack makes itself, it follows no link; links are written
// and never used. In a directory that is not empty nobody else may write
// meanwhile.
//
// On Linux it returns when all is on the disk, so that the directory may be
// renamed into place: it syncs the whole file system that dir is in. Elsewhere
// the system writes in its own time.
//
// What the directory's file system cannot hold (names that differ by case
// alone, names that Windows keeps for itself) is found before anything is
// written, and returned as a *ConflictError. A directory that is not empty is
// ErrNotEmpty. On other errors what was written remains.
func (t *Tree) Unpack(ctx context.Context, dir string, opts UnpackOptions) error {
	if opts.Jobs <= 0 {
		opts.Jobs = t.opts.Jobs
	}
	if err := t.unpack(ctx, dir, opts); err != nil {
		return fmt.Errorf("unpack into %s: %w", dir, err)
	}
	return nil
}

func (t *Tree) unpack(ctx context.Context, dir string, opts UnpackOptions) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	top, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = top.Close() }() // nothing was written through it
	if !opts.Existing {
		if err := checkEmpty(top); err != nil {
			return err
		}
	}
	limits, err := probe(top)
	if err != nil {
		return err
	}
	if found := t.conflicts(limits); len(found) > 0 {
		return &ConflictError{found}
	}
	total, err := t.begin()
	if err != nil {
		return err
	}
	u := &unpacker{
		walker: walker{Tree: t, first: map[fileID]uint32{}},
		opts:   opts,
		top:    top,
		owner:  !opts.NoOwner && canOwn(),
	}
	if !u.owner {
		u.warn("without root, all files belong to the caller; owners, set-uid bits and devices are left out")
	}
	u.written = image.NewStage(opts.Events, "write files", total)
	err = u.run(ctx)
	u.written.End(err)
	if err != nil {
		return err
	}
	if n := u.devices.Load(); n > 0 {
		u.note(fmt.Sprintf("skipped %d devices, which take root to make", n))
	}
	if n := u.attributes.Load(); n > 0 {
		u.note(fmt.Sprintf("left out %d extended attributes, which this file system or user cannot set", n))
	}
	return nil
}

func checkEmpty(top *os.Root) error {
	f, err := top.Open(".")
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // nothing was written through it
	switch names, err := f.Readdirnames(1); {
	case len(names) > 0:
		return ErrNotEmpty
	case err != io.EOF:
		return err
	}
	return nil
}

type unpacker struct {
	walker
	opts  UnpackOptions
	top   *os.Root
	owner bool
	group *errgroup.Group
	links []uint32 // nodes that are further names of files

	written *image.Stage

	devices, attributes atomic.Int64
}

func (u *unpacker) warn(text string) {
	u.opts.Events.Send(image.Event{Kind: image.EventWarning, Text: text})
}

func (u *unpacker) note(text string) {
	u.opts.Events.Send(image.Event{Kind: image.EventNote, Text: text})
}

func (u *unpacker) run(ctx context.Context) error {
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(u.opts.Jobs)
	u.group = group
	top, err := openPlace(u.top)
	if err != nil {
		return err
	}
	err = u.fill(groupCtx, root, top, nil)
	if waitErr := group.Wait(); waitErr != nil {
		return waitErr // it is why fill was cut short, if it was
	}
	if err != nil {
		return err
	}
	if err := u.link(ctx); err != nil {
		return err
	}
	disk, err := u.top.Open(".") // finish may take away the right to
	if err != nil {
		return err
	}
	defer func() { _ = disk.Close() }() // nothing was written through it
	if err := u.finish(ctx, root, u.top, ""); err != nil || u.opts.NoSync || !canSync {
		return err
	}
	u.opts.Events.Send(image.Event{Kind: image.EventStep, Text: "wait until all files are on the disk"})
	return syncAll(disk)
}

// place is a directory to write into, open until the last who writes there is done.
type place struct {
	*os.Root
	dir   *os.File // the same, for what a Root cannot do
	users atomic.Int32
}

// openPlace is for one user, who calls leave. It does not take over the Root.
func openPlace(r *os.Root) (*place, error) {
	own, err := r.OpenRoot(".")
	if err != nil {
		return nil, err
	}
	p := &place{Root: own}
	p.users.Store(1)
	if p.dir, err = own.Open("."); err != nil {
		return nil, errors.Join(err, own.Close())
	}
	return p, nil
}

func (p *place) leave() {
	if p.users.Add(-1) == 0 {
		_ = p.dir.Close()
		_ = p.Close()
	}
}

// fill makes all that is in a directory, but for hard links.
func (u *unpacker) fill(ctx context.Context, dir uint32, in *place, path []byte) error {
	defer in.leave()
	for _, id := range u.children(dir) {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := u.tree.node(id)
		name := u.text.string(n.name)
		below := append(path, name...)
		if err := u.make(ctx, id, name, in, below); err != nil {
			return fmt.Errorf("%q: %w", short(string(below)), err)
		}
		if n.kind != tar.TypeDir {
			continue
		}
		next, err := in.enter(name)
		if err != nil {
			return fmt.Errorf("%q: %w", short(string(below)), err)
		}
		if err := u.fill(ctx, id, next, append(below, '/')); err != nil {
			return err
		}
	}
	return nil
}

// enter opens a directory that stands in this one.
func (p *place) enter(name string) (*place, error) {
	sub, err := p.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = sub.Close() }() // nothing was written through it
	return openPlace(sub)
}

func (u *unpacker) make(ctx context.Context, id uint32, name string, in *place, path []byte) error {
	e := u.describe(id, "")
	if u.opts.Existing {
		if stays, err := makeWay(in.Root, name, e.Type == tar.TypeDir); stays || err != nil {
			return err
		}
	}
	if u.tree.node(id).linked {
		n := u.tree.node(id)
		key := fileID{n.layer, n.rec}
		if _, ok := u.first[key]; ok {
			u.links = append(u.links, id)
			return nil
		}
		u.first[key] = id
	}
	switch e.Type {
	case tar.TypeDir:
		return in.Mkdir(name, 0o700)
	case tar.TypeSymlink:
		if err := in.Symlink(e.Target, name); err != nil {
			return err
		}
	case tar.TypeReg:
		f, err := in.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		where := string(path)
		in.users.Add(1)
		u.group.Go(func() error {
			defer in.leave()
			if err := u.write(ctx, f, in, name, e); err != nil {
				return fmt.Errorf("%q: %w", short(where), err)
			}
			return nil
		})
		return nil
	default:
		if e.Type != tar.TypeFifo && !u.owner {
			u.devices.Add(1)
			u.skip(id)
			return nil
		}
		switch err := makeNode(in.dir, name, e); {
		case errors.Is(err, errors.ErrUnsupported), errors.Is(err, fs.ErrPermission):
			u.devices.Add(1)
			u.skip(id)
			return nil
		case err != nil:
			return err
		}
	}
	if u.owner {
		if err := in.Lchown(name, e.UID, e.GID); err != nil {
			return err
		}
	}
	if err := u.setXattrs(nil, in.dir, name, e.Xattrs); err != nil {
		return err
	}
	if e.Type != tar.TypeSymlink {
		if err := chmodNode(in.dir, name, e.Mode); err != nil {
			return err
		}
	}
	return setTime(in.Root, in.dir, name, e)
}

// skip notes that a file is not made, so that it has no hard links either.
func (u *unpacker) skip(id uint32) {
	n := u.tree.node(id)
	if n.linked {
		u.first[fileID{n.layer, n.rec}] = root
	}
}

// makeWay removes what stands in the way. A directory may stay for a directory.
func makeWay(in *os.Root, name string, dir bool) (stays bool, err error) {
	info, err := in.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	case dir && info.IsDir():
		return true, nil
	}
	return false, in.RemoveAll(name)
}

// write fills a new file and closes it.
func (u *unpacker) write(ctx context.Context, f *os.File, in *place, name string, e Entry) error {
	err := u.fillFile(ctx, f, e)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return setTime(in.Root, in.dir, name, e)
}

func (u *unpacker) fillFile(ctx context.Context, f *os.File, e Entry) error {
	if e.Size > 0 {
		e.content.stage = u.written
		buf := make([]byte, min(e.Size, 256<<10))
		if err := copyContent(ctx, f, 0, e.content, e.Size, buf); err != nil {
			return err
		}
	}
	mode := e.Mode
	if u.owner {
		if err := f.Chown(e.UID, e.GID); err != nil { // clears set-uid and capabilities, so it comes first
			return err
		}
	} else {
		mode &^= 0o6000
	}
	if err := u.setXattrs(f, nil, "", e.Xattrs); err != nil {
		return err
	}
	return f.Chmod(fileMode(mode))
}

// link makes the further names of files.
func (u *unpacker) link(ctx context.Context) error {
	for _, id := range u.links {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := u.tree.node(id)
		first := u.first[fileID{n.layer, n.rec}]
		if first == root {
			continue // it was skipped
		}
		path := u.path(id)
		if err := u.top.Link(u.path(first), path); err != nil {
			return fmt.Errorf("%q: %w", short(path), err)
		}
	}
	return nil
}

// finish gives directories what writing into them would change, the deepest first.
func (u *unpacker) finish(ctx context.Context, dir uint32, in *os.Root, path string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	for c := u.tree.node(dir).first; c != 0; c = u.tree.node(c).next {
		n := u.tree.node(c)
		if n.kind != tar.TypeDir {
			continue
		}
		name := u.text.string(n.name)
		sub, err := in.OpenRoot(name)
		if err != nil {
			return fmt.Errorf("%q: %w", short(join(path, name)), err)
		}
		err = u.finish(ctx, c, sub, join(path, name))
		if closeErr := sub.Close(); err == nil {
			err = closeErr
		}
		if err != nil {
			return err
		}
	}
	if dir == root && u.tree.node(root).layer == noLayer {
		return nil // the image says nothing of it
	}
	if err := u.finishDir(in, u.describe(dir, "")); err != nil {
		return fmt.Errorf("%q: %w", short(join(path, "")), err)
	}
	return nil
}

func (u *unpacker) finishDir(in *os.Root, e Entry) error {
	f, err := in.Open(".")
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // nothing was written through it
	if u.owner {
		if err := f.Chown(e.UID, e.GID); err != nil {
			return err
		}
	}
	if err := u.setXattrs(f, nil, "", e.Xattrs); err != nil {
		return err
	}
	if err := setTime(in, f, ".", e); err != nil {
		return err
	}
	return chmodDir(f, fileMode(e.Mode)) // last: it may take away the caller's own rights
}

// fileMode is a tar's mode as Go's.
func fileMode(mode int64) fs.FileMode {
	m := fs.FileMode(mode) & fs.ModePerm
	for _, b := range []struct {
		bit int64
		is  fs.FileMode
	}{{0o4000, fs.ModeSetuid}, {0o2000, fs.ModeSetgid}, {0o1000, fs.ModeSticky}} {
		if mode&b.bit != 0 {
			m |= b.is
		}
	}
	return m
}

// setXattrs sets the attributes of an open file, or of a name in a directory.
func (u *unpacker) setXattrs(f, dir *os.File, name string, attrs map[string]string) error {
	for k, v := range attrs {
		switch err := setXattr(f, dir, name, k, v); {
		case errors.Is(err, errors.ErrUnsupported), errors.Is(err, fs.ErrPermission):
			u.attributes.Add(1)
		case err != nil:
			return fmt.Errorf("set the attribute %q: %w", short(k), err)
		}
	}
	return nil
}
