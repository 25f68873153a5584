package image

import (
	"sync"
	"sync/atomic"
	"time"
)

// Stage tells how far a long piece of work has come: when it begins, a few
// times a second, and when it ends. A nil Stage tells nothing.
type Stage struct {
	events EventFunc
	text   string
	total  int64
	done   atomic.Int64

	mu   sync.Mutex
	told time.Time
}

// StageInterval is the least time between two events of one Stage.
const StageInterval = 200 * time.Millisecond

// NewStage begins a stage of total units, bytes for example.
func NewStage(events EventFunc, text string, total int64) *Stage {
	s := &Stage{events: events, text: text, total: total, told: time.Now()}
	if total > 0 { // or this would be the end
		s.send(0, total)
	}
	return s
}

func (s *Stage) send(have, of int64) {
	s.events.Send(Event{Kind: EventStage, Text: s.text, Have: have, Bytes: of})
}

// Add says that n bytes more are done. It may be called from many goroutines.
func (s *Stage) Add(n int64) {
	if s == nil {
		return
	}
	s.done.Add(n)
	if !s.mu.TryLock() {
		return // somebody else is telling
	}
	defer s.mu.Unlock()
	now := time.Now()
	if done := s.done.Load(); done < s.total && now.Sub(s.told) >= StageInterval {
		s.told = now
		s.send(done, s.total)
	}
}

// End comes once, when nobody adds any more. err is how the work went.
func (s *Stage) End(err error) {
	done := s.total
	if err != nil {
		done = min(s.done.Load(), s.total)
	}
	s.send(done, done)
}
