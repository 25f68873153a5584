package transfer

import (
	"time"
)

const (
	firstTarget = 8                      // connections before anything is known
	tick        = 100 * time.Millisecond // how often the total rate is looked at
	calm        = 5 * time.Second        // no growth for so long after a refusal, or in vain
)

// pace lets the number of connections grow as long as the total rate grows
// with them. What it sees of the rate also sizes the chunks.
func (e *engine) pace() {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	var last int64
	var best float64
	vain := 0 // ticks since the last growth that brought nothing
	before := time.Now()
	for {
		select {
		case <-e.ctx.Done():
			return
		case now := <-ticker.C:
			e.mu.Lock()
			seconds := max(now.Sub(before).Seconds(), 1e-3)
			total := float64(e.fetched-last) / seconds
			last, before = e.fetched, now
			e.measure(total)
			switch {
			case now.Before(e.calmUntil), len(e.active)-e.parked < e.target, e.target == e.opts.Jobs, total == 0:
				// paused, or no use for more, or no more allowed, or nothing to judge by
			case total > best*1.05:
				best, vain = total, 0
				e.target = min(2*e.target, e.opts.Jobs)
			default:
				if vain++; vain >= 5 {
					vain, best = 0, best*0.9 // conditions change: look again later
					e.calmUntil = now.Add(calm)
				}
			}
			e.regrow(now)
			told := e.judge(now, seconds)
			e.wake.Broadcast() // thieves look at the clock
			e.mu.Unlock()
			e.tell(told)
		}
	}
}

// measure takes the total rate into the smoothed rate of one connection.
func (e *engine) measure(total float64) {
	n := len(e.active)
	if n == 0 || total == 0 {
		return
	}
	one := total / float64(n)
	if e.chunkRate == 0 {
		e.chunkRate = one
	}
	e.chunkRate += (one - e.chunkRate) / 4
	e.peakRate = max(e.peakRate, e.chunkRate)
}

// busy halves the connections to a source and holds new requests to it back,
// as one that answers 429 or 503 wants. The caller holds the lock.
func (e *engine) busy(s *source, pause time.Duration) {
	now := time.Now()
	calmUntil := &s.calmUntil
	if e.alone() {
		calmUntil = &e.calmUntil
	}
	if now.After(*calmUntil) { // many connections hear the same refusal: halve once
		if e.alone() {
			e.target = max(e.target/2, 1)
		} else {
			s.most, s.busy = max(s.active/2, 1), true
		}
	}
	s.pauseUntil(now.Add(pause))
	*calmUntil = s.pausedUntil.Add(calm)
}

// regrow gives back to the sources, step by step, the connections that were
// taken from them. The caller holds the lock.
func (e *engine) regrow(now time.Time) {
	for _, s := range e.sources {
		if s.most < e.opts.Jobs && now.After(s.calmUntil) {
			s.most = min(2*s.most, e.opts.Jobs)
			s.calmUntil = now.Add(calm)
			s.pulse.slow = max(s.pulse.slow-1, 0)
			s.busy = s.busy && s.most < e.opts.Jobs
		}
	}
}
