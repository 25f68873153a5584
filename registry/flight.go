package registry

import (
	"context"
	"sync"
)

// flights lets callers that want the same thing at the same time share one
// attempt at it. The zero value works.
type flights[T any] struct {
	mu      sync.Mutex
	current map[string]*flight[T]
}

type flight[T any] struct {
	done    chan struct{} // closed when value and err stand
	value   T
	err     error
	waiting int
	cancel  context.CancelFunc
}

// do returns what fn gives: a call of it that is under way for key, or a new
// one. fn's context ends only when nobody waits any more, so that no caller is
// hurt by another's cancellation.
func (f *flights[T]) do(ctx context.Context, key string, fn func(context.Context) (T, error)) (T, error) {
	f.mu.Lock()
	fl := f.current[key]
	if fl == nil {
		detached, cancel := context.WithCancel(context.WithoutCancel(ctx))
		fl = &flight[T]{done: make(chan struct{}), cancel: cancel}
		if f.current == nil {
			f.current = map[string]*flight[T]{}
		}
		f.current[key] = fl
		go func() {
			fl.value, fl.err = fn(detached)
			f.mu.Lock()
			f.forget(key, fl)
			f.mu.Unlock()
			close(fl.done)
			cancel()
		}()
	}
	fl.waiting++
	f.mu.Unlock()

	select {
	case <-fl.done:
		return fl.value, fl.err
	case <-ctx.Done():
		f.mu.Lock()
		if fl.waiting--; fl.waiting == 0 {
			f.forget(key, fl)
			fl.cancel()
		}
		f.mu.Unlock()
		var none T
		return none, context.Cause(ctx)
	}
}

// forget needs f.mu.
func (f *flights[T]) forget(key string, fl *flight[T]) {
	if f.current[key] == fl {
		delete(f.current, key)
	}
}
