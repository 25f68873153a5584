package davit

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
	"github.com/davit-cli/davit/registry"
	"github.com/davit-cli/davit/transfer"
)

// CopyOptions tell Copy what to take and how. The zero value works: all
// platforms, anonymously.
type CopyOptions struct {
	// Platforms are those of PullOptions. None: all of them, attestations too,
	// so that the index keeps its digest; of an image on disk all that are
	// there. With one its manifest stands for itself; with several the index
	// that goes into a registry is trimmed to them.
	Platforms []string
	// Bases are archives, layouts or components, named as Apply's, that have what
	// is left out of the images on disk, which are deltas (PullOptions.Since). What
	// the destination has is not missed.
	Bases []string
	// NoForeign leaves out the layers that have URLs where they stand, as
	// PullOptions has it.
	NoForeign bool
	// Layers re-encodes the layers on the way, as PullOptions has it: digests
	// change with that. What goes into registries is written as a layout first,
	// in the system's directory for temporary files.
	Layers Compression
	// Referrers takes along what refers to the images and their manifests:
	// signatures, SBOMs, attestations, and what refers to those. They are what
	// the source's referrers API or its referrers tag lists, and cosign's tags.
	// What the source lists and has not got, or what davit does not read, is
	// left out with a warning; and what refers to an index that is trimmed,
	// with a note.
	Referrers bool
	// SkipSame takes an image for copied whose name at the destination means
	// what it means at the source, without a look at its blobs. Where all
	// platforms are wanted that costs one request on each side; else also the
	// manifests and configs of the source. An archive in which something is to
	// be different is written anew as a whole. With Referrers these are looked for
	// all the same, and what is not there yet is copied.
	SkipSame bool
	// DryRun finds out what would be sent, and sends nothing. The results tell it.
	DryRun bool
	// KeepGoing copies what of several images can be copied.
	KeepGoing bool
	// Source and Destination tell how registries are reached. They are two, so
	// that each side has its own credential.
	Source, Destination registry.Options
	// Transfer tunes the reading.
	Transfer transfer.Options
	// Events receives progress, warnings and steps. May be nil. It is also used
	// for the others where they have none.
	Events image.EventFunc

	sources *sources // that are open already; nil: the copy opens its own
}

// CopyItem is one image that is copied.
type CopyItem struct {
	// Source is read by ParseLocation, Destination by ParseDestination.
	Source, Destination string
	// Platforms, if there are any, are taken in place of the options'.
	Platforms []string
	// Referrers takes along what refers to this image, as the options' does for
	// all.
	Referrers bool
}

// CopyResult is what was copied of one image. Its JSON is the command line's
// --json.
type CopyResult struct {
	// Source and Destination are full names, with the tags that were taken.
	Source      string `json:"source"`
	Destination string `json:"destination"`
	// Path is the file or directory that was written, where one was.
	Path string `json:"path,omitempty"`
	// Digest is what the destination's name means now.
	Digest digest.Digest `json:"digest"`
	// Same says that it did so already, so that nothing was looked at: see
	// CopyOptions.SkipSame. The figures below are 0 then.
	Same bool `json:"same,omitempty"`
	// Size is that of the image's blobs, each once, in bytes; of those Sent
	// bytes were sent for it, and Mounted bytes the destination took from another
	// repository of its own. The others were there, or were sent for another
	// image; of what goes onto the disk together, all were sent for the first.
	Size    int64 `json:"size"`
	Sent    int64 `json:"sent"`
	Mounted int64 `json:"mounted"`
	// Referrers is how many went along, or were there. Their bytes are counted
	// above.
	Referrers int `json:"referrers,omitempty"`
	// Seconds is how long the copy took, of all images.
	Seconds float64 `json:"seconds"`
}

// Copy copies an image, in a registry or on disk, into a registry or onto the
// disk. See CopyAll.
func Copy(ctx context.Context, source, destination string, opts CopyOptions) (CopyResult, error) {
	results, err := CopyAll(ctx, []CopyItem{{Source: source, Destination: destination}}, opts)
	if len(results) == 0 {
		return CopyResult{}, err
	}
	return results[0], err
}

