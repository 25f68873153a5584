package rootfs

import (
	"archive/tar"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// readTree reads a directory as readTar reads the tar of it.
func readTree(t testing.TB, top string, withRoot bool) []string {
	t.Helper()
	var lines []string
	seen := map[uint64]string{}
	add := func(path, name string) {
		info, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		st := info.Sys().(*syscall.Stat_t)
		h := &tar.Header{
			Name: name, Mode: int64(st.Mode & 0o7777), Uid: int(st.Uid), Gid: int(st.Gid),
			ModTime: time.Unix(st.Mtim.Unix()), PAXRecords: map[string]string{},
		}
		body := ""
		switch st.Mode & syscall.S_IFMT {
		case syscall.S_IFREG:
			h.Typeflag = tar.TypeReg
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			body = string(b)
		case syscall.S_IFDIR:
			h.Typeflag = tar.TypeDir
			h.Name += "/"
		case syscall.S_IFLNK:
			h.Typeflag = tar.TypeSymlink
			if h.Linkname, err = os.Readlink(path); err != nil {
				t.Fatal(err)
			}
		case syscall.S_IFCHR, syscall.S_IFBLK:
			h.Typeflag = tar.TypeChar
			if st.Mode&syscall.S_IFMT == syscall.S_IFBLK {
				h.Typeflag = tar.TypeBlock
			}
			h.Devmajor, h.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
		case syscall.S_IFIFO:
			h.Typeflag = tar.TypeFifo
		}
		if !info.IsDir() && st.Nlink > 1 {
			if first, ok := seen[st.Ino]; ok {
				h.Typeflag, h.Linkname = tar.TypeLink, first
			} else {
				seen[st.Ino] = name
			}
		}
		for k, v := range readXattrs(t, path) {
			h.PAXRecords[paxXattr+k] = v
		}
		lines = append(lines, line(h, body))
	}
	if withRoot {
		add(top, ".")
	}
	var walk func(string)
	walk = func(dir string) {
		list, err := os.ReadDir(filepath.Join(top, dir))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			name := join(dir, e.Name())
			add(filepath.Join(top, dir)+"/"+e.Name(), name)
			if e.IsDir() {
				walk(name)
			}
		}
	}
	walk("")
	return lines
}

func readXattrs(t testing.TB, path string) map[string]string {
	t.Helper()
	b := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, b)
	if err != nil {
		t.Fatalf("list the attributes of %s: %v", path, err)
	}
	m := map[string]string{}
	for k := range strings.SplitSeq(strings.TrimSuffix(string(b[:n]), "\x00"), "\x00") {
		if k == "" {
			continue
		}
		v := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(path, k, v)
		if err != nil {
			t.Fatal(err)
		}
		m[k] = string(v[:n])
	}
	return m
}
