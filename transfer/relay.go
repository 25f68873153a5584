package transfer

import (
	"cmp"
	"context"
	"io"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/davit-cli/davit/image"
)

const (
	// relayWindow is the memory for what a relay fetches ahead of its readers.
	relayWindow = 32 << 20
	// minAhead is how much of it each of them has at least.
	minAhead = 2 << 20
)

// Relay fetches blobs in bounded memory and gives several of them to sink at
// once, each to a call of its own: up to lanes calls run side by side, but no
// more than Options.Jobs and 16. They begin in the order of items. What Stream
// promises of a blob's reader holds here too; a blob that may come from mirrors
// is given out only once it is verified where it fits into half of its memory.
//
// Nothing of a blob is fetched before its sink first calls Read. So a sink may
// find out first that it does not need the blob. Read with an empty slice does
// not wait: it only begins the fetching, while the sink makes ready. A sink that
// returns nil before the end of the blob does without the rest, which is no
// error: nothing more of it is fetched, and an image.EventBlobGivenUp tells that.
// After sink has returned, Read returns an error.
//
// The memory, 32 MiB in all, is shared out so that each of the lanes has its part
// whatever the others do: a sink that is slow, or stuck, holds up none of them.
// All connections go to where the least is ahead of the reader.
//
// The places of the items are not used. The first error, of a sink or of a
// source, ends the transfer, and the readers of the other sinks return it. Relay
// returns after all sinks have. Only where ctx ends it does not wait for those
// that are stuck.
//
// With Options.KeepGoing an error ends one blob. Where its source cannot give it,
// its reader returns why; where its sink returns an error, be it after the last
// byte, what is left is not fetched. The *BlobsError has what came first, and that
// of a sink as it was returned. A blob that the source cannot give is an error
// even if the sink returns nil by then. Nobody asks a source that gives nothing
// any more (a dead registry), but the sinks of its blobs are called all the same:
// one that does not read has no error.
//
// What only lost images want (Item.Wanted) is not fetched any further then: its
// sink is not called, or if it is at it, gets an error from Read. Whatever it
// makes of that is not in the *BlobsError.
func Relay(ctx context.Context, items []Item, opts Options, lanes int, sink func(i int, blob io.Reader) error) (Stats, error) {
	if err := check(items); err != nil {
		return Stats{}, err
	}
	e := newRelay(ctx, items, opts, lanes)
	return e.runInto(ctx, func() error { return e.relayInto(ctx, sink) })
}

// relay is what an engine keeps whose blobs are read side by side.
type relay struct {
	pool    pagePool
	lanes   int     // readers at most; 0: it is no relay
	running []*blob // whose sinks have begun to read
	sizes   []int64 // of the blobs whose sinks have not returned, sorted
}

func newRelay(ctx context.Context, items []Item, opts Options, lanes int) *engine {
	e := newEngine(ctx, items, opts)
	e.window = relayWindow
	if opts.KeepGoing {
		e.left++ // for relayInto: a sink may fail when all blobs are verified
	}
	e.relay.lanes = max(1, min(lanes, e.opts.Jobs, relayWindow/minAhead))
	for _, b := range e.blobs {
		b.keepIn(memoryPlace{newMemory(&e.relay.pool), 0})
		e.relay.sizes = append(e.relay.sizes, b.Blob.Size)
	}
	slices.Sort(e.relay.sizes)
	e.share()
	return e
}

// relayInto gives the blobs to sink, and returns when no call of it is left.
func (e *engine) relayInto(ctx context.Context, sink func(i int, blob io.Reader) error) error {
	group, going := errgroup.WithContext(ctx)
	group.SetLimit(e.relay.lanes)
	for i, b := range e.blobs {
		group.Go(func() error {
			if going.Err() != nil || e.stopped() {
				return nil // Relay returns why
			}
			if e.leftOut(b) {
				e.finish(b, nil)
				return nil
			}
			err := sink(i, &blobReader{e, b})
			if e.endsAll(ctx, err) {
				e.finish(b, nil)
				return err
			}
			e.finish(b, err)
			return nil
		})
	}
	err := group.Wait()
	if e.opts.KeepGoing {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.left--
		e.wake.Broadcast()
	}
	return err
}

