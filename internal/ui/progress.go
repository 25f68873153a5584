package ui

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/davit-cli/davit/image"
)

// progress counts one transfer.
type progress struct {
	active   bool
	began    time.Time
	sampled  time.Time
	blobs    int
	verified int
	total    int64 // bytes of all blobs
	have     int64 // of them, there before the transfer
	done     int64 // of them, in place now
	fetched  int64 // over the network, what was fetched twice counted twice
	speed    rate

	copies  bool  // blobs go into a registry
	sent    int64 // bytes of those that it took
	mounted int64 // and of those that it took from itself
	there   int64 // and of those that it had

	byDigest map[digest.Digest]*blob
	order    []*blob // in the order they started; of the verified the last few
	whole    int     // verified ones in order
}

// blob counts one blob.
type blob struct {
	image.Descriptor
	have     int64
	done     int64
	fetched  int64
	moved    bool // has ever advanced
	retrying bool // has not advanced since its last failure
	verified bool
	speed    rate
}

// Verified blobs are kept for display up to this many: no terminal is higher.
const keepWhole = 200

// take counts e.
func (p *progress) take(e image.Event, now time.Time) {
	switch e.Kind {
	case image.EventPlanned:
		*p = progress{
			active: true, began: now, sampled: now,
			blobs: e.Blobs, total: e.Bytes, have: e.Have, done: e.Have,
			byDigest: map[digest.Digest]*blob{},
		}
	case image.EventBlobStarted:
		if b := p.byDigest[e.Blob.Digest]; b != nil && b.verified {
			p.forget(b) // it goes to another place as well
		}
		if b := p.blob(e.Blob); b != nil {
			b.have, b.done = e.Have, e.Have
		}
	case image.EventBlobAdvanced:
		p.done += e.Bytes
		p.fetched += max(e.Bytes, 0)
		if b := p.blob(e.Blob); b != nil {
			b.done += e.Bytes
			b.fetched += max(e.Bytes, 0)
			b.moved, b.retrying = true, false
		}
	case image.EventRetry:
		if b := p.byDigest[e.Blob.Digest]; b != nil {
			b.retrying = true
		}
	case image.EventBlobVerified:
		p.verify(p.blob(e.Blob))
	case image.EventBlobGivenUp:
		p.giveUp(p.blob(e.Blob))
	case image.EventBlobSent, image.EventBlobMounted, image.EventBlobThere:
		p.settle(e)
	case image.EventDone:
		p.active = false
	}
}

// settle counts a blob that is where it is copied to.
func (p *progress) settle(e image.Event) {
	if !p.active {
		return
	}
	p.copies = true
	switch e.Kind {
	case image.EventBlobSent:
		p.sent += e.Blob.Size // whose bytes were counted as they came
		return
	case image.EventBlobMounted:
		p.mounted += e.Blob.Size
	case image.EventBlobThere:
		p.there += e.Blob.Size
	}
	p.done += e.Blob.Size
}

// forget takes a verified blob out of what is shown, and counted as one.
func (p *progress) forget(b *blob) {
	delete(p.byDigest, b.Digest)
	if i := slices.Index(p.order, b); i >= 0 {
		p.order = slices.Delete(p.order, i, i+1)
		p.whole--
	}
}

// blob returns what is counted for d, from now on if it is new; nil where
// there is no transfer.
func (p *progress) blob(d image.Descriptor) *blob {
	if !p.active {
		return nil
	}
	b := p.byDigest[d.Digest]
	if b == nil {
		b = &blob{Descriptor: d}
		p.byDigest[d.Digest] = b
		p.order = append(p.order, b)
	}
	return b
}

// verify marks b as whole and forgets the oldest such one where there are many.
func (p *progress) verify(b *blob) {
	if b == nil || b.verified {
		return
	}
	b.verified, b.retrying, b.done = true, false, b.Size
	p.verified++
	p.whole++
	if p.whole <= keepWhole {
		return
	}
	for i, old := range p.order {
		if old.verified {
			p.order = append(p.order[:i], p.order[i+1:]...)
			p.whole--
			return
		}
	}
}

// giveUp takes b out of what is shown. Its bytes still belong to the total.
func (p *progress) giveUp(b *blob) {
	if i := slices.Index(p.order, b); b != nil && !b.verified && i >= 0 {
		p.order = slices.Delete(p.order, i, i+1)
	}
}

