package flight

import (
	"context"
	"errors"
	"testing"
)

func TestFlightOutlivesItsFirstCaller(t *testing.T) {
	var f Group[int]
	started, finish := make(chan struct{}), make(chan struct{})
	fn := func(ctx context.Context) (int, error) {
		close(started)
		select {
		case <-finish:
			return 7, nil
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() {
		_, err := f.Do(ctx, "k", fn)
		first <- err
	}()
	<-started
	second := make(chan int, 1)
	joined := make(chan struct{})
	go func() {
		f.mu.Lock()
		f.current["k"].waiting++ // as Do does, but seen from outside
		fl := f.current["k"]
		f.mu.Unlock()
		close(joined)
		<-fl.done
		second <- fl.value
	}()
	<-joined
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("the first got %v", err)
	}
	close(finish)
	if got := <-second; got != 7 {
		t.Errorf("the second got %d", got)
	}
}

func TestFlightEndsWhenNobodyWaits(t *testing.T) {
	var f Group[int]
	ended := false
	ctx, cancel := context.WithCancel(t.Context())
	_, err := f.Do(ctx, "k", func(ctx context.Context) (int, error) {
		cancel()
		<-ctx.Done()
		ended = true
		return 0, ctx.Err()
	})
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if !ended {
		t.Error("it has not ended")
	}
	if got, err := f.Do(t.Context(), "k", func(context.Context) (int, error) { return 3, nil }); got != 3 || err != nil {
		t.Errorf("a new flight: %d, %v", got, err)
	}
}

func TestFlightOfNobodyDoesNotBegin(t *testing.T) {
	var f Group[int]
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := f.Do(ctx, "k", func(context.Context) (int, error) {
		t.Error("it began")
		return 0, nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
