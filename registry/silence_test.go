package registry

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/davit-cli/davit/image"
)

// asking is a client whose requests take a second and end as answer says.
func asking(answer func(n int64) error) (ask func() error, tries *atomic.Int64) {
	tries = new(atomic.Int64)
	c := &client{host: "a.lan", backoff: 250 * time.Millisecond, opts: Options{Retries: 5}}
	return func() error {
		return c.retry(context.Background(), func() error {
			time.Sleep(time.Second) // of the bubble's clock
			return answer(tries.Add(1))
		})
	}, tries
}

func noAnswer(int64) error {
	return &Error{Step: "get", Host: "a.lan", Message: "timeout", transient: true, causes: []error{ErrUnreachable}}
}

// A registry that is down does not cost all tries for each of many requests.
func TestSilentRegistryIsLeftInPeace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ask, tries := asking(noAnswer)
		begun := time.Now()
		var group sync.WaitGroup
		for range 8 {
			group.Go(func() {
				for range 100 {
					if err := ask(); !errors.Is(err, ErrUnreachable) {
						t.Error(err)
					}
				}
			})
		}
		group.Wait()
		if took := time.Since(begun); took < longSilence || took > 2*longSilence || tries.Load() > 8*6*6 {
			t.Errorf("800 requests took %v and %d tries", took, tries.Load())
		}
		time.Sleep(maxBackoff)
		before := tries.Load()
		if err := ask(); err == nil || tries.Load() == before {
			t.Error("later it is not asked again:", err)
		}
	})
}

// What was silent for a short while, or answers, is asked with all tries.
func TestAnsweringRegistryIsAsked(t *testing.T) {
	for name, answer := range map[string]func(n int64) error{
		"a refusal that may pass": func(int64) error {
			return &image.RetryError{Err: &Error{Step: "get", Host: "a.lan", Status: 502}}
		},
		"another host": func(int64) error {
			return &Error{Step: "get", Host: "b.lan", transient: true}
		},
		"an answer to each third request": func(n int64) error {
			if n%13 == 0 {
				return &Error{Step: "get", Host: "a.lan", Status: 404}
			}
			return noAnswer(n)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ask, tries := asking(answer)
				for i := range 60 {
					before := tries.Load()
					if err := ask(); err == nil || tries.Load() == before {
						t.Fatal(fmt.Sprintf("request %d is not sent:", i), err)
					}
				}
			})
		})
	}
}