// sample brings the speeds up to now.
func (p *progress) sample(now time.Time) {
	dt := now.Sub(p.sampled).Seconds()
	if !p.active || dt <= 0 {
		return
	}
	p.sampled = now
	p.speed.sample(p.fetched, dt)
	for _, b := range p.order {
		if !b.verified {
			b.speed.sample(b.fetched, dt)
		}
	}
}

func (p *progress) percent() int { return percent(p.done, p.total) }

// percent returns how much is done of 100; 100 only when all is.
func percent(done, total int64) int {
	switch {
	case done >= total:
		return 100
	case done <= 0:
		return 0
	}
	return int(float64(done) / float64(total) * 100)
}

// left tells how long the rest takes at the speed of late, rounded up to
// seconds; false if nobody knows.
func (p *progress) left() (time.Duration, bool) {
	speed := p.speed.perSecond()
	if speed == 0 {
		return 0, false
	}
	s := math.Ceil(float64(max(p.total-p.done, 0)) / float64(speed))
	if s > 99*3600 {
		return 0, false
	}
	return time.Duration(s) * time.Second, true
}

// resumed returns how many of the bytes in place no fetch has brought.
func (p *progress) resumed() int64 {
	return min(p.have, max(p.done-p.fetched, 0))
}

// line tells in one line where the transfer stands.
func (p *progress) line() string {
	s := fmt.Sprintf("%s of %s (%d%%), %s/s", Size(p.done), Size(p.total), p.percent(), Size(p.speed.perSecond()))
	if left, ok := p.left(); ok {
		s += ", " + Duration(left) + " left"
	}
	return s
}

// summary tells in one line how the transfer went; nothing where there was
// nothing to transfer, or where it stopped before anything came.
func (p *progress) summary(now time.Time) string {
	if p.total == 0 && p.done == 0 {
		return ""
	}
	took := now.Sub(p.began)
	moved := p.fetched
	if p.copies {
		moved = p.sent
	}
	speed := ""
	if s := took.Seconds(); s > 0 && moved > 0 {
		speed = ", " + Size(int64(float64(moved)/s)) + "/s"
	}
	there := Size(p.resumed()) + " were there already"
	var s string
	switch {
	case p.done == 0 && moved == 0 && p.total > 0:
		return ""
	case p.done < p.total:
		s = fmt.Sprintf("stopped at %s of %s (%d%%) after %s%s", Size(p.done), Size(p.total), p.percent(), Duration(took), speed)
	case p.copies && p.sent == 0:
		return "nothing to send, " + p.besides()
	case p.copies:
		s = fmt.Sprintf("%s sent in %s%s", Size(p.sent), Duration(took), speed)
	case p.fetched == 0:
		return "nothing to fetch, " + there
	default:
		s = fmt.Sprintf("%s fetched in %s%s", Size(p.fetched), Duration(took), speed)
	}
	switch {
	case p.copies && p.mounted+p.there > 0:
		s += "; " + p.besides()
	case p.resumed() > 0:
		s += ", " + there
	}
	return s
}

// besides tells what had not to be sent.
func (p *progress) besides() string {
	switch there := Size(p.there) + " were there already"; {
	case p.mounted == 0:
		return there
	case p.there == 0:
		return Size(p.mounted) + " mounted"
	default:
		return Size(p.mounted) + " mounted, " + there
	}
}

// retryLine tells what failed and when it is tried again.
func retryLine(e image.Event) string {
	s := "trying again"
	if e.Wait > 0 {
		s += " in " + Duration(e.Wait)
	}
	if e.Blob.Digest != "" {
		s += ", " + shortDigest(e.Blob.Digest)
	}
	if e.Text != "" {
		s += ": " + e.Text
	}
	return s
}

// rate is an average over the last few seconds, in which what is t seconds
// old weighs e^(-t/memory).
type rate struct {
	last           int64
	bytes, seconds float64
}

const memory = 4 // seconds

// sample counts that the bytes have come to n, dt seconds after the last time.
func (r *rate) sample(n int64, dt float64) {
	fade := math.Exp(-dt / memory)
	r.bytes = r.bytes*fade + float64(n-r.last)
	r.seconds = r.seconds*fade + dt
	r.last = n
}

// perSecond returns the average; 0 before the first sample.
func (r *rate) perSecond() int64 {
	if r.seconds == 0 {
		return 0
	}
	return int64(math.Round(r.bytes / r.seconds))
}
