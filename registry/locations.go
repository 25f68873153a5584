package registry

import (
	"context"
	"sync"
)

// locations remembers where each blob was found, so that the registry is asked
// once and not for each range. The zero value works.
type locations struct {
	mu    sync.Mutex
	blobs map[string]*search
}

// search is the first request for a blob, or what it has found.
type search struct {
	ended chan struct{} // closed when found and err stand
	found location
	err   error
}

// find gives where the blob is. The first caller gets a search to end instead,
// and must; callers that come meanwhile wait for it. Where it fails, they get
// its error, so that a registry in trouble is not asked by all of them in turn;
// not so where just its own context has ended.
func (l *locations) find(ctx context.Context, key string) (found location, mine *search, err error) {
	for {
		l.mu.Lock()
		s := l.blobs[key]
		if s == nil {
			if l.blobs == nil {
				l.blobs = map[string]*search{}
			}
			s = &search{ended: make(chan struct{})}
			l.blobs[key] = s
			l.mu.Unlock()
			return location{}, s, nil
		}
		l.mu.Unlock()
		select {
		case <-s.ended:
			if s.err != nil || s.found.url != nil {
				return s.found, nil, s.err
			}
		case <-ctx.Done():
			return location{}, nil, context.Cause(ctx)
		}
	}
}

// end tells what the search has found, or that it has failed.
func (l *locations) end(ctx context.Context, key string, s *search, found location, err error) {
	l.mu.Lock()
	if err != nil {
		delete(l.blobs, key)
	}
	l.mu.Unlock()
	switch {
	case err == nil:
		s.found = found
	case ctx.Err() == nil:
		s.err = err
	}
	close(s.ended)
}

// forget drops what was found, unless it was found anew meanwhile.
func (l *locations) forget(key string, found location) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.blobs[key]
	if s == nil {
		return
	}
	select {
	case <-s.ended:
		if s.found.url == found.url {
			delete(l.blobs, key)
		}
	default:
	}
}