// stopped tells whether an error has ended the transfer.
func (e *engine) stopped() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.err != nil
}

// leftOut tells whether a blob is over before its sink has begun.
func (e *engine) leftOut(b *blob) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return b.givenUp || e.unwanted(b)
}

// endsAll ends the transfer for what a sink returned, where that is not an error
// of one blob alone. It tells whether it did.
func (e *engine) endsAll(ctx context.Context, err error) bool {
	switch {
	case err == nil:
		return false
	case !e.opts.KeepGoing:
		e.fail(err)
	case ctx.Err() != nil:
		e.fail(context.Cause(ctx)) // which may be why
	default:
		return false
	}
	return true
}

// startRead lets a blob be fetched whose sink begins to read, unless its source
// is dead. The caller holds the lock, and tells what is returned once it has let
// go.
func (e *engine) startRead(b *blob) []image.Event {
	e.open(b, e.ahead)
	e.relay.running = append(e.relay.running, b)
	e.wake.Broadcast()
	if b.origin.dead == nil {
		return nil
	}
	return e.giveUpVain()
}

// finish ends what is left of a blob whose sink has returned, with err or nil,
// and gives its memory to others.
func (e *engine) finish(b *blob, err error) {
	e.mu.Lock()
	for !b.verified && !b.givenUp && !b.lacking() && e.err == nil {
		e.wake.Wait() // for its digest, which is being computed
	}
	var told []image.Event
	if e.err == nil && !b.givenUp && (!b.verified || err != nil) {
		e.hashers.Add(1) // the transfer does not end before that is told
		defer e.hashers.Done()
		told = e.sunk(b, err)
	}
	b.closed = true
	e.mu.Unlock()
	e.tell(told)
	b.memory.close()

	e.mu.Lock()
	defer e.mu.Unlock()
	r := &e.relay
	r.running = slices.DeleteFunc(r.running, func(o *blob) bool { return o == b })
	i, _ := slices.BinarySearch(r.sizes, b.Blob.Size)
	r.sizes = slices.Delete(r.sizes, i, i+1)
	e.share()
	for _, o := range r.running {
		e.makeRoom(o)
	}
}

// sunk ends a blob whose sink has failed, or does without the rest of it. The
// caller holds the lock, and tells what is returned once it has let go.
func (e *engine) sunk(b *blob, err error) []image.Event {
	switch {
	case err == nil:
		return []image.Event{e.drop(b)}
	case !b.verified:
		return e.giveUp(b, err)
	}
	e.miss(b, err)
	return append([]image.Event{{Kind: image.EventWarning, Text: err.Error()}}, e.giveUpVain()...)
}

// awaited tells whether the blob is to be fetched: in a relay, only once its sink
// reads. The caller holds the lock.
func (e *engine) awaited(b *blob) bool { return e.relay.lanes == 0 || b.opened }

// share finds out how far ahead of its reader each blob may be fetched, so that
// of those that are left the largest fit into the window side by side. As blobs
// end that grows, and never shrinks. The caller holds the lock.
func (e *engine) share() {
	largest := e.relay.sizes[max(0, len(e.relay.sizes)-e.relay.lanes):]
	left := e.window
	for i, size := range largest {
		each := left / int64(len(largest)-i)
		if size > each {
			e.ahead = each
			return
		}
		left -= size
	}
	e.ahead = e.window
}

// queue is the blobs to fetch, those first that are wanted first: without a
// relay in their order, else where the least is ahead of the reader. The caller
// holds the lock.
func (e *engine) queue() []*blob {
	if e.relay.lanes == 0 {
		return e.blobs
	}
	slices.SortStableFunc(e.relay.running, func(a, b *blob) int { return cmp.Compare(a.lead(), b.lead()) })
	return e.relay.running
}

// lead is how far what is fetched, or being fetched, is ahead of the reader.
func (b *blob) lead() int64 {
	if len(b.todo) == 0 {
		return 0
	}
	return b.todo[0].Off - b.pos
}
