package davit

import (
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
)

// copyProgress tells of the passes of a batch as of one transfer: one plan, all
// blobs, one end.
type copyProgress struct {
	events  image.EventFunc
	planned bool

	mu       sync.Mutex
	advanced map[digest.Digest]int64 // of the blobs under way
}

// newCopyProgress tells the plan, where there is anything to be done.
func newCopyProgress(events image.EventFunc, deliveries []*delivery) *copyProgress {
	p := &copyProgress{events: events, planned: len(deliveries) > 0, advanced: map[digest.Digest]int64{}}
	if p.planned {
		plan := image.Event{Kind: image.EventPlanned, Blobs: len(deliveries)}
		for _, d := range deliveries {
			plan.Bytes += d.blob.Size
		}
		events.Send(plan)
	}
	return p
}

// take passes on what a pass tells.
func (p *copyProgress) take(e image.Event) {
	switch e.Kind {
	case image.EventPlanned, image.EventDone:
		return
	case image.EventBlobAdvanced:
		p.mu.Lock()
		p.advanced[e.Blob.Digest] += e.Bytes
		p.mu.Unlock()
	}
	p.events.Send(e)
}

// arrived tells how a blob has come to where it is wanted.
func (p *copyProgress) arrived(blob image.Descriptor, how image.EventKind) {
	p.mu.Lock()
	delete(p.advanced, blob.Digest)
	p.mu.Unlock()
	p.events.Send(image.Event{Kind: how, Blob: blob})
}

// lose takes back what was told of a blob that has not arrived.
func (p *copyProgress) lose(blob image.Descriptor) {
	p.mu.Lock()
	n := p.advanced[blob.Digest]
	delete(p.advanced, blob.Digest)
	p.mu.Unlock()
	if n != 0 {
		p.events.Send(image.Event{Kind: image.EventBlobAdvanced, Blob: blob, Bytes: -n})
	}
}

// end tells that all is over, well or not.
func (p *copyProgress) end() {
	if p.planned {
		p.events.Send(image.Event{Kind: image.EventDone})
	}
}
