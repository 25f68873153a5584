package transfer

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
)

// BlobsError lists the blobs that a transfer with Options.KeepGoing had to do
// without, and those of which a sink of Relay returned an error. errors.Is and
// errors.As look through all of them.
type BlobsError struct {
	// Blobs is not empty, and in the order of the items.
	Blobs []BlobError
}

// BlobError tells why one blob could not be had, or what its sink returned.
type BlobError struct {
	Digest digest.Digest
	Err    error // it names the blob, if a sink's error does
}

// maxListed bounds the lines of a BlobsError's text.
const maxListed = 10

// Error is the one blob's error, or a line for each, the first ten of them.
func (e *BlobsError) Error() string {
	if len(e.Blobs) == 1 {
		return e.Blobs[0].Err.Error()
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%d blobs could not be had:", len(e.Blobs))
	for _, b := range e.Blobs[:min(len(e.Blobs), maxListed)] {
		fmt.Fprintf(&text, "\n  %v", b.Err)
	}
	if more := len(e.Blobs) - maxListed; more > 0 {
		fmt.Fprintf(&text, "\n  and %d more", more)
	}
	return text.String()
}

// Unwrap returns the error of each blob.
func (e *BlobsError) Unwrap() []error {
	var errs []error
	for _, b := range e.Blobs {
		errs = append(errs, b.Err)
	}
	return errs
}

// blobsError lists the blobs that have an error of their own; nil where none
// has. The caller holds the lock.
func (e *engine) blobsError() error {
	var failed []*blob
	for _, b := range e.blobs {
		if b.err != nil {
			failed = append(failed, b)
		}
	}
	if len(failed) == 0 {
		return nil
	}
	slices.SortFunc(failed, func(a, b *blob) int { return a.number - b.number })
	list := &BlobsError{}
	for _, b := range failed {
		list.Blobs = append(list.Blobs, BlobError{b.Blob.Digest, b.err})
	}
	return list
}

// hopeless ends what err ends for good: with KeepGoing the claim's blob alone
// where the fault is its source's, else the transfer. begun is where the tries
// began that were in vain.
func (e *engine) hopeless(c *claim, begun progress, err error) {
	var place *placeError
	if !e.opts.KeepGoing || errors.As(err, &place) {
		e.fail(err)
		return
	}
	e.mu.Lock()
	var told []image.Event
	// Where somebody has taken it over, or all bytes are there and only the
	// digest decides, the connection's end says nothing.
	if c.ctx.Err() == nil && c.lacking() {
		if c.from.got == begun.source && !ofOneBlob(err) {
			c.from.countBarren(err)
		}
		told = e.giveUp(c.blob, err)
	}
	e.mu.Unlock()
	e.tell(told)
}

// reject ends a blob whose bytes had the wrong digest and are forgotten;
// without KeepGoing it ends the transfer.
func (e *engine) reject(b *blob, err error) {
	if !e.opts.KeepGoing {
		e.fail(err)
		return
	}
	e.begin(b)
	kept := newExtents(b.Place.Written(), b.Blob.Size).sum()
	e.opts.Events.Send(image.Event{Kind: image.EventBlobAdvanced, Blob: b.Blob, Bytes: kept - b.Blob.Size})
	e.mu.Lock()
	told := e.giveUp(b, err)
	e.mu.Unlock()
	e.tell(told)
}

// tell sends events. The caller does not hold the lock.
func (e *engine) tell(events []image.Event) {
	for _, ev := range events {
		e.opts.Events.Send(ev)
	}
}

// tellUnlocked sends events, before which the transfer does not end. The caller
// holds the lock, which is let go meanwhile.
func (e *engine) tellUnlocked(events []image.Event) {
	if len(events) == 0 {
		return
	}
	e.hashers.Add(1)
	defer e.hashers.Done()
	e.mu.Unlock()
	defer e.mu.Lock()
	e.tell(events)
}

// ofOneBlob tells errors that say nothing about the source's other blobs.
func ofOneBlob(err error) bool {
	return errors.Is(err, image.ErrVerification) || errors.Is(err, image.ErrNotFound) ||
		errors.Is(err, image.ErrUnauthorized)
}

// giveUp ends a blob that cannot be had, and all that is in vain without it.
// The caller holds the lock, and tells what is returned once it has let go.
func (e *engine) giveUp(b *blob, err error) []image.Event {
	told := []image.Event{{Kind: image.EventWarning, Text: err.Error()}, e.lose(b, err)}
	return append(told, e.giveUpVain()...)
}

// giveUpVain ends the blobs that are not worth a request any more: those of
// dead sources, and those that only lost images want. What is all there, and
// waits for nothing but its hash, is left alone. The caller holds the lock, and
// tells what is returned once it has let go.
func (e *engine) giveUpVain() []image.Event {
	var told []image.Event
	for _, b := range e.blobs {
		dead := b.origin.dead
		if dead == nil || !e.awaited(b) || !b.lacking() || b.hasMirror() || e.unwanted(b) {
			continue
		}
		if !b.origin.mourned {
			b.origin.mourned = true
			told = append(told, image.Event{Kind: image.EventWarning,
				Text: fmt.Sprintf("nothing more is asked of a source that gave no byte of %d blobs in a row: %v", maxBarren, dead)})
		}
		told = append(told, e.lose(b, fmt.Errorf("blob %s: given up with its source: %w", b.Blob.Digest, dead)))
	}
	for _, b := range e.blobs {
		if b.lacking() && e.unwanted(b) {
			told = append(told, e.drop(b))
		}
	}
	return told
}

// lose ends a blob for an error, and with it the images that want it.
func (e *engine) lose(b *blob, err error) image.Event {
	e.miss(b, err)
	return e.drop(b)
}

// miss takes note of a blob's error, for which the images that want it are lost.
func (e *engine) miss(b *blob, err error) {
	b.err = err
	for _, i := range b.Wanted {
		e.lost[i] = true
	}
}

// drop ends a blob: nothing of it is fetched any more, and nobody waits for
// it. What was written of it stays in its place.
func (e *engine) drop(b *blob) image.Event {
	b.givenUp, b.todo = true, nil
	e.endClaims(b, errGivenUp)
	e.left--
	e.wake.Broadcast()
	return image.Event{Kind: image.EventBlobGivenUp, Blob: b.Blob}
}

// unwanted tells whether every image that wants the blob is lost.
func (e *engine) unwanted(b *blob) bool {
	whole := func(i int) bool { return !e.lost[i] }
	return len(b.Wanted) > 0 && !slices.ContainsFunc(b.Wanted, whole)
}

// whyGivenUp is what a blob's reader returns once it is given up.
func (b *blob) whyGivenUp() error {
	if b.err != nil {
		return b.err
	}
	return fmt.Errorf("blob %s: not fetched any further: each image that wants it lacks another", b.Blob.Digest)
}

// lacking tells whether bytes of the blob are still to come.
func (b *blob) lacking() bool {
	return !b.givenUp && b.written.end(0) < b.Blob.Size
}
