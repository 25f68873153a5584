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
			e.wake.Broadcast() // thieves look at the clock
			e.mu.Unlock()
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

// busy halves the connections and holds every request back, as a registry
// that answers 429 or 503 wants.
func (e *engine) busy(pause time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	if now.After(e.calmUntil) { // many connections hear the same refusal: halve once
		e.target = max(e.target/2, 1)
	}
	until := now.Add(pause)
	if until.After(e.pausedUntil) {
		e.pausedUntil = until
	}
	e.calmUntil = e.pausedUntil.Add(calm)
}
