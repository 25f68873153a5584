package registry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

const (
	// enoughSilence is how many requests in a row get no answer, each after all
	// its tries, and longSilence in how much time, until a registry is left in
	// peace.
	enoughSilence = 3
	longSilence   = time.Minute
)

// silence is of a registry that does not answer: one that is down must not cost
// all tries for each of hundreds of images. What it answers, be it a refusal,
// ends it. The zero value works.
type silence struct {
	mu       sync.Mutex
	answered time.Time // last
	begun    time.Time // the first request without an answer since
	row      int       // how many there were
	err      error     // of the last one
	until    time.Time // nothing is asked
}

// check is an error while the registry at host is left in peace.
func (s *silence) check(host string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !time.Now().Before(s.until) {
		return nil
	}
	return fmt.Errorf("%s is not asked again so soon: %w", host, s.err)
}

// note takes in how a request to host that was begun at a time ended, after all
// its tries. Where there were enough, nothing is asked for a pause.
func (s *silence) note(ctx context.Context, host string, begun time.Time, err error, pause time.Duration) {
	var failed *Error
	if err != nil && (ctx.Err() != nil || !errors.As(err, &failed) || !strings.EqualFold(failed.Host, host)) {
		return // it tells nothing of the registry
	}
	answered := err == nil || failed.Status != 0
	if !answered && !failed.silent() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if answered {
		s.answered, s.row, s.until = now, 0, time.Time{}
		return
	}
	if s.row == 0 {
		s.begun = begun
		if begun.Before(s.answered) {
			s.begun = s.answered
		}
	}
	s.row++
	s.err = err
	if s.row >= enoughSilence && now.Sub(s.begun) >= longSilence {
		s.until = now.Add(pause)
	}
}

// silent says whether nothing came from the host: no connection, or no answer.
func (e *Error) silent() bool {
	return e.Status == 0 && (e.transient || errors.Is(e, ErrRefused) || errors.Is(e, ErrUnreachable) || errors.Is(e, ErrUnknownHost))
}
