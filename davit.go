// Package davit takes container images out of registries without Docker and
// carries them anywhere.
package davit

import (
	"errors"
	"fmt"
	"strings"
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
func (e *PullError) Error() string { return withFailures(e.Summary(), e.Failures) }

// Unwrap is why each of them failed.
func (e *PullError) Unwrap() []error { return causesOf(e.Failures) }

// withFailures is a summary, with a line for each image that failed.
func withFailures(summary string, failures []Failure) string {
	var b strings.Builder
	b.WriteString(summary)
	for _, f := range failures {
		fmt.Fprintf(&b, "\n  %v", f.Err)
	}
	return b.String()
}

func causesOf(failures []Failure) []error {
	var errs []error
	for _, f := range failures {
		errs = append(errs, f.Err)
	}
	return errs
}
