package compress

import (
	"io"
	"sync"
)

// Readahead reads on another goroutine, so that decompressing goes side by
// side with what becomes of the bytes. The caller ends with Stop.
type Readahead struct {
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

// NewReadahead begins to read.
func NewReadahead(r io.Reader) *Readahead {
	a := &Readahead{
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

func (a *Readahead) fill(r io.Reader) {
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

// Read is io.Reader's; an error stays.
func (a *Readahead) Read(p []byte) (int, error) {
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

// Stop ends the reading and waits for it.
func (a *Readahead) Stop() {
	a.once.Do(func() { close(a.quit) })
	<-a.done
}
