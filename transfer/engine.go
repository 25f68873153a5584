package transfer

import (
	"context"
	"math"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"

	"github.com/davit-cli/davit/image"
)

// engine is the state of one transfer. Everything below mu is guarded by it.
type engine struct {
	ctx     context.Context // ends with the transfer
	cancel  context.CancelCauseFunc
	opts    Options
	limiter *rate.Limiter       // nil: no cap
	catchUp *semaphore.Weighted // bounds the readers-back, which need a core each

	mu     sync.Mutex
	wake   *sync.Cond // work may be there, or the end
	blobs  []*blob    // in the order in which they are begun
	left   int        // blobs neither verified nor given up, and one more while sinks may still fail
	active map[*claim]struct{}
	// parked are the active claims that use no connection: those that wait for
	// a reader and, where there are other sources to ask meanwhile, those
	// between two tries.
	parked int
	// window is the memory, in bytes, for what is fetched ahead of readers; 0:
	// the items have places.
	window int64
	// ahead is how far ahead of its reader a blob may be fetched.
	ahead int64
	relay relay
	// target is how many connections may be at work now.
	target    int
	lost      map[int]bool // images that will not be whole
	calmUntil time.Time    // no growth before
	fetched   int64        // bytes kept of what came over the network
	resumed   int64
	chunkRate float64 // bytes a second that one connection gives, smoothed
	peakRate  float64 // the highest chunkRate so far
	err       error

	sources  []*source        // all, in the order in which items name them
	mirrored bool             // some item has mirrors
	hosts    map[string]int64 // bytes kept by who sent them, where there are mirrors

	hashers sync.WaitGroup
}

// blob is one item under way.
type blob struct {
	Item
	number   int       // among the items
	origin   *source   // Item.Source
	mirrors  []*source // Item.Mirrors
	todo     []image.Extent
	limit    int64 // up to where it may be fetched; noLimit without a reader
	written  extents
	resumed  int64 // bytes of an earlier run, until they proved right
	got      int64 // new bytes, ever growing: what progress is measured by
	claims   int   // claims of this blob at work
	streamed bool  // one of them is a stream: it has no other beside it
	started  bool
	verified bool
	givenUp  bool
	err      error // why it was given up, or what its sink returned; nil where nobody wants it any more
	damaged  int   // times that what stood on disk proved wrong
	hasher   hasher

	// Of a blob with mirrors:
	without map[*source]bool // mirrors that do not have it, or do not give it
	failed  error            // why its origin is not asked for it any more
	shares  []*share         // who gave what stands in the place
	again   bool             // other bytes, of a wrong digest, stand where it is written
	sole    *source          // who alone is asked, to find out who was wrong; nil for anybody
	read    bool             // a reader has had bytes of it
	sample  sample           // of what the origin says
	accused []*source        // whose bytes were not the origin's

	// Of a blob with a reader:
	memory memoryPlace // Item.Place
	pos    int64       // of the reader
	held   int64       // how many of the last bytes wait for the digest
	opened bool        // it may be fetched
	closed bool        // its sink has returned
}

// claim is a run of bytes that one connection is fetching.
type claim struct {
	*blob
	from     *source
	pos, end int64 // what is still to come; a thief may lower end
	stream   bool  // fetches the blob from its first byte on, and keeps what is missing
	bytes    int64 // fetched so far
	started  time.Time
	base     int64 // bytes at started
	waiting  bool  // between two tries, or for the blob's reader
	taken    bool  // all of it was taken over from a slower connection
	over     bool  // nothing more of it may be written
	flow     flow
	ctx      context.Context
	cancel   context.CancelCauseFunc // ends what is under way for it
}

// rate is the claim's bytes a second.
func (c *claim) rate(now time.Time) float64 {
	return float64(c.bytes-c.base) / max(now.Sub(c.started).Seconds(), 1e-3)
}

const noLimit = math.MaxInt64

// inOrder tells whether one reader takes all blobs, one after the other.
func (e *engine) inOrder() bool { return e.window > 0 && e.relay.lanes == 0 }

