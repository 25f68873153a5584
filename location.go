package davit

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/internal/split"
	"github.com/davit-cli/davit/ref"
)

// Location is where an image is: in a registry, or on disk.
type Location struct {
	// Reference is its name in a registry. It is empty for an image on disk.
	Reference ref.Reference
	// Path is an archive, a layout or a directory of components.
	Path string
	// Image chooses one of the images there: a name, a tag or a digest. Empty:
	// the only one.
	Image string
	// Guessed says that only what is on the disk tells that a path was meant: a
	// directory, whose name may be an image's too.
	Guessed bool
}

// String is the location as ParseLocation reads it.
func (l Location) String() string {
	switch {
	case l.Path == "":
		return l.Reference.String()
	case l.Image == "":
		return l.Path
	case strings.Contains(l.Image, ":") && ref.CheckDigest(digest.Digest(l.Image)) == nil:
		return l.Path + "@" + l.Image
	}
	return l.Path + ":" + l.Image
}

// ParseLocation reads where an image is:
//
//	alpine:3.20, https://host/v2/app        a name in a registry, as ref.Parse reads it
//	docker://alpine                         the same, whatever is on the disk
//	./x.tar, /srv/layout, ../x              a path, where it is written as one
//	x.tar, layout                           a path, where an image is there
//	x.tar.001, x.tar                        a path, where an archive is there in parts
//	./x.tar:app:1, layout@sha256:…          one of several images there
//	oci:DIR, oci-archive:FILE,              a path, as skopeo writes it, also
//	docker-archive:FILE                     with :NAME behind it
//	components:DIR                          a path, to manifest, config and layers as files
//
// Skopeo's other names for what is on a disk (dir:, docker-daemon:) are an error:
// nobody who writes one means an image of Docker Hub. What follows any of them is
// no port number with a slash, though: oci:5000/app is in the registry oci, and
// oci:./5000/app on disk. docker:// before it says that a registry is meant.
//
// It looks whether there is such a file, and opens none. Errors wrap
// ref.ErrInvalid.
func ParseLocation(s string) (Location, error) {
	if at, ok := onDisk(strings.TrimSpace(s)); ok {
		return at, nil
	}
	if err := noTransport(strings.TrimSpace(s)); err != nil {
		return Location{}, err
	}
	r, err := ref.Parse(s)
	if err != nil {
		err = cmp.Or(noImageFile(strings.TrimSpace(s)), err)
	}
	return Location{Reference: r}, err
}

// noTransport is an error where s begins with a name of skopeo's that is not read.
func noTransport(s string) error {
	name, _, ok := cutTransport(s, unread)
	if !ok {
		return nil
	}
	err := fmt.Errorf("%w: davit does not read %s but %s, and paths", ref.ErrInvalid, name, strings.Join(transports, ", "))
	if _, invalid := ref.Parse(s); invalid == nil {
		err = fmt.Errorf("%w; if a registry's image is meant, write %q", err, "docker://"+s)
	}
	return err
}

// noImageFile is an error where s is no image's name, and rather a file's.
func noImageFile(s string) error {
	switch path := splitPath(s).Path; {
	case !strings.Contains(s, "://") && exists(path):
		return fmt.Errorf("%w: %q is no image's name; if the file of that name is meant, write %q", ref.ErrInvalid, s, "./"+s)
	case IsArchiveName(path):
		return fmt.Errorf("%w: %q is no image's name, and there is no such file", ref.ErrInvalid, s)
	}
	return nil
}

// componentsPrefix is davit's own, beside skopeo's transports.
const componentsPrefix = "components:"

// transports are the names for what is on disk that are read, skopeo's and
// davit's own, and unread skopeo's others.
var (
	transports = []string{"oci:", "oci-archive:", "docker-archive:", componentsPrefix}
	unread     = []string{"containers-storage:", "dir:", "docker-daemon:", "ostree:", "sif:", "tarball:"}
)

