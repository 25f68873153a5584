package rootfs

import (
	"archive/tar"
	"fmt"
	"strings"

	"github.com/davit-cli/davit/image"
)

func (t *Tree) isDir(id uint32) bool  { return t.tree.node(id).kind == tar.TypeDir }
func (t *Tree) isLink(id uint32) bool { return t.tree.node(id).kind == tar.TypeSymlink }

// look finds the node at a path as the kernel would inside of the root: unlike
// resolve, which knows what is to be made, it wants all of the way to be there.
func (t *Tree) look(path string, follow bool) (uint32, error) {
	r := route{rest: path}
	follow = follow || endsAsDir(path)
	at := uint32(root)
	for {
		name := r.next()
		switch {
		case name == "":
			if endsAsDir(path) && !t.isDir(at) {
				return 0, notDir(t.path(at))
			}
			return at, nil
		case !t.isDir(at):
			return 0, notDir(t.path(at))
		case name == "..":
			at = t.tree.node(at).parent // the root's is itself
			continue
		}
		child := t.tree.find(at, []byte(name))
		if child == 0 {
			return 0, notThere(strings.Trim(t.path(at)+"/"+name+"/"+r.rest, "/"), r)
		}
		if !t.isLink(child) || r.done() && !follow {
			at = child
			continue
		}
		fromRoot, err := r.follow(t.target(t.tree.node(child)))
		if err != nil {
			return 0, err
		}
		if fromRoot {
			at = root
		}
	}
}

// endsAsDir tells that a path can mean nothing but a directory.
func endsAsDir(path string) bool {
	last := path[strings.LastIndexByte(path, '/')+1:]
	return path != "" && (last == "" || last == "." || last == "..")
}

// done tells that nothing is left but slashes and dots.
func (r route) done() bool { return r.next() == "" }

func notDir(path string) error {
	return fmt.Errorf("%w: %q is not a directory", image.ErrNotFound, short(path))
}

// notThere is the error of a path that leads to what is not there.
func notThere(missing string, r route) error {
	if r.links == 0 {
		return image.ErrNotFound
	}
	return fmt.Errorf("%w: it leads to %q, which is not there", image.ErrNotFound, short(missing))
}
