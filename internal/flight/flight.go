// Package flight lets those who want the same thing at the same time share one
// attempt at it.
package flight

import (
	"context"
	"sync"
)

// Group is a kind of attempts. The zero value works.
type Group[T any] struct {
	mu      sync.Mutex
	current map[string]*flight[T]
}

type flight[T any] struct {
	keys    []string
	done    chan struct{} // closed when value and err stand
	value   T
	err     error
	waiting int
	cancel  context.CancelFunc
}

// Do returns what fn gives: a call of it that is under way for key, or a new
// one. fn's context ends only when nobody waits any more, so that no caller is
// hurt by another's cancellation; and whoever leaves last waits for the call's
// end, so that it does not outlive the program, a helper's process for one.
func (f *Group[T]) Do(ctx context.Context, key string, fn func(context.Context) (T, error)) (T, error) {
	return f.DoAll(ctx, []string{key}, func(ctx context.Context, _ []string) (T, error) { return fn(ctx) })
}

// DoAll is Do for the first of keys, with a new call that is for several keys
// at once: for the first, and those of the others that no call is under way for.
func (f *Group[T]) DoAll(ctx context.Context, keys []string, fn func(ctx context.Context, keys []string) (T, error)) (T, error) {
	var none T
	if ctx.Err() != nil {
		return none, context.Cause(ctx)
	}
	f.mu.Lock()
	fl := f.current[keys[0]]
	if fl == nil {
		fl = f.begin(ctx, keys, fn)
	}
	fl.waiting++
	f.mu.Unlock()

	select {
	case <-fl.done:
		return fl.value, fl.err
	case <-ctx.Done():
		f.mu.Lock()
		fl.waiting--
		last := fl.waiting == 0
		if last {
			f.forget(fl)
			fl.cancel()
		}
		f.mu.Unlock()
		if last {
			<-fl.done
		}
		return none, context.Cause(ctx)
	}
}

// begin needs f.mu.
func (f *Group[T]) begin(ctx context.Context, keys []string, fn func(ctx context.Context, keys []string) (T, error)) *flight[T] {
	detached, cancel := context.WithCancel(context.WithoutCancel(ctx))
	fl := &flight[T]{done: make(chan struct{}), cancel: cancel}
	if f.current == nil {
		f.current = map[string]*flight[T]{}
	}
	for _, key := range keys {
		if f.current[key] == nil {
			f.current[key] = fl
			fl.keys = append(fl.keys, key)
		}
	}
	go func() {
		fl.value, fl.err = fn(detached, fl.keys)
		f.mu.Lock()
		f.forget(fl)
		f.mu.Unlock()
		close(fl.done)
		cancel()
	}()
	return fl
}

// forget needs f.mu.
func (f *Group[T]) forget(fl *flight[T]) {
	for _, key := range fl.keys {
		if f.current[key] == fl {
			delete(f.current, key)
		}
	}
}