// CopyAll copies several images, each blob once.
//
// Into a registry they go without a file in between. What a repository has is
// not sent; what the registry has in another one, from which it is copied or to
// which it was sent before, is mounted. Manifests come
// when all that they name is there, and the tag last, so that an interrupted
// copy leaves nothing that is not whole, and goes on where it was when it is run
// again. Without a tag the destination gets the source's. A destination with a
// digest is an error where the source is another one.
//
// Onto the disk they go as PullAll writes them, all images of one path together.
//
// The results are in the order of the items. Where some of several images could
// not be copied, the error is a *CopyError: with KeepGoing the others are, else
// what was begun is left as it was. Errors wrap image.ErrNotFound,
// image.ErrUnauthorized or image.ErrVerification where one of them is the cause.
func CopyAll(ctx context.Context, items []CopyItem, opts CopyOptions) ([]CopyResult, error) {
	return copyAll(ctx, items, opts, nil)
}

// copyAll is CopyAll after some failures, each of which counts as an image.
func copyAll(ctx context.Context, items []CopyItem, opts CopyOptions, failures []Failure) ([]CopyResult, error) {
	begun := time.Now()
	c, err := newCopying(items, opts.withDefaults())
	if err != nil {
		return nil, err
	}
	defer c.close()
	if opts.Layers != "" {
		c.recode(ctx)
	}
	c.toRegistries(ctx)
	c.toDisk(ctx)
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	return c.outcome(failures, time.Since(begun))
}

func (o CopyOptions) withDefaults() CopyOptions {
	for _, events := range []*image.EventFunc{&o.Source.Events, &o.Destination.Events, &o.Transfer.Events} {
		if *events == nil {
			*events = o.Events
		}
	}
	if o.Transfer.Verdicts == nil {
		o.Transfer.Verdicts = new(transfer.Verdicts)
	}
	if o.Transfer.Retries <= 0 {
		o.Transfer.Retries = transfer.DefaultRetries
	}
	return o
}

// CopyError says which of several images could not be copied.
type CopyError struct {
	Failures []Failure
	// Asked is how many images were asked for, Copied how many are there now.
	Asked, Copied int
	// KeepGoing says that what could be copied was.
	KeepGoing bool
	// DryRun says that nothing was to be copied: Copied is how many could be, or
	// are there.
	DryRun bool
}

// Summary is the first line of Error.
func (e *CopyError) Summary() string {
	switch could := fmt.Sprintf("%d of %d images could not be copied", len(e.Failures), e.Asked); {
	case e.DryRun:
		return fmt.Sprintf("%d of %d images cannot be copied:", len(e.Failures), e.Asked)
	case e.Copied == 0:
		return could + ":"
	case e.Copied == 1:
		return could + ", 1 is there now:"
	default:
		return could + fmt.Sprintf(", %d are there now:", e.Copied)
	}
}

// Error has a line for each image that failed.
func (e *CopyError) Error() string { return withFailures(e.Summary(), e.Failures) }

// Unwrap is why each of them failed.
func (e *CopyError) Unwrap() []error { return causesOf(e.Failures) }

// outcome is what has become of the images, after some failures.
func (c *copying) outcome(failures []Failure, took time.Duration) ([]CopyResult, error) {
	var results []CopyResult
	failed := &CopyError{Failures: failures, Asked: len(failures) + len(c.jobs), KeepGoing: c.opts.KeepGoing, DryRun: c.opts.DryRun}
	for _, j := range c.jobs {
		if j.err != nil {
			failed.Failures = append(failed.Failures, Failure{cmp.Or(j.label, j.from.String()), j.err})
			continue
		}
		if j.done {
			r := j.result()
			r.Seconds = took.Seconds()
			results = append(results, r)
		}
	}
	failed.Copied = len(results)
	switch {
	case len(failed.Failures) == 0:
		return results, nil
	case failed.Asked == 1:
		return nil, failed.Failures[0].Err
	}
	return results, failed
}
