// Package davit takes container images out of registries without Docker and
// carries them anywhere.
package davit

import (
	"io"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/registry"
	"github.com/davit-cli/davit/transfer"
)

// PullOptions tell Pull what to take and where to put it. The zero value
// works: this machine's architecture on linux, into the default file.
type PullOptions struct {
	// Platform is os/arch[/variant], arch alone, or windows(version)/arch.
	// Empty: linux on this machine's architecture.
	Platform string
	// Output is the archive's path; missing parent directories are made.
	// Empty: a name made of repository and tag, in the current directory.
	Output string
	// Stream receives the archive in place of a file, in order, without resume.
	Stream io.Writer
	// Tag is another name for the image in the archive.
	Tag string
	// Restart discards what an earlier, unfinished pull has left.
	Restart bool
	// Registry tells how the registry is reached.
	Registry registry.Options
	// Transfer tunes the engine.
	Transfer transfer.Options
	// Events receives progress, warnings and steps. May be nil. It is also
	// used for Registry and Transfer where they have none.
	Events image.EventFunc
}

// PullResult is what a pull has written. Its JSON is the command line's --json.
type PullResult struct {
	// Reference is the image's full name with the tag that was taken:
	// docker.io/library/alpine:latest.
	Reference string `json:"reference"`
	// Digest is what the reference named: an index's digest or a manifest's.
	Digest string `json:"digest"`
	// Manifest is the digest of the manifest in the archive.
	Manifest string `json:"manifest"`
	// ImageID is the config's digest.
	ImageID string `json:"image_id"`
	// Platform is the image's platform, ready for --platform.
	Platform string `json:"platform"`
	// Path is the archive, empty for a stream.
	Path string `json:"path"`
	// Size is the archive's size in bytes.
	Size int64 `json:"size"`
	// Fetched is the bytes of blobs that came over the network.
	Fetched int64 `json:"fetched"`
	// Seconds is how long the pull took.
	Seconds float64 `json:"seconds"`
}
