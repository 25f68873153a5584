package transfer

import (
	"sync"

	"github.com/davit-cli/davit/image"
)

// Verdicts are what transfers found out about mirrors: which of them are not
// to be asked any more, and how much of what they gave proved right. The zero
// value is ready for use; it may be used by several transfers, also at once.
type Verdicts struct {
	mu sync.Mutex
	of map[image.Source]verdict
}

type verdict struct {
	dropped, wrong bool
	proven         int64
}

// on tells what is known of a mirror. Nil Verdicts know nothing.
func (v *Verdicts) on(mirror image.Source) (dropped, wrong bool, proven int64) {
	if v == nil {
		return false, false, 0
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	known := v.of[mirror]
	return known.dropped, known.wrong, known.proven
}

// learn takes in what a transfer found out. Nil Verdicts keep nothing.
func (v *Verdicts) learn(s *source, proven int64) {
	if v == nil || !s.mirror {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.of == nil {
		v.of = map[image.Source]verdict{}
	}
	known := v.of[s.Source]
	known.dropped = known.dropped || s.dropped
	known.wrong = known.wrong || s.wrong
	known.proven += proven
	v.of[s.Source] = known
}
