package davit

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/davit-cli/davit/ref"
)

// Destination is where an image goes: into a registry, or onto the disk.
type Destination struct {
	// Reference is the name that it gets in a registry. Without tag and digest:
	// those of what is copied. Empty for what goes onto the disk.
	Reference ref.Reference
	// Path is the file or directory that is written, as Format.
	Path   string
	Format Format
	// Name is what the image is called there, Tag the tag that it gets in place of
	// its own. Both empty: it is called as where it comes from.
	Name, Tag string
}

// String is the destination as ParseDestination reads it.
func (d Destination) String() string {
	if d.Path == "" {
		return d.Reference.String()
	}
	s := d.Path
	switch {
	case d.Format == OCI:
		s = "oci:" + s
	case d.Format == Components:
		s = componentsPrefix + s
	case d.Tag != "":
		s = "oci-archive:" + s
	case !IsArchiveName(s):
		s = "docker-archive:" + s
	}
	if name := cmp.Or(d.Name, d.Tag); name != "" {
		s += ":" + name
	}
	return s
}

// ParseDestination reads where an image goes:
//
//	registry.lan/app:1, docker://app    a name in a registry, as ref.Parse reads it
//	x.tar, ./x.tar, docker-archive:x,   an archive
//	oci-archive:x
//	oci:DIR, ./DIR, ../DIR, /srv/DIR    an OCI image layout
//	components:DIR, or a path where     manifest, config and layers as plain files
//	components are already
//
// Behind what goes onto the disk may stand a colon and the name that the image
// gets there: x.tar:app:1. In a layout and behind oci-archive: a single word is a
// tag, as skopeo has it: oci:DIR:1. It looks at what is there, and opens nothing. Errors
// wrap ref.ErrInvalid.
func ParseDestination(s string) (Destination, error) {
	s = strings.TrimSpace(s)
	prefix, rest, ok := cutTransport(s, transports)
	switch at := splitOutput(s); {
	case ok:
		format := map[string]Format{"oci:": OCI, componentsPrefix: Components}[prefix]
		if format == "" {
			format = Archive
		}
		return onto(splitOutput(rest), format, prefix == "oci:" || prefix == "oci-archive:")
	case strings.Contains(s, "://"), s == "":
	case IsArchiveName(at.Path):
		return onto(at, Archive, false)
	case isPath(s):
		format := formatAt(at.Path)
		return onto(at, format, format == OCI)
	}
	if err := noTransport(s); err != nil {
		return Destination{}, err
	}
	r, err := ref.Parse(s)
	if err == nil && r.Scheme == "" && strings.HasSuffix(s, "/") {
		return Destination{}, fmt.Errorf("%w: %q ends in /: write the image's whole name, or ./ before it if a directory is meant", ref.ErrInvalid, s)
	}
	return Destination{Reference: r}, err
}

// splitOutput parts a path that need not be there yet from a name behind it: at
// the end of what is there or is called like an archive, else at the first colon.
func splitOutput(s string) Location {
	volume := len(filepath.VolumeName(s))
	if at := splitPath(s); exists(at.Path) {
		return at
	}
	first := -1
	for i := volume; i < len(s); i++ {
		switch {
		case s[i] != ':':
		case IsArchiveName(s[:i]):
			return Location{Path: s[:i], Image: s[i+1:]}
		case first < 0:
			first = i
		}
	}
	if first < 0 || IsArchiveName(s) {
		return Location{Path: s}
	}
	return Location{Path: s[:first], Image: s[first+1:]}
}

// formatAt is what a path is written as that does not say it itself.
func formatAt(path string) Format {
	info, err := os.Stat(path)
	switch {
	case err == nil && !info.IsDir():
		return Archive
	case exists(filepath.Join(path, "image_manifest.json")), exists(filepath.Join(path, "manifest_list.json")):
		return Components
	}
	return OCI
}

// onto is a destination on the disk, where a single word may be a tag.
func onto(at Location, format Format, tags bool) (Destination, error) {
	d := Destination{Path: at.Path, Format: format, Name: at.Image}
	switch {
	case d.Name == "":
		return d, nil
	case tags && ref.ValidTag(d.Name):
		d.Name, d.Tag = "", at.Image
		return d, nil
	}
	if format == Components {
		return Destination{}, fmt.Errorf("%w: components have no name for their image, so no use for %q", ref.ErrInvalid, d.Name)
	}
	if _, err := ref.ParseName(d.Name); err != nil {
		return Destination{}, fmt.Errorf("name of the image in %s: %w", d.Path, err)
	}
	return d, nil
}
