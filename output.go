package davit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/internal/partial"
	"github.com/davit-cli/davit/rootfs"
)

// DefaultOutput is the path that an image is written to where none is named:
// the repository's last part and the tag (or the first 12 digits of the
// digest), with the platforms where they were asked for:
//
//	alpine_latest.tar  alpine_3.20_linux-arm64.tar  alpine_6ba4bfe1449a.tar
//	alpine_latest.oci  alpine_latest  alpine_latest.rootfs.tar.gz  alpine_latest.rootfs
//
// It is a legal name on Windows too. Components of all platforms fit into one
// directory, which is called after none.
func DefaultOutput(img image.Image, opts PullOptions) string {
	r := img.Reference
	name := r.Base() + "_"
	switch {
	case r.Tag != "":
		name += r.Tag
	case len(r.Digest.Encoded()) >= 12:
		name += r.Digest.Encoded()[:12]
	}
	if opts.Format == Components {
		return name
	}
	name += platformSuffix(img, opts.Platforms)
	switch opts.Format {
	case OCI:
		return name + ".oci"
	case Files:
		return name + ".rootfs"
	case Rootfs:
		return name + ".rootfs.tar" + map[Compression]string{None: "", Zstd: ".zst", Gzip: ".gz", "": ".gz"}[opts.Compress]
	}
	return name + ".tar"
}

// namedPlatforms is how many platforms a name takes.
const namedPlatforms = 4

func platformSuffix(img image.Image, asked []string) string {
	switch {
	case len(asked) == 0:
		return ""
	case asked[0] == image.AllPlatforms:
		return "_" + image.AllPlatforms
	case len(asked) > namedPlatforms:
		return fmt.Sprintf("_%d-platforms", len(asked))
	}
	suffix := ""
	for _, m := range img.Manifests {
		if m.IsImage() {
			suffix += "_" + strings.Map(fileRune, image.FormatPlatform(m.Platform))
		}
	}
	return suffix
}

// fileRune makes a platform part of a file's name.
func fileRune(r rune) rune {
	switch {
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '_':
		return r
	case r == ')':
		return -1
	}
	return '-'
}

// compressions are what ends of names tell; those of "" davit has not.
var compressions = map[string]Compression{
	".gz": Gzip, ".tgz": Gzip, ".wsl": Gzip, ".zst": Zstd, ".zstd": Zstd, ".tzst": Zstd,
	".xz": "", ".txz": "", ".bz2": "", ".tbz2": "", ".lz4": "", ".lzma": "", ".br": "", ".zip": "", ".7z": "",
}

// CompressionOf is how a file of that name is compressed: gzip, zstd, or not
// at all.
func CompressionOf(path string) Compression {
	if compression := compressions[suffix(path)]; compression != "" {
		return compression
	}
	return None
}

// writable says whether davit has the compression that the file's name tells.
func writable(path string) bool {
	compression, told := compressions[suffix(path)]
	return !told || compression != ""
}

// suffix is the end of a file's name, in lower case.
func suffix(path string) string { return strings.ToLower(filepath.Ext(path)) }

// outputDirectory follows a link to the directory that is to be filled, in
// which nothing but a partial may be, and chooses the partial's. That is in a
// directory which is there already: it may be a mount point, and its parent
// nobody's who runs this. Else it is beside the directory.
func outputDirectory(path string) (target, partialDir string, err error) {
	path = filepath.Clean(path)
	info, err := os.Stat(path)
	if os.IsNotExist(err) {
		if _, err := os.Lstat(path); err == nil {
			return "", "", fmt.Errorf("write into %s: it is a link that leads nowhere", path)
		}
		return path, path + partial.Suffix, nil
	}
	if err == nil && !info.IsDir() {
		err = errors.New("it is no directory")
	}
	var entries []os.DirEntry
	if err == nil {
		path, err = filepath.EvalSymlinks(path)
	}
	if err == nil {
		entries, err = os.ReadDir(path)
	}
	begun := slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.Name() == partial.Suffix })
	switch {
	case begun && len(entries) > 1:
		err = fmt.Errorf("%w: an earlier davit was ended as it filled it", rootfs.ErrNotEmpty)
	case !begun && len(entries) > 0:
		err = rootfs.ErrNotEmpty
	}
	if err != nil {
		return "", "", fmt.Errorf("write into %s: %w", path, err)
	}
	return path, filepath.Join(path, partial.Suffix), nil
}
