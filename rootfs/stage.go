package rootfs

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/davit-cli/davit/image"
)

// stage tells how far a long piece of work has come: when it begins, a few
// times a second, and when it ends. A nil stage tells nothing.
type stage struct {
	events image.EventFunc
	text   string
	total  int64
	done   atomic.Int64

	mu   sync.Mutex
	told time.Time
}

// stageInterval is the least time between two events of one stage.
const stageInterval = 200 * time.Millisecond

func newStage(events image.EventFunc, text string, total int64) *stage {
	s := &stage{events: events, text: text, total: total, told: time.Now()}
	if total > 0 { // or this would be the end
		s.send(0, total)
	}
	return s
}

func (s *stage) send(have, of int64) {
	s.events.Send(image.Event{Kind: image.EventStage, Text: s.text, Have: have, Bytes: of})
}

// add says that n bytes more are done. It may be called from many goroutines.
func (s *stage) add(n int64) {
	if s == nil {
		return
	}
	s.done.Add(n)
	if !s.mu.TryLock() {
		return // somebody else is telling
	}
	defer s.mu.Unlock()
	now := time.Now()
	if done := s.done.Load(); done < s.total && now.Sub(s.told) >= stageInterval {
		s.told = now
		s.send(done, s.total)
	}
}

// end comes once, when nobody adds any more. err is how the work went.
func (s *stage) end(err error) {
	done := s.total
	if err != nil {
		done = min(s.done.Load(), s.total)
	}
	s.send(done, done)
}
