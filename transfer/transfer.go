// Package transfer is the engine: it fills the places of all blobs of a
// command at once, from many connections, out of order, and verifies each.
//
// One queue of closed ranges runs over all blobs, so that one fat layer uses
// every connection and many small ones do not wait for each other. Each blob
// has one hash, fed in order at its frontier: straight from the buffer where a
// piece arrives in order, read back from the place where it came early.
//
// A blob may come from several mirrors at once, each asked for other ranges. As
// bytes prove themselves only when the blob is whole, it is kept who gave which
// of them: where the digest is wrong, only what the one at fault gave is
// fetched again.
//
// Stream and Relay give blobs to readers instead, from a window of memory: one
// after the other, or several at once.
package transfer

import (
	"context"
	"fmt"
	"time"

	"github.com/davit-cli/davit/image"
)

// Options tune the engine. The zero value works.
type Options struct {
	// Jobs caps the connections at work at once. 0: 16.
	Jobs int
	// LimitRate caps the bytes fetched in a second, all connections together. 0: no cap.
	LimitRate int64
	// Retries is how many tries in a row without a new byte end the command, or
	// with KeepGoing the blob. 0: 5.
	Retries int
	// Backoff is the pause after the first try without a new byte; it doubles
	// with each further one. 0: one second.
	Backoff time.Duration
	// Stall is how long a connection may give no byte while the engine waits
	// for one, before it is replaced. 0: 30 seconds.
	Stall time.Duration
	// KeepGoing goes on with the other blobs where a source cannot give one:
	// it is not there or not allowed, has other content, or the tries were in
	// vain; or where a sink of Relay returns an error. Other faults of our own
	// side (a full disk, an error of Item.Verified) still end everything, as the
	// end of the context does. Stream has no use for it.
	KeepGoing bool
	// Verdicts keep what is found out about mirrors for the next transfer of
	// the same command. Nil: it is forgotten.
	Verdicts *Verdicts
	// Events receives progress. May be nil.
	Events image.EventFunc
}

// What the zero values of Options stand for.
const (
	DefaultJobs    = 16
	DefaultRetries = 5
	DefaultBackoff = time.Second
	DefaultStall   = 30 * time.Second
)

func (o Options) withDefaults() Options {
	if o.Jobs <= 0 {
		o.Jobs = DefaultJobs
	}
	if o.Retries <= 0 {
		o.Retries = DefaultRetries
	}
	if o.Backoff <= 0 {
		o.Backoff = DefaultBackoff
	}
	if o.Stall <= 0 {
		o.Stall = DefaultStall
	}
	return o
}

// Item is one blob to fetch.
type Item struct {
	Blob image.Descriptor
	// Source is where the blob is fetched from.
	Source image.Source
	// Mirrors are asked for it before Source is, all at once, each for other
	// ranges. Source gives what none of them can. One that sends wrong content,
	// is slower than others by far, or fails again and again, is dropped for the
	// rest of the transfer, which an image.EventWarning tells.
	Mirrors []image.Source
	// Place receives the blob. Stream and Relay bring places of their own.
	Place image.Place
	// Verified, if set, is called once when the blob is whole and has the
	// right digest. An error ends the transfer.
	Verified func() error
	// Wanted are the images, by numbers of the caller's, that want the blob.
	// Where Options.KeepGoing gave up a blob of each of them, this one is not
	// fetched any further, which is no error of its own. Empty: it is wanted
	// whatever becomes of the others.
	Wanted []int
}

// Stats tell what a transfer did.
type Stats struct {
	// Fetched is the bytes that came over the network and were kept.
	Fetched int64
	// Resumed is the bytes that an earlier run had left and that proved right.
	Resumed int64
}

// Fetch fills the places of all items and returns when every blob is
// verified, or with the first error that cannot be mended by trying again.
// What was written stays in the places, but for blobs that proved wrong:
// these are forgotten. No two items may share a place.
//
// With Options.KeepGoing it returns when every blob is verified or given up,
// and where some were, the error is a *BlobsError. An image is whole if none
// of its blobs is in there.
//
// A blob whose bytes are not what its descriptor says is an
// image.ErrVerification.
func Fetch(ctx context.Context, items []Item, opts Options) (Stats, error) {
	if err := check(items); err != nil {
		return Stats{}, err
	}
	e := newEngine(ctx, items, opts)
	e.announce()
	return e.run()
}

// check refuses what no source could deliver.
func check(items []Item) error {
	for _, i := range items {
		if i.Blob.Size < 0 {
			return fmt.Errorf("blob %s: negative size %d: %w", i.Blob.Digest, i.Blob.Size, image.ErrVerification)
		}
		if err := i.Blob.Digest.Validate(); err != nil {
			return fmt.Errorf("blob %q: %w: %w", string(i.Blob.Digest), err, image.ErrVerification)
		}
	}
	return nil
}