func newEngine(ctx context.Context, items []Item, opts Options) *engine {
	ctx, cancel := context.WithCancelCause(ctx)
	e := &engine{
		ctx:     ctx,
		cancel:  cancel,
		opts:    opts.withDefaults(),
		catchUp: newCatchUp(),
		active:  map[*claim]struct{}{},
		lost:    map[int]bool{},
		left:    len(items),
	}
	e.wake = sync.NewCond(&e.mu)
	e.target = min(e.opts.Jobs, firstTarget)
	e.limiter = newLimiter(e.opts.LimitRate)
	for i, item := range items {
		b := &blob{Item: item, number: i, limit: noLimit}
		e.introduce(b)
		if item.Place != nil {
			b.written = newExtents(item.Place.Written(), item.Blob.Size)
		}
		b.resumed = b.written.sum()
		if len(b.mirrors) > 0 {
			b.shares = []*share{{has: slices.Clone(b.written)}}
		}
		b.todo = b.written.gaps(item.Blob.Size)
		e.blobs = append(e.blobs, b)
	}
	return e
}

// newLimiter holds bytes to so many a second; 0 is no cap, and nil.
func newLimiter(r int64) *rate.Limiter {
	if r <= 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(r), int(min(max(r/8, 1), bufferSize)))
}

// largestFirst is the order without readers: the tail is short when what
// comes last is small.
func (e *engine) largestFirst() {
	slices.SortStableFunc(e.blobs, func(a, b *blob) int {
		return int(min(max(b.Blob.Size-a.Blob.Size, -1), 1))
	})
}

// run works until every blob is verified or given up, or an error ends it. It returns only
// when no goroutine of it is left. The caller has announced what is ahead.
func (e *engine) run() (Stats, error) {
	defer e.cancel(nil)
	if e.window == 0 {
		e.largestFirst()
	}
	// Whatever ends the context must wake those who wait for work.
	stop := context.AfterFunc(e.ctx, func() { e.fail(context.Cause(e.ctx)) })
	defer stop()

	e.mu.Lock()
	for _, b := range e.blobs {
		e.hashOn(b) // what an earlier run left, and empty blobs
	}
	e.mu.Unlock()

	var workers sync.WaitGroup
	for range e.opts.Jobs {
		workers.Go(func() { e.work() })
	}
	pacer := make(chan struct{})
	go func() { defer close(pacer); e.pace() }()
	workers.Wait()
	e.hashers.Wait()
	stop()
	e.cancel(nil)
	<-pacer
	e.tellHosts()
	e.opts.Events.Send(image.Event{Kind: image.EventDone})

	e.mu.Lock()
	defer e.mu.Unlock()
	err := e.err
	if err == nil {
		err = e.blobsError()
	}
	return Stats{Fetched: e.fetched, Resumed: e.resumed}, err
}

// fail ends the transfer with the first error.
func (e *engine) fail(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.failLocked(err)
}

func (e *engine) failLocked(err error) {
	if e.err == nil && e.left > 0 {
		e.err = err
		e.cancel(err)
	}
	e.wake.Broadcast()
}

// next returns a claim, as soon as there is one that this worker may take, or
// nil when the transfer is over.
func (e *engine) next() *claim {
	e.mu.Lock()
	defer e.mu.Unlock()
	for {
		if e.err != nil || e.left == 0 {
			return nil
		}
		if len(e.active)-e.parked < e.target {
			now := time.Now()
			c := e.take(now)
			if c == nil {
				c = e.steal(now)
			}
			if c != nil {
				return c
			}
		}
		e.wake.Wait()
	}
}

// take claims the next piece of the queue.
func (e *engine) take(now time.Time) *claim {
	for _, b := range e.queue() {
		if len(b.todo) == 0 {
			continue
		}
		gap := b.todo[0]
		room := b.limit - gap.Off
		if room <= 0 {
			continue
		}
		from := e.choose(b, nil, now)
		if from == nil {
			if e.inOrder() {
				return nil // what comes later might wait for room that only this one makes
			}
			continue
		}
		if b.claims > 0 && (from.noRanges || b.streamed) {
			continue
		}
		if from.noRanges {
			b.todo, b.streamed = nil, true
			c := e.claim(b, from, gap.Off, b.Blob.Size)
			c.stream = true
			return c
		}
		if room < min(gap.Len, minChunk) {
			continue // no crumbs: the reader will make more room
		}
		n := min(e.chunk(gap.Len), room)
		if n < gap.Len {
			b.todo[0] = image.Extent{Off: gap.Off + n, Len: gap.Len - n}
		} else {
			b.todo = b.todo[1:]
		}
		return e.claim(b, from, gap.Off, gap.Off+n)
	}
	return nil
}

