package davit

import (
	"sync"

	"github.com/davit-cli/davit/image"
)

// reading tells of layers that are read without being written anywhere: as a
// stage, in place of the events of each transfer and blob.
type reading struct {
	events image.EventFunc

	mu    sync.Mutex
	stage *image.Stage
}

// send is an image.EventFunc.
func (r *reading) send(e image.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch e.Kind {
	case image.EventPlanned:
		r.stage = image.NewStage(r.events, "read layers", e.Bytes)
	case image.EventBlobAdvanced:
		r.stage.Add(e.Bytes)
	case image.EventDone:
		if r.stage != nil {
			r.stage.End(nil)
		}
	case image.EventStep, image.EventNote, image.EventWarning, image.EventRetry:
		r.events.Send(e)
	}
}
