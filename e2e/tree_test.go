//go:build linux

package e2e

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// fileTree tells all about a directory: for each path in it, "." for itself,
// one line with type, mode, owner, time, attributes, and content or target.
type fileTree map[string]string

// readTree reads a directory and all below it. What is at skip is left out.
func readTree(t testing.TB, dir string, skip ...string) fileTree {
	t.Helper()
	read := fileTree{}
	first := map[uint64]string{} // the first name of each file with several
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if slices.Contains(skip, name) {
			return fs.SkipDir
		}
		var stat unix.Stat_t
		if err := unix.Lstat(path, &stat); err != nil {
			return fmt.Errorf("lstat %s: %w", path, err)
		}
		read[name] = describe(t, path, &stat)
		if stat.Nlink > 1 && stat.Mode&unix.S_IFMT != unix.S_IFDIR {
			if other, ok := first[stat.Ino]; ok {
				read[name] = "the same file as " + other
			} else {
				first[stat.Ino] = name
			}
		}
		return nil
	})
	if err != nil {
		t.Fatalf("read the tree %s: %v", dir, err)
	}
	return read
}

func describe(t testing.TB, path string, stat *unix.Stat_t) string {
	t.Helper()
	var what string
	switch stat.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		what = fmt.Sprintf("file of %d bytes, %s", stat.Size, sumOf(t, path))
	case unix.S_IFDIR:
		what = "directory"
	case unix.S_IFLNK:
		target, err := os.Readlink(path)
		if err != nil {
			t.Fatal(err)
		}
		what = "link to " + target
	case unix.S_IFCHR:
		what = fmt.Sprintf("character device %d:%d", unix.Major(stat.Rdev), unix.Minor(stat.Rdev))
	case unix.S_IFBLK:
		what = fmt.Sprintf("block device %d:%d", unix.Major(stat.Rdev), unix.Minor(stat.Rdev))
	case unix.S_IFIFO:
		what = "fifo"
	default:
		what = fmt.Sprintf("something of mode %o", stat.Mode)
	}
	return fmt.Sprintf("%s, mode %04o, owner %d:%d%s, time %d.%09d", what, stat.Mode&^unix.S_IFMT, stat.Uid, stat.Gid,
		readAttributes(t, path), stat.Mtim.Sec, stat.Mtim.Nsec)
}

func readAttributes(t testing.TB, path string) string {
	t.Helper()
	list := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, list)
	if err != nil {
		t.Fatalf("list the attributes of %s: %v", path, err)
	}
	var told strings.Builder
	for _, name := range slices.Sorted(strings.SplitSeq(string(list[:n]), "\x00")) {
		if name == "" {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			t.Fatalf("read the attribute %s of %s: %v", name, path, err)
		}
		fmt.Fprintf(&told, ", %s=%q", name, value[:n])
	}
	return told.String()
}

// same fails the test where two trees differ, and tells the first differences.
func same(t testing.TB, what string, want, got fileTree) {
	t.Helper()
	const most = 20
	all := maps.Clone(want)
	maps.Copy(all, got)
	differ := 0
	for _, name := range slices.Sorted(maps.Keys(all)) {
		w, g := want[name], got[name]
		if w == g {
			continue
		}
		if differ++; differ <= most {
			t.Errorf("%s: %q is\n\t%s\nwant\n\t%s", what, name, orNothing(g), orNothing(w))
		}
	}
	if differ > most {
		t.Errorf("%s: %d more paths differ", what, differ-most)
	}
}

func orNothing(line string) string {
	if line == "" {
		return "not there"
	}
	return line
}

// untar unpacks a tar as root into a new directory, with all that GNU tar can
// restore.
func untar(t testing.TB, archive, dir string) {
	t.Helper()
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, exec.Command(debian(t, "tar"), "--extract", "--file", archive, "--directory", dir,
		"--preserve-permissions", "--numeric-owner", "--xattrs", "--xattrs-include=*"))
}

// occupied is the room that a file, or a directory with all in it, takes on
// the disk; nothing where it is not there. It may grow meanwhile.
func occupied(path string) (bytes int64) {
	_ = filepath.WalkDir(path, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // it is gone, or not there yet
		}
		info, err := entry.Info()
		if err != nil {
			return nil //nolint:nilerr // as above
		}
		if stat, ok := info.Sys().(*syscall.Stat_t); ok {
			bytes += stat.Blocks * 512
		}
		return nil
	})
	return bytes
}

// umociTree is what umoci unpacks an image of a registry to.
func umociTree(t testing.TB, name string) fileTree {
	t.Helper()
	dir := workDir(t)
	layout, bundle := filepath.Join(dir, "layout"), filepath.Join(dir, "bundle")
	skopeo := exec.Command(debian(t, "skopeo"), "copy", "--insecure-policy", "--quiet", "--src-tls-verify=false", "docker://"+name, "oci:"+layout+":x")
	skopeo.Env = []string{debianPath(), "HOME=" + dir, "TMPDIR=" + dir}
	run(t, skopeo)
	run(t, exec.Command(debian(t, "umoci"), "unpack", "--image", layout+":x", bundle))
	return readTree(t, filepath.Join(bundle, "rootfs"))
}
