package image

import "time"

// EventKind tells what happened.
type EventKind int

// The kinds of events, with the fields of Event that each sets.
const (
	// EventStep is a step that only --verbose shows. Text.
	EventStep EventKind = iota
	// EventNote is a line that a person should read. Text.
	EventNote
	// EventWarning is a line that a person must read. Text.
	EventWarning
	// EventPlanned comes once before the transfer of blobs starts: Blobs of
	// them, Bytes in all, of which Have stand in the partial of an earlier run.
	EventPlanned
	// EventBlobStarted: Blob begins, of which Have bytes are there already.
	EventBlobStarted
	// EventBlobAdvanced: Bytes more of Blob are written; negative where bytes
	// turned out to be wrong and are fetched again.
	EventBlobAdvanced
	// EventRetry: a request failed (Text) and is tried again after Wait. Blob
	// is what the transfer wanted; it is empty outside of that.
	EventRetry
	// EventBlobVerified: Blob is whole and has the right digest.
	EventBlobVerified
	// EventBlobGivenUp: nothing more of Blob is fetched, while the transfer goes
	// on. Where that is an error, an EventWarning tells it.
	EventBlobGivenUp
	// EventBlobSent: Blob, which is copied into a registry, was sent there.
	EventBlobSent
	// EventBlobMounted: the registry took Blob from another repository of its own,
	// so that nothing was sent.
	EventBlobMounted
	// EventBlobThere: the repository had Blob already.
	EventBlobThere
	// EventDone: the transfer of all blobs is over, well or not.
	EventDone
	// EventStage: a stage of the work, Text, is under way: Have of Bytes are
	// done; Bytes is 0 where nobody knows how many there are. Its end, well or
	// not, is told by Have equal to Bytes.
	EventStage
)

// Event is one thing that happened, for whoever shows progress.
type Event struct {
	Kind  EventKind
	Text  string
	Blob  Descriptor
	Blobs int
	Bytes int64
	Have  int64
	Wait  time.Duration
}

// EventFunc receives events, from many goroutines at once; it must be quick.
// A nil EventFunc receives nothing.
type EventFunc func(Event)

// Send delivers e; it does nothing on a nil EventFunc.
func (f EventFunc) Send(e Event) {
	if f != nil {
		f(e)
	}
}
