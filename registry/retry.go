package registry

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/davit-cli/davit/image"
)

const (
	// MaxRetryAfter is the longest pause that a server is granted: what a
	// Retry-After asks for beyond it is taken as this.
	MaxRetryAfter = 5 * time.Minute
	// maxBackoff is the longest pause of our own accord.
	maxBackoff = 30 * time.Second
)

// retry calls try until it succeeds, fails of something that will not pass, or
// has failed opts.Retries times more than once. Between two tries it waits
// twice as long as before, or for as long as the server asks; where ctx ends
// meanwhile, the error wraps its cause too. A registry that has not answered
// several requests in a row is not asked for a while: see silence.
func (c *client) retry(ctx context.Context, try func() error) error {
	if err := c.silence.check(c.host); err != nil {
		return err
	}
	begun := time.Now()
	for tries := 0; ; tries++ {
		err := try()
		if err != nil {
			if err = c.pause(ctx, err, tries); err == nil {
				continue
			}
		}
		c.silence.note(ctx, c.host, begun, err, min(c.backoff<<min(c.opts.Retries+1, 20), maxBackoff))
		return err
	}
}

// pause waits before the next try, after so many retries and err; see retry. An
// error says that there is to be none.
func (c *client) pause(ctx context.Context, err error, tries int) error {
	if ctx.Err() != nil || tries >= c.opts.Retries {
		return err
	}
	wait := min(c.backoff<<min(tries, 20), maxBackoff)
	wait += time.Duration(rand.Int64N(int64(wait)/4 + 1)) //nolint:gosec // spreads many clients
	var busy *image.RetryError
	var failed *Error
	switch {
	case errors.As(err, &busy):
		wait = max(wait, busy.After)
	case errors.As(err, &failed) && failed.transient:
	default:
		return err
	}
	c.opts.Events.Send(image.Event{Kind: image.EventRetry, Text: err.Error(), Wait: wait})
	timer := time.NewTimer(wait)
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		timer.Stop()
		return fmt.Errorf("%w; waiting to try again: %w", err, context.Cause(ctx))
	}
}

// mayPass tells whether the same request may succeed later. What a server does
// not implement (501), it will not soon.
func mayPass(status int) bool {
	return isBusy(status) || status == http.StatusRequestTimeout || status >= 500 && status != http.StatusNotImplemented
}

func isBusy(status int) bool {
	return status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable
}

// retryAfter is the pause that a server asks for, in seconds or as a date (RFC
// 9110, section 10.2.3), at most MaxRetryAfter. 0 where it asks for none.
func retryAfter(header http.Header) time.Duration {
	value := strings.TrimSpace(header.Get("Retry-After"))
	if seconds, err := strconv.ParseUint(value, 10, 64); err == nil || errors.Is(err, strconv.ErrRange) {
		return time.Duration(min(seconds, uint64(MaxRetryAfter/time.Second))) * time.Second
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	now := time.Now()
	if date, err := http.ParseTime(header.Get("Date")); err == nil {
		now = date // the server's clock, which the pause is by
	}
	return min(max(at.Sub(now), 0), MaxRetryAfter)
}
