package rootfs

import (
	"io"
	"sync"
)

// readahead reads on another goroutine, so that decompressing and writing of
// the spool go side by side.
type readahead struct {
	full  chan block
	empty chan []byte
	quit  chan struct{}
	once  sync.Once
	done  chan struct{}
	now   block
	rest  []byte
}

type block struct {
	b   []byte
	err error
}

const (
	aheadBlocks = 4
	aheadSize   = 256 << 10
)

func newReadahead(r io.Reader) *readahead {
	a := &readahead{
		full:  make(chan block, aheadBlocks),
		empty: make(chan []byte, aheadBlocks),
		quit:  make(chan struct{}),
		done:  make(chan struct{}),
	}
	for range aheadBlocks {
		a.empty <- make([]byte, aheadSize)
	}
	go a.fill(r)
	return a
}

func (a *readahead) fill(r io.Reader) {
	defer close(a.done)
	for {
		var b []byte
		select {
		case b = <-a.empty:
		case <-a.quit:
			return
		}
		n, err := 0, error(nil)
		for n < len(b) && err == nil {
			var m int
			m, err = r.Read(b[n:])
			n += m
		}
		a.full <- block{b[:n], err}
		if err != nil {
			return
		}
	}
}

func (a *readahead) Read(p []byte) (int, error) {
	for len(a.rest) == 0 {
		if a.now.err != nil {
			return 0, a.now.err
		}
		if a.now.b != nil {
			a.empty <- a.now.b[:cap(a.now.b)]
		}
		a.now = <-a.full
		a.rest = a.now.b
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

// stop ends the reading and waits for it.
func (a *readahead) stop() {
	a.once.Do(func() { close(a.quit) })
	<-a.done
}