// cutTransport parts one of the names from what follows it, unless that makes it
// a registry with a port.
func cutTransport(s string, names []string) (name, rest string, ok bool) {
	for _, name := range names {
		if rest, ok := strings.CutPrefix(s, name); ok && rest != "" && !isPort(rest) {
			return name, rest, true
		}
	}
	return "", "", false
}

// isPort says whether s begins with a port number and a slash.
func isPort(s string) bool {
	port, _, ok := strings.Cut(s, "/")
	_, err := strconv.ParseUint(port, 10, 16)
	return ok && err == nil
}

func onDisk(s string) (Location, bool) {
	if _, rest, ok := cutTransport(s, transports); ok {
		if !isPath(rest) && filepath.VolumeName(rest) == "" {
			rest = "./" + rest // it is a path, whatever is there
		}
		return splitPath(rest), true
	}
	switch at := splitPath(s); {
	case strings.Contains(s, "://"), s == "":
		return Location{}, false
	case isPath(s):
		return at, true
	case isArchive(at.Path):
		return at, true
	case isImageDirectory(at.Path):
		at.Guessed = true
		return at, true
	}
	return Location{}, false
}

// isPath says whether s is written as a path.
func isPath(s string) bool {
	if s == "." || s == ".." || filepath.IsAbs(s) {
		return true
	}
	for _, begin := range []string{"/", "./", "../"} {
		if strings.HasPrefix(s, begin) {
			return true
		}
	}
	return runtime.GOOS == "windows" && strings.Contains(s, `\`)
}

// splitPath parts a path from what chooses an image there: the longest part
// before a colon or an at sign that is there, else before the first of them
// in the last name. Where that is in no directory that is there, its slash may
// be one of an image's name, as in x.tar:team/app:1.
func splitPath(s string) Location {
	if exists(s) || split.Stands(s) {
		return Location{Path: s}
	}
	for i := len(s) - 1; i > 0; i-- {
		if (s[i] == ':' || s[i] == '@') && (exists(s[:i]) || split.Stands(s[:i])) {
			return Location{Path: s[:i], Image: s[i+1:]}
		}
	}
	base := strings.LastIndexAny(s, `/\`) + 1
	if i := beforeName(s); i > 0 && !exists(s[:base]) {
		return Location{Path: s[:i], Image: s[i+1:]}
	}
	if i := strings.IndexAny(s[base:], ":@"); i > 0 {
		return Location{Path: s[:base+i], Image: s[base+i+1:]}
	}
	return Location{Path: s}
}

// beforeName is the colon that parts a path, which is not there, from an image's
// name with a slash in it: the first one behind what is called like an archive,
// else the first of all. 0 where there is none.
func beforeName(s string) int {
	first := 0
	for i := len(filepath.VolumeName(s)) + 1; i < len(s); i++ {
		if s[i] == ':' && IsArchiveName(s[:i]) {
			return i
		}
		if s[i] == ':' && first == 0 {
			first = i
		}
	}
	return first
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// isArchive says whether a file is there that is called like an archive, or one
// of its parts.
func isArchive(path string) bool {
	whole := path
	if of, _, ok := split.Number(path); ok {
		whole = of
	}
	if !IsArchiveName(whole) {
		return false
	}
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() || err != nil && split.Begun(path)
}

// IsArchiveName says whether a file is called like an archive, or like the first
// part of one: ParseLocation takes one that is there for a path.
func IsArchiveName(path string) bool {
	if whole, n, ok := split.Number(path); ok && n == 1 {
		path = whole
	}
	return slices.ContainsFunc([]string{".tar", ".tar.gz", ".tgz", ".tar.zst"}, func(end string) bool {
		return strings.HasSuffix(strings.ToLower(path), end)
	})
}

// isImageDirectory says whether a directory is there with a file in it that
// only images have.
func isImageDirectory(path string) bool {
	return slices.ContainsFunc([]string{"oci-layout", "image_manifest.json", "manifest_list.json"}, func(file string) bool {
		return exists(filepath.Join(path, file))
	})
}
