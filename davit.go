// Package davit takes container images out of registries without Docker and
// carries them anywhere.
package davit

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/registry"
	"github.com/davit-cli/davit/transfer"
)

// Format is what images are written as.
type Format string

// The formats.
const (
	// Archive is one tar that every loader takes; see package archive.
	Archive Format = "archive"
	// OCI is an OCI image layout, a directory; see package layout.
	OCI Format = "oci"
	// Components is a directory of manifest, config and layers as plain files;
	// see package components.
	Components Format = "components"
	// Rootfs is the image's file system as one tar; see package rootfs.
	Rootfs Format = "rootfs"
	// Files is the image's file system as a directory; see package rootfs.
	Files Format = "files"
)

// Formats are all of them.
func Formats() []Format { return []Format{Archive, OCI, Components, Rootfs, Files} }

// Compression is how bytes are compressed.
type Compression string

// The compressions.
const (
	None Compression = "none"
	Gzip Compression = "gzip"
	Zstd Compression = "zstd"
)

// PullOptions tell Pull what to take and where to put it. The zero value
// works: this machine's architecture on linux, as an archive, into the default
// file.
type PullOptions struct {
	// Platforms are os/arch[/variant], arch alone, or windows(version)/arch;
	// or "all" alone. None: linux on this machine's architecture. With several
	// the index is kept, and the first is the one for loaders that know only
	// one; of all, linux/amd64 is.
	Platforms []string
	// TrimIndex drops from the index that is kept what was not taken. Its
	// digest is another one then.
	TrimIndex bool
	// Format is what to write. "": Archive.
	Format Format
	// Output is the path to write; missing parent directories are made.
	// Empty, for one image: a name made of repository and tag, in the current
	// directory.
	Output string
	// Stream receives the output in place of a file, in order, without
	// resume. Archive and Rootfs have it.
	Stream io.Writer
	// Tag is another name for the image where it goes. Archive and OCI have it.
	Tag string
	// Layers, Gzip or None, re-encodes the layers of an Archive or OCI. The
	// manifest's digest is another one then, the image ID stays.
	Layers Compression
	// ManifestOnly leaves the layers out of Components.
	ManifestOnly bool
	// Compress is how a Rootfs is compressed. "": as its name ends.
	Compress Compression
	// Split is the size in bytes of the parts in which an Archive is written: as
	// Output.001, Output.002 and so on, with their checksums in Output.sha256. At
	// least MinSplit; there are 999 parts at most, and one at least. 0: one file.
	Split int64
	// Level is how hard Compress and Layers try: gzip's 1 to 9, zstd's 1 to
	// 19. 0: the fastest.
	Level int
	// SaveConfig is a file for the config of the image that is written as
	// Rootfs or Files, not in the output; missing parent directories are made.
	SaveConfig string
	// NoForeign leaves out the layers that have URLs where they stand, so that
	// their registry need not hold them, with a warning that says how many they
	// are. Manifests name them still, byte for byte. A Rootfs or Files is what
	// the other layers make.
	NoForeign bool
	// Referrers takes along what refers to the images, as CopyOptions has it.
	// Archive and OCI have it: as further images, which loaders pass over.
	Referrers bool
	// Since names bases: what the other side has already. Layers that one has
	// are left out of an Archive or OCI layout, which is a delta then, and says
	// in index.json which base has them; configs and manifests are always there.
	// Apply makes it whole. A base is a Location, on disk where that may be meant:
	// an archive, a layout or a directory of components, all of whose blobs count;
	// or an image in a registry, whose manifests' blobs do, of all platforms. Or it
	// is a text file that lists digests of blobs, one a line: alone, behind NAME@,
	// or as sha256sum writes them, with comments that begin with #. Of a base that
	// is a delta, the blobs that it has left out count too. What a base has is
	// found by name and size; its bytes are not hashed.
	Since []string
	// KeepGoing writes what of several images can be had.
	KeepGoing bool
	// Restart discards what an earlier, unfinished pull has left.
	Restart bool
	// Registry tells how the registries are reached.
	Registry registry.Options
	// Transfer tunes the engine.
	Transfer transfer.Options
	// Events receives progress, warnings and steps. May be nil. It is also
	// used for Registry and Transfer where they have none.
	Events image.EventFunc
}

// PullResult is what a pull has written of one image. Its JSON is the command
// line's --json.
type PullResult struct {
	// Reference is the image's full name with the tag that was taken:
	// docker.io/library/alpine:latest.
	Reference string `json:"reference"`
	// Digest is what the reference named: an index's digest or a manifest's.
	Digest string `json:"digest"`
	// Index is the digest of the index that was written, where one was.
	Index string `json:"index,omitempty"`
	// Manifest is the digest of the first manifest that was written.
	Manifest string `json:"manifest"`
	// ImageID is the digest of its config.
	ImageID string `json:"image_id"`
	// Platform is its platform, ready for --platform.
	Platform string `json:"platform"`
	// Labels are those of its config.
	Labels map[string]string `json:"labels,omitempty"`
	// Manifests are all that were written, where there are several.
	Manifests []ManifestResult `json:"manifests,omitempty"`
	// Format is what was written.
	Format Format `json:"format"`
	// Path is where, empty for a stream. There is no such file where there are
	// parts, and davit reads them by that name.
	Path string `json:"path"`
	// Parts are the paths of an archive's parts, in order, where it is split.
	Parts []string `json:"parts,omitempty"`
	// Layer is the digest of the layer whose bytes the output is, where a
	// Rootfs is just that.
	Layer string `json:"layer,omitempty"`
	// Size is in bytes: of the file with all images; of the image's documents
	// and blobs in a directory of them; of the files' contents.
	Size int64 `json:"size"`
	// Fetched is the bytes of blobs that came over the network, of all images.
	Fetched int64 `json:"fetched"`
	// Referrers is how many of them went along.
	Referrers int `json:"referrers,omitempty"`
	// LeftOut is the bytes of the image's layers that were left out since a base
	// has them (PullOptions.Since).
	LeftOut int64 `json:"left_out,omitempty"`
	// Seconds is how long the pull took, of all images.
	Seconds float64 `json:"seconds"`
}

// ManifestResult is one of several manifests that were written.
type ManifestResult struct {
	Digest  string `json:"digest"`
	ImageID string `json:"image_id"`
	// Platform is empty for an attestation.
	Platform string `json:"platform,omitempty"`
}

// ErrNoFileSystem says that what was asked for is no container image, so that
// it has no file system to write.
var ErrNoFileSystem = errors.New("it is no container image and has no file system")

// PullError says which of several images could not be had.
type PullError struct {
	Failures []Failure
	// Asked is how many images were asked for, Written how many are whole in
	// the output: none but with KeepGoing.
	Asked, Written int
}

// Failure is one image that could not be had.
type Failure struct {
	// Reference is what was asked for.
	Reference string
	Err       error
}

// Summary is the first line of Error.
func (e *PullError) Summary() string {
	summary := fmt.Sprintf("%d of %d images could not be had", len(e.Failures), e.Asked)
	if e.Written > 0 {
		summary += fmt.Sprintf(", %d are written", e.Written)
	}
	return summary + ":"
}

// Error has a line for each image that failed.
func (e *PullError) Error() string {
	var b strings.Builder
	b.WriteString(e.Summary())
	for _, f := range e.Failures {
		fmt.Fprintf(&b, "\n  %v", f.Err)
	}
	return b.String()
}

// Unwrap is why each of them failed.
func (e *PullError) Unwrap() []error {
	var errs []error
	for _, f := range e.Failures {
		errs = append(errs, f.Err)
	}
	return errs
}
