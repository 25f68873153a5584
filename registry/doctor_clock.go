package registry

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

// maxSkew is how far clocks may differ. Tokens and signed URLs are good for
// minutes, and certificates from their first second on.
const maxSkew = time.Minute

// skew is how far a server's clock is from ours.
type skew struct {
	host         string
	ahead, least time.Duration // of ours, negative where it is behind: likely, and for sure
}

// met notes the clock of who has answered, once for each host.
func (e *examination) met(t *trip) {
	date, err := http.ParseTime(t.header.Get("Date"))
	if err != nil {
		return
	}
	for _, s := range e.skews {
		if s.host == t.url.Host {
			return
		}
	}
	// The server wrote the date, without the part of a second, at some time
	// between: its clock is taken to be as right as it may be.
	s := skew{host: t.url.Host, ahead: date.Add(time.Second / 2).Sub(t.started.Add(t.answered.Sub(t.started) / 2))}
	switch {
	case s.ahead < 0:
		s.least = min(0, date.Add(time.Second).Sub(t.started))
	default:
		s.least = max(0, date.Sub(t.answered))
	}
	e.skews = append(e.skews, s)
}

// clocks compares the servers' clocks with ours: the registry's in any case,
// others where they differ.
func (e *examination) clocks() {
	told := false
	for _, s := range e.skews {
		seconds := s.ahead.Round(time.Second)
		if s.least == 0 {
			seconds = 0
		}
		f := Finding{Hop: HopClock, Host: s.host, Status: StatusOK, Details: map[string]string{"seconds": fmt.Sprint(int64(seconds.Seconds()))}}
		switch {
		case seconds == 0:
			f.Text = "the same as ours"
		case seconds < 0:
			f.Text = span(-seconds) + " behind ours"
		default:
			f.Text = span(seconds) + " ahead of ours"
		}
		if s.least.Abs() > maxSkew {
			f.Text += ": tokens, signed URLs and certificates fail when clocks differ"
			f.Status, f.Err = StatusWarning, fmt.Errorf("%w: that of %s is %s", ErrClock, s.host, f.Text)
			e.tell(f)
			told = true
			continue
		}
		if !told {
			e.tell(f)
		}
		told = true
	}
}

// span is a duration without the parts that are zero: 6h, 1m30s.
func span(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
