package transfer

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/davit-cli/davit/image"
)

// Where there are mirrors, one that is slow is measured by the others: what a
// connection waits for or trickles, is given to a source that gives bytes
// meanwhile, or did when it was last asked. Where there is no such source, one
// that nobody knows is tried with one piece: once, and once more after each of
// its first failures. So a connection that waits is not cut short for ever, and
// where nobody answers, each source's own errors come to the end of its tries.

const (
	// patience is how long a mirror's connection may give nothing, or little,
	// before somebody else is asked.
	patience = 3 * time.Second
	// slowness is how many times slower than another source slow is.
	slowness = 8
	// maxSlow is how often a mirror may be found slow before it is dropped.
	maxSlow = 3
	// pulseless is how long a source at work may give no byte and yet be said to give bytes.
	pulseless = time.Second
)

// flow is how the bytes of a claim come, since its source was last asked.
type flow struct {
	made  time.Time // when the claim was made
	asked time.Time
	began time.Time    // when the first bytes came; zero before
	base  int64        // the claim's bytes then
	host  string       // who sends them
	since atomic.Int64 // Unix time, in nanoseconds, since when a byte is waited for; 0: none is
}

// ask notes that the source is asked. The caller holds the engine's lock.
func (f *flow) ask() {
	f.asked, f.began = time.Now(), time.Time{}
	f.wait()
}

// wait notes that a byte is waited for from now on, gotSome that none is.
func (f *flow) wait() { f.since.Store(time.Now().UnixNano()) }

func (f *flow) gotSome() { f.since.Store(0) }

// waited is how long a byte has been waited for.
func (f *flow) waited(now time.Time) time.Duration {
	since := f.since.Load()
	if since == 0 {
		return 0
	}
	return now.Sub(time.Unix(0, since))
}

// pulse is how the bytes of a source come.
type pulse struct {
	seen    int64         // bytes kept, at the last look
	at      time.Time     // when a look last found more
	flowing int           // connections whose bytes come
	rate    float64       // bytes a second of one of these, smoothed
	answer  time.Duration // how long its first bytes take, smoothed
	slow    int           // times that it was found slow
	slowAt  time.Time     // the last of them
	probe   bool          // the next piece goes to it, to find out about it
	probed  bool          // that was so, and it has not failed since
}

// begins notes the first bytes of a claim since its source was asked.
func (c *claim) begins(now time.Time) {
	if !c.flow.began.IsZero() {
		return
	}
	c.flow.began, c.flow.base = now, c.bytes
	p := &c.from.pulse
	answer := now.Sub(c.flow.asked)
	if p.answer == 0 {
		p.answer = answer
	}
	p.answer += (answer - p.answer) / 4
}

// pace is the bytes a second of a claim whose bytes come, and for how long
// they have.
func (c *claim) pace(now time.Time) (float64, time.Duration) {
	if c.flow.began.IsZero() {
		return 0, 0
	}
	took := now.Sub(c.flow.began)
	return float64(c.bytes-c.flow.base) / max(took.Seconds(), 1e-3), took
}

// judge gives to others what slow mirrors are at, and drops those that are
// found slow again and again. The caller holds the lock, and tells what is
// returned once it has let go.
func (e *engine) judge(now time.Time, seconds float64) []image.Event {
	if !e.mirrored {
		return nil
	}
	e.feelPulses(now, seconds)
	var told []image.Event
	for c := range e.active {
		if !c.from.mirror || c.waiting || c.ctx.Err() != nil {
			continue
		}
		rival := e.rival(c, now)
		if rival == nil {
			continue
		}
		c.cancel(errSuperseded)
		if rival.gives(now) {
			told = append(told, e.foundSlow(c, rival, now)...)
		} else {
			rival.pulse.probe, rival.pulse.probed = true, true
		}
	}
	return told
}

// feelPulses looks at what came from each source since the last look.
func (e *engine) feelPulses(now time.Time, seconds float64) {
	for _, s := range e.sources {
		s.pulse.flowing = 0
	}
	for c := range e.active {
		if !c.waiting && !c.flow.began.IsZero() {
			c.from.pulse.flowing++
		}
	}
	for _, s := range e.sources {
		p := &s.pulse
		came := s.got - p.seen
		p.seen = s.got
		if came > 0 {
			p.at = now
		}
		if p.flowing > 0 {
			one := float64(came) / seconds / float64(p.flowing)
			if p.rate == 0 {
				p.rate = one
			}
			p.rate += (one - p.rate) / 8
		}
	}
}

// gives tells whether a source gives bytes, or did when it was last asked.
func (s *source) gives(now time.Time) bool {
	return s.got > 0 && s.rests == 0 && (s.active == 0 || now.Sub(s.pulse.at) < pulseless)
}

// rival is who may be asked in place of a claim's slow mirror; nil where it is
// not slow, or where nobody is known to be better.
func (e *engine) rival(c *claim, now time.Time) *source {
	waited := c.flow.waited(now)
	rate, took := c.pace(now)
	// What our own limit on the rate does to a connection is not its mirror's fault.
	trickles := took >= patience && e.limiter == nil
	if waited < patience && !trickles {
		return nil
	}
	left := float64(c.end-c.pos) / (rate + 1)
	var unknown *source
	for _, s := range append(c.mirrors[:len(c.mirrors):len(c.mirrors)], c.origin) {
		if s == c.from || c.lost(s) || !s.ready(now) {
			continue
		}
		switch p := s.pulse; {
		case s.gives(now):
			if waited >= max(patience, 3*p.answer) || trickles && left > 5 && rate < p.rate/slowness {
				return s
			}
		case s.active > 0 || p.probed:
		case unknown == nil && (waited >= patience || left > 20):
			unknown = s
		}
	}
	return unknown
}

var errSlow = errors.New("it is slow, and others are not")

// foundSlow takes note that another source was asked in place of a claim's.
// The mirror is at fault where all of its connections are slow.
func (e *engine) foundSlow(c *claim, rival *source, now time.Time) []image.Event {
	s := c.from
	p := &s.pulse
	if c.flow.made.Before(p.slowAt) || now.Sub(p.at) < pulseless && p.rate >= rival.pulse.rate/slowness {
		return nil
	}
	p.slowAt = now
	if p.slow++; p.slow >= maxSlow {
		return e.dismiss(s, errSlow)
	}
	s.most = 1
	s.pauseUntil(now.Add(e.opts.backoff(p.slow)))
	s.calmUntil = s.pausedUntil.Add(2 * calm) // time enough to find it slow again
	return []image.Event{{Kind: image.EventStep, Text: s.name() + " is slow; others are asked in its place"}}
}