// Sizes of the pieces that connections ask for.
const (
	minChunk   = 1 << 20
	firstChunk = 2 << 20
	maxChunk   = 16 << 20
	chunkStep  = 64 << 10
	minSteal   = 256 << 10
	bufferSize = 128 << 10
)

// chunk is how much of a gap to ask for at once: about a second's worth, less
// towards the end of the command so that all connections end together.
func (e *engine) chunk(gap int64) int64 {
	if gap <= minChunk {
		return gap
	}
	n := int64(firstChunk)
	if e.chunkRate > 0 {
		n = int64(e.chunkRate)
	}
	var left int64
	for _, b := range e.blobs {
		for _, t := range b.todo {
			left += t.Len
		}
	}
	n = min(n, left/int64(2*e.target), maxChunk)
	if e.window > 0 {
		n = min(n, e.window/int64(2*e.target))
	}
	n = max(n, minChunk) / chunkStep * chunkStep
	if gap < n+n/2 {
		return gap // no crumbs
	}
	return n
}

func (e *engine) claim(b *blob, from *source, pos, end int64) *claim {
	c := &claim{blob: b, from: from, pos: pos, end: end, started: time.Now()}
	c.flow.made = c.started
	c.ctx, c.cancel = context.WithCancelCause(e.ctx)
	e.active[c] = struct{}{}
	b.claims++
	from.active++
	from.pulse.probe = false
	return c
}

// steal takes over from the connection that would be busy longest: half of
// what it has left, or all where it has nearly come to a stand while others
// go on.
func (e *engine) steal(now time.Time) *claim {
	var victim *claim
	var longest float64
	for c := range e.active {
		if c.waiting || c.stream || c.pos >= c.end {
			continue
		}
		if t := float64(c.end-c.pos) / (c.rate(now) + 1); t > longest {
			victim, longest = c, t
		}
	}
	// A new request costs a round trip or two: not worth it for less.
	if victim == nil || longest < 1 || now.Sub(victim.started) < time.Second {
		return nil
	}
	b, pos, end := victim.blob, victim.pos, victim.end
	from := e.choose(b, victim.from, now)
	if from == nil || from.noRanges && from != victim.from {
		return nil
	}
	if e.stands(victim, longest, now) {
		victim.end = pos
		victim.cancel(errSuperseded)
		c := e.claim(b, from, pos, end)
		c.taken = true
		return c
	}
	if victim.bytes == victim.base || end-pos < 2*minSteal {
		return nil
	}
	mid := pos + (end-pos)/2
	mid -= (mid - pos) % chunkStep
	victim.end = mid
	return e.claim(b, from, mid, end)
}

// stands tells whether a connection has nearly come to a stand, so that
// another one may take over all that it has left. One that took over itself is
// given more time: where every answer is slow in coming, cutting them short
// would bring nothing at all.
func (e *engine) stands(c *claim, left float64, now time.Time) bool {
	if c.taken && (c.bytes == c.base || now.Sub(c.started) < 10*time.Second) {
		return false
	}
	return left > 5 && c.rate(now) < e.peakRate/8
}

// release gives back what a claim has not fetched.
func (e *engine) release(c *claim) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c.cancel(nil)
	delete(e.active, c)
	c.claims--
	c.from.active--
	switch {
	case c.givenUp:
	case c.stream:
		c.streamed = false
		c.todo = c.written.gaps(c.Blob.Size)
	case c.pos < c.end:
		c.todo = slices.Insert(c.todo, 0, image.Extent{Off: c.pos, Len: c.end - c.pos})
		slices.SortFunc(c.todo, func(a, b image.Extent) int { return int(min(max(a.Off-b.Off, -1), 1)) })
	}
	e.wake.Broadcast()
}

// oneStream turns to fetching the claim's blob whole from its source, which
// proved to serve no ranges: the source's other claims of the blob end.
func (e *engine) oneStream(c *claim) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c.from.noRanges = true
	if c.from == c.sole {
		c.endSample()
	}
	for o := range e.active {
		if o.blob == c.blob && o.from == c.from && !o.stream {
			o.cancel(errSuperseded)
		}
	}
}

// endClaims ends what is under way for a blob. The caller holds the lock.
func (e *engine) endClaims(b *blob, cause error) {
	for c := range e.active {
		if c.blob == b {
			c.end, c.over = c.pos, true
			c.cancel(cause)
		}
	}
}
